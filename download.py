"""Downloads a data set of MIDI files, or the model released in 2021. Run again, a download that
broke off goes on."""

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
        help="unpack this file (zip, tar.*, whl or wad) (default: download one)",
    )
    options = parser.parse_args(arguments)

    def action() -> None:
        from midinet import download  # here, so that a missing package becomes one line

        download(options.dataset, options.output, options.archive)

    return cli.run(action)


if __name__ == "__main__":
    cli.start(main)
