"""Downloads a data set of MIDI files, or the model released in 2021."""

from __future__ import annotations

import argparse
import sys

from midinet import cli
from midinet.sources import SOURCES


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, downloads, and returns the exit status."""
    catalogue = "\n".join(f"  {source.name:15} {source.title}" for source in SOURCES.values())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"data sets:\n{catalogue}\n\n"
        "A download that broke off goes on when the same command is run again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="one of those below")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="folder to make; if there, empty"
    )
    parser.add_argument(
        "--archive",
        metavar="FILE",
        help="unpack this file (zip, tar.*, whl, wad) instead of downloading (default: none)",
    )
    options = parser.parse_args(argv)

    def action() -> None:
        from midinet import download  # here, so that a missing package becomes one line

        download(options.dataset, options.output, options.archive)

    return cli.run(action)


if __name__ == "__main__":
    sys.exit(main())
