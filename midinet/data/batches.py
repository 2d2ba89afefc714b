"""The training batches of an epoch: which windows it has, and in which order."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.decoding import elapsed_steps
from midinet.codec.restating import NOT_RESTATED
from midinet.codec.vocabulary import NOTE_OFF, PAD, STEP_MS
from midinet.data.augmentation import augment, draw_semitones, transpose
from midinet.data.draws import Draws
from midinet.data.song_notes import BYTES_PER_TOKEN, read_excerpts
from midinet.data.windows import Excerpts, Window, write_windows
from midinet.midi.tempo_map import MIN_GRID_SHARE, TempoMap

if TYPE_CHECKING:
    from midinet.data.corpus import Corpus

# It grows whenever the same seed makes other windows of the same music, so that no run is resumed
# with other batches than it began with.
WINDOWS_VERSION = 3

PAST_STEPS = 2000  # before a window, in which the meter looks up what was played

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


class _Cuts(NamedTuple):
    """Where B windows lie in their songs: arrays `(B,)`.

    Attributes:
        song: the index of the song.
        start: the first target.
        stop: the target after the last.
        num_tokens: of the song, which has one target more.
        seed: of the augmentation.
    """

    song: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    num_tokens: np.ndarray
    seed: np.ndarray

    @property
    def is_last(self) -> np.ndarray:
        """Which are the last windows of their songs."""
        is_last: np.ndarray = self.stop > self.num_tokens
        return is_last


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
        rows = [row for row, number in enumerate(numbers) if number < len(self)]
        if not rows:
            return batch
        cuts = self._cuts(self._plan.order[[numbers[row] for row in rows]])
        windows = self._windows(cuts)
        counts_from_steps = np.zeros((len(numbers), 1), np.int64)
        for row, (window, _) in zip(rows, windows, strict=True):
            size = len(window.tokens) - 1
            restated = window.restated_onset_steps[:size]
            batch.inputs[row, :size] = window.tokens[:-1]
            batch.targets[row, :size] = window.tokens[1:]
            batch.weights[row, max(0, len(restated) - 1) : size] = 1
            batch.start_steps[row] = window.start_steps
            batch.restated_onset_steps[row, : len(restated)] = restated
            counts_from_steps[row] = window.counts_from_steps
        starts = batch.start_steps[:, None]
        counts = starts + elapsed_steps(batch.targets) >= counts_from_steps
        batch.weights[:] *= counts | (batch.targets == PAD)
        now_steps = starts + elapsed_steps(batch.inputs)
        for row, song, (window, factor) in zip(rows, cuts.song.tolist(), windows, strict=True):
            if self.corpus.grid_shares[song] >= MIN_GRID_SHARE:
                tempo_map = self.corpus.tempo_map(song)
                assert tempo_map is not None
                _fill_beats(batch, row, now_steps[row], window, STEP_MS / factor, tempo_map)
        return batch

    def _cuts(self, window_indices: np.ndarray) -> _Cuts:
        """Where the windows lie that have these numbers in song order."""
        plan, offsets = self._plan, self.corpus.offsets
        place = plan.first_windows.searchsorted(window_indices, side="right") - 1
        song = self._songs[place]
        num_tokens = offsets[song + 1] - offsets[song]
        cut = (window_indices - plan.first_windows[place]) * self._stride - plan.phases[place]
        return _Cuts(
            song=song,
            start=np.maximum(cut, 0),
            stop=np.minimum(cut + self._stride, num_tokens + 1),
            num_tokens=num_tokens,
            seed=plan.seeds[window_indices],
        )

    def _windows(self, cuts: _Cuts) -> list[tuple[Window, float]]:
        """Makes windows.

        Returns:
            Each window, at most T + 1 tokens, the first of which is only an input and the last only
            a target; and the factor by which its times were multiplied.
        """
        made = (self._augmented if self.augment else self._plain)(cuts)
        # PAD is the input before a song's first token, and the target after its last one.
        pad = np.array([PAD], np.uint16)
        result = []
        for (window, factor), is_last in zip(made, cuts.is_last.tolist(), strict=True):
            lead, end = pad[: not len(window.restated_onset_steps)], pad[:is_last]
            tokens = np.concatenate((lead, window.tokens, end))[: self.sequence_length + 1]
            result.append((window._replace(tokens=tokens), factor))
        return result

    def _plain(self, cuts: _Cuts) -> list[tuple[Window, float]]:
        """Makes windows, without their PADs, that are not changed."""
        stops = np.minimum(cuts.stop, cuts.num_tokens)
        result = []
        for window, song, start, stop in zip(
            self._write(self._read(cuts, stops)), *(a.tolist() for a in cuts[:3]), strict=True
        ):
            # The last tokens may prepare an event of the next window: they are no notes yet.
            targets = self.corpus.song(song)[start:stop]
            events = np.flatnonzero(targets < NOTE_OFF.end)
            prepared = targets[events[-1] + 1 :] if len(events) else targets
            tokens = np.concatenate((window.tokens, prepared))
            result.append((window._replace(tokens=tokens), 1.0))
        return result

    def _augmented(self, cuts: _Cuts) -> list[tuple[Window, float]]:
        """Makes windows, without their PADs, that are augmented."""
        supplies = cuts.start + math.ceil(_SUPPLY * self.sequence_length)
        stops = np.where(cuts.is_last, cuts.num_tokens, np.minimum(supplies, cuts.num_tokens))
        excerpts = self._read(cuts, stops)
        drum_program, draws = self.corpus.codec.drum_program, Draws(cuts.seed)
        augmented, factors = augment(excerpts, draws, drum_program)
        result = list(zip(self._write(augmented), factors.tolist(), strict=True))
        num_tokens = np.array([len(window.tokens) for window, _ in result]) + (cuts.start == 0)
        is_too_long = cuts.is_last & (num_tokens > self.sequence_length)
        if is_too_long.any():
            transposed = transpose(excerpts, draw_semitones(draws), drum_program)
            others = [(window, 1.0) for window in self._write(transposed)]
            for row in np.flatnonzero(is_too_long).tolist():
                result[row] = others[row]
        return result

    def _read(self, cuts: _Cuts, stops: np.ndarray) -> Excerpts:
        songs = [self.corpus.notes(song) for song in cuts.song.tolist()]
        return read_excerpts(songs, cuts.start, stops, PAST_STEPS)

    def _write(self, excerpts: Excerpts) -> list[Window]:
        return write_windows(excerpts, self.corpus.codec.drum_program, self._max_restated)


def _fill_beats(
    batch: Batch, row: int, now_steps: np.ndarray, window: Window, step_ms: float, song: TempoMap
) -> None:
    """Fills in the beats of a row.

    Args:
        batch: the others of its arrays are filled.
        row: of the batch.
        now_steps: `(T,)` the time after each input.
        window: that fills the row.
        step_ms: the length of a step in the song as it was before augmentation.
        song: its tempo map.
    """
    size = len(window.tokens) - 1
    past = slice(-batch.past_slots.shape[1], None)
    past_slots, past_steps = window.past_slots[past], window.past_onset_steps[past]
    now_and_past_ms = step_ms * np.concatenate((now_steps[:size], past_steps))
    beats = song.beats_at(now_and_past_ms)
    batch.beats[row, :size] = beats[:size]
    us_per_beat = song.us_per_beat_at(now_and_past_ms[:size])
    batch.beats_per_step[row, :size] = step_ms * 1000 / us_per_beat
    batch.past_beats[row, : len(past_slots)] = beats[size:]
    batch.past_slots[row, : len(past_slots)] = past_slots


def num_batches(windows: Windows, batch_size: int) -> int:
    """How many batches an epoch has; the last may be filled up with padding rows."""
    return math.ceil(len(windows) / batch_size)
