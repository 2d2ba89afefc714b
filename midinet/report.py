"""Compares two sets of music: `python -m midinet.report A [B]`. The work is in comparison.py."""

from midinet import cli


def main(arguments: list[str] | None = None) -> int:
    """Runs `python -m midinet.report`."""
    parser = cli.Parser(
        prog="python -m midinet.report", description="Measures music, or compares two sets of it."
    )
    music = "a data set made by preprocess.py, a folder of MIDI files or a MIDI file"
    parser.add_argument("first", metavar="A", help=f"{music}; the real music, say")
    parser.add_argument(
        "second", metavar="B", nargs="?", help="another; the composed music, say (default: none)"
    )
    parser.add_argument(
        "--training",
        metavar="PATH",
        help="the music the model learned from: are pieces copied? (default: not asked)",
    )
    parser.add_argument(
        "--png", metavar="FILE", help="draw the distributions to this .png file (default: none)"
    )
    options = parser.parse_args(arguments)

    def action() -> None:
        from midinet.comparison import report  # here, so that a missing package becomes one line

        print(report(options.first, options.second, options.training, options.png))

    return cli.run(action)


if __name__ == "__main__":
    cli.start(main)
