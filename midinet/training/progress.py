"""What a person sees of a training run: the progress bar and TensorBoard."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from midinet.backend import keras, tf
from midinet.training.checkpoints import EpochEntry, RunState
from midinet.training.metrics import MetricSums

# A long run is drawn with about so many points; a short one with every step.
POINTS_PER_RUN = 5000


class Progress:
    """Shows a run on the screen and writes it to TensorBoard's log folder.

    Args:
        log_folder: the folder of TensorBoard's logs; None shows and writes nothing.
        num_steps: about how many training steps the run has.
    """

    def __init__(self, log_folder: Path | None, num_steps: int):
        self._visible = log_folder is not None
        self._steps_per_point = max(1, num_steps // POINTS_PER_RUN)
        self._train_log, self._validation_log = (
            tf.summary.create_file_writer(str(log_folder / name))
            if log_folder
            else tf.summary.create_noop_writer()
            for name in ("train", "validation")
        )
        self._bar: Any = None

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._visible:
            print(text, flush=True)

    def describe(self, identity: Mapping[str, Any]) -> None:
        """Logs the hyperparameters as text."""
        with self._train_log.as_default(step=0):
            text = json.dumps(dict(identity), indent=2)
            tf.summary.text("parameters", "\n".join(f"    {line}" for line in text.splitlines()))

    def start_epoch(self, number: int, num_epochs: int, num_batches: int) -> None:
        """Begins a progress bar for epoch `number`, counted from 1."""
        self.say(f"Epoch {number}/{num_epochs}")
        # Keras' bar moves its cursor even in a file; there one line per epoch is better.
        moving = sys.stdout.isatty() or "ipykernel" in sys.modules
        verbose = (1 if moving else 2) if self._visible else 0
        names = ["loss", "accuracy", "tokens/s", "val_loss", "val_accuracy"]
        self._bar = keras.utils.Progbar(num_batches, verbose=verbose, stateful_metrics=names)

    def estimate(self, state: RunState, steps_left: int) -> None:
        """Says how long the rest of the run will take at the speed of this epoch."""
        timed_steps = (
            state.timed_tokens * state.batch / max(MetricSums.from_numbers(state.sums).tokens, 1)
        )
        left_s = state.seconds / max(timed_steps, 1) * steps_left
        self.say(f"\nAt this speed the rest of the run takes about {duration(left_s)}")

    def step(self, state: RunState, sums: MetricSums) -> None:
        """Shows the training step that led to this state; `sums` are those of its batch."""
        so_far = MetricSums.from_numbers(state.sums)
        values = [("loss", so_far.mean_loss), ("accuracy", so_far.accuracy)]
        if state.seconds:
            values.append(("tokens/s", state.tokens_per_second))
        self._bar.update(state.batch, values, finalize=False)
        if state.step % self._steps_per_point == 0:
            with self._train_log.as_default(step=state.step):
                tf.summary.scalar("batch_loss", sums.mean_loss)
                tf.summary.scalar("batch_accuracy", sums.accuracy)
                tf.summary.scalar("learning_rate", state.rate)
                if state.seconds:
                    tf.summary.scalar("tokens_per_second", state.tokens_per_second)

    def end_epoch(self, batches: int, epoch: EpochEntry) -> None:
        """Shows an epoch's figures, and makes sure that they are on disk."""
        step = epoch["step"]
        values = [
            ("loss", epoch["loss"]),
            ("accuracy", epoch["accuracy"]),
            ("tokens/s", epoch["tokens_per_second"]),
            ("val_loss", epoch["val_loss"]),
            ("val_accuracy", epoch["val_accuracy"]),
        ]
        self._bar.update(batches, values, finalize=True)
        by_kind = ", ".join(f"{kind} {x:.2f}" for kind, x in epoch["val_loss_by_kind"].items())
        self.say(
            f"Validation loss: {epoch['val_loss_per_note']:.3f} nats per note; "
            f"nats per token of each kind: {by_kind}"
        )
        with self._train_log.as_default(step=step):
            tf.summary.scalar("epoch_loss", epoch["loss"])
            tf.summary.scalar("epoch_accuracy", epoch["accuracy"])
            for kind, loss in epoch["loss_by_kind"].items():
                tf.summary.scalar(f"loss_by_kind/{kind}", loss)
        with self._validation_log.as_default(step=step):
            tf.summary.scalar("epoch_loss", epoch["val_loss"])
            tf.summary.scalar("epoch_accuracy", epoch["val_accuracy"])
            tf.summary.scalar("epoch_loss_per_note", epoch["val_loss_per_note"])
            for kind, loss in epoch["val_loss_by_kind"].items():
                tf.summary.scalar(f"loss_by_kind/{kind}", loss)
        self.flush()

    def sample(self, step: int, image: np.ndarray, figures: Mapping[str, float]) -> None:
        """Logs a composed sample.

        Args:
            step: training steps done.
            image: its piano roll, uint8 `(height, width, 3)`.
            figures: measures of it; those that are NaN are left out.
        """
        with self._train_log.as_default(step=step):
            tf.summary.image("sample", image[None])
            for name, value in figures.items():
                if not math.isnan(value):
                    tf.summary.scalar(f"sample/{name}", value)

    def flush(self) -> None:
        """Writes what was logged to disk, where TensorBoard sees it."""
        self._train_log.flush()
        self._validation_log.flush()

    def close(self) -> None:
        """Closes the logs."""
        self._train_log.close()
        self._validation_log.close()


def duration(seconds: float) -> str:
    """A length of time in words, as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
