"""The bytes of MIDI tracks -> their events.

Speed is the point. The length of an event can be told from its own bytes, except under running
status, where it depends on the status before. So numpy computes, for every byte position of a
window of the file at once, where an event that began there would end. Looking that table up in
itself three times gives leaps of eight events, and a plain loop needs only one turn a leap. All
else is array arithmetic.

Running status with one data byte (programs and channel pressure in a row) is rare. So a data byte
in place of a status is first taken for an event of two; only if that proves wrong the file is gone
through again with a table that has an entry for each case.

Source of the format: "Standard MIDI-File Format Spec. 1.1", MIDI Manufacturers Association.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LOOKAHEAD_BYTES = 16  # more than delta time, status, type and length of any event

META = 0xFF
_META_END_OF_TRACK = 0x2F
_SYSEX, _ESCAPE = 0xF0, 0xF7

_STOP = np.int64(1) << 60  # a state beyond every file
_DOUBLINGS = 3
_LEAP = 1 << _DOUBLINGS  # events
_WINDOW_BYTES = 1 << 15  # so that the tables of a window stay in the processor's cache


def _states_after_status(num_modes: int) -> np.ndarray:
    """The state after an event whose status byte stands at 0, where that byte alone tells.

    A state is num_modes times a position plus a mode: 1 where a data byte would continue a status
    with one data byte, else 0. So states grow along a track.

    Returns:
        `(num_modes, 256)`, by the mode before.
    """
    sizes = np.ones(256, np.int64)
    sizes[0x80:0xF0] = 3
    sizes[0xC0:0xE0] = 2
    sizes[[0xF1, 0xF3]] = 2  # quarter frame, song select
    sizes[0xF2] = 3  # song position
    mode = np.arange(num_modes)[:, None]
    states = num_modes * sizes + mode
    states[:, :0x80] = num_modes * (2 - mode) + mode  # no status byte but the first data byte
    states[:, 0x80:0xF0] -= mode
    states[:, 0xC0:0xE0] += num_modes - 1
    return states


_STATES_AFTER_STATUS = {num_modes: _states_after_status(num_modes) for num_modes in (1, 2)}


class Events(NamedTuple):
    """The events of a file's tracks in file order; arrays of one length N.

    Attributes:
        tick: `(N,)` int64, time in ticks from the beginning of the track.
        status: `(N,)` uint8; 0 where running status has nothing to continue.
        position: `(N,)` int64, where in the file the event's data begin.
        first_of_track: `(tracks + 1,)` which event is the first of each track; the last entry is N.
    """

    tick: np.ndarray
    status: np.ndarray
    position: np.ndarray
    first_of_track: np.ndarray


def find_events(data: np.ndarray, tracks: list[tuple[int, int]]) -> Events:
    """Finds the events of all tracks, up to each track's end-of-track event.

    Args:
        data: `(bytes,)` uint8, the file and `LOOKAHEAD_BYTES` more.
        tracks: begin and end of the events of each track, ascending.

    Returns:
        The events. One that its track's end cuts in two is left out.
    """
    events, one_byte_runs = _gather(data, tracks, _positions(data, tracks, num_modes=1))
    if one_byte_runs:
        del events
        events, _ = _gather(data, tracks, _positions(data, tracks, num_modes=2))
    return events


def _gather(data: np.ndarray, tracks: list[tuple[int, int]], at: np.ndarray) -> tuple[Events, bool]:
    """The events at some positions (spent), and whether a status with one data byte runs on."""
    first_of_track = at.searchsorted([start for start, _ in tracks] + [len(data)])
    events_in_track = first_of_track[1:] - first_of_track[:-1]

    # In place where that costs no clarity: a file of nothing but running status has millions.
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
        # The track's latest channel status goes on, over events that are none.
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
    """Reads the variable-length quantities at any positions: their values and sizes in bytes."""
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
        goes_on = byte >= 0x80
        longer, next_at = longer[goes_on], next_at[goes_on]
    return value, size


def _positions(data: np.ndarray, tracks: list[tuple[int, int]], num_modes: int) -> np.ndarray:
    """Where the events of all tracks begin, ascending: `(N,)`."""
    size = len(data) - LOOKAHEAD_BYTES
    window = None
    found = [np.empty(0, np.int64)]
    for start, end in tracks:
        state, limit = num_modes * start, num_modes * end
        while state < limit:
            position = state // num_modes
            if window is None or not window.low <= position < window.high:
                if window is not None:
                    found.append(window.positions())
                high = min(position + _WINDOW_BYTES, size)
                window = _Window(data, position, high, num_modes)
            state = window.walk(state, limit)
    if window is not None:
        found.append(window.positions())
    return np.concatenate(found)


class _Window:
    """The events that begin in a part of the file, from low up to high."""

    def __init__(self, data: np.ndarray, low: int, high: int, num_modes: int) -> None:
        self.low, self.high = low, high
        self._num_modes = num_modes
        self._base = num_modes * low
        self._size = num_modes * (high - low)
        steps = _following_states(data, low, high, num_modes)
        # Whatever lies beyond the window is one state more, which leads to itself.
        self._inside = np.minimum(steps, self._size)
        leaps = self._inside
        for _ in range(_DOUBLINGS):
            leaps = leaps.take(leaps)
        self._step, self._leap = steps.data, leaps.data
        self._visited: list[int] = []  # every eighth state, of all tracks
        self._stops: list[tuple[int, int]] = []  # the state behind the last; up to which visit

    def walk(self, state: int, limit: int) -> int:
        """Visits the events of a track from a state on, up to the window's end or the limit.

        Returns:
            The first state beyond.
        """
        visited, step, leap = self._visited, self._step, self._leap
        at, bound = state - self._base, min(limit - self._base, self._size)
        while at < bound:
            visited.append(at)
            at = leap[at]
        last = visited[-1]
        while step[last] < bound:
            last = step[last]
        following = step[last] + self._base
        is_cut_short = limit + self._num_modes <= following < _STOP
        self._stops.append((last + (not is_cut_short), len(visited)))
        return following

    def positions(self) -> np.ndarray:
        """Where the visited events begin, ascending."""
        visits = len(self._visited)
        eight = np.empty((_LEAP, visits), np.int64)
        eight[0] = self._visited
        for event in range(1, _LEAP):
            eight[event] = self._inside.take(eight[event - 1])
        stops, up_to = np.array(self._stops).T
        up_to[1:] -= up_to[:-1].copy()
        states = eight.T[(eight < stops.repeat(up_to)).T]
        return (states + self._base) // self._num_modes


def _following_states(data: np.ndarray, low: int, high: int, num_modes: int) -> np.ndarray:
    """For each state in a window, and one beyond, the state after an event there.

    States count from the window's beginning: `(num_modes * (high - low) + 1,)`.
    """
    size = high - low
    block = data[low : high + LOOKAHEAD_BYTES]
    head = block[: size + 4]  # the status byte stands up to four bytes behind the event's begin
    system = np.flatnonzero(head >= 0xF0)
    kind = block[system]
    is_meta = kind == META
    ends_track = system[is_meta & (block[system + 1] == _META_END_OF_TRACK)]
    has_length = is_meta | (kind == _SYSEX) | (kind == _ESCAPE)
    lengthy, length_at = system[has_length], (system + 1 + is_meta)[has_length]
    length, length_size = read_variable(block, length_at)
    lengthy_end = length_at + length_size + length

    longer = block >= 0x80
    delayed = np.flatnonzero(longer[:size])  # delta times of more than one byte
    third = longer[delayed + 1]
    delayed_status = delayed + 2 + third + (third & longer[delayed + 2])

    following = np.empty(num_modes * size + 1, np.int64)
    following[-1] = _STOP
    base = np.arange(0, num_modes * len(head), num_modes)
    for mode, state_after_status in enumerate(_STATES_AFTER_STATUS[num_modes]):
        after = state_after_status.take(head)  # by where the status byte stands
        after += base
        # Real files go on with running status behind a meta event, though they should not.
        after[lengthy] = num_modes * lengthy_end + mode
        after[ends_track] = _STOP
        by_position = following[mode:-1:num_modes]
        by_position[:] = after[1 : size + 1]
        by_position[delayed] = after.take(delayed_status)
    return following
