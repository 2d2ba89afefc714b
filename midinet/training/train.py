"""Trains a model on a data set: checks what is asked for, then lets the loop run."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from midinet.backend import keras, tf
from midinet.data.corpus import Corpus, open_corpus
from midinet.errors import ModelError, OptionError, TrainingError
from midinet.folders import WEIGHTS_FILE, file_in_the_way
from midinet.model.music_transformer import PARAMETERS_FILE, build_model, open_model
from midinet.model.parameters import Parameters
from midinet.training.checkpoints import Checkpoints, RunState, differences
from midinet.training.devices import (
    choose_precision,
    choose_strategy,
    is_chief,
    json_from_chief,
    precision_policy,
)
from midinet.training.loop import Loop, TrainingInterrupted
from midinet.training.optimizer import Adam
from midinet.training.steps import initial_loss_scale

__all__ = ["TrainingInterrupted", "train"]

CHECKPOINTS_FOLDER = "checkpoints"


# One keyword an option of train.py: a settings object would only say them twice.
def train(  # noqa: C901, PLR0913  # a parameter for each option of the script
    epochs: int,
    save_directory: str | Path,
    dataset: str | Path,
    restore: bool = False,
    *,
    parameters: Parameters | str | Path | None = None,
    init_from: str | Path | None = None,
    seed: int | None = None,
    patience: int | None = None,
    checkpoint_every_minutes: float = 5.0,
    precision: str = "auto",
    save_memory: bool = False,
) -> list[dict[str, Any]]:
    """Trains a model on a data set; the best one by validation loss ends up in a model folder.

    In save_directory: the model, checkpoints of the run (checkpoints/), what TensorBoard shows
    (logs/) and a picture of the curves (training.png). A run on the same data with the same seed
    and hyperparameters gives the same model, whether or not it was interrupted and restored.

    Trains on all GPUs of this machine, on the machines of TF_CONFIG, or under the
    tf.distribute strategy in whose scope it is called.

    Args:
        epochs: how often the data set is gone through, over the whole run.
        save_directory: the model folder to make.
        dataset: a folder made by preprocess.
        restore: go on with the run that was interrupted in save_directory.
        parameters: hyperparameters, or the file that holds them. None: parameters.json in the
            current folder if it is there, otherwise those of the model released in 2021.
        init_from: a model folder whose weights to start from; its sequence_length may differ.
        seed: of weights, order, augmentation and dropout; None: 0, or that of the restored run.
        patience: stop after so many epochs without a better validation loss; None: never.
        checkpoint_every_minutes: at most so much work is lost when the process is killed.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        save_memory: compute activations twice instead of keeping them.

    Returns:
        One dictionary an epoch: epoch, step, loss, accuracy, val_loss, val_accuracy, learning_rate,
        tokens_per_second.

    Raises:
        TrainingInterrupted: Ctrl-C or SIGTERM; everything is saved.
        TrainingError: the folder is taken, nothing fits to restore, the loss became NaN.
        OptionError, ParametersError, CorpusError, ModelError: an argument makes no sense.
    """
    _check_options(epochs, seed, patience, checkpoint_every_minutes)
    folder = Path(save_directory)
    if (file := file_in_the_way(folder)) is not None:
        raise TrainingError(f"{file} is a file: -s takes the folder to make")
    go_on = _way_on(
        epochs,
        save_directory,
        dataset,
        parameters=parameters,
        patience=patience,
        checkpoint_every_minutes=checkpoint_every_minutes,
        precision=precision,
        save_memory=save_memory,
    )
    if parameters is None:  # an installed package has no parameters.json beside it
        here = Path(PARAMETERS_FILE)
        parameters = Parameters.load(here) if here.exists() else Parameters()
    elif not isinstance(parameters, Parameters):
        parameters = Parameters.load(parameters)
    corpus = open_corpus(dataset)
    checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER)
    precision = choose_precision(precision)
    strategy = choose_strategy()
    state: RunState | None = None
    arrays: dict[str, np.ndarray] = {}
    # Other workers need no folder: they hear from the chief where the run starts.
    if is_chief(strategy):
        state, arrays = _starting_point(
            folder, checkpoints, restore, init_from, parameters, corpus, seed
        )
    told = json_from_chief(strategy, state and [dataclasses.asdict(state), list(arrays)])
    state, names = RunState(**told[0]), told[1]
    _check_identity(state.identity, _identity(parameters, corpus, state.identity["seed"]), folder)

    if precision != "mixed_float16" or state.loss_scale == 1:
        state.loss_scale = initial_loss_scale(precision)
    keras.utils.set_random_seed(state.identity["seed"])
    with strategy.scope(), precision_policy(precision):
        model = build_model(parameters, corpus.codec, save_memory=save_memory)
        optimizer = Adam([variable.value for variable in model.trainable_variables])
    loop = Loop(model, optimizer, strategy, corpus, folder, checkpoints, state)
    loop.assign(names, arrays)
    try:
        return loop.run(epochs, patience, checkpoint_every_minutes * 60)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; {go_on}", stop.signal_number) from None
    except ModelError as error:
        raise TrainingError(f"{error}; then {go_on}") from error
    except tf.errors.ResourceExhaustedError as error:
        # TensorFlow says this of memory and, where it writes logs, of the disk.
        if os.strerror(errno.ENOSPC) in error.message:
            raise TrainingError(
                f"{folder} can't be written: the disk is full: make room; then {go_on}"
            ) from error
        raise TrainingError(
            "out of memory: try --save_memory, a smaller batch_size or a smaller sequence_length"
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        reason = error.message.splitlines()[0]
        raise TrainingError(
            f"another worker stopped: start all of them again with --restore ({reason})"
        ) from error


def _way_on(epochs: int, save_directory: str | Path, dataset: str | Path, **options: object) -> str:
    """How to go on with a stopped run, with those options of `train` that are not its defaults."""
    words = ["python", "train.py", "-e", epochs, "-s", save_directory, "-d", dataset, "--restore"]
    defaults = inspect.signature(train).parameters
    for name, value in options.items():
        is_default = value in (defaults[name].default, PARAMETERS_FILE)
        if not is_default and not isinstance(value, Parameters):
            words += [f"--{name.removesuffix('_minutes')}"] + [value] * (value is not True)
    return f"go on with: {shlex.join(map(str, words))}"


def _check_options(
    epochs: int, seed: int | None, patience: int | None, checkpoint_every_minutes: float
) -> None:
    for name, value, least in (
        ("epochs", epochs, 1),
        ("seed", seed, 0),
        ("patience", patience, 1),
        ("checkpoint_every", checkpoint_every_minutes, 0),
    ):
        if value is not None and not value >= least:
            raise OptionError(f"{name} is {value}: it must be at least {least}")
    if seed is not None and seed >= 1 << 31:
        raise OptionError(f"seed is {seed}: it must be below {1 << 31}")


def _starting_point(
    folder: Path,
    checkpoints: Checkpoints,
    restore: bool,
    init_from: str | Path | None,
    parameters: Parameters,
    corpus: Corpus,
    seed: int | None,
) -> tuple[RunState, dict[str, np.ndarray]]:
    """Where the run starts: its state, and the weights that are not fresh.

    Raises:
        TrainingError: nothing fits to restore, or the folder is taken.
    """
    has_model = (folder / WEIGHTS_FILE).exists()
    has_checkpoints = bool(checkpoints.paths())
    if restore and has_checkpoints:
        state, arrays = checkpoints.load()
        seed_now = state.identity["seed"] if seed is None else seed
        _check_identity(state.identity, _identity(parameters, corpus, seed_now), folder)
        return state, arrays
    if restore and has_model:
        raise TrainingError(
            f"{folder} holds a model but no checkpoint to restore: to train it further, use "
            f"--init_from {folder} with another -s"
        )
    if has_checkpoints or has_model:
        ways = "--restore goes on with it, " if has_checkpoints else ""
        raise TrainingError(
            f"{folder} already holds a {'run' if has_checkpoints else 'model'}: {ways}"
            f"another -s keeps it, --init_from {folder} with another -s starts from its model"
        )
    arrays = _weights_of(init_from, parameters) if init_from else {}
    return RunState(_identity(parameters, corpus, seed or 0)), arrays


def _identity(parameters: Parameters, corpus: Corpus, seed: int) -> dict[str, Any]:
    """What fixes a run: two runs that share it see the same numbers."""
    codec = corpus.codec.to_dict()
    return {**parameters.to_dict(), **codec, "data set": corpus.fingerprint, "seed": seed}


def _check_identity(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    found = differences(before, now)
    if found:
        raise TrainingError(
            f"{folder} can't be restored: {'; '.join(found)}. Restore it with what it was begun "
            f"with, or start another run with --init_from {folder} and another -s"
        )


def _weights_of(init_from: str | Path, parameters: Parameters) -> dict[str, np.ndarray]:
    """The weights of a trained model that has the shape of the new one, but for its length.

    Raises:
        TrainingError: it has another shape.
    """
    model = open_model(init_from)
    # Rate, batch, dropout and length may change from run to run; other shapes of weights may not.
    shape_before, shape_now = (
        dataclasses.replace(
            p, dropout=0.0, learning_rate=1.0, batch_size=1, sequence_length=2
        ).to_dict()
        for p in (model.parameters, parameters)
    )
    found = differences(shape_before, shape_now)
    if found:
        raise TrainingError(
            f"{init_from} has another shape: {'; '.join(found)}. "
            f"--parameters {Path(init_from) / PARAMETERS_FILE} takes its values"
        )
    named = {name: variable.numpy() for name, variable in model.weights_by_name().items()}
    return {
        name: _resized(name, array, parameters.sequence_length) for name, array in named.items()
    }


def _resized(name: str, array: np.ndarray, length: int) -> np.ndarray:
    """A weight for windows of another length: what lies beyond begins as the farthest known.

    Source of training on short windows first: Press, Smith and Lewis 2021, "Shortformer: better
    language modeling using shorter inputs".
    """
    more = max(0, length - len(array))
    if name == "position_embedding":
        return np.pad(array, ((0, more), (0, 0)), "edge")[:length]
    if name.endswith("relative_embedding"):  # its last row is distance 0
        return np.pad(array, ((more, 0), (0, 0)), "edge")[-length:]
    return array
