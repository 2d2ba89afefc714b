"""The training loop: epochs, batches, validation, and saving so that nothing is ever lost."""

from __future__ import annotations

import functools
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
from midinet.codec.restating import NOT_RESTATED
from midinet.data.batches import Batch, Windows, num_batches
from midinet.data.corpus import Corpus
from midinet.data.habits import Habits, find_habits
from midinet.data.pipeline import dataset
from midinet.data.tempi import song_tempos_bpm
from midinet.errors import TrainingError
from midinet.generation.sampling import compose
from midinet.generation.settings import SamplingSettings, default_freedom
from midinet.model.meter import Onsets, window_onsets
from midinet.model.music_state import Features, Pulse, window_features
from midinet.model.music_transformer import MusicTransformer, save_model
from midinet.rendering.learning_curves import training_curves
from midinet.rendering.piano_roll import piano_roll_image
from midinet.report.metrics import hanging_share, notes_per_second, polyphony
from midinet.training.checkpoints import Checkpoints, EpochEntry, RunState
from midinet.training.devices import BatchSharding, broadcast_from_chief, compiles_by_xla, is_chief
from midinet.training.metrics import MetricSums
from midinet.training.optimizer import Adam, learning_rate
from midinet.training.progress import Progress
from midinet.training.steps import Steps, next_loss_scale

LOGS_FOLDER = "logs"
PICTURE_FILE = "training.png"
SAMPLE_LENGTH = 512  # tokens, of the sample that is composed after each epoch

# After so many timed steps the duration of the run is estimated.
_STEPS_TO_ESTIMATE = 10


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after everything was saved; the text says how to resume.

    Attributes:
        signal_number: the signal that was received.
    """

    def __init__(self, text: str, signal_number: int):
        super().__init__(text)
        self.signal_number = signal_number


class _StopSignals:
    """Records Ctrl-C and SIGTERM, so that the step under way is finished; a second one kills.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        # Only the main thread may set handlers; elsewhere signals keep their effect.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for handled, handler in self._handlers.items():
            signal.signal(handled, handler)


class Trainer:
    """A training run.

    Args:
        model: made in the scope of `strategy`.
        optimizer: made in the same scope.
        strategy: the devices.
        corpus: the data set.
        folder: the model folder.
        checkpoints: the checkpoints of this run.
        state: of the run; it is updated as training proceeds.
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
        self._is_chief = is_chief(strategy)
        self._variables = _named_variables(model, optimizer)
        self._training_songs, self._validation_songs = corpus.split()
        self._tempos_bpm = song_tempos_bpm(corpus, self._training_songs)
        self._sharding = BatchSharding(strategy, model.parameters.batch_size)
        self._steps = Steps(model, optimizer, strategy, self._sharding, xla=compiles_by_xla())
        self._steps_of_process = 0
        self._last_save = time.monotonic()

    def assign(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
        """Assigns values to variables of the model and the optimizer, on all workers the chief's.

        Args:
            names: of the variables.
            arrays: one per name; only the chief needs them.
        """
        for name in names:
            variable = self._variables[name]
            array = arrays.get(name, np.zeros(variable.shape, variable.dtype.as_numpy_dtype))
            variable.assign(broadcast_from_chief(self._strategy, array))

    def run(self, epochs: int, patience: int | None, checkpoint_every_s: float) -> list[EpochEntry]:
        """Trains until `epochs` are done, counted from the beginning of the run, or patience ends.

        Returns:
            The history, one entry per epoch.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM.
            TrainingError: the loss is no longer a number.
        """
        with _StopSignals() as signals:
            return self._run(epochs, patience, checkpoint_every_s, signals)

    def _run(
        self, epochs: int, patience: int | None, checkpoint_every_s: float, signals: _StopSignals
    ) -> list[EpochEntry]:
        state = self.state
        if state.step == 0:
            # From now on there is something to restore, and a folder that can't be written shows.
            self._save_checkpoint()
        logs = self.folder / LOGS_FOLDER if self._is_chief else None
        progress = Progress(logs, epochs * self._steps_per_epoch())
        progress.describe(state.identity)
        if state.step:
            progress.say(
                f"{self.folder} is resumed after {state.epoch} epochs and {state.batch} batches"
            )
        if state.epoch >= epochs:
            progress.say(f"Nothing is left to do: a larger -e than {epochs} trains it further")
        if len(self.corpus) == 1:
            progress.say(
                "Validation uses the training song, because the data set has only one: "
                "the validation loss says nothing about new music"
            )
        while state.epoch < epochs and not self._out_of_patience(patience):
            self._train_epoch(epochs, checkpoint_every_s, signals, progress)
            self._finish_epoch(progress)
            if signals.received is not None:
                self._stop(signals.received, progress)
        self._save_checkpoint()
        progress.close()
        best = min(state.history, key=lambda entry: entry["val_loss"])
        progress.say(
            f"Epochs done: {state.epoch} of {epochs}. The best model is in {self.folder}: "
            f"validation loss {best['val_loss']:.4f}, of epoch {best['epoch']}"
        )
        return state.history

    def _train_epoch(
        self, epochs: int, checkpoint_every_s: float, signals: _StopSignals, progress: Progress
    ) -> None:
        """Trains on the remaining batches of this epoch."""
        state, batch_size = self.state, self.model.parameters.batch_size
        windows = self._windows(state.epoch)
        count = num_batches(windows, batch_size)
        progress.start_epoch(state.epoch + 1, epochs, count)
        for batch in self._dataset(windows, state.batch):
            start = time.monotonic()
            share_done = (state.epoch + state.batch / count) / epochs
            state.rate = learning_rate(self.model.parameters.learning_rate, state.step, share_done)
            sums = self._step(batch)
            state.step += 1
            state.batch += 1
            state.sums = (_sums_so_far(state) + sums).to_numbers()
            self._steps_of_process += 1
            if self._steps_of_process > 1:  # the first step of a process includes compiling
                state.seconds += time.monotonic() - start
                state.timed_tokens += sums.tokens
            progress.step(state, sums)
            if self._steps_of_process == _STEPS_TO_ESTIMATE + 1:
                progress.estimate(state, (epochs - state.epoch) * count - state.batch)
            if signals.received is not None:
                self._stop(signals.received, progress)
            if time.monotonic() - self._last_save >= checkpoint_every_s:
                self._save_checkpoint()
                # What was logged before the checkpoint is not logged again after a restore.
                progress.flush()

    def _step(self, batch: tuple[tf.Tensor, ...]) -> MetricSums:
        """Trains on one batch."""
        state = self.state
        seed = state.identity["seed"]
        sums, norm = self._steps.train(batch, state.rate, state.step, seed, state.loss_scale)
        state.loss_scale, state.steps_since_overflow = next_loss_scale(
            state.loss_scale, state.steps_since_overflow, math.isfinite(norm)
        )
        # Only float16 is scaled: its update was skipped, and the next scale is smaller.
        is_finite = math.isfinite(norm) or state.loss_scale > 1
        if not math.isfinite(sums.mean_loss) or not is_finite:
            raise TrainingError(
                f"the loss became {sums.mean_loss} (gradient norm {norm}) in epoch "
                f"{state.epoch + 1}, step {state.step + 1}: the last checkpoint and the best model "
                "are kept. Try a smaller learning_rate, or --precision float32"
            )
        return sums

    def _finish_epoch(self, progress: Progress) -> None:
        """Validates, records the epoch, and saves the model if it is the best so far."""
        state = self.state
        trained, validated = _sums_so_far(state), self._validate()
        entry: EpochEntry = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "loss": trained.mean_loss,
            "accuracy": trained.accuracy,
            "val_loss": validated.mean_loss,
            "val_accuracy": validated.accuracy,
            "val_loss_per_note": validated.loss_per_note,
            "loss_by_kind": trained.loss_by_kind(),
            "val_loss_by_kind": validated.loss_by_kind(),
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
        if self._is_chief:
            self._draw_training_curves(progress)
            self._log_sample(progress)

    def _validate(self) -> MetricSums:
        """Sums over all windows of the validation songs."""
        length = self.model.parameters.sequence_length
        windows = Windows(self.corpus, self._validation_songs, length)
        return sum((self._steps.validate(b) for b in self._dataset(windows)), MetricSums())

    def _draw_training_curves(self, progress: Progress) -> None:
        path = self.folder / PICTURE_FILE
        try:
            training_curves(self.state.history, path)
        except OSError as error:  # a picture is no reason to end a run
            progress.say(f"{path} can't be written: {error.strerror or error}")

    @functools.cached_property
    def _habits(self) -> Habits | None:
        """Found when the first epoch has ended, so that no start waits for them."""
        return find_habits(self.corpus, self._training_songs)

    def _log_sample(self, progress: Progress) -> None:
        """Composes a little from nothing for TensorBoard, always with the same random numbers."""
        bpm = float(np.median(self._tempos_bpm)) if len(self._tempos_bpm) else None
        settings = SamplingSettings.of(default_freedom(self.model.hears_state), bpm, self._habits)
        nothing = [np.zeros(0, np.uint16)]
        with tf.device("CPU:0"):  # which takes less time than compiling for a GPU
            tokens = compose(self.model, nothing, SAMPLE_LENGTH, settings=settings)[0]
        notes = tokens_to_notes(tokens, self.model.codec.drum_program)
        title = f"after {self.state.epoch} epochs, {self.state.step} steps"
        figures = {
            "notes_per_second": notes_per_second(notes),
            "polyphony": polyphony(notes),
            "time_in_notes_over_4_s": hanging_share(notes),
        }
        progress.sample(self.state.step, piano_roll_image(notes, title=title), figures)

    def _dataset(self, windows: Windows, first_batch: int = 0) -> tf.data.Dataset:
        return batches_for(self.model, windows, first_batch, self._sharding.rows)

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

    def _steps_per_epoch(self) -> int:
        return num_batches(self._windows(0), self.model.parameters.batch_size)

    def _out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.state.epochs_since_best >= patience

    def _save_model(self) -> None:
        if self._is_chief:
            self.model.history_of_training = {
                "data_set": self.state.identity["data set"],
                "seed": self.state.identity["seed"],
                "tempi_bpm": self._tempos_bpm,
                "habits": self._habits and self._habits._asdict(),
                "history": self.state.history,
            }
            save_model(self.model, self.folder)

    def _save_checkpoint(self) -> None:
        if self._is_chief:
            arrays = {name: variable.numpy() for name, variable in self._variables.items()}
            self._checkpoints.save(self.state, arrays)
        self._last_save = time.monotonic()

    def _stop(self, signal_number: int, progress: Progress) -> None:
        self._save_checkpoint()
        progress.close()
        raise TrainingInterrupted(
            f"stopped in epoch {self.state.epoch + 1} after {self.state.batch} batches; "
            "everything is saved",
            signal_number,
        )


def batches_for(
    model: MusicTransformer,
    windows: Windows,
    first_batch: int = 0,
    rows: slice = slice(None),
) -> tf.data.Dataset:
    """The batches of an epoch, with the state of the music if the model hears it.

    Args:
        model: its batch size and its codec count.
        windows: the epoch.
        first_batch: the number of the batch to start with.
        rows: the part of each batch that this process gets.

    Returns:
        A dataset of (inputs, targets, weights) or (inputs, targets, weights, *Features, *Onsets).
    """

    def heard(batch: Batch) -> Sequence[np.ndarray]:
        state, onsets = state_and_onsets(batch, model.codec.drum_program)
        return (*state, *onsets)

    hears = heard if model.hears_state else None
    return dataset(windows, model.parameters.batch_size, first_batch, rows, hears)


def state_and_onsets(batch: Batch, drum_program: int | None) -> tuple[Features, Onsets]:
    """What a model hears beside the inputs of a batch."""
    tokens, restated = batch.inputs, batch.restated_onset_steps
    pulse = Pulse.of(batch.beats, batch.beats_per_step)
    state = window_features(tokens, drum_program, batch.start_steps, restated, pulse)
    is_new = restated == NOT_RESTATED
    return state, window_onsets(tokens, state, is_new, batch.past_beats, batch.past_slots)


def _sums_so_far(state: RunState) -> MetricSums:
    """The sums over the batches of the current epoch."""
    return MetricSums.from_numbers(state.sums) if state.sums else MetricSums()


def _named_variables(model: MusicTransformer, optimizer: Adam) -> dict[str, tf.Variable]:
    """All variables that training changes, by their names in a checkpoint."""
    named = {name: variable.value for name, variable in model.weights_by_name().items()}
    # The optimizer knows the variables by their order in the model.
    names = {variable.ref(): name for name, variable in named.items()}
    moments = zip(
        model.trainable_variables,
        optimizer.first_moments,
        optimizer.second_moments,
        strict=True,
    )
    for variable, first, second in moments:
        name = names[variable.value.ref()]
        named[f"mean/{name}"], named[f"square/{name}"] = first, second
    return named
