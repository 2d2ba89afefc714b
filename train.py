"""Trains a model on a data set; the best one ends up in a model folder."""

import sys

from midinet import cli

EXIT_BY_SIGNAL = 128  # plus the signal's number, as shells count it


def main(arguments: list[str] | None = None) -> int:
    meant_by = {"-i": "-d takes the data set", "-o": "-s takes the folder to make"}
    parser = cli.Parser(__doc__, meant_by, usage="train.py -e N -d FOLDER [options]")
    add = parser.add_argument
    add(
        "-e",
        "--epochs",
        type=int,
        required=True,
        metavar="N",
        help="times through the data set, in all",
    )
    add("-s", "--save_directory", default="midinet_model", metavar="FOLDER", help="model to make")
    add("-d", "--dataset", required=True, metavar="FOLDER", help="made by preprocess.py")
    add("--restore", action="store_true", help="resume the interrupted run in -s")
    add("--parameters", metavar="FILE", help="hyperparameters (default: parameters.json)")
    add("--init_from", metavar="FOLDER", help="begin with the weights of this model")
    add(
        "--patience",
        type=int,
        metavar="N",
        help="stop after N epochs without progress (default: never)",
    )
    add("--seed", type=int, metavar="N", help="the same seed gives the same model (default: 0)")
    add(
        "--checkpoint_every",
        dest="checkpoint_every_minutes",
        type=float,
        default=5.0,
        metavar="MINUTES",
        help="how much work may be lost when the process is killed",
    )
    add(
        "--precision",
        default="auto",
        metavar="NAME",
        help="float32, mixed_bfloat16, mixed_float16, or auto: what the GPU is fast at",
    )
    add("--plain", action="store_true", help="leave out the music's state and meter")
    add("--save_memory", action="store_true", help="take less memory and a fifth more time")
    options = vars(parser.parse_args(arguments))

    def action() -> None:
        from midinet.training.options import check_options

        switches = ("restore", "plain", "save_memory")
        check_options(**{name: options[name] for name in options if name not in switches})

        from midinet.training.train import TrainingInterrupted, train  # starts TensorFlow

        try:
            train(**options)
        except TrainingInterrupted as stop:
            cli.tell_after_ctrl_c(str(stop))
            sys.exit(EXIT_BY_SIGNAL + stop.signal_number)

    return cli.run(action, parser)


if __name__ == "__main__":
    cli.start(main)
