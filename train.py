"""Trains a model on a data set made by preprocess.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from midinet.cli import run

EXIT_BY_SIGNAL = 128  # plus the signal's number, as shells count it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit status."""
    options = vars(_parser().parse_args(argv))

    def action() -> None:
        from midinet.training import TrainingInterrupted, train

        try:
            train(**options)
        except TrainingInterrupted as stop:
            print(f"midinet: {stop}", file=sys.stderr)
            sys.exit(EXIT_BY_SIGNAL + stop.signal_number)

    return run(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("-e", "--epochs", type=int, required=True, help="times through the data set, in all")
    add("-s", "--save_directory", default="midinet_model", help="model folder to make")
    add("-d", "--dataset", required=True, help="data set folder made by preprocess.py")
    add("--restore", action="store_true", help="go on with the interrupted run in -s")
    add("--parameters", default="parameters.json", metavar="FILE", help="hyperparameters")
    add("--init_from", metavar="FOLDER", help="start from this trained model")
    add("--patience", type=int, metavar="N", help="stop after N epochs without a better loss")
    add("--seed", type=int, help="of all that is random; the same seed gives the same model")
    add(
        "--checkpoint_every",
        dest="checkpoint_every_minutes",
        type=float,
        default=5.0,
        metavar="MINUTES",
        help="save the run so often",
    )
    add(
        "--precision",
        choices=["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        default="auto",
        help="of computing; auto takes half precision where the GPU is fast at it",
    )
    add("--save_memory", action="store_true", help="use less memory, a quarter more time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
