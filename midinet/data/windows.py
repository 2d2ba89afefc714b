"""Windows made of notes: what a model sees of a song in one row of a training batch.

A window is not cut out of a song's tokens. The notes that overlap it are read as arrays, so that
they can be augmented, and written by the encoder. A window from the middle of a song begins by
restating what sounds there, so that no NOTE_OFF in it is without its NOTE_ON.

The windows of a batch are made together, as the rows of one set of arrays: array operations cost
so much by themselves that one window takes nearly as long as several.

Times are in steps of the 10 ms grid, counted from the beginning of the song. A slot is a row, a
program and a pitch as one number; only one note can sound in it at a time.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from midinet.codec.restating import NUM_SLOTS, Events, latest, write_rows
from midinet.codec.vocabulary import NUM_PITCHES, NUM_PROGRAMS

NEVER = np.int64(1) << 40  # the end of a note that ends after its excerpt


class Excerpts(NamedTuple):
    """The notes of parts of songs: B rows, N notes, those of each slot in a row, in order.

    Attributes:
        onset_steps: `(N,)` int64.
        end_steps: `(N,)` int64; NEVER for a note that ends after the excerpt. Percussion has no
            length, so its ends mean nothing.
        slot: `(N,)` int64, row * NUM_SLOTS + program * NUM_PITCHES + pitch; not descending.
        level: `(N,)` int64, the velocity level, 1 to 31.
        began_before: `(N,)` bool, whether a note begins before the excerpt.
        is_over: `(N,)` bool, whether it also ends before the excerpt, as all percussion does. Such
            notes are not written; the meter looks them up.
        start_steps: `(B,)` int64, when each excerpt begins.
        stop_steps: `(B,)` int64, when it ends.
        program: `(B,)` int64, the program that is current where the excerpt begins.
        current_level: `(B,)` int64, the velocity level that is current there; 0 at the beginning
            of a song.
        counts_from_steps: `(B,)` int64, when the music begins that a model should learn to
            compose; see `mistakes.disturb_beginning`.
    """

    onset_steps: np.ndarray
    end_steps: np.ndarray
    slot: np.ndarray
    level: np.ndarray
    began_before: np.ndarray
    is_over: np.ndarray
    start_steps: np.ndarray
    stop_steps: np.ndarray
    program: np.ndarray
    current_level: np.ndarray
    counts_from_steps: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """The row of each note: `(N,)` int64, not descending."""
        row: np.ndarray = self.slot // NUM_SLOTS
        return row

    @property
    def pitch(self) -> np.ndarray:
        """The pitch of each note: `(N,)` int64."""
        pitch: np.ndarray = self.slot & (NUM_PITCHES - 1)  # several times as fast as %
        return pitch

    def is_drum(self, drum_program: int | None) -> np.ndarray:
        """Marks percussion: `(N,)` bool."""
        if drum_program is None:
            return np.zeros(len(self.slot), bool)
        is_drum: np.ndarray = self.slot // NUM_PITCHES & (NUM_PROGRAMS - 1) == drum_program
        return is_drum

    def select(self, notes: np.ndarray) -> Excerpts:
        """The excerpts with only those notes that a mask or indices select, `(N,)` or `(M,)`."""
        index = np.flatnonzero(notes) if notes.dtype == bool else notes
        return self._replace(**{name: getattr(self, name).take(index) for name in NOTE_ARRAYS})


NOTE_ARRAYS = Excerpts._fields[:6]  # those with one entry for each note


class Window(NamedTuple):
    """The tokens of a window.

    Attributes:
        tokens: `(T,)` uint16, those that restate what sounds first.
        start_steps: when the window begins.
        restated_onset_steps: `(R,)` int32, for the first R tokens when the note began that a
            NOTE_ON restates; NOT_RESTATED for other tokens.
        past_onset_steps: `(P,)` int64, when the notes began that began before the window, in order.
        past_slots: `(P,)` int64, program * NUM_PITCHES + pitch of those notes.
        counts_from_steps: when the music begins that a model should learn to compose.
    """

    tokens: np.ndarray
    start_steps: int
    restated_onset_steps: np.ndarray
    past_onset_steps: np.ndarray
    past_slots: np.ndarray
    counts_from_steps: int


def write_windows(excerpts: Excerpts, drum_program: int | None, max_restated: int) -> list[Window]:
    """Writes excerpts as tokens.

    Args:
        excerpts: B rows.
        drum_program: the program that stands for percussion, or None.
        max_restated: the most tokens that may restate what sounds, at least 2. If too many notes
            sound, the oldest are left out with their NOTE_OFFs.

    Returns:
        B windows.
    """
    past = _past_of_rows(excerpts)
    excerpts = excerpts.select(~excerpts.is_over)
    onset, end, slot, level = excerpts[:4]
    row = excerpts.row
    sounding = np.flatnonzero(excerpts.began_before)
    sounding = sounding[latest(onset[sounding], slot[sounding], max_restated)]
    starts = np.flatnonzero(~excerpts.began_before)
    has_end = ~excerpts.is_drum(drum_program) & (end <= excerpts.stop_steps[row])
    ends = np.concatenate((starts, sounding))
    ends = ends[has_end[ends]]
    start = excerpts.start_steps[row]
    written = write_rows(
        Events(onset[sounding], slot[sounding], level[sounding]),
        excerpts.program,
        excerpts.current_level,
        Events((onset - start)[starts], slot[starts], level[starts]),
        Events((end - start)[ends], slot[ends]),
    )
    return [
        Window(row.tokens, begin, row.onset_steps, past_steps, past_slots, counts_from)
        for row, begin, (past_steps, past_slots), counts_from in zip(
            written,
            excerpts.start_steps.tolist(),
            past,
            excerpts.counts_from_steps.tolist(),
            strict=True,
        )
    ]


def _past_of_rows(excerpts: Excerpts) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each row the onsets and the slots of the notes that began before it, by onset."""
    past = np.flatnonzero(excerpts.began_before)
    slot, onset, row = excerpts.slot[past], excerpts.onset_steps[past], excerpts.row[past]
    order = stable_order(row * (1 + onset.max(initial=0)) + onset)
    slot, onset = slot[order] & (NUM_SLOTS - 1), onset[order]
    ends = row.searchsorted(np.arange(len(excerpts.start_steps)), side="right").tolist()
    return [(onset[a:b], slot[a:b]) for a, b in itertools.pairwise([0, *ends])]


def stable_order(keys: np.ndarray) -> np.ndarray:
    """The indices that sort whole numbers `(N,)` from 0; equal ones keep their order.

    It takes a quarter of the time of np.argsort, because it sorts keys that hold their indices.
    """
    num_bits = len(keys).bit_length()
    if int(keys.max(initial=0)) >> (63 - num_bits):
        return np.argsort(keys, kind="stable")
    keys = keys << num_bits | np.arange(len(keys))
    keys.sort()
    return keys & ((1 << num_bits) - 1)


def without_overlaps(excerpts: Excerpts) -> Excerpts:
    """Ends each note where its slot begins anew; of several that begin there at once, the last."""
    following = np.full(len(excerpts.slot), NEVER)
    is_same_slot = excerpts.slot[1:] == excerpts.slot[:-1]
    following[:-1][is_same_slot] = excerpts.onset_steps[1:][is_same_slot]
    ends = np.minimum(excerpts.end_steps, following)
    return excerpts._replace(end_steps=ends).select(excerpts.onset_steps < following)
