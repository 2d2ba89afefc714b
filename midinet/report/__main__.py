"""Compares sets of music: `python -m midinet.report A [B ...]`. comparison.py does the work."""

from collections.abc import Sequence

from midinet import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `python -m midinet.report`."""
    parser = cli.Parser(
        prog="python -m midinet.report", description="Measures music, or compares sets of it."
    )
    music = "a data set made by preprocess.py, a folder of MIDI files or a MIDI file"
    parser.add_argument("first", metavar="A", help=f"{music}; usually real music")
    parser.add_argument(
        "others", metavar="B", nargs="*", help="more of them; usually composed music"
    )
    parser.add_argument(
        "--training",
        metavar="PATH",
        help="the music that the model was trained on, to find copies of it (default: no search)",
    )
    parser.add_argument(
        "--held_out",
        action="store_true",
        help="measure only A's validation songs; find copies of its training songs",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="measure only the first S seconds of each piece (default: all)",
    )
    parser.add_argument(
        "--png", metavar="FILE", help="draw the distributions to this .png file (default: none)"
    )
    options = vars(parser.parse_args(arguments))
    first, others = options.pop("first"), options.pop("others")

    def action() -> None:
        # Imported here, so that cli.run turns a missing package into one line.
        from midinet.report.comparison import report

        print(report(first, *others, **options))

    return cli.run(action, parser)


if __name__ == "__main__":
    cli.start(main)
