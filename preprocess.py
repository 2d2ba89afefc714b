"""Makes a data set of a folder of MIDI files."""

import midinet
from midinet import cli
from midinet.codec.vocabulary import DRUM_PROGRAM


def main(arguments: list[str] | None = None) -> int:
    folders = "-i takes the folder of MIDI files, and -o the data set to make"
    parser = cli.Parser(__doc__, {"-d": folders, "-s": folders})
    parser.add_argument("-i", "--input", required=True, help="folder of MIDI files")
    parser.add_argument("-o", "--output", required=True, help="data set folder to make")
    parser.add_argument(
        "--drum_program",
        type=cli.program_or_none,
        default=DRUM_PROGRAM,
        metavar="PROGRAM",
        help="program (0-127) that stands for percussion; none leaves percussion out",
    )
    parser.add_argument("--no_sustain", action="store_true", help="ignore the sustain pedal")
    parser.add_argument(
        "--no_volume", action="store_true", help="ignore channel volume and expression"
    )
    parser.add_argument(
        "--exclude",
        metavar="FOLDER",
        help="folder of MIDI files, such as a test set, to leave out with all their near copies",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set that is already there"
    )
    options = parser.parse_args(arguments)
    return cli.run(
        lambda: midinet.preprocess(
            options.input,
            options.output,
            drum_program=options.drum_program,
            sustain=not options.no_sustain,
            volume=not options.no_volume,
            exclude=options.exclude,
            workers=options.workers,
            overwrite=options.overwrite,
        ),
        parser,
    )


if __name__ == "__main__":
    cli.start(main)
