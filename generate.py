"""Composes music with a trained model and writes it as MIDI files."""

from midinet import cli


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, composes, and returns the exit status."""
    parser = cli.Parser(__doc__, usage="generate.py [options]")
    add = parser.add_argument_group("model and amount").add_argument
    default = "(default: midinet_model, else the demo)"
    add("-s", "--save_directory", metavar="FOLDER", help=f"model {default}")
    add("-l", "--length", type=int, default=2500, metavar="N", help="tokens at most")
    add("--seconds", type=float, metavar="S", help="seconds of music instead (default: none)")
    add("--full_length", action="store_true", help="go on where the model would end it")
    add("--num", type=int, default=1, metavar="N", help="pieces to compose at once")

    add = parser.add_argument_group("what to go on from (default: nothing)").add_argument
    add("-d", "--dataset", metavar="FOLDER", help="a random song of this data set")
    add("--song", metavar="NAME", help="this song of it; a part of the name will do")
    add("--primer", metavar="FILE", help="this MIDI file")
    add("--seed_length", default="512", metavar="N", help="tokens of it, or seconds as 10s")
    add("--inclusive", action="store_true", help="put it in front of the output")

    add = parser.add_argument_group("how to choose the next token").add_argument
    add("-k", "--top_k", type=int, default=8, metavar="K", help="among the K likeliest")
    add("--temperature", type=float, default=1.0, metavar="T", help="more is more surprise")
    add("--top_p", type=float, default=1.0, metavar="P", help="among the likeliest P of 1")
    add("--seed", type=int, metavar="N", help="same number, same music (default: random)")
    add("--instruments", metavar="LIST", help='only these, as "piano, 33, drums"')
    add("--max_silence", type=float, default=3.0, metavar="S", help="longest, in seconds")
    add("--max_note", type=float, default=20.0, metavar="S", help="longest, in seconds")

    add = parser.add_argument_group("output").add_argument
    add("-o", "--output", default="output", metavar="PATH", help="folder, or a .mid file")
    add("--plot", action="store_true", help="draw a piano roll beside each file")
    add("--wav", action="store_true", help="play each into a WAV file")
    add("--html", action="store_true", help="make a page that plays the music in a browser")
    add("--soundfont", metavar="FILE", help="sounds for --wav and --html (default: one found)")
    options = parser.parse_args(argv)

    def action() -> None:
        from midinet import generate  # here, so that a missing package becomes one line

        generate(**vars(options))

    return cli.run(action)


if __name__ == "__main__":
    cli.start(main)
