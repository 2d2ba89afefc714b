"""Songs -> the training batches of an epoch: windows, augmentation, tf.data."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.decoding import current_values
from midinet.codec.encoding import write_events
from midinet.codec.vocabulary import (
    NOTE_OFF,
    NOTE_ON,
    NUM_PITCHES,
    PAD,
    PROGRAM,
    TIME_SHIFT,
    VELOCITY,
    TokenRange,
)

if TYPE_CHECKING:
    import tensorflow as tf

    from midinet.data.corpus import Corpus

MAX_SEMITONES = 3
MAX_STRETCH = 0.05  # of the time between events
LATE_SHARE = 0.04  # of all notes end late
LATE_STEPS = (10, 500)  # from and to so much later, in steps of the 10 ms grid
INITIAL_PROGRAM = 0  # current until a song's first PROGRAM token

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


class _Plan(NamedTuple):
    """All that is random about an epoch, and where its windows are.

    Attributes:
        phases: for each song, by how much its first window is shorter.
        first_windows: for each song, the number of its first window in song order.
        order: for each window of the epoch, its number in song order.
        semitones, factors, late_seeds: for each window in song order, how to augment it.
    """

    phases: np.ndarray
    first_windows: np.ndarray
    order: np.ndarray
    semitones: np.ndarray
    factors: np.ndarray
    late_seeds: np.ndarray


class Windows:
    """The windows of one epoch over some songs of a data set.

    A song of n tokens has n + 1 targets: its tokens and one PAD that ends it. They are cut every
    T = `sequence_length` targets, so each is a target exactly once an epoch. The input is the
    target one step earlier: PAD before a song's first token, elsewhere the token before.

    A song gets as many windows as it needs and no more, for a padded row costs as much as a full
    one. What room they leave is shared at random, with `shuffle` or `augment`, between the first
    window and the last, so that the cuts move from epoch to epoch: both are then shorter than T and
    padded behind; all others are full. Otherwise only the last one is short.

    With `augment` every window is changed on its own: `transpose`, `end_late`, `stretch`. The last
    two also change how many tokens it takes. A window still starts where it would; it ends earlier
    in the song when it grew, or takes some more tokens when it shrank. So the few tokens at such a
    seam are targets of no window, or of two. The end of a song is never lost: a last window that
    would outgrow T is only transposed.

    Everything random depends on (seed, epoch, index) alone, so any batch can be made without those
    before it.

    Args:
        corpus: an open data set; its tokens are never written to.
        songs: the indices of the songs.
        sequence_length: T, in tokens.
        seed: not negative.
        epoch: not negative.
        augment: transpose each window by up to 3 semitones, let 4% of its notes end late, and
            stretch it by up to 5%.
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
        self._size = int(self._counts().sum())

    def __len__(self) -> int:
        return self._size

    def _counts(self) -> np.ndarray:
        return np.diff(self.corpus.offsets)[self._songs] // self.sequence_length + 1

    @functools.cached_property
    def _plan(self) -> _Plan:
        phase, order, pitch, tempo, late = (
            np.random.Generator(np.random.Philox(child))
            for child in np.random.SeedSequence([self.seed, self.epoch]).spawn(5)
        )
        room = -(np.diff(self.corpus.offsets) + 1) % self.sequence_length
        if not (self.shuffle or self.augment):
            room[:] = 0
        counts = self._counts()
        return _Plan(
            # Drawn for the whole data set, so that a song's phase does not hang on its company.
            phases=phase.integers(room + 1)[self._songs],
            first_windows=np.cumsum(counts) - counts,
            order=order.permutation(self._size) if self.shuffle else np.arange(self._size),
            semitones=pitch.integers(
                -MAX_SEMITONES, MAX_SEMITONES, size=self._size, dtype=np.int8, endpoint=True
            ),
            factors=tempo.uniform(1 - MAX_STRETCH, 1 + MAX_STRETCH, size=self._size),
            late_seeds=late.integers(1 << 32, size=self._size, dtype=np.uint32),
        )

    def forget(self) -> None:
        """Frees what grows with the number of windows; it comes back when it is needed."""
        self.__dict__.pop("_plan", None)

    def batch(self, first: int, batch_size: int) -> Batch:
        """Makes the batch whose first row is window number `first` of the epoch.

        Returns:
            Inputs and targets, int32 `(B, T)`, and weights, float32 `(B, T)`: 1 where the target
            counts, 0 in the padding. Rows beyond the last window are padding throughout.
        """
        return self.rows(range(first, first + batch_size))

    def rows(self, numbers: Sequence[int]) -> Batch:
        """Makes one row for each of these windows of the epoch; see `batch`."""
        shape = (len(numbers), self.sequence_length)
        inputs = np.full(shape, PAD, dtype=np.int32)
        targets = np.full(shape, PAD, dtype=np.int32)
        weights = np.zeros(shape, dtype=np.float32)
        for row, number in enumerate(numbers):
            if number < len(self):
                run = self._run(int(self._plan.order[number]))
                size = len(run) - 1
                inputs[row, :size] = run[:-1]
                targets[row, :size] = run[1:]
                weights[row, :size] = 1
        return inputs, targets, weights

    def _run(self, window: int) -> np.ndarray:
        """A window's tokens, at most T + 1; the first is only an input, the last only a target."""
        plan = self._plan
        index = int(np.searchsorted(plan.first_windows, window, side="right")) - 1
        song = self.corpus.song(int(self._songs[index]))
        place = window - int(plan.first_windows[index])
        grid_start = place * self.sequence_length - int(plan.phases[index])
        start = max(0, grid_start)
        end = min(len(song) + 1, grid_start + self.sequence_length)
        if self.augment:
            return self._augmented_run(song, start, end, window)
        return _cut(song, start, end)

    def _augmented_run(self, song: np.ndarray, start: int, end: int, window: int) -> np.ndarray:
        num_targets = len(song) + 1
        is_last = end == num_targets
        # Some tokens more, to fill up what stretching takes away; but a song ends only once.
        supply = end if is_last else min(end + self.sequence_length // 8, num_targets - 1)
        drum_program = self.corpus.codec.drum_program
        program = value_before(song, start - 1, PROGRAM, INITIAL_PROGRAM)
        level = value_before(song, start - 1, VELOCITY, 0)
        semitones = int(self._plan.semitones[window])
        random = np.random.default_rng(self._plan.late_seeds[window])
        transposed = transpose(_cut(song, start, supply), semitones, drum_program, program)
        run = end_late(transposed, random, program, level)
        run = stretch(run, float(self._plan.factors[window]))
        if not is_last:
            return run[: end - start + 1]
        return run if len(run) <= self.sequence_length + 1 else transposed


def _cut(song: np.ndarray, start: int, end: int) -> np.ndarray:
    """Copies the targets `start` to `end` of a song and the token before them, as int32."""
    run = np.full(end - start + 1, PAD, dtype=np.int32)
    tokens = song[max(0, start - 1) : end]
    lead = 1 if start == 0 else 0
    run[lead : lead + len(tokens)] = tokens
    return run


def value_before(song: np.ndarray, position: int, kind: TokenRange, otherwise: int) -> int:
    """The value of the last token of a kind among those before `position`: the current program,
    say, or velocity.
    """
    size = 256
    while position > 0:
        # Backwards in growing strides: mostly the last change is near, and a song for one
        # instrument is still searched in few steps.
        stride = song[max(0, position - size) : position]
        changes = np.flatnonzero(kind.holds(stride))
        if changes.size:
            return int(stride[changes[-1]]) - kind.first
        position -= size
        size *= 2
    return otherwise


def transpose(
    tokens: np.ndarray, semitones: int, drum_program: int | None, program: int = INITIAL_PROGRAM
) -> np.ndarray:
    """Moves all melodic notes by the same interval; percussion stays.

    If a note would leave 0-127, all move by less: as far as the outermost note can go.

    Args:
        tokens: int32 `(N,)`.
        semitones: the interval, upwards.
        drum_program: the program that stands for percussion, or None: every note is melodic.
        program: the program that is current before the first token.

    Returns:
        int32 `(N,)`, a new array.
    """
    is_on = NOTE_ON.holds(tokens)
    is_melodic = is_on | NOTE_OFF.holds(tokens)
    if drum_program is not None:
        is_melodic &= current_values(tokens, PROGRAM, program) != drum_program
    pitches = np.where(is_on, tokens - NOTE_ON.first, tokens - NOTE_OFF.first)[is_melodic]
    if pitches.size:
        semitones = max(-int(pitches.min()), min(semitones, NUM_PITCHES - 1 - int(pitches.max())))
    return tokens + np.int32(semitones) * is_melodic


def end_late(
    tokens: np.ndarray, random: np.random.Generator, program: int = INITIAL_PROGRAM, level: int = 0
) -> np.ndarray:
    """Lets some notes, `LATE_SHARE` of them, end late: by 0.1 to 5 s, short times likelier.

    A model that composes forgets some NOTE_OFF sooner or later. Music in which every note ends in
    time does not teach it to catch up: what it then sees is like nothing that it learned from. A
    note still ends before its pitch begins anew, and with the window's last event.

    Args:
        tokens: int32 `(N,)`, as an encoder writes them.
        random: decides which notes, and by how much.
        program: the program that is current before the first token.
        level: which VELOCITY is current there; 0: none.

    Returns:
        int32 `(M,)`, a new array, or `tokens` itself if nothing changes. What is behind the last
        event, but for a PAD, is left out.
    """
    is_shift = TIME_SHIFT.holds(tokens)
    time = np.cumsum(np.where(is_shift, tokens - (TIME_SHIFT.first - 1), 0))
    is_on = NOTE_ON.holds(tokens)
    event = np.flatnonzero(is_on | NOTE_OFF.holds(tokens))
    is_on, time = is_on[event], time[event]
    place = (
        current_values(tokens, PROGRAM, program)[event] * NUM_PITCHES + tokens[event] % NUM_PITCHES
    )

    order = np.argsort(place, kind="stable")
    latest = np.full(len(event), time[-1] if len(event) else 0)
    again = place[order][1:] == place[order][:-1]
    latest[order[:-1][again]] = time[order[1:][again]]
    shortest, longest = LATE_STEPS
    delays = shortest * (longest / shortest) ** random.random(len(event))
    late = ~is_on & (random.random(len(event)) < LATE_SHARE)
    times = np.where(late, np.minimum(time + delays.astype(np.int64), latest), time)
    if (times == time).all():
        return tokens

    levels = current_values(tokens, VELOCITY, level)[event]
    written = write_events(times, place, is_on, levels, program, level)
    ends = [tokens[:1][tokens[:1] == PAD], written, tokens[-1:][tokens[-1:] == PAD]]
    return np.concatenate(ends).astype(np.int32)


def stretch(tokens: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies the time between events by `factor`, as an encoder of the slower music would.

    Neighbouring TIME_SHIFT tokens are one pause. The times at which pauses end are stretched and
    rounded, and the pauses are what lies between: the rounding error is carried, never summed.
    Each pause is written anew, full shifts first and the rest last, so the number of tokens may
    change. A pause stays at least one step long, and takes what it gained from the next ones. If
    there are so many shortest pauses that some event would be over a step (10 ms) from its
    stretched time, the tempo stays.

    Args:
        tokens: int32 `(N,)`.
        factor: over 1 is slower.

    Returns:
        int32 `(M,)`, a new array, or `tokens` itself if nothing changes.
    """
    shifts = np.flatnonzero(TIME_SHIFT.holds(tokens))
    if not shifts.size:
        return tokens
    is_first = np.diff(shifts, prepend=-2) > 1
    firsts = shifts[is_first]
    elapsed_steps = np.cumsum(tokens[shifts] - (TIME_SHIFT.first - 1))
    wanted_steps = elapsed_steps[np.append(is_first[1:], True)] * factor

    # A pause of at least one step each: step numbers that rise by one or more from 0 on.
    least_steps = np.arange(1, len(firsts) + 1)
    surplus = np.floor(wanted_steps + 0.5).astype(np.int64) - least_steps
    steps = least_steps + np.maximum(np.maximum.accumulate(surplus), 0)
    if np.abs(steps - wanted_steps).max() > 1:
        return tokens

    full_shifts, rest = np.divmod(np.diff(steps, prepend=0) - 1, TIME_SHIFT.size)
    copies = np.ones(len(tokens), dtype=np.int64)
    copies[shifts] = 0
    copies[firsts] = full_shifts + 1
    stretched = np.repeat(tokens, copies)
    stretched[TIME_SHIFT.holds(stretched)] = TIME_SHIFT.end - 1
    stretched[np.cumsum(copies)[firsts] - 1] = TIME_SHIFT.first + rest
    return stretched


def num_batches(windows: Windows, batch_size: int) -> int:
    """How many batches an epoch has; the last may be filled up with padding rows."""
    return math.ceil(len(windows) / batch_size)


def dataset(
    windows: Windows, batch_size: int, first_batch: int = 0, rows: slice = slice(None)
) -> tf.data.Dataset:
    """The batches of an epoch as a tf.data.Dataset, made ahead in the background.

    Args:
        windows: the epoch.
        batch_size: rows of the global batch.
        first_batch: the number of the batch to start with; those before it cost nothing.
        rows: the part of each global batch that this worker gets.

    Returns:
        A dataset of (inputs, targets, weights) as `Windows.batch` makes them.
    """
    from midinet.backend import tf

    shape = (len(range(batch_size)[rows]), windows.sequence_length)
    last_batch = num_batches(windows, batch_size) - 1

    def make(number: np.int64) -> Batch:
        first = int(number) * batch_size
        batch = windows.rows(range(first, first + batch_size)[rows])
        # TensorFlow never lets go of a function it has called, nor of what that refers to: without
        # this a run would gather the plans of all its epochs.
        if number == last_batch:
            windows.forget()
        return batch

    def load(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(make, [number], (tf.int32, tf.int32, tf.float32), stateful=False)
        return tuple(tf.ensure_shape(array, shape) for array in arrays)

    numbers = tf.data.Dataset.range(first_batch, last_batch + 1)
    return numbers.map(load).prefetch(tf.data.AUTOTUNE)
