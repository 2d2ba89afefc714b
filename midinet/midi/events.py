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

from typing import NamedTuple

import numpy as np

LOOKAHEAD_BYTES = 16  # more than delta time, status, type and length of any event

META, SYSEX = 0xFF, 0xF0
_META_END_OF_TRACK = 0x2F
_ESCAPE = 0xF7

_STOP = np.int64(1) << 60  # a cursor beyond the end of any file
_DOUBLINGS = 3
_LEAP_EVENTS = 1 << _DOUBLINGS
_WINDOW_BYTES = 1 << 13  # so that the tables of a window stay in the processor's cache
_DELTA_BYTES = 4  # of the longest delta time


def _cursors_after_status(num_modes: int) -> np.ndarray:
    """The cursor after an event whose status byte stands at 0, where that byte alone decides.

    A cursor is num_modes times a position plus a mode. The mode is 1 after a status with one data
    byte, which running status would repeat, and 0 otherwise; with num_modes 1 it is always 0.
    Cursors grow along a track.

    Returns:
        `(num_modes, 256)`: row by the mode before the event, column by the status byte.
    """
    sizes = np.ones(256, np.int64)
    sizes[0x80:0xF0] = 3
    sizes[0xC0:0xE0] = 2
    sizes[[0xF1, 0xF3]] = 2  # quarter frame, song select
    sizes[0xF2] = 3  # song position
    mode = np.arange(num_modes)[:, None]
    cursors = num_modes * sizes + mode
    cursors[:, :0x80] = num_modes * (2 - mode) + mode  # running status: this is a data byte
    cursors[:, 0x80:0xF0] -= mode
    cursors[:, 0xC0:0xE0] += num_modes - 1
    return cursors


_CURSORS_AFTER_STATUS = {num_modes: _cursors_after_status(num_modes) for num_modes in (1, 2)}
_CURSORS = {
    num_modes: np.arange(0, num_modes * (_WINDOW_BYTES + _DELTA_BYTES), num_modes)
    for num_modes in (1, 2)
}


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
        at: `(N,)` the positions of the events; overwritten.

    Returns:
        The events, and whether running status repeats a status with one data byte.
    """
    first_of_track = at.searchsorted([start for start, _ in tracks] + [len(data)])
    events_in_track = first_of_track[1:] - first_of_track[:-1]

    # In place where possible: a file of nothing but running status has millions of events.
    tick, delta_size = read_variable(data, at)
    np.cumsum(tick, out=tick)
    tick -= np.append(0, tick)[first_of_track[:-1]].repeat(events_in_track)

    at += delta_size
    del delta_size
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
    """Reads variable-length quantities at any positions: returns their values and byte counts."""
    byte = data.take(at)
    value = (byte & 0x7F).astype(np.int64)
    size = np.ones(len(at), np.int64)
    longer = np.flatnonzero(byte >= 0x80)
    next_at = at[longer]
    for _ in range(3):
        if not len(longer):
            break
        next_at += 1
        byte = data.take(next_at)
        value[longer] = value[longer] << 7 | byte & 0x7F
        size[longer] += 1
        has_more = byte >= 0x80
        longer, next_at = longer[has_more], next_at[has_more]
    return value, size


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
    """The events that begin in a part of the file, from position `low` up to `high`."""

    def __init__(self, data: np.ndarray, low: int, high: int, num_modes: int) -> None:
        self.low, self.high = low, high
        self._num_modes = num_modes
        self._base = num_modes * low  # cursors inside the window count from here
        self._size = num_modes * (high - low)
        next_cursor = _next_cursors(data, low, high, num_modes)
        # One cursor, which leads to itself, stands for everything beyond the window.
        self._next_inside = np.minimum(next_cursor, self._size)
        leap = self._next_inside
        for _ in range(_DOUBLINGS):
            leap = leap.take(leap)
        # Memoryviews, since reading single elements of arrays is slow.
        self._next, self._leap = next_cursor.data, leap.data
        self._visited: list[int] = []  # every eighth cursor, of all tracks
        self._stops: list[tuple[int, int]] = []  # per walk: a bound of its cursors, len(visited)

    def walk(self, cursor: int, limit: int) -> int:
        """Visits the events of a track from a cursor up to the end of the window or the limit.

        Returns:
            The first cursor beyond.
        """
        visited, next_cursor, leap = self._visited, self._next, self._leap
        at, bound = cursor - self._base, min(limit - self._base, self._size)
        while at < bound:
            visited.append(at)
            at = leap[at]
        last = visited[-1]
        while next_cursor[last] < bound:
            last = next_cursor[last]
        following = next_cursor[last] + self._base
        is_cut_off = limit + self._num_modes <= following < _STOP
        self._stops.append((last + (not is_cut_off), len(visited)))
        return following

    def positions(self) -> np.ndarray:
        """The positions at which the visited events begin, ascending."""
        cursors = np.empty((_LEAP_EVENTS, len(self._visited)), np.int64)
        cursors[0] = self._visited
        for event in range(1, _LEAP_EVENTS):
            cursors[event] = self._next_inside.take(cursors[event - 1])
        stops, visits = np.array(self._stops).T
        visits[1:] -= visits[:-1].copy()
        kept: np.ndarray = cursors.T[(cursors < stops.repeat(visits)).T]
        return (kept + self._base) // self._num_modes


def _next_cursors(data: np.ndarray, low: int, high: int, num_modes: int) -> np.ndarray:
    """For each cursor in a window, the cursor after an event that begins there.

    Returns:
        `(num_modes * (high - low) + 1,)` cursors counted from the beginning of the window; the
        last entry is for the cursor that stands for everything beyond the window.
    """
    size = high - low
    block = data[low : high + LOOKAHEAD_BYTES]
    head = block[: size + _DELTA_BYTES]  # the status byte comes after the delta time
    system = np.flatnonzero(head >= 0xF0)
    kind = block[system]
    is_meta = kind == META
    ends_track = system[is_meta & (block[system + 1] == _META_END_OF_TRACK)]
    has_length = is_meta | (kind == SYSEX) | (kind == _ESCAPE)
    with_length, length_at = system[has_length], (system + 1 + is_meta)[has_length]
    length, length_size = read_variable(block, length_at)
    end_of_payload = length_at + length_size + length

    is_long = block >= 0x80
    long_delta = np.flatnonzero(is_long[:size])  # delta times of more than one byte
    has_third = is_long[long_delta + 1]
    status_after_long_delta = long_delta + 2 + has_third + (has_third & is_long[long_delta + 2])

    following = np.empty(num_modes * size + 1, np.int64)
    following[-1] = _STOP
    base = _CURSORS[num_modes][: len(head)]
    for mode, cursor_after_status in enumerate(_CURSORS_AFTER_STATUS[num_modes]):
        after = cursor_after_status.take(head)  # by the position of the status byte
        after += base
        # Real files continue running status after a meta event, though they should not.
        after[with_length] = num_modes * end_of_payload + mode
        after[ends_track] = _STOP
        by_position = following[mode:-1:num_modes]
        by_position[:] = after[1 : size + 1]
        by_position[long_delta] = after.take(status_after_long_delta)
    return following
