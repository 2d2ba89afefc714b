"""Trains a model on a data set: checks the arguments, finds where to start, runs the trainer."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import inspect
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midinet.backend import keras, tf
from midinet.data.batches import WINDOWS_VERSION
from midinet.data.corpus import Corpus, open_corpus
from midinet.errors import ModelError, TrainingError
from midinet.folders import CHECKPOINTS_FOLDER, WEIGHTS_FILE
from midinet.model.meter import meter_head_shapes
from midinet.model.music_state import state_table_shapes
from midinet.model.music_transformer import (
    PARAMETERS_FILE,
    MusicTransformer,
    build_model,
    open_model,
)
from midinet.model.parameters import Parameters
from midinet.training.checkpoints import Checkpoints, EpochEntry, RunState, differences
from midinet.training.devices import (
    broadcast_json_from_chief,
    choose_precision,
    choose_strategy,
    compiles_by_xla,
    is_chief,
    precision_policy,
)
from midinet.training.loop import Trainer, TrainingInterrupted
from midinet.training.optimizer import Adam
from midinet.training.options import check_numbers, check_save_directory
from midinet.training.steps import initial_loss_scale

__all__ = ["TrainingInterrupted", "train"]

# Models of more weights than this take hours on a CPU, whatever the data set.
_LARGE_FOR_A_CPU = 4_000_000


def train(  # noqa: PLR0913  # a parameter for each option of the script
    epochs: int,
    save_directory: str | Path,
    dataset: str | Path,
    restore: bool = False,
    *,
    parameters: Parameters | str | Path | None = None,
    init_from: str | Path | None = None,
    plain: bool = False,
    seed: int | None = None,
    patience: int | None = None,
    checkpoint_every_minutes: float = 5.0,
    precision: str = "auto",
    save_memory: bool = False,
) -> list[EpochEntry]:
    """Trains a model on a data set; the best one by validation loss ends up in a model folder.

    The folder `save_directory` will contain the model, checkpoints of the run (checkpoints/), the
    logs of TensorBoard (logs/) and a picture of the learning curves (training.png). Runs on the
    same data with the same seed and hyperparameters give the same model, whether or not they were
    interrupted and restored.

    Training uses all GPUs of this machine, or the machines of TF_CONFIG, or the tf.distribute
    strategy in whose scope it is called.

    Args:
        epochs: number of passes through the data set, over the whole run.
        save_directory: the model folder to make.
        dataset: a folder made by preprocess.
        restore: resume the run that was interrupted in save_directory.
        parameters: hyperparameters, or the file that holds them. None: parameters.json in the
            current folder if it is there, otherwise those of the model released in 2021.
        init_from: a model folder whose weights to start from; its sequence_length may differ.
        plain: train the decoder of 2021, which does not hear the state of the music.
        seed: of weights, order, augmentation and dropout; None: 0, or that of the restored run.
        patience: stop after so many epochs without a better validation loss; None: never.
        checkpoint_every_minutes: at most this much work is lost when the process is killed.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        save_memory: compute activations twice instead of storing them.

    Returns:
        The history, one entry per epoch.

    Raises:
        TrainingInterrupted: Ctrl-C or SIGTERM; everything is saved.
        TrainingError: the folder is taken, nothing fits to restore, the loss became NaN.
        OptionError, ParametersError, CorpusError, ModelError: an argument makes no sense.

    Example:
        >>> preprocess("midi_files", "data")
        >>> history = train(20, "my_model", "data", parameters="parameters_small.json")
        >>> history[-1]["val_loss"]
    """
    resume_command = _resume_command(**locals())  # its parameters are those of this function
    check_numbers(epochs, seed, patience, checkpoint_every_minutes)
    check_save_directory(Path(save_directory))
    hyperparameters = _load_parameters(parameters)
    run = _Run(Path(save_directory), hyperparameters, open_corpus(dataset), not plain)
    precision = choose_precision(precision)
    strategy = choose_strategy()
    start = _agree_on_start(strategy, run, restore, init_from, seed)
    trainer = _make_trainer(strategy, run, start, precision, save_memory)
    if is_chief(strategy):
        print(_describe(trainer.model, strategy, epochs, run), flush=True)
    with _clear_errors(run.folder, resume_command):
        return trainer.run(epochs, patience, checkpoint_every_minutes * 60)


class _Run(NamedTuple):
    """What fixes a run, apart from its seed."""

    folder: Path
    parameters: Parameters
    corpus: Corpus
    hears_state: bool


class _Start(NamedTuple):
    """Where a run starts.

    Attributes:
        state: its state.
        names: of the weights that are not fresh.
        arrays: their values, for the chief.
    """

    state: RunState
    names: list[str]
    arrays: dict[str, np.ndarray]


def _load_parameters(parameters: Parameters | str | Path | None) -> Parameters:
    """The hyperparameters that `train` was given, or its default."""
    if isinstance(parameters, Parameters):
        return parameters
    if parameters is not None:
        return Parameters.load(parameters)
    here = Path(PARAMETERS_FILE)  # an installed package has none beside it
    return Parameters.load(here) if here.exists() else Parameters()


def _make_trainer(
    strategy: tf.distribute.Strategy, run: _Run, start: _Start, precision: str, save_memory: bool
) -> Trainer:
    """Builds the model and the optimizer of a run as they are where it starts."""
    state = start.state
    if precision != "mixed_float16" or state.loss_scale == 1:
        state.loss_scale = initial_loss_scale(precision)
    keras.utils.set_random_seed(state.identity["seed"])
    with strategy.scope(), precision_policy(precision):
        model = build_model(
            run.parameters,
            run.corpus.codec,
            save_memory=save_memory,
            hears_state=run.hears_state,
            has_meter_head=state.identity.get("has_meter_head", False),
        )
        optimizer = Adam([variable.value for variable in model.trainable_variables])
    checkpoints = Checkpoints(run.folder / CHECKPOINTS_FOLDER)
    trainer = Trainer(model, optimizer, strategy, run.corpus, run.folder, checkpoints, state)
    trainer.assign(start.names, start.arrays)
    return trainer


@contextlib.contextmanager
def _clear_errors(folder: Path, resume_command: str) -> Iterator[None]:
    """Turns what can go wrong during training into errors that say how to resume."""
    try:
        yield
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; {resume_command}", stop.signal_number) from None
    except ModelError as error:
        raise TrainingError(f"{error}; then {resume_command}") from error
    except tf.errors.ResourceExhaustedError as error:
        # TensorFlow says this of memory and, where it writes logs, of the disk.
        if os.strerror(errno.ENOSPC) in error.message:
            raise TrainingError(
                f"{folder} can't be written: the disk is full: make room; then {resume_command}"
            ) from error
        raise TrainingError(
            "out of memory: try --save_memory, a smaller batch_size or a smaller sequence_length"
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        reason = error.message.splitlines()[0]
        raise TrainingError(
            f"another worker stopped: start all of them again with --restore ({reason})"
        ) from error


def _agree_on_start(
    strategy: tf.distribute.Strategy,
    run: _Run,
    restore: bool,
    init_from: str | Path | None,
    seed: int | None,
) -> _Start:
    """Finds where the run starts, which the chief tells the other workers; they need no folder."""
    state: RunState | None = None
    arrays: dict[str, np.ndarray] = {}
    if is_chief(strategy):
        state, arrays = _initial_state(run, restore, init_from, seed)
    own = state and [dataclasses.asdict(state), list(arrays)]
    state_values, names = broadcast_json_from_chief(strategy, own)
    state = RunState(**state_values)
    _check_fingerprint(state.identity, _run_fingerprint(run, state.identity["seed"]), run.folder)
    return _Start(state, names, arrays)


def _describe(
    model: MusicTransformer, strategy: tf.distribute.Strategy, epochs: int, run: _Run
) -> str:
    """Says what is about to be trained, on what."""
    gpus = len(tf.config.list_logical_devices("GPU"))
    devices = f"{gpus} GPU{'s' * (gpus != 1)}" if gpus else "the CPU"
    if strategy.num_replicas_in_sync > max(gpus, 1):
        devices = f"{strategy.num_replicas_in_sync} devices"
    weights = model.count_params()
    text = (
        f"Training a model of {weights:,} weights on {devices}: "
        f"{epochs:,} epoch{'s' * (epochs != 1)} of "
        f"{len(run.corpus.tokens):,} tokens in {len(run.corpus):,} songs"
    )
    if compiles_by_xla():
        text += "\nCompiling for the GPU comes first, which takes from one to several minutes"
    if not gpus and weights > _LARGE_FOR_A_CPU:
        text += (
            "\nWithout a GPU a model of this size takes many hours: "
            "--parameters parameters_small.json trains a small one in a fraction of the time"
        )
    return text


def _resume_command(
    epochs: int, save_directory: str | Path, dataset: str | Path, **options: object
) -> str:
    """How to resume a stopped run, with those options of `train` that are not its defaults.

    The run itself knows its seed and where its weights came from.
    """
    words = ["python", "train.py", "-e", epochs, "-s", save_directory, "-d", dataset, "--restore"]
    defaults = inspect.signature(train).parameters
    for name, value in options.items():
        if name in ("restore", "init_from", "seed"):
            continue
        is_default = value in (defaults[name].default, PARAMETERS_FILE)
        if not is_default and not isinstance(value, Parameters):
            words += [f"--{name.removesuffix('_minutes')}"] + [value] * (value is not True)
    return f"resume with: {shlex.join(map(str, words))}"


def _initial_state(
    run: _Run, restore: bool, init_from: str | Path | None, seed: int | None
) -> tuple[RunState, dict[str, np.ndarray]]:
    """Finds where the run starts: its state, and the weights that are not fresh.

    Raises:
        TrainingError: nothing fits to restore, or the folder is taken.
    """
    folder = run.folder
    checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER)
    has_model = (folder / WEIGHTS_FILE).exists()
    has_checkpoints = bool(checkpoints.paths())
    if restore and has_checkpoints:
        state, arrays = checkpoints.load()
        seed_now = state.identity["seed"] if seed is None else seed
        _check_fingerprint(state.identity, _run_fingerprint(run, seed_now), folder)
        return state, arrays
    if restore and has_model:
        raise TrainingError(
            f"{folder} holds a model but no checkpoint to restore: to train it further, use "
            f"--init_from {folder} with another -s"
        )
    if restore:
        print(f"{folder} holds no run to restore: a new one starts", flush=True)
    if has_checkpoints or has_model:
        ways = "--restore resumes it, " if has_checkpoints else ""
        raise TrainingError(
            f"{folder} already holds a {'run' if has_checkpoints else 'model'}: {ways}"
            f"another -s keeps it, --init_from {folder} with another -s starts from its model"
        )
    arrays = _weights_of(init_from, run) if init_from else {}
    return RunState(_run_fingerprint(run, seed or 0)), arrays


def _run_fingerprint(run: _Run, seed: int) -> dict[str, Any]:
    """What runs that see the same numbers have in common."""
    return {
        **run.parameters.to_dict(),
        **run.corpus.codec.to_dict(),
        "hears_state": run.hears_state,
        "has_meter_head": run.hears_state,
        "data set": run.corpus.fingerprint,
        "windows": WINDOWS_VERSION,
        "seed": seed,
    }


def _check_fingerprint(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raises TrainingError if a run was begun with something else."""
    if "hears_state" not in before or before.get("windows") != now["windows"]:
        raise TrainingError(
            f"{folder} was begun by an older version of midinet, which made other batches of the "
            f"same music, so it can't be resumed exactly: start another run with --init_from "
            f"{folder} and another -s"
        )
    # A run that was begun without the head of the meter is resumed without it.
    now = {**now, "has_meter_head": before.get("has_meter_head", False)}
    found = differences({"has_meter_head": False, **before}, now)
    if not found:
        return
    way = f"start another run with another -s, if you like with --init_from {folder}"
    if before["data set"] != now["data set"]:
        found = [text for text in found if not text.startswith("data set ")]
        found.append("it was begun on another data set")
    if not (folder / WEIGHTS_FILE).exists() or differences(_shape(before), _shape(now)):
        way = "start another run with another -s"
    raise TrainingError(
        f"{folder} can't be restored: {'; '.join(found)}. Restore it with what it was begun "
        f"with, or {way}"
    )


def _shape(values: dict[str, Any]) -> dict[str, Any]:
    """Those hyperparameters that fix the shapes of the weights, but for the length of windows."""
    others = ("dropout", "learning_rate", "batch_size", "sequence_length")
    names = set(Parameters().to_dict()).difference(others)
    return {name: value for name, value in values.items() if name in names}


def _weights_of(init_from: str | Path, run: _Run) -> dict[str, np.ndarray]:
    """The weights of a trained model that has the shape of the new one, but for its length.

    If the new model hears the state of the music or has a head for the meter and the trained one
    does not, the new weights are zero, so that the new model begins as the trained one.

    Raises:
        TrainingError: it has another shape, or it hears the state and the new one does not.
    """
    model = open_model(init_from)
    found = differences(_shape(model.parameters.to_dict()), _shape(run.parameters.to_dict()))
    if found:
        raise TrainingError(
            f"{init_from} has another shape: {'; '.join(found)}. "
            f"--parameters {Path(init_from) / PARAMETERS_FILE} takes its values"
        )
    if model.hears_state and not run.hears_state:
        raise TrainingError(
            f"{init_from} hears the state of the music: leave --plain out to train it further"
        )
    named = {name: variable.numpy() for name, variable in model.weights_by_name().items()}
    length = run.parameters.sequence_length
    arrays = {name: _resized(name, array, length) for name, array in named.items()}
    if run.hears_state:
        width = run.parameters.embedding_size
        for name, shape in {**state_table_shapes(width), **meter_head_shapes(width)}.items():
            arrays.setdefault(name, np.zeros(shape, np.float32))
    return arrays


def _resized(name: str, array: np.ndarray, length: int) -> np.ndarray:
    """A weight for windows of another length; new positions start as the farthest known one.

    Source for training on short windows first: Press, Smith and Lewis 2021, "Shortformer: better
    language modeling using shorter inputs".
    """
    more = max(0, length - len(array))
    if name == "position_embedding":
        return np.pad(array, ((0, more), (0, 0)), "edge")[:length]
    if name.endswith("relative_embedding"):  # its last row is distance 0
        return np.pad(array, ((more, 0), (0, 0)), "edge")[-length:]
    return array
