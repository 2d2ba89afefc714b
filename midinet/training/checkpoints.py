"""Everything a training run needs to go on as if nothing had happened, in one file.

A checkpoint is a numpy archive (.npz) of the weights, the optimiser's averages and, as JSON, where
the run stands. It is written under another name and renamed when it is whole, and the archive's
checksums tell a damaged one.
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
from typing import Any

import numpy as np

from midinet.errors import TrainingError

KEPT = 3  # so many of the newest
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


@dataclasses.dataclass
class RunState:
    """Where a run stands.

    Attributes:
        identity: what a restored run must have in common with it: hyperparameters, data set, seed.
        step: training steps done, over all epochs.
        epoch: epochs done.
        batch: batches done in the epoch under way.
        sums: loss, hits and tokens summed over those batches.
        seconds, timed_tokens: training time in this epoch, and the tokens trained on in it; the
            first step of each process, which compiles, does not count.
        rate: the learning rate of the last step.
        history: one dictionary an epoch done.
        best_val_loss: of the model in the model folder; None before the first.
        epochs_since_best: epochs done since then.
        loss_scale, steps_since_overflow: the state of float16's loss scaling.
    """

    identity: dict[str, Any]
    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: tuple[float, ...] = (0.0, 0.0, 0.0)
    seconds: float = 0.0
    timed_tokens: float = 0.0
    rate: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
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
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, (0.0, 0.0, 0.0)
        self.seconds = self.timed_tokens = 0.0


class Checkpoints:
    """The checkpoints of a run in a folder, oldest first."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.folder.glob(_PATTERN))

    def save(self, state: RunState, arrays: Mapping[str, np.ndarray]) -> Path:
        """Writes a checkpoint and drops the oldest beyond the last few.

        Raises:
            OSError: the folder can't be made.
            TrainingError: the file can't be written; the checkpoints before are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{state.step:010d}.npz"
        unfinished = self.folder / "unfinished"
        state_as_json = json.dumps(dataclasses.asdict(state)).encode()
        contents: dict[str, Any] = {**arrays, _STATE: np.frombuffer(state_as_json, np.uint8)}
        try:
            with open(unfinished, "wb") as file:
                np.savez(file, **contents)
                file.flush()
                # Else a power cut could leave the new name with an empty file.
                os.fsync(file.fileno())
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            reason = f"{path} can't be written ({error.strerror or error})"
            if self.paths():
                reason += "; the checkpoints before it are whole: --restore goes on from there"
            raise TrainingError(reason) from error
        os.replace(unfinished, path)
        for old in self.paths()[:-KEPT]:
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
            raise TrainingError(f"{self.folder}: every checkpoint is damaged: train anew")
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
