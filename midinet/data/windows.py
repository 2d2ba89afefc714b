"""Windows made of notes: what a model sees of a song in one row of a training batch.

A window is not cut out of a song's tokens. The notes that overlap it are read as arrays, so that
they can be augmented, and written by the encoder. A window from the middle of a song begins by
restating what sounds there, so that no NOTE_OFF in it is without its NOTE_ON.

Times are in steps of the 10 ms grid, counted from the beginning of the song. A slot is a (program,
pitch) pair as one number; only one note can sound in it at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midinet.codec.encoding import write_events
from midinet.codec.restating import write_restatement
from midinet.codec.vocabulary import NUM_PITCHES

NEVER = np.int64(1) << 40  # the end of a note that ends after its excerpt


class Excerpt(NamedTuple):
    """The notes of a part of a song: arrays of one length N, those of each slot in a row, in order.

    Attributes:
        onset_steps: `(N,)` int64.
        end_steps: `(N,)` int64; NEVER for a note that ends after the excerpt. Percussion has no
            length, so its ends mean nothing.
        slot: `(N,)` int64, program * NUM_PITCHES + pitch.
        level: `(N,)` int64, the velocity level, 1 to 31.
        began_before: `(N,)` bool, whether a note begins before the excerpt.
        is_over: `(N,)` bool, whether it also ends before the excerpt, as all percussion does. Such
            notes are not written; augmentation may let some of them sound on.
        start_steps: when the excerpt begins.
        stop_steps: when it ends.
        program: the program that is current where the excerpt begins.
        current_level: the velocity level that is current there; 0 at the beginning of a song.
        counts_from_steps: when the music begins that a model should learn to compose; see
            `mistakes.disturb_beginning`.
    """

    onset_steps: np.ndarray
    end_steps: np.ndarray
    slot: np.ndarray
    level: np.ndarray
    began_before: np.ndarray
    is_over: np.ndarray
    start_steps: int
    stop_steps: int
    program: int
    current_level: int
    counts_from_steps: int = 0

    def is_drum(self, drum_program: int | None) -> np.ndarray:
        """Marks percussion: `(N,)` bool."""
        is_drum: np.ndarray = self.slot // NUM_PITCHES == drum_program
        return is_drum if drum_program is not None else np.zeros(len(self.slot), bool)

    def select(self, mask: np.ndarray) -> Excerpt:
        """The excerpt with only those notes that a mask `(N,)` selects."""
        arrays = {n: v[mask] for n, v in self._asdict().items() if isinstance(v, np.ndarray)}
        return self._replace(**arrays)


class Window(NamedTuple):
    """The tokens of a window.

    Attributes:
        tokens: `(T,)` uint16, those that restate what sounds first.
        start_steps: when the window begins.
        restated_onset_steps: `(R,)` int32, for the first R tokens when the note began that a
            NOTE_ON restates; NOT_RESTATED for other tokens.
        past_onset_steps: `(P,)` int64, when the notes began that began before the window.
        past_slots: `(P,)` int64, their slots.
        counts_from_steps: when the music begins that a model should learn to compose.
    """

    tokens: np.ndarray
    start_steps: int
    restated_onset_steps: np.ndarray
    past_onset_steps: np.ndarray
    past_slots: np.ndarray
    counts_from_steps: int


def write_window(excerpt: Excerpt, drum_program: int | None, max_restated: int) -> Window:
    """Writes an excerpt as tokens.

    Args:
        excerpt: the notes.
        drum_program: the program that stands for percussion, or None.
        max_restated: the most tokens that may restate what sounds, at least 2. If too many notes
            sound, the oldest are left out with their NOTE_OFFs.
    """
    past = np.flatnonzero(excerpt.began_before)
    past_onset_steps, past_slots = excerpt.onset_steps[past], excerpt.slot[past]
    excerpt = excerpt.select(~excerpt.is_over)
    restated = write_restatement(
        excerpt.slot,
        excerpt.level,
        excerpt.onset_steps,
        np.flatnonzero(excerpt.began_before),
        (excerpt.program, excerpt.current_level),
        max_restated,
    )
    starts = np.flatnonzero(~excerpt.began_before)
    ends = np.append(starts, restated.notes)
    has_end = ~excerpt.is_drum(drum_program) & (excerpt.end_steps <= excerpt.stop_steps)
    ends = ends[has_end[ends]]
    note = np.append(starts, ends)
    is_on = np.arange(len(note)) < len(starts)
    time = np.append(excerpt.onset_steps[starts], excerpt.end_steps[ends]) - excerpt.start_steps
    written = write_events(
        time,
        excerpt.slot[note],
        is_on,
        excerpt.level[note],
        excerpt.program,
        excerpt.current_level,
    )
    tokens = np.concatenate([restated.tokens, written])
    return Window(
        tokens,
        excerpt.start_steps,
        restated.onset_steps,
        past_onset_steps,
        past_slots,
        excerpt.counts_from_steps,
    )


def next_onsets(excerpt: Excerpt) -> np.ndarray:
    """For each note when its slot begins anew: `(N,)`; NEVER if it does not."""
    is_same_slot = excerpt.slot[1:] == excerpt.slot[:-1]
    following = np.where(is_same_slot, excerpt.onset_steps[1:], NEVER)
    return np.append(following, NEVER)[: len(excerpt.slot)]


def without_overlaps(excerpt: Excerpt) -> Excerpt:
    """Ends each note where its slot begins anew; of several that begin there at once, the last."""
    following = next_onsets(excerpt)
    ends = np.minimum(excerpt.end_steps, following)
    return excerpt._replace(end_steps=ends).select(excerpt.onset_steps < following)
