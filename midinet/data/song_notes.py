"""The notes of a song as arrays, from which the excerpts for training windows are cut.

Reading a song's tokens takes longer than making a window of it, so the notes of the songs that were
read last are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from midinet.codec.decoding import current_values, elapsed_steps
from midinet.codec.restating import NUM_SLOTS
from midinet.codec.vocabulary import NOTE_OFF, NOTE_ON, NUM_PITCHES, PROGRAM, VELOCITY, Tokens
from midinet.data.windows import NEVER, Excerpts, stable_order

BYTES_PER_TOKEN = 13  # of a song, on average
_KEPT_BYTES = 256 << 20  # enough for 20 million tokens
_NO_EVENT = np.iinfo(np.int32).max  # in place of the index and the time of a note's end


class SongNotes(NamedTuple):
    """The notes of a song of T tokens, in the order of their NOTE_ONs, and the state between them.

    A note ends with the next event of its slot, of which notes without a length are left out.

    Attributes:
        time_steps: `(T + 1,)` int32, the time before each token and after the last one.
        program: `(T + 1,)` uint8, the current program there.
        current_level: `(T + 1,)` uint8, the current velocity level there; 0 before the first.
        on_token: `(N,)` int32, the index of the NOTE_ON.
        off_token: `(N,)` int32, the index of the event with which the note ends.
        onset_steps: `(N,)` int32.
        end_steps: `(N,)` int32.
        slot: `(N,)` uint16, program * NUM_PITCHES + pitch.
        level: `(N,)` uint8, at least 1.
        latest_end_steps: `(N,)` int32, when the last of this note and those before it ends;
            percussion ends where it begins.
        drum_program: the program that stands for percussion; -1 if there is none.
    """

    time_steps: np.ndarray
    program: np.ndarray
    current_level: np.ndarray
    on_token: np.ndarray
    off_token: np.ndarray
    onset_steps: np.ndarray
    end_steps: np.ndarray
    slot: np.ndarray
    level: np.ndarray
    latest_end_steps: np.ndarray
    drum_program: int

    @property
    def num_bytes(self) -> int:
        """The size of the arrays."""
        return sum(field.nbytes for field in self if isinstance(field, np.ndarray))


def read_notes(song: Tokens, drum_program: int | None) -> SongNotes:
    """Reads the tokens of a song, `(T,)`.

    Args:
        song: the tokens.
        drum_program: the program that stands for percussion, or None.
    """
    time, program, level = (
        np.append(type_(0), values.astype(type_))
        for values, type_ in (
            (elapsed_steps(song), np.int32),
            (current_values(song, PROGRAM, 0), np.uint8),
            (current_values(song, VELOCITY, 0), np.uint8),
        )
    )
    event = np.flatnonzero(song < NOTE_OFF.end).astype(np.int32)
    slot = (
        program[event].astype(np.uint16) * NUM_PITCHES + song[event].astype(np.uint16) % NUM_PITCHES
    )
    order = np.argsort(slot, kind="stable")  # 16 bits are sorted fastest
    following, in_order = order[1:], slot[order]
    has_next = in_order[1:] == in_order[:-1]
    off_token = np.full(len(event), _NO_EVENT, np.int32)
    off_token[order[:-1][has_next]] = event[following[has_next]]
    end = np.where(off_token == _NO_EVENT, _NO_EVENT, time[np.minimum(off_token, len(song))])

    # No encoder writes notes without a level or a length, and they can't be restated.
    is_note = NOTE_ON.holds(song[event]) & (level[event] > 0) & (end > time[event])
    note = np.flatnonzero(is_note)
    drums = -1 if drum_program is None else drum_program
    on_token, end, slot = event[note], end[note], slot[note]
    onset = time[on_token]
    last = np.where(slot // NUM_PITCHES == drums, onset, end)
    latest_end = np.maximum.accumulate(last)
    return SongNotes(
        time_steps=time,
        program=program,
        current_level=level,
        on_token=on_token,
        off_token=off_token[note],
        onset_steps=onset,
        end_steps=end,
        slot=slot,
        level=level[on_token],
        latest_end_steps=latest_end,
        drum_program=drums,
    )


def read_excerpts(
    songs: Sequence[SongNotes], starts: np.ndarray, stops: np.ndarray, past_steps: int = 0
) -> Excerpts:
    """Cuts out of each of B songs the notes that sound between two of its tokens.

    Args:
        songs: their notes.
        starts: `(B,)` the index of the first token of each excerpt.
        stops: `(B,)` the index after its last token.
        past_steps: notes that ended up to so long before the excerpt are read too.
    """
    places = list(zip(songs, starts.tolist(), stops.tolist(), strict=True))
    state = [
        (s.time_steps[a], s.time_steps[b], s.program[a], s.current_level[a]) for s, a, b in places
    ]
    start_steps, stop_steps, program, current_level = np.array(state, np.int64).reshape(-1, 4).T
    pasts = start_steps - past_steps
    near = [
        # All that is before it ended before.
        slice(song.latest_end_steps.searchsorted(past), song.on_token.searchsorted(np.int32(stop)))
        for (song, _, stop), past in zip(places, pasts.astype(np.int32), strict=True)
    ]

    def notes(name: str) -> np.ndarray:
        """One of the arrays of the notes of all songs."""
        parts = [getattr(song, name)[part] for song, part in zip(songs, near, strict=True)]
        return np.concatenate(parts, dtype=np.int64)

    row = np.arange(len(songs)).repeat([part.stop - part.start for part in near])
    drum_program = np.array([song.drum_program for song in songs])[row]
    onset, off_token, slot = notes("onset_steps"), notes("off_token"), notes("slot")
    end = np.where(off_token < stops[row], notes("end_steps"), NEVER)
    is_melodic = slot // NUM_PITCHES != drum_program
    began_before = notes("on_token") < starts[row]
    is_over = began_before & ((off_token < starts[row]) | ~is_melodic)
    last = np.where(is_melodic, end, onset)
    note = np.flatnonzero(~is_over | (last > pasts[row]))
    slot += row * NUM_SLOTS
    note = note[stable_order(slot[note])]
    return Excerpts(
        onset_steps=onset[note],
        end_steps=end[note],
        slot=slot[note],
        level=notes("level")[note],
        began_before=began_before[note],
        is_over=is_over[note],
        start_steps=start_steps,
        stop_steps=stop_steps,
        program=program,
        current_level=current_level,
        counts_from_steps=np.zeros(len(songs), np.int64),
    )


class NotesCache:
    """Keeps the notes of the songs that were asked for last.

    Args:
        read: returns the notes of a song, by its index.
        max_bytes: the most memory that the notes take; those of the last song are always kept.
    """

    def __init__(self, read: Callable[[int], SongNotes], max_bytes: int = _KEPT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._read = read
        self._kept: OrderedDict[int, SongNotes] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()  # tf.data makes batches in threads of its own

    def __call__(self, index: int) -> SongNotes:
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            notes = self._kept[index] = self._read(index)
            self._num_bytes += notes.num_bytes
            while self._num_bytes > self.max_bytes and len(self._kept) > 1:
                self._num_bytes -= self._kept.popitem(last=False)[1].num_bytes
            return notes
