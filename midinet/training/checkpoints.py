"""Checkpoints: everything that a training run needs to resume exactly, in one file.

A checkpoint is a NumPy archive (.npz) of the weights, the optimizer's moments and, as JSON, the
state of the run. It is written under another name and renamed when it is complete, and a damaged
one is recognised by the archive's checksums.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from midinet.errors import TrainingError
from midinet.folders import replacing

MAX_TO_KEEP = 3
_PATTERN = "step-*.npz"
_STATE = "state"

# What reading a damaged archive raises depends on where the damage is.
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,  # zipfile: a damaged field asks for a compression that it lacks
)


class EpochEntry(TypedDict):
    """The figures of an epoch. Losses are in nats per token unless they say otherwise.

    Attributes:
        epoch: its number, from 1.
        step: training steps done after it.
        loss, accuracy: of training, with augmentation and dropout.
        val_loss, val_accuracy: of validation.
        val_loss_per_note: in nats per note.
        loss_by_kind, val_loss_by_kind: by the names of `vocabulary.KINDS`.
        learning_rate: of its last step.
        tokens_per_second: speed of training.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_loss_per_note: float
    loss_by_kind: dict[str, float]
    val_loss_by_kind: dict[str, float]
    learning_rate: float
    tokens_per_second: float


@dataclasses.dataclass
class RunState:
    """The state of a training run.

    Attributes:
        identity: what a resumed run must have in common with it: hyperparameters, data set, seed.
        step: training steps done, over all epochs.
        epoch: epochs done.
        batch: batches done in the current epoch.
        sums: the MetricSums of those batches, as numbers.
        seconds, timed_tokens: training time in this epoch, and the tokens trained on in it; the
            first step of each process, which compiles, does not count.
        rate: the learning rate of the last step.
        history: one entry per epoch that is done.
        best_val_loss: of the model in the model folder; None before the first.
        epochs_since_best: epochs done since then.
        loss_scale, steps_since_overflow: the state of float16's loss scaling.
    """

    identity: dict[str, Any]
    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    timed_tokens: float = 0.0
    rate: float = 0.0
    history: list[EpochEntry] = dataclasses.field(default_factory=list)
    best_val_loss: float | None = None
    epochs_since_best: int = 0
    loss_scale: float = 1.0
    steps_since_overflow: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Speed of training in this epoch; 0 before its second step."""
        return self.timed_tokens / self.seconds if self.seconds else 0.0

    def start_next_epoch(self) -> None:
        """Counts the epoch under way as done."""
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, []
        self.seconds = self.timed_tokens = 0.0


class Checkpoints:
    """The checkpoints of a run in a folder, oldest first."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.folder.glob(_PATTERN))

    def save(self, state: RunState, arrays: Mapping[str, np.ndarray]) -> Path:
        """Writes a checkpoint and removes the oldest, so that MAX_TO_KEEP remain.

        Raises:
            OSError: the folder can't be made.
            TrainingError: the file can't be written; the earlier checkpoints are unchanged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{state.step:010d}.npz"
        state_as_json = json.dumps(dataclasses.asdict(state)).encode()
        contents: dict[str, Any] = {**arrays, _STATE: np.frombuffer(state_as_json, np.uint8)}
        try:
            with replacing(path) as unfinished, open(unfinished, "wb") as file:
                np.savez(file, **contents)
                file.flush()
                # Else a power cut could leave the new name with an empty file.
                os.fsync(file.fileno())
        except OSError as error:
            reason = f"{path} can't be written ({error.strerror or error})"
            if self.paths():
                reason += "; the checkpoints before it are complete: --restore resumes from there"
            raise TrainingError(reason) from error
        for old in self.paths()[:-MAX_TO_KEEP]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> tuple[RunState, dict[str, np.ndarray]]:
        """Reads the newest checkpoint; if it is damaged, warns and takes the one before.

        Raises:
            TrainingError: there is none that can be read.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return _read(path)
            except _DAMAGE as error:
                reason = f"{path} is damaged ({error}): trying the one before"
                warnings.warn(reason, stacklevel=2)
        if paths:
            raise TrainingError(
                f"{self.folder}: every checkpoint is damaged: start the run again with another -s"
            )
        raise TrainingError(f"{self.folder} holds no checkpoint: leave --restore out")


def _read(path: Path) -> tuple[RunState, dict[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return RunState(**json.loads(arrays.pop(_STATE).tobytes())), arrays


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, one phrase each."""
    return [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
