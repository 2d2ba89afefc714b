"""The training batches of an epoch: which windows it has, in which order, and tf.data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.decoding import elapsed_steps
from midinet.codec.restating import NOT_RESTATED
from midinet.codec.vocabulary import NOTE_OFF, PAD, STEP_MS
from midinet.data.augmentation import PAST_STEPS, augment, draw_semitones, transpose
from midinet.data.song_notes import BYTES_PER_TOKEN, read_excerpt
from midinet.data.windows import Window, write_window
from midinet.midi.tempo_map import MIN_GRID_SHARE

if TYPE_CHECKING:
    import tensorflow as tf

    from midinet.data.corpus import Corpus

# A window is read from so many times its tokens, because augmentation may make it shorter.
_SUPPLY = 1.25
# Of the memory for the notes of songs, as much is used by songs whose windows are being visited.
_LIVE_SHARE = 0.6


class Batch(NamedTuple):
    """Rows of training windows.

    Attributes:
        inputs: `(B, T)` int32 tokens.
        targets: `(B, T)` int32, the token after each of the inputs.
        weights: `(B, T)` float32: 1 where the target counts, 0 in the padding, for tokens that
            restate what sounds, and for mistakes, of which a few windows are full.
        start_steps: `(B,)` int32, when each window begins in its song, in grid steps.
        restated_onset_steps: `(B, T)` int32, when the note began that an input restates;
            NOT_RESTATED for other inputs.
        beats: `(B, T)` float64, the position in quarter notes after each input; NaN without a
            metronome.
        beats_per_step: `(B, T)` float64, the tempo there; NaN without a metronome.
        past_beats: `(B, P)` float64, P = T // 2: when the last notes before the window began; NaN
            without a metronome, and where there are fewer notes.
        past_slots: `(B, P)` int32, the slots of those notes; see windows.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    start_steps: np.ndarray
    restated_onset_steps: np.ndarray
    beats: np.ndarray
    beats_per_step: np.ndarray
    past_beats: np.ndarray
    past_slots: np.ndarray


class _Plan(NamedTuple):
    """All that is random about an epoch, and where its windows are.

    Attributes:
        phases: for each song, by how much its first window is shorter.
        first_windows: for each song, the number of its first window in song order.
        order: for each window of the epoch, its number in song order.
        seeds: for each window in song order, the seed of its augmentation.
    """

    phases: np.ndarray
    first_windows: np.ndarray
    order: np.ndarray
    seeds: np.ndarray


class Windows:
    """The windows of one epoch over some songs of a data set.

    A song of n tokens has n + 1 targets: its tokens and one PAD that ends it. They are cut every S
    targets, where S is a little less than T = `sequence_length`: what remains is for the tokens
    that restate what sounds. Without augmentation each target is in exactly one window, but for
    the NOTE_OFFs of notes that were too many to restate. The input is the token before the target,
    PAD before a song's first token.

    A song gets as many windows as it needs and no more, because a padded row costs as much as a
    full one. What slack they leave is shared at random, with `shuffle` or `augment`, between the
    first window and the last, so that the cuts move from epoch to epoch. Otherwise only the last
    window is shorter.

    With `augment` every window is augmented on its own, and filled up to T tokens with the music
    after it, so some tokens near the cuts are targets of two windows or of none. The end of a song
    is never lost: a last window that would outgrow T is only transposed.

    With `shuffle` the windows are visited in random order. The songs of a data set that does not
    fit in memory begin at random moments of the epoch, and the windows of each are spread at random
    over a part of it that is as long as memory allows: so each song is read once.

    Everything random depends on (seed, epoch, index) alone, so any batch can be made without those
    before it.

    Args:
        corpus: an open data set; its tokens are never written to.
        songs: the indices of the songs.
        sequence_length: T, in tokens.
        seed: not negative.
        epoch: not negative.
        augment: change the music of each window; see augmentation.
        shuffle: visit the windows in random order.
    """

    def __init__(
        self,
        corpus: Corpus,
        songs: Sequence[int] | np.ndarray,
        sequence_length: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        augment: bool = False,
        shuffle: bool = False,
    ):
        self.corpus = corpus
        self.sequence_length = sequence_length
        self.seed = seed
        self.epoch = epoch
        self.augment = augment
        self.shuffle = shuffle
        self._songs = np.asarray(songs, dtype=np.int64)
        self._max_restated = max(2, sequence_length // 16, min(sequence_length // 4, 16))
        self._stride = sequence_length + 1 - self._max_restated
        self._size = int(self._counts().sum())

    def __len__(self) -> int:
        return self._size

    def _counts(self) -> np.ndarray:
        return np.diff(self.corpus.offsets)[self._songs] // self._stride + 1

    @functools.cached_property
    def _plan(self) -> _Plan:
        phase, order, seeds = (
            np.random.Generator(np.random.Philox(child))
            for child in np.random.SeedSequence([self.seed, self.epoch]).spawn(3)
        )
        slack = -(np.diff(self.corpus.offsets) + 1) % self._stride
        if not (self.shuffle or self.augment):
            slack[:] = 0
        counts = self._counts()
        return _Plan(
            # Drawn for the whole data set, so that a song's phase does not depend on the others.
            phases=phase.integers(slack + 1)[self._songs],
            first_windows=np.cumsum(counts) - counts,
            order=self._shuffled(counts, order) if self.shuffle else np.arange(self._size),
            seeds=seeds.integers(1 << 32, size=self._size, dtype=np.uint32),
        )

    def _shuffled(self, counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draws the order of the windows: their numbers, `(len(self),)`.

        Args:
            counts: for each song, how many windows it has.
            random: draws the moments, from 0 to 1, at which windows are visited.
        """
        num_bytes = BYTES_PER_TOKEN * max(1, int(np.diff(self.corpus.offsets)[self._songs].sum()))
        span = min(1.0, _LIVE_SHARE * self.corpus.notes.max_bytes / num_bytes)  # of each song
        begins = (1 - span) * random.random(len(counts))
        return np.argsort(begins.repeat(counts) + span * random.random(self._size), kind="stable")

    def forget(self) -> None:
        """Frees what grows with the number of windows; it comes back when it is needed."""
        self.__dict__.pop("_plan", None)

    def batch(self, first: int, batch_size: int) -> Batch:
        """Makes the batch whose first row is window number `first` of the epoch.

        Rows after the last window are padding throughout.
        """
        return self.rows(range(first, first + batch_size))

    def rows(self, numbers: Sequence[int]) -> Batch:
        """Makes one row for each of these windows of the epoch; see `batch`."""
        shape = (len(numbers), self.sequence_length)
        past_shape = (len(numbers), self.sequence_length // 2)
        batch = Batch(
            inputs=np.full(shape, PAD, np.int32),
            targets=np.full(shape, PAD, np.int32),
            weights=np.zeros(shape, np.float32),
            start_steps=np.zeros(len(numbers), np.int32),
            restated_onset_steps=np.full(shape, NOT_RESTATED, np.int32),
            beats=np.full(shape, np.nan),
            beats_per_step=np.full(shape, np.nan),
            past_beats=np.full(past_shape, np.nan),
            past_slots=np.zeros(past_shape, np.int32),
        )
        for row, number in enumerate(numbers):
            if number < len(self):
                self._fill_row(batch, row, int(self._plan.order[number]))
        return batch

    def _fill_row(self, batch: Batch, row: int, window_index: int) -> None:
        first_windows = self._plan.first_windows
        place = int(np.searchsorted(first_windows, window_index, side="right")) - 1
        song_index = int(self._songs[place])
        song = self.corpus.song(song_index)
        nominal = (window_index - int(first_windows[place])) * self._stride
        start = max(0, nominal - int(self._plan.phases[place]))
        stop = min(len(song) + 1, nominal - int(self._plan.phases[place]) + self._stride)
        random = np.random.default_rng(self._plan.seeds[window_index]) if self.augment else None
        window, factor = self._window(song_index, start, stop, random)

        size = len(window.tokens) - 1
        num_restated = min(size, len(window.restated_onset_steps))
        batch.inputs[row, :size] = window.tokens[:-1]
        batch.targets[row, :size] = window.tokens[1:]
        batch.weights[row, max(0, len(window.restated_onset_steps) - 1) : size] = 1
        targets = window.tokens[1:]
        time_steps = window.start_steps + elapsed_steps(targets)
        batch.weights[row, :size] *= (time_steps >= window.counts_from_steps) | (targets == PAD)
        batch.start_steps[row] = window.start_steps
        batch.restated_onset_steps[row, :num_restated] = window.restated_onset_steps[:num_restated]
        if self.corpus.grid_shares[song_index] >= MIN_GRID_SHARE:
            tempo_map = self.corpus.tempo_map(song_index)
            assert tempo_map is not None
            step_ms = STEP_MS / factor  # of the song as it was before augmentation
            now_ms = step_ms * (window.start_steps + elapsed_steps(batch.inputs[row, :size]))
            batch.beats[row, :size] = tempo_map.beats_at(now_ms)
            batch.beats_per_step[row, :size] = step_ms * 1000 / tempo_map.us_per_beat_at(now_ms)
            last = np.argsort(window.past_onset_steps)[-batch.past_beats.shape[1] :]
            past_ms = step_ms * window.past_onset_steps[last]
            batch.past_beats[row, : len(last)] = tempo_map.beats_at(past_ms)
            batch.past_slots[row, : len(last)] = window.past_slots[last]

    def _window(
        self, song_index: int, start: int, stop: int, random: np.random.Generator | None
    ) -> tuple[Window, float]:
        """Makes the window of the targets from `start` to `stop` of a song.

        Returns:
            The window, at most T + 1 tokens, the first of which is only an input and the last only
            a target; and the factor by which its times were multiplied.
        """
        drum_program = self.corpus.codec.drum_program
        song, notes = self.corpus.song(song_index), self.corpus.notes(song_index)
        is_last = stop == len(song) + 1
        factor = 1.0
        if random is None:
            excerpt = read_excerpt(notes, start, min(len(song), stop), PAST_STEPS)
            window = write_window(excerpt, drum_program, self._max_restated)
            # The last tokens may prepare an event of the next window: they are no notes yet.
            targets = song[start:stop]
            events = np.flatnonzero(targets < NOTE_OFF.end)
            prepared = targets[events[-1] + 1 :] if len(events) else targets
            window = window._replace(tokens=np.append(window.tokens, prepared))
        else:
            supply = start + math.ceil(_SUPPLY * self.sequence_length)
            supply = len(song) if is_last else min(len(song), supply)
            excerpt = read_excerpt(notes, start, supply, PAST_STEPS)
            augmented, factor = augment(excerpt, random, drum_program)
            window = write_window(augmented, drum_program, self._max_restated)
            if is_last and len(window.tokens) + (not start) > self.sequence_length:
                excerpt, factor = transpose(excerpt, draw_semitones(random), drum_program), 1.0
                window = write_window(excerpt, drum_program, self._max_restated)
        # PAD is the input before a song's first token, and the target after its last one.
        pad = np.array([PAD], np.uint16)
        lead, end = pad[: not len(window.restated_onset_steps)], pad[:is_last]
        tokens = np.concatenate([lead, window.tokens, end])
        return window._replace(tokens=tokens[: self.sequence_length + 1]), factor


def num_batches(windows: Windows, batch_size: int) -> int:
    """How many batches an epoch has; the last may be filled up with padding rows."""
    return math.ceil(len(windows) / batch_size)


def dataset(
    windows: Windows,
    batch_size: int,
    first_batch: int = 0,
    rows: slice = slice(None),
    features: Callable[[Batch], Sequence[np.ndarray]] | None = None,
) -> tf.data.Dataset:
    """The batches of an epoch as a tf.data.Dataset, made ahead in the background.

    Args:
        windows: the epoch.
        batch_size: rows of the global batch.
        first_batch: the number of the batch to start with; those before it cost nothing.
        rows: the part of each global batch that this worker gets.
        features: computes further arrays, `(B, ...)` each, from a batch.

    Returns:
        A dataset of (inputs, targets, weights, *features).
    """
    from midinet.backend import tf

    num_rows = len(range(batch_size)[rows])
    last_batch = num_batches(windows, batch_size) - 1

    def arrays_of(batch: Batch) -> tuple[np.ndarray, ...]:
        return (*batch[:3], *(features(batch) if features else ()))

    def make(number: np.int64) -> tuple[np.ndarray, ...]:
        first = int(number) * batch_size
        batch = windows.rows(range(first, first + batch_size)[rows])
        # TensorFlow never releases a function that it has called, nor what the function refers to:
        # without this a run would accumulate the plans of all its epochs.
        if number == last_batch:
            windows.forget()
        return arrays_of(batch)

    padding = arrays_of(windows.rows([len(windows)]))
    types = [tf.as_dtype(array.dtype) for array in padding]

    def load(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(make, [number], types, stateful=False)
        return tuple(
            tf.ensure_shape(array, (num_rows, *example.shape[1:]))
            for array, example in zip(arrays, padding, strict=True)
        )

    numbers = tf.data.Dataset.range(first_batch, last_batch + 1)
    return numbers.map(load).prefetch(tf.data.AUTOTUNE)
