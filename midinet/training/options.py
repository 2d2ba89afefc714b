"""The options of training, which are checked here; this module needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from midinet.data.corpus import open_corpus
from midinet.errors import OptionError, TrainingError
from midinet.folders import Kind, file_in_the_way, kind_of, no_model
from midinet.model.parameters import Parameters

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_SEED_END = 1 << 31


def check_options(
    dataset: str | Path,
    save_directory: str | Path,
    parameters: str | Path | None = None,
    init_from: str | Path | None = None,
    precision: str = "auto",
    **numbers: Any,
) -> None:
    """Finds the mistakes that can be found without TensorFlow, which takes seconds to start.

    The arguments are those of `midinet.train`; None among the numbers means not given.

    Raises:
        OptionError, ParametersError, TrainingError, CorpusError, ModelError: an argument makes no
            sense.
    """
    check_numbers(**numbers)
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}: it must be one of {', '.join(PRECISIONS)}")
    check_save_directory(Path(save_directory))
    if parameters is not None:
        Parameters.load(parameters)
    open_corpus(dataset)
    if init_from is not None and kind_of(Path(init_from)) not in (Kind.MODEL, Kind.RELEASED_MODEL):
        raise no_model(Path(init_from))


def check_numbers(
    epochs: int,
    seed: int | None = None,
    patience: int | None = None,
    checkpoint_every_minutes: float = 5.0,
) -> None:
    """Checks the numbers among the options; raises OptionError."""
    for name, value, least in (
        ("epochs", epochs, 1),
        ("seed", seed, 0),
        ("patience", patience, 1),
        ("checkpoint_every", checkpoint_every_minutes, 0),
    ):
        if value is not None and not value >= least:
            raise OptionError(f"{name} is {value}: it must be at least {least}")
    if seed is not None and seed >= _SEED_END:
        raise OptionError(f"seed is {seed}: it must be below {_SEED_END}")


def check_save_directory(folder: Path) -> None:
    """Refuses to mix a model with other things; raises TrainingError."""
    if (file := file_in_the_way(folder)) is not None:
        raise TrainingError(f"{file} is a file: -s takes the folder to make")
    kind = kind_of(folder)
    if kind in (Kind.DATA_SET, Kind.MIDI):
        what = "a data set" if kind == Kind.DATA_SET else "a folder of MIDI files"
        raise TrainingError(f"{folder} is {what}: -s takes a folder of its own for the model")
