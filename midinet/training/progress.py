"""What a person sees of a training run: the progress bar and TensorBoard."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from midinet.backend import keras, tf
from midinet.training.checkpoints import RunState
from midinet.training.steps import Sums

# A long run is drawn with about so many points; a short one with every step.
POINTS_A_RUN = 5000


class Progress:
    """Shows a run on the screen and writes it to TensorBoard's log folder.

    Args:
        log_folder: where TensorBoard looks; None: show and write nothing.
        num_steps: about how many training steps the run has.
    """

    def __init__(self, log_folder: Path | None, num_steps: int):
        self._visible = log_folder is not None
        self._steps_a_point = max(1, num_steps // POINTS_A_RUN)
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
        # Keras' bar moves its cursor even in a file; there a line an epoch serves better.
        moving = sys.stdout.isatty() or "ipykernel" in sys.modules
        verbose = (1 if moving else 2) if self._visible else 0
        names = ["loss", "accuracy", "tokens/s", "val_loss", "val_accuracy"]
        self._bar = keras.utils.Progbar(num_batches, verbose=verbose, stateful_metrics=names)

    def step(self, state: RunState, sums: Sums) -> None:
        """Shows the training step that led to this state; `sums` are its own."""
        so_far = Sums(*state.sums)
        values = [("loss", so_far.mean_loss), ("accuracy", so_far.accuracy)]
        if state.seconds:
            values.append(("tokens/s", state.tokens_per_second))
        self._bar.update(state.batch, values, finalize=False)
        if state.step % self._steps_a_point == 0:
            with self._train_log.as_default(step=state.step):
                tf.summary.scalar("batch_loss", sums.mean_loss)
                tf.summary.scalar("batch_accuracy", sums.accuracy)
                tf.summary.scalar("learning_rate", state.rate)
                if state.seconds:
                    tf.summary.scalar("tokens_per_second", state.tokens_per_second)

    def end_epoch(self, batches: int, epoch: Mapping[str, Any]) -> None:
        """Shows an epoch's figures, and makes sure that they are on disk."""
        step = epoch["step"]
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        values = [(name, epoch[name]) for name in names]
        values.insert(2, ("tokens/s", epoch["tokens_per_second"]))
        self._bar.update(batches, values, finalize=True)
        with self._train_log.as_default(step=step):
            tf.summary.scalar("epoch_loss", epoch["loss"])
            tf.summary.scalar("epoch_accuracy", epoch["accuracy"])
        with self._validation_log.as_default(step=step):
            tf.summary.scalar("epoch_loss", epoch["val_loss"])
            tf.summary.scalar("epoch_accuracy", epoch["val_accuracy"])
        self.flush()

    def image(self, step: int, image: np.ndarray) -> None:
        """Logs the piano roll of a sample: uint8 `(height, width, 3)`."""
        with self._train_log.as_default(step=step):
            tf.summary.image("sample", image[None])

    def flush(self) -> None:
        """Puts what TensorBoard shall see on disk."""
        self._train_log.flush()
        self._validation_log.flush()

    def close(self) -> None:
        """Ends the logs."""
        self._train_log.close()
        self._validation_log.close()
