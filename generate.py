"""Composes music with a trained model and writes it as MIDI files."""

from __future__ import annotations

import argparse
import sys

from midinet import cli


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, composes, and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
    )
    add = parser.add_argument_group("model and amount").add_argument
    default_model = "default: midinet_model if there is one, else the demo model"
    add("-s", "--save_directory", metavar="FOLDER", help=f"model folder ({default_model})")
    add("-l", "--length", type=int, default=2500, metavar="N", help="tokens at most (%(default)s)")
    add("--seconds", type=float, metavar="S", help="seconds of music, instead of a length")
    add("--full_length", action="store_true", help="go on where the model would end the piece")
    add("--num", type=int, default=1, metavar="N", help="pieces, all at once (%(default)s)")

    add = parser.add_argument_group("what to go on from (default: from nothing)").add_argument
    add("-d", "--dataset", metavar="FOLDER", help="a song of this data set")
    add("--song", metavar="NAME", help="this song of it; a part of its name will do (random)")
    add("--primer", metavar="FILE", help="this MIDI file")
    add(
        "--seed_length", default=512, metavar="N", help="tokens, or seconds as in 10s (%(default)s)"
    )
    add("--inclusive", action="store_true", help="put it at the beginning of the output")

    add = parser.add_argument_group("how to choose the next token").add_argument
    add("-k", "--top_k", type=int, default=8, metavar="K", help="of the K likeliest (%(default)s)")
    add("--temperature", type=float, default=1.0, metavar="T", help="more surprise (%(default)s)")
    add("--top_p", type=float, default=1.0, metavar="P", help="likeliest share (%(default)s)")
    add("--seed", type=int, metavar="N", help="same number, same music (random)")
    add("--instruments", metavar="LIST", help='such as "piano, 33, drums" (default: all)')
    add("--max_silence", type=float, default=3.0, metavar="S", help="in seconds (%(default)s)")
    add("--max_note", type=float, default=20.0, metavar="S", help="in seconds (%(default)s)")

    add = parser.add_argument_group("output").add_argument
    add(
        "-o", "--output", default="output", metavar="PATH", help="folder or .mid file (%(default)s)"
    )
    add("--plot", action="store_true", help="draw a piano roll beside the file")
    add("--wav", action="store_true", help="play it into a WAV file, with FluidSynth")
    add("--soundfont", metavar="FILE", help="the sounds for --wav (default: those installed)")
    options = parser.parse_args(argv)

    def action() -> None:
        from midinet import generate  # here, so that a missing package becomes one line

        generate(**vars(options))

    return cli.run(action)


if __name__ == "__main__":
    sys.exit(main())
