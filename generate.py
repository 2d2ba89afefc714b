"""Composes music with a trained model and writes it as MIDI files."""

from midinet import cli
from midinet.generation.settings import DEFAULT_LENGTH, PLAIN_FREEDOM, STATE_FREEDOM


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, composes, and returns the exit status."""
    meant_by = {"-i": "--primer takes a MIDI file", "-m": "-s takes the model"}
    parser = cli.Parser(__doc__, meant_by, usage="generate.py [options]")
    parser.add_argument("--list", metavar="WHAT", help="show all instruments, or the songs of -d")
    add = parser.add_argument_group("model and amount").add_argument
    default = "(default: midinet_model, else the demo)"
    add("-s", "--save_directory", metavar="FOLDER", help=f"model {default}")
    add("-l", "--length", type=int, metavar="N", help=f"tokens at most (default: {DEFAULT_LENGTH})")
    add("--seconds", type=float, metavar="S", help="seconds of music instead (default: none)")
    add("--full_length", action="store_true", help="continue where the model would end it")
    add("--num", type=int, default=1, metavar="N", help="pieces to compose at once")

    add = parser.add_argument_group("what to continue (default: nothing)").add_argument
    add("-d", "--dataset", metavar="FOLDER", help="a random song of this data set")
    add("--song", metavar="NAME", help="this song of it; a part of the name will do")
    add("--primer", metavar="FILE", help="this MIDI file")
    add("--accompany", metavar="FILE", help="or: compose more instruments for this one")
    add("--keep", metavar="LIST", help="what stays, as in flute, drums (default: all)")
    add("--seed_length", default="512", metavar="N", help="tokens of it, or seconds as 10s")
    add("--inclusive", action="store_true", help="put it in front of the output")

    add = parser.add_argument_group("how to choose the next token").add_argument

    def default(name: str) -> str:
        """By what the model hears."""
        state, plain = (getattr(freedom, name) for freedom in (STATE_FREEDOM, PLAIN_FREEDOM))
        return f"(default: {state:g})" if state == plain else f"(default: {state:g}, or {plain:g})"

    add("-k", "--top_k", type=int, metavar="K", help=f"among the K likeliest {default('top_k')}")
    add("--temperature", type=float, metavar="T", help=f"more is freer {default('temperature')}")
    add("--top_p", type=float, metavar="P", help=f"among the likeliest P of 1 {default('top_p')}")
    add(
        "--repetition",
        type=float,
        metavar="R",
        help=f"how strongly bars return {default('repetition')}",
    )
    add("--seed", type=int, metavar="N", help="same number, same music (default: random)")
    add("--instruments", metavar="LIST", help='only these, as "piano, 33, drums"')
    many = f"so many (default: as the song has, or {STATE_FREEDOM.max_programs})"
    add("--max_instruments", type=int, metavar="N", help=many)
    add("--bpm", metavar="N", help="tempo, or none (default: the seed's, or random)")
    add("--max_silence", type=float, default=3.0, metavar="S", help="longest, in seconds")
    add("--max_note", type=float, metavar="S", help="the same (default: by instrument)")

    add = parser.add_argument_group("output").add_argument
    add("-o", "--output", default="output", metavar="PATH", help="folder, or a .mid file")
    add("--plot", action="store_true", help="draw a piano roll beside each file")
    add("--wav", action="store_true", help="play each into a WAV file")
    add("--mp3", action="store_true", help="the same as MP3 (needs: pip install soundfile)")
    add("--html", action="store_true", help="make a page that plays the music in a browser")
    add("--soundfont", metavar="FILE", help="sounds for these three (default: one found)")
    options = vars(parser.parse_args(argv))
    what = options.pop("list")

    def action() -> None:  # imports here, so that a missing package becomes one line
        if what is not None:
            from midinet.generation.listing import show_list

            print(show_list(what, options["dataset"]))
            return

        from midinet import generate

        generate(**options)

    return cli.run(action, parser)


if __name__ == "__main__":
    cli.start(main)
