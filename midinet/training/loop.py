"""The training loop: epochs, batches, validation, and saving so that nothing is ever lost."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from midinet.backend import tf
from midinet.codec.decoding import tokens_to_notes
from midinet.data.batches import Windows, dataset, num_batches
from midinet.data.corpus import Corpus
from midinet.errors import TrainingError
from midinet.generation.sampling import compose
from midinet.model.music_transformer import MusicTransformer, save_model
from midinet.rendering.learning_curves import training_curves
from midinet.rendering.piano_roll import piano_roll_image
from midinet.training.checkpoints import Checkpoints, RunState
from midinet.training.devices import Sharing, from_chief, is_chief
from midinet.training.optimizer import Adam, learning_rate
from midinet.training.progress import Progress
from midinet.training.steps import Steps, Sums, loss_scale_after

LOGS_FOLDER = "logs"
PICTURE_FILE = "training.png"
SAMPLE_LENGTH = 512  # tokens, of the sample that each epoch shows


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after everything was saved; the text says how to go on.

    Attributes:
        signal_number: the signal that asked for it.
    """

    def __init__(self, text: str, signal_number: int):
        super().__init__(text)
        self.signal_number = signal_number


class _StopSignals:
    """Notes Ctrl-C and SIGTERM instead of dying in the middle of a step; a second one kills.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        # Only the main thread may set handlers; elsewhere signals do what they did.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for handled, handler in self._handlers.items():
            signal.signal(handled, handler)


class Loop:
    """A training run under way.

    Args:
        model: made in the scope of `strategy`.
        optimizer: the same.
        strategy: the devices.
        corpus: the data set.
        folder: the model folder.
        checkpoints: of this run.
        state: where the run stands; brought up to date as it goes.
    """

    def __init__(
        self,
        model: MusicTransformer,
        optimizer: Adam,
        strategy: tf.distribute.Strategy,
        corpus: Corpus,
        folder: Path,
        checkpoints: Checkpoints,
        state: RunState,
    ):
        self.model, self.corpus, self.folder, self.state = model, corpus, folder, state
        self._strategy = strategy
        self._checkpoints = checkpoints
        self._writes = is_chief(strategy)
        self._variables = _named_variables(model, optimizer)
        self._training_songs, self._validation_songs = corpus.split()
        self._sharing = Sharing(strategy, model.parameters.batch_size)
        self._steps = Steps(model, optimizer, strategy, self._sharing, xla=False)
        self._is_compiled = False
        self._last_save = time.monotonic()

    def assign(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
        """Puts numbers into the model and the optimiser, on every worker those of the chief.

        Args:
            names: of the variables that get some.
            arrays: one a name; only the chief needs them.
        """
        for name in names:
            variable = self._variables[name]
            array = arrays.get(name, np.zeros(variable.shape, variable.dtype.as_numpy_dtype))
            variable.assign(from_chief(self._strategy, array))

    def run(
        self, epochs: int, patience: int | None, checkpoint_every_s: float
    ) -> list[dict[str, Any]]:
        """Trains until `epochs` are done, counted from the run's start, or patience ends.

        Returns:
            The history, one dictionary an epoch.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM.
            TrainingError: the loss is no longer a number.
        """
        with _StopSignals() as signals:
            return self._run(epochs, patience, checkpoint_every_s, signals)

    def _run(
        self, epochs: int, patience: int | None, checkpoint_every_s: float, signals: _StopSignals
    ) -> list[dict[str, Any]]:
        state = self.state
        if state.step == 0:
            # From now on there is something to restore, and a folder that can't be written shows.
            self._save()
        steps_an_epoch = num_batches(self._windows(0), self.model.parameters.batch_size)
        logs = self.folder / LOGS_FOLDER if self._writes else None
        progress = Progress(logs, epochs * steps_an_epoch)
        progress.describe(state.identity)
        if state.step:
            progress.say(f"{self.folder} goes on after {state.epoch} epochs, {state.batch} batches")
        while state.epoch < epochs and not self._out_of_patience(patience):
            self._train_epoch(epochs, checkpoint_every_s, signals, progress)
            self._finish_epoch(progress)
            if signals.received is not None:
                self._stop(signals.received, progress)
        self._save()
        progress.close()
        best = min(state.history, key=lambda entry: entry["val_loss"])
        progress.say(
            f"{state.epoch} of {epochs} epochs done. The best model is in {self.folder}: "
            f"validation loss {best['val_loss']:.4f}, of epoch {best['epoch']}"
        )
        if self._writes:
            training_curves(state.history, self.folder / PICTURE_FILE)
        return state.history

    def _train_epoch(
        self, epochs: int, checkpoint_every_s: float, signals: _StopSignals, progress: Progress
    ) -> None:
        """Trains on the batches of this epoch that are still to do."""
        state, batch_size = self.state, self.model.parameters.batch_size
        windows = self._windows(state.epoch)
        count = num_batches(windows, batch_size)
        progress.start_epoch(state.epoch + 1, epochs, count)
        for batch in dataset(windows, batch_size, state.batch, self._sharing.rows):
            start = time.monotonic()
            share_done = (state.epoch + state.batch / count) / epochs
            state.rate = learning_rate(self.model.parameters.learning_rate, state.step, share_done)
            sums = self._step(batch)
            state.step += 1
            state.batch += 1
            state.sums = Sums(*state.sums).plus(sums)
            if self._is_compiled:
                state.seconds += time.monotonic() - start
                state.timed_tokens += sums.tokens
            self._is_compiled = True
            progress.step(state, sums)
            if signals.received is not None:
                self._stop(signals.received, progress)
            if time.monotonic() - self._last_save >= checkpoint_every_s:
                self._save()
                # What was logged before the checkpoint is not logged again after a restore.
                progress.flush()

    def _step(self, batch: tuple[tf.Tensor, ...]) -> Sums:
        """Trains on one batch."""
        state = self.state
        seed = state.identity["seed"]
        sums, norm = self._steps.train(batch, state.rate, state.step, seed, state.loss_scale)
        state.loss_scale, state.steps_since_overflow = loss_scale_after(
            state.loss_scale, state.steps_since_overflow, math.isfinite(norm)
        )
        # Only float16 is scaled: its update was left out, and the next scale is smaller.
        if not math.isfinite(sums.loss) or not (math.isfinite(norm) or state.loss_scale > 1):
            raise TrainingError(
                f"the loss became {sums.mean_loss} (gradient norm {norm}) in epoch "
                f"{state.epoch + 1}, step {state.step + 1}: the last checkpoint and the best model "
                "are kept. Try a smaller learning_rate, or --precision float32"
            )
        return sums

    def _finish_epoch(self, progress: Progress) -> None:
        """Validates, notes the epoch, and saves the model if it is the best so far."""
        state = self.state
        trained, validated = Sums(*state.sums), self._validate()
        entry = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "loss": trained.mean_loss,
            "accuracy": trained.accuracy,
            "val_loss": validated.mean_loss,
            "val_accuracy": validated.accuracy,
            "learning_rate": state.rate,
            "tokens_per_second": state.tokens_per_second,
        }
        state.history.append(entry)
        progress.end_epoch(state.batch, entry)
        state.start_next_epoch()
        if state.best_val_loss is None or validated.mean_loss < state.best_val_loss:
            state.best_val_loss, state.epochs_since_best = validated.mean_loss, 0
            self._save_model()
        else:
            state.epochs_since_best += 1
        self._show_sample(progress)

    def _validate(self) -> Sums:
        """Sums over all windows of the validation songs."""
        parameters = self.model.parameters
        windows = Windows(self.corpus, self._validation_songs, parameters.sequence_length)
        sums = Sums()
        for batch in dataset(windows, parameters.batch_size, rows=self._sharing.rows):
            sums = sums.plus(self._steps.validate(batch))
        return sums

    def _show_sample(self, progress: Progress) -> None:
        """Composes a little from nothing, for TensorBoard; always from the same random numbers."""
        if self._writes:
            seed = np.zeros(0, np.uint16)
            tokens = compose(self.model, [seed], SAMPLE_LENGTH)[0]
            notes = tokens_to_notes(tokens, self.model.codec.drum_program)
            title = f"after {self.state.epoch} epochs, {self.state.step} steps"
            progress.image(self.state.step, piano_roll_image(notes, title=title))

    def _windows(self, epoch: int) -> Windows:
        """The training windows of an epoch."""
        return Windows(
            self.corpus,
            self._training_songs,
            self.model.parameters.sequence_length,
            seed=self.state.identity["seed"],
            epoch=epoch,
            augment=True,
            shuffle=True,
        )

    def _out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.state.epochs_since_best >= patience

    def _save_model(self) -> None:
        if self._writes:
            self.model.history_of_training = {
                "data_set": self.state.identity["data set"],
                "seed": self.state.identity["seed"],
                "history": self.state.history,
            }
            save_model(self.model, self.folder)

    def _save(self) -> None:
        if self._writes:
            arrays = {name: variable.numpy() for name, variable in self._variables.items()}
            self._checkpoints.save(self.state, arrays)
        self._last_save = time.monotonic()

    def _stop(self, signal_number: int, progress: Progress) -> None:
        self._save()
        progress.close()
        raise TrainingInterrupted(
            f"stopped in epoch {self.state.epoch + 1} after {self.state.batch} batches, saved",
            signal_number,
        )


def _named_variables(model: MusicTransformer, optimizer: Adam) -> dict[str, tf.Variable]:
    """All that training changes, by the names it has in a checkpoint."""
    named = {name: variable.value for name, variable in model.weights_by_name().items()}
    # The optimiser knows the variables by their order in the model.
    names = {variable.ref(): name for name, variable in named.items()}
    for variable, mean, square in zip(
        model.trainable_variables, optimizer.means, optimizer.squares, strict=True
    ):
        name = names[variable.value.ref()]
        named[f"mean/{name}"], named[f"square/{name}"] = mean, square
    return named
