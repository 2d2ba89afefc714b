"""Downloads a data set of MIDI files, or the model released in 2021. If a download is interrupted,
run the same command again to resume it."""

from midinet import cli
from midinet.downloads.sources import SOURCES


def main(arguments: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "-d",
        "--dataset",
        required=True,
        metavar="NAME",
        help="; ".join(f"{source.name}: {source.title}" for source in SOURCES.values()),
    )
    parser.add_argument(
        "-o", "--output", required=True, help="folder to make; it may exist if it is empty"
    )
    parser.add_argument(
        "--archive",
        metavar="FILE",
        help="unpack this file (zip, tar.*, whl or wad) instead of downloading one",
    )
    options = parser.parse_args(arguments)

    def action() -> None:
        # Imported here, so that cli.run turns a missing package into one line.
        from midinet import download

        download(options.dataset, options.output, options.archive)

    return cli.run(action, parser)


if __name__ == "__main__":
    cli.start(main)
