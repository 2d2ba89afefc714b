"""The bytes of MIDI tracks -> their events.

Speed is the point here. Where an event ends follows from its own bytes, except under running
status, where it depends on an earlier status byte. So NumPy computes, for every byte of a window of
the file at once, where an event that began there would end. Looking this table up in itself three
times gives leaps of eight events, so that a plain loop needs only one turn for eight events.
Everything else is array arithmetic.

Example: the six bytes `00 90 3C 40 30 3C` of a track, at positions 0 to 5, are a delta time of 0, a
note-on of key 3C at velocity 40, a delta time of 30 and, in running status, the key 3C of the next
note-on. An event at 0 has its status byte at 1 and two data bytes: the next event begins at 4. An
event at 4 has no status byte and is taken to have two data bytes: the next begins at 7. The entries
for the positions between them are computed too, but never looked up.

Running status with one data byte (several program changes or channel pressures in a row) is rare.
So a data byte in place of a status byte is first taken for the beginning of two data bytes. Only if
that proves wrong, the file is gone through again, with a table that has two entries per position.

Source of the format: "Standard MIDI-File Format Spec. 1.1", MIDI Manufacturers Association.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np

LOOKAHEAD_BYTES = 16  # more than delta time, status, type and length of any event

META, SYSEX = 0xFF, 0xF0
_META_END_OF_TRACK = 0x2F
_ESCAPE = 0xF7

_STOP = 1 << 60  # a cursor beyond the end of any file
_DOUBLINGS = 3
_WINDOW_BYTES = 32_000  # so that two cursors per position, and those just beyond, have 16 bits
_QUANTITY_BYTES = 4  # of the longest delta time or length
_HAS_LENGTH = 0x80  # larger than any advance


def _advances(num_modes: int, mode: int) -> bytes:
    """How far an event's status byte moves the cursor, for each status byte.

    A cursor is num_modes times a position plus a mode. The mode is 1 after a status with one data
    byte, which running status would repeat, and 0 otherwise; with num_modes 1 it is always 0.
    Cursors grow along a track.

    Args:
        num_modes: 1 or 2.
        mode: the mode before the event.

    Returns:
        A table of 256 advances; _HAS_LENGTH stands for those that a length in the event decides.
    """
    sizes = np.ones(256, np.uint8)
    sizes[0x80:0xF0] = 3
    sizes[0xC0:0xE0] = 2
    sizes[[0xF1, 0xF3]] = 2  # quarter frame, song select
    sizes[0xF2] = 3  # song position
    sizes[:0x80] = 2 - mode  # running status: this is a data byte
    advances = sizes * num_modes
    advances[0x80:0xF0] -= mode
    advances[0xC0:0xE0] += num_modes - 1
    advances[[META, SYSEX, _ESCAPE]] = _HAS_LENGTH
    return advances.tobytes()


_ADVANCES = {1: [_advances(1, 0)], 2: [_advances(2, 0), _advances(2, 1)]}


class Events(NamedTuple):
    """The events of a file's tracks in file order; arrays of one length N.

    Attributes:
        tick: `(N,)` int64, time in ticks from the beginning of the track.
        status: `(N,)` uint8, running status resolved; 0 if there is no status to repeat.
        position: `(N,)` int64, the position in the file of the byte after the status byte.
        first_of_track: `(tracks + 1,)` the index of the first event of each track; the last entry
            is N.
    """

    tick: np.ndarray
    status: np.ndarray
    position: np.ndarray
    first_of_track: np.ndarray


def find_events(data: np.ndarray, tracks: list[tuple[int, int]]) -> Events:
    """Finds the events of all tracks, up to each track's end-of-track event.

    Args:
        data: `(bytes,)` uint8, the file followed by `LOOKAHEAD_BYTES` zeros.
        tracks: the positions at which the events of each track begin and end, ascending.

    Returns:
        The events. An event that the end of its track cuts off is left out.
    """
    events, one_byte_runs = _gather(data, tracks, _positions(data, tracks, num_modes=1))
    if one_byte_runs:
        del events
        events, _ = _gather(data, tracks, _positions(data, tracks, num_modes=2))
    return events


def _gather(data: np.ndarray, tracks: list[tuple[int, int]], at: np.ndarray) -> tuple[Events, bool]:
    """Reads the events at some positions.

    Args:
        data, tracks: as in `find_events`.
        at: `(N,)` the positions of the events.

    Returns:
        The events, and whether running status repeats a status with one data byte.
    """
    first_of_track = at.searchsorted([start for start, _ in tracks] + [len(data)])
    events_in_track = first_of_track[1:] - first_of_track[:-1]

    # In place where possible: a file of nothing but running status has millions of events.
    tick, at = read_variable(data, at)
    np.cumsum(tick, out=tick)
    tick -= np.append(0, tick)[first_of_track[:-1]].repeat(events_in_track)

    status = data.take(at)
    is_explicit = status >= 0x80
    one_byte_runs = False
    running = np.flatnonzero(~is_explicit)
    if len(running):
        # The latest channel status of the track is repeated, even after system and meta events.
        latest = np.arange(len(at))
        latest[~is_explicit | (status >= 0xF0)] = -1
        np.maximum.accumulate(latest, out=latest)
        latest = latest[running]
        has_status = latest >= first_of_track[:-1].repeat(events_in_track)[running]
        status[running] = status[latest] * has_status
        one_byte_runs = bool(((status[running] & 0xE0) == 0xC0).any())
    at += is_explicit
    return Events(tick, status, at, first_of_track), one_byte_runs


def read_variable(data: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads variable-length quantities.

    Args:
        data: `(bytes,)` uint8.
        at: `(N,)` the positions at which they begin.

    Returns:
        `(N,)` their values, and `(N,)` the positions after them, both int64.
    """
    byte, after = data.take(at), at + 1
    value, longer = (byte & 0x7F).astype(np.int64), np.flatnonzero(byte >= 0x80)
    for _ in range(_QUANTITY_BYTES - 1):
        if not len(longer):
            break
        byte = data.take(after[longer])
        value[longer] = value[longer] << 7 | byte & 0x7F
        after[longer] += 1
        longer = longer[byte >= 0x80]
    return value, after


def _positions(data: np.ndarray, tracks: list[tuple[int, int]], num_modes: int) -> np.ndarray:
    """The positions at which the events of all tracks begin, ascending: `(N,)`."""
    size = len(data) - LOOKAHEAD_BYTES
    window = None
    found = [np.empty(0, np.int64)]
    for start, end in tracks:
        cursor, limit = num_modes * start, num_modes * end
        while cursor < limit:
            position = cursor // num_modes
            if window is None or not window.low <= position < window.high:
                if window is not None:
                    found.append(window.positions())
                high = min(position + _WINDOW_BYTES, size)
                window = _Window(data, position, high, num_modes)
            cursor = window.walk(cursor, limit)
    if window is not None:
        found.append(window.positions())
    return np.concatenate(found)


class _Window:
    """The events that begin in a part of the file, from position `low` up to `high`.

    Cursors inside the window count from its beginning.
    """

    def __init__(self, data: np.ndarray, low: int, high: int, num_modes: int) -> None:
        self.low, self.high = low, high
        self._num_modes = num_modes
        next_cursor, self._ends_beyond = _next_cursors(data, low, high, num_modes)
        self._leaps = [next_cursor]  # by 1, 2, 4, 8 events
        for _ in range(_DOUBLINGS):
            self._leaps.append(self._leaps[-1].take(self._leaps[-1]))
        self._visited = array("H")  # every eighth cursor, of all tracks
        self._ends: list[tuple[int, int]] = []  # per walk: len(visited), events after the last

    def walk(self, cursor: int, limit: int) -> int:
        """Visits the events of a track from a cursor up to the end of the window or the limit.

        Returns:
            The first cursor beyond.
        """
        base = self._num_modes * self.low
        visited = self._visited
        # Memoryviews, since reading single elements of arrays is slow.
        next_cursor, leap = self._leaps[0].data, self._leaps[-1].data
        at, bound = cursor - base, min(limit - base, self._num_modes * (self.high - self.low))
        while at < bound:
            visited.append(at)
            at = leap[at]
        last, count = visited[-1], 1
        while next_cursor[last] < bound:
            last, count = next_cursor[last], count + 1
        following = base + self._ends_beyond.get(last, next_cursor[last])
        is_cut_off = limit + self._num_modes <= following < _STOP
        self._ends.append((len(visited) - 1, count - is_cut_off))
        return following

    def positions(self) -> np.ndarray:
        """The positions at which the visited events begin, ascending."""
        cursors = np.frombuffer(self._visited, np.uint16)[:, None]
        for leap in self._leaps[:-1]:
            cursors = np.concatenate((cursors, leap.take(cursors)), axis=1)
        is_visited = np.ones(cursors.shape, bool)
        for last, count in self._ends:
            is_visited[last, count:] = False
        mode_bits = self._num_modes - 1
        return self.low + (cursors[is_visited].astype(np.int64) >> mode_bits)


def _next_cursors(
    data: np.ndarray, low: int, high: int, num_modes: int
) -> tuple[np.ndarray, dict[int, int]]:
    """For each cursor in a window, the cursor after an event that begins there.

    Returns:
        `(num_modes * (high - low) + LOOKAHEAD_BYTES,)` uint16: cursors counted from the beginning
        of the window. Those beyond its end lead to themselves; and the end stands for all that are
        too far beyond it. These are in the dictionary, by the cursor they follow.
    """
    size = high - low
    block = data[low : high + LOOKAHEAD_BYTES]
    head = block[: size + _QUANTITY_BYTES]  # the status byte comes after the delta time
    is_longer = (head[:-2] >= 0x80).view(np.uint8)  # 1 where a delta time has more bytes
    following = np.arange(num_modes * size + LOOKAHEAD_BYTES, dtype=np.uint16)
    beyond: dict[int, int] = {}
    for mode, advances in enumerate(_ADVANCES[num_modes]):
        # First as if every delta time had one byte. Where it has more, what follows its first
        # byte advances as far as a delta time that begins there.
        status_advance = np.frombuffer(head.tobytes().translate(advances), np.uint8)
        advance = status_advance[1:] + num_modes
        for _ in range(_QUANTITY_BYTES - 1):
            advance[:-1] += is_longer * (advance[1:] - advance[:-1] + num_modes)
        advance = advance[:size]
        by_position = following[mode : num_modes * size : num_modes]
        by_position += advance
        at = np.flatnonzero(advance >= _HAS_LENGTH)
        status_at = at + (advance[at] - _HAS_LENGTH) // num_modes
        # Real files continue running status after a meta event, though they should not.
        ends = num_modes * _ends_of_payload(block, status_at) + mode
        by_position[at] = np.minimum(ends, num_modes * size)
        far = np.flatnonzero(ends > num_modes * size)
        beyond.update(zip((num_modes * at[far] + mode).tolist(), ends[far].tolist(), strict=True))
    return following, beyond


def _ends_of_payload(block: np.ndarray, status_at: np.ndarray) -> np.ndarray:
    """Where events end that say their length; _STOP for an end of a track."""
    is_meta = block[status_at] == META
    length, end = read_variable(block, status_at + 1 + is_meta)
    end += length
    end[is_meta & (block[status_at + 1] == _META_END_OF_TRACK)] = _STOP
    return end
