"""Standard MIDI File bytes -> note arrays.

Speed is the point of this reader. The length of an event can be told from its own bytes, except
under running status, where it depends on the status before. So numpy computes, for every byte
position of the file at once, where an event that began there would end (one column for each
kind of running status); a walk over that table then touches each event once, and everything
after the walk is array arithmetic again.

Source of the format: "Standard MIDI-File Format Spec. 1.1", MIDI Manufacturers Association.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midinet.errors import MidiError

DRUM_CHANNEL = 9  # the tenth; MIDI counts channels from 0
MAX_HOURS = 24  # a later note is a damaged delta time, and its silence would fill the memory

_HOUR_MS = 3_600_000.0
_DEFAULT_TEMPO_US = 500_000  # microseconds a beat
_MAX_TRACKS = 65_535
_HEADER_SEARCH_BYTES = 1 << 16  # RIFF and MacBinary put their own header in front
_WINDOW_BYTES = 1 << 18  # of the file whose event table is held at a time
_LOOKAHEAD_BYTES = 16  # more than delta time, status, type and length of any event

_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM = 0x80, 0x90, 0xB0, 0xC0
_SYSEX, _ESCAPE, _META = 0xF0, 0xF7, 0xFF
_META_END_OF_TRACK, _META_TEMPO = 0x2F, 0x51
_SUSTAIN, _ALL_SOUND_OFF, _RESET_CONTROLLERS, _ALL_NOTES_OFF = 64, 120, 121, 123

# What running status a data byte would continue: a status with two data bytes, with one, or none.
_TWO, _ONE, _NONE = 0, 1, 2
_NUM_MODES = 3
_STOP = np.int64(1) << 60  # a state beyond every file


def _status_sizes() -> np.ndarray:
    """Bytes from a status byte to the next event, where the status alone tells: `(256,)`."""
    sizes = np.ones(256, np.int64)
    sizes[0x80:0xF0] = 3
    sizes[0xC0:0xE0] = 2
    sizes[[0xF1, 0xF3]] = 2  # quarter frame, song select
    sizes[0xF2] = 3  # song position
    return sizes


_SIZES = _status_sizes()


@dataclasses.dataclass(frozen=True)
class Notes:
    """The notes of a song as arrays of one length N, ordered by onset.

    Attributes:
        start_ms: `(N,)` float64, onset in milliseconds from the song's beginning.
        end_ms: `(N,)` float64, release in milliseconds, never before the onset.
        program: `(N,)` uint8, General MIDI program 0-127 of the note's channel at its onset.
        pitch: `(N,)` uint8, 0-127.
        velocity: `(N,)` uint8, 1-127.
        is_drum: `(N,)` bool, whether the note was on the percussion channel (10).
    """

    start_ms: np.ndarray
    end_ms: np.ndarray
    program: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    is_drum: np.ndarray

    def __len__(self) -> int:
        return len(self.start_ms)

    def __getitem__(self, selection: slice | np.ndarray) -> Notes:
        """The notes that a slice, a mask or an index array selects."""
        return Notes(*(getattr(self, f.name)[selection] for f in dataclasses.fields(self)))

    @property
    def duration_ms(self) -> float:
        """When the last note ends, in milliseconds; 0 without notes."""
        return float(self.end_ms.max()) if len(self) else 0.0


class _Events(NamedTuple):
    """Events of one file in the order they happen; arrays of one length."""

    position: np.ndarray  # byte position of the event's data
    status: np.ndarray
    first: np.ndarray  # first data byte
    second: np.ndarray  # second data byte
    ms: np.ndarray

    def select(self, selection: np.ndarray) -> _Events:
        return _Events(*(field[selection] for field in self))


def read_midi(source: str | Path | bytes, sustain: bool = True) -> Notes:
    """Reads the notes of a Standard MIDI File: format 0, 1 or 2, plain or wrapped in RIFF.

    The program of a note is its channel's at the onset, whatever track set it; the tempo map is
    merged over all tracks (of several tempos on one tick the last in file order counts). In
    format 2, whose tracks are separate patterns, each track follows the one before it. Equal
    pitches of a channel are released first in, first out; a note never released ends with the
    song. Damage that players get over is read as far as it makes sense.

    Args:
        source: the path of a file, or its bytes.
        sustain: whether the sustain pedal (controller 64) holds notes until it is released.

    Returns:
        The notes, ordered by onset.

    Raises:
        MidiError: the bytes are no MIDI file; it tells the reason and the byte offset.
        OSError: the file can't be opened.
    """
    if isinstance(source, bytes):
        return _read(source, sustain)
    try:
        return _read(Path(source).read_bytes(), sustain)
    except MidiError as error:
        raise MidiError(error.reason, error.offset, str(source)) from None


def _read(data: bytes, sustain: bool) -> Notes:
    header = data.find(b"MThd", 0, _HEADER_SEARCH_BYTES)
    if header < 0:
        raise MidiError("no MThd header" if data else "the file is empty")
    if len(data) < header + 14:
        raise MidiError("the file ends inside its header", len(data))
    file_format = int.from_bytes(data[header + 8 : header + 10], "big")
    ms_a_tick, tempo_counts = _division(data[header + 12 : header + 14], header + 12)
    tracks = list(_tracks(data, header))
    padded = np.frombuffer(data + bytes(_LOOKAHEAD_BYTES), np.uint8)
    states, events_in_track = _walk(padded, tracks)
    events, song_end_ms = _events(
        padded, states, events_in_track, ms_a_tick, tempo_counts, file_format == 2
    )
    notes = _notes(events, song_end_ms, sustain)
    if notes.duration_ms > MAX_HOURS * _HOUR_MS:
        hours = notes.duration_ms / _HOUR_MS
        raise MidiError(f"a note lies {hours:,.0f} hours in, the limit is {MAX_HOURS}", header)
    return notes


def _division(field: bytes, offset: int) -> tuple[float, bool]:
    """Milliseconds a tick (at the default tempo), and whether tempo changes count."""
    if field[0] >= 0x80:
        frames_a_second = {29: 30_000 / 1001}.get(256 - field[0], 256 - field[0])
        if field[1] == 0:
            raise MidiError("a time division of 0 ticks a frame", offset)
        return 1000 / (frames_a_second * field[1]), False
    ticks_a_beat = int.from_bytes(field, "big")
    if ticks_a_beat == 0:
        raise MidiError("a time division of 0 ticks a beat", offset)
    return _DEFAULT_TEMPO_US / (1000 * ticks_a_beat), True


def _tracks(data: bytes, header: int) -> Iterator[tuple[int, int]]:
    """Yields where the events of each track chunk begin and end.

    A length that is too long ends with the file; one that is too short, so that no chunk follows
    where one should, ends with the next track chunk: the end-of-track event closes the track.
    """
    position = header + 8 + int.from_bytes(data[header + 4 : header + 8], "big")
    if not _is_chunk(data, position):
        position = data.find(b"MTrk", header + 14)
    count = 0
    while 0 <= position <= len(data) - 8 and count < _MAX_TRACKS:
        start = position + 8
        end = start + int.from_bytes(data[position + 4 : start], "big")
        is_track = data.startswith(b"MTrk", position)
        if end < len(data) and not _is_chunk(data, end):
            following = data.find(b"MTrk", end)
            end = following if following >= 0 else len(data)
        if is_track:
            count += 1
            yield start, min(end, len(data))
        position = end


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether a chunk's four-letter name and length stand at a position."""
    name = data[position : position + 4]
    return position + 8 <= len(data) and name.isascii() and name.decode().isprintable()


def _walk(data: np.ndarray, tracks: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Finds the events of all tracks.

    Args:
        data: the file's bytes and `_LOOKAHEAD_BYTES` more.
        tracks: begin and end of each track, ascending.

    Returns:
        The state in which each event begins (`_NUM_MODES * position + mode`), and how many
        events each track has.
    """
    size = len(data) - _LOOKAHEAD_BYTES
    chunks: list[np.ndarray] = []
    counts = np.zeros(len(tracks), np.int64)
    low = high = 0
    following = memoryview(b"")
    for index, (start, end) in enumerate(tracks):
        state, limit = _NUM_MODES * start + _NONE, _NUM_MODES * end
        while state < limit:
            if not _NUM_MODES * low <= state < _NUM_MODES * high:
                low = state // _NUM_MODES
                high = min(low + _WINDOW_BYTES, size)
                following = memoryview(_following_states(data, low, high))
            base, bound = _NUM_MODES * low, min(limit, _NUM_MODES * high)
            states = []
            while state < bound:
                states.append(state)
                state = following[state - base]
            if limit + _NUM_MODES <= state < _STOP:
                states.pop()  # the track ends inside this event
            counts[index] += len(states)
            chunks.append(np.array(states, np.int64))
    return np.concatenate([np.empty(0, np.int64), *chunks]), counts


def _following_states(data: np.ndarray, low: int, high: int) -> np.ndarray:
    """For each position in `[low, high)` and each mode the state after an event there, flat."""
    position = np.arange(low, high)
    status_at = position + _variable_lengths(data, low, high)
    status = data[status_at]
    after = status_at + _SIZES[status]
    running, system = status < 0x80, status >= 0xF0

    table = np.empty((high - low, _NUM_MODES), np.int64)
    new_mode = np.where((status & 0xE0) == 0xC0, _ONE, _TWO)
    table[:] = (_NUM_MODES * after + new_mode)[:, None]
    table[running, _TWO] = (_NUM_MODES * (status_at + 2) + _TWO)[running]
    table[running, _ONE] = (_NUM_MODES * (status_at + 1) + _ONE)[running]
    table[running, _NONE] = _STOP  # data without any status: there is no telling what it is

    rare = np.flatnonzero(system)
    at, kind = status_at[rare], status[rare]
    length_at = np.where(kind == _META, at + 2, at + 1)
    value, length_size = _read_variable(data, np.minimum(length_at, len(data) - 4))
    has_length = (kind == _META) | (kind == _SYSEX) | (kind == _ESCAPE)
    end = np.where(has_length, length_at + length_size + value, after[rare])
    # Real files go on with running status behind a meta event, though they should not.
    table[rare] = _NUM_MODES * end[:, None] + np.arange(_NUM_MODES)
    table[rare[(kind == _META) & (data[at + 1] == _META_END_OF_TRACK)]] = _STOP
    return table.reshape(-1)


def _variable_lengths(data: np.ndarray, low: int, high: int) -> np.ndarray:
    """How many bytes, 1 to 4, a variable-length quantity at each position would take."""
    goes_on = data[low : high + 3] >= 0x80
    lengths = np.ones(high - low, np.int64)
    longer = np.ones(high - low, bool)
    for byte in range(3):
        longer = longer & goes_on[byte : byte + high - low]
        lengths += longer
    return lengths


def _read_variable(data: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads the variable-length quantities at any positions: their values and sizes in bytes."""
    value, length = np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
    going_on = np.ones(len(at), bool)
    for _ in range(4):
        byte = data[at + length]
        value = np.where(going_on, value << 7 | byte & 0x7F, value)
        length += going_on
        going_on &= byte >= 0x80
        if not going_on.any():
            break
        # A finished quantity reads its neighbour's byte in vain: `going_on` keeps its value.
    return value, length


def _events(
    data: np.ndarray,
    states: np.ndarray,
    events_in_track: np.ndarray,
    ms_a_tick: float,
    tempo_counts: bool,
    tracks_follow: bool,
) -> tuple[_Events, float]:
    """The channel events of a file in order of time, and when the song ends in milliseconds."""
    at = states // _NUM_MODES
    delta, delta_size = _read_variable(data, at)
    status_at = at + delta_size
    status = data[status_at]
    explicit = status >= 0x80
    # Running status: the latest channel status goes on, over events that are none.
    index = np.arange(len(status))
    is_channel = explicit & (status < 0xF0)
    latest = np.maximum.accumulate(np.where(is_channel, index, 0)) if len(index) else index
    valid = explicit | (states % _NUM_MODES != _NONE)
    status = np.where(explicit, status, status[latest])

    tick = np.cumsum(delta)
    first_event = np.cumsum(events_in_track) - events_in_track
    before = np.concatenate(([0], tick))[first_event]
    tick -= np.repeat(before, events_in_track)
    position = status_at + explicit

    is_tempo = (status == _META) & (data[position] == _META_TEMPO) & (data[position + 1] == 3)
    tempo_at = position[is_tempo].astype(np.int64)
    tempo_us = (
        data[tempo_at + 2].astype(np.int64) << 16
        | data[tempo_at + 3].astype(np.int64) << 8
        | data[tempo_at + 4]
    )
    if not tempo_counts:
        is_tempo, tempo_us = np.zeros(len(tick), bool), tempo_us[:0]

    channel = valid & (status < 0xF0)
    if tracks_follow:
        ms, song_end_ms = _patterns_ms(tick, events_in_track, is_tempo, tempo_us, ms_a_tick)
        order = np.flatnonzero(channel)
    else:
        ms = _to_ms(tick, tick[is_tempo], tempo_us, ms_a_tick)
        song_end_ms = float(ms.max(initial=0.0))
        order = np.flatnonzero(channel)
        if np.count_nonzero(events_in_track) > 1:
            order = order[np.argsort(tick[order], kind="stable")]
    position = position[order]
    # What real files write above 127 is meant as loud, high or late as it goes.
    first, second = np.minimum(data[position], 127), np.minimum(data[position + 1], 127)
    return _Events(position, status[order], first, second, ms[order]), song_end_ms


def _to_ms(
    tick: np.ndarray, tempo_tick: np.ndarray, tempo_us: np.ndarray, ms_a_tick: float
) -> np.ndarray:
    """Times of ticks under a tempo map.

    Args:
        tick: `(N,)`, any order.
        tempo_tick, tempo_us: the tempo changes in file order.
        ms_a_tick: milliseconds of a tick at the default tempo.

    Returns:
        `(N,)` float64 milliseconds.
    """
    order = np.argsort(tempo_tick, kind="stable")
    change_tick = np.concatenate(([0], tempo_tick[order])).astype(np.float64)
    rate = np.concatenate(([1.0], tempo_us[order] / _DEFAULT_TEMPO_US)) * ms_a_tick
    change_ms = np.concatenate(([0.0], np.cumsum(np.diff(change_tick) * rate[:-1])))
    if len(rate) == 1:
        return tick * rate[0]
    # "right": of several changes on one tick the last counts from that tick on.
    segment = np.searchsorted(change_tick, tick, side="right") - 1
    return change_ms[segment] + (tick - change_tick[segment]) * rate[segment]


def _patterns_ms(
    tick: np.ndarray,
    events_in_track: np.ndarray,
    is_tempo: np.ndarray,
    tempo_us: np.ndarray,
    ms_a_tick: float,
) -> tuple[np.ndarray, float]:
    """Times of a format 2 file's events, each track with its own tempo map after the other."""
    ms = np.zeros(len(tick))
    end_ms, start, tempo_start = 0.0, 0, 0
    for count in events_in_track:
        stop = start + int(count)
        changes = tick[start:stop][is_tempo[start:stop]]
        tempos = tempo_us[tempo_start : tempo_start + len(changes)]
        ms[start:stop] = end_ms + _to_ms(tick[start:stop], changes, tempos, ms_a_tick)
        end_ms = float(ms[start:stop].max(initial=end_ms))
        start, tempo_start = stop, tempo_start + len(changes)
    return ms, end_ms


def _notes(events: _Events, song_end_ms: float, sustain: bool) -> Notes:
    """Pairs note-ons with note-offs and gives each note its channel's program."""
    kind, channel = events.status & 0xF0, events.status & 0x0F
    is_on = (kind == _NOTE_ON) & (events.second > 0)
    is_off = (kind == _NOTE_OFF) | ((kind == _NOTE_ON) & (events.second == 0))

    index = np.flatnonzero(is_on | is_off)
    key = channel[index].astype(np.int64) * 128 + events.first[index]
    # A channel that is silenced starts anew: what was still on ends there.
    silences = _ChannelMarks(channel, _is_control(events, (_ALL_SOUND_OFF, _ALL_NOTES_OFF)))
    key += 16 * 128 * silences.rank(index)
    on, off = _pair(index, key, is_on[index])

    end_ms = silences.following_ms(on, events.ms, song_end_ms)
    released = off >= 0
    end_ms[released] = events.ms[off[released]]
    if sustain:
        held = np.flatnonzero(released)
        held = held[_pedal_is_down(events, channel, off[held])]
        is_pedal = _is_control(events, (_SUSTAIN,))
        lets_go = (is_pedal & (events.second < 64)) | _is_control(
            events, (_RESET_CONTROLLERS, _ALL_SOUND_OFF, _ALL_NOTES_OFF)
        )
        end_ms[held] = _ChannelMarks(channel, lets_go).following_ms(
            off[held], events.ms, song_end_ms
        )

    program_change = _ChannelMarks(channel, kind == _PROGRAM).latest(on)
    return Notes(
        start_ms=events.ms[on],
        end_ms=end_ms,
        program=np.where(program_change < 0, 0, events.first[program_change]).astype(np.uint8),
        pitch=events.first[on],
        velocity=events.second[on],
        is_drum=channel[on] == DRUM_CHANNEL,
    )


def _is_control(events: _Events, controllers: tuple[int, ...]) -> np.ndarray:
    """Marks the control changes of some controllers."""
    return ((events.status & 0xF0) == _CONTROL) & np.isin(events.first, controllers)


def _pedal_is_down(events: _Events, channel: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Whether the sustain pedal of their channel is down at some events."""
    is_pedal = _is_control(events, (_SUSTAIN,))
    latest = _ChannelMarks(channel, is_pedal | _is_control(events, (_RESET_CONTROLLERS,))).latest(
        index
    )
    return (latest >= 0) & is_pedal[latest] & (events.second[latest] >= 64)


class _ChannelMarks:
    """Marked events, to be found from other events of the same channel."""

    def __init__(self, channel: np.ndarray, is_marked: np.ndarray) -> None:
        self._channel = channel.astype(np.int64) << 32
        marks = np.flatnonzero(is_marked)
        self._keys = np.sort(self._channel[marks] | marks)

    def rank(self, index: np.ndarray) -> np.ndarray:
        """A number that changes with each marked event of the channel."""
        return np.searchsorted(self._keys, self._channel[index] | index)

    def latest(self, index: np.ndarray) -> np.ndarray:
        """The last marked event before each event on its channel, or -1."""
        return self._neighbour(index, self.rank(index) - 1)

    def following_ms(self, index: np.ndarray, ms: np.ndarray, otherwise: float) -> np.ndarray:
        """When the first marked event after each event on its channel comes."""
        following = self._neighbour(index, self.rank(index))
        return np.where(following < 0, otherwise, ms[following] if len(ms) else otherwise)

    def _neighbour(self, index: np.ndarray, rank: np.ndarray) -> np.ndarray:
        keys = np.concatenate((self._keys, [-1]))  # rank -1 and rank len(keys) both mean none
        key = keys[rank]
        found = (key >= 0) & ((key >> 32) == (self._channel[index] >> 32))
        return np.where(found, key & 0xFFFFFFFF, -1)


def _pair(index: np.ndarray, key: np.ndarray, is_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs note-ons with note-offs of the same key, first in, first out.

    Within a key the n-th note-off that finds a note sounding closes the n-th note-on. A note-off
    finds none exactly where offs outnumber ons by more than ever before.

    Args:
        index: `(M,)` event numbers, ascending.
        key: `(M,)` what must agree (channel, pitch, ...).
        is_on: `(M,)` whether the event is a note-on.

    Returns:
        The event numbers of all note-ons, ascending, and of their note-offs (-1: never closed).
    """
    order = np.argsort(key, kind="stable")
    index, key, is_on = index[order], key[order], is_on[order]
    starts = np.concatenate(([True], key[1:] != key[:-1]))[: len(key)]
    group = np.cumsum(starts) - 1

    balance = np.cumsum(np.where(is_on, 1, -1))
    before = np.concatenate(([0], balance))[np.flatnonzero(starts)]
    balance = np.minimum(balance - before[group], 0)
    # The running minimum of each group: every group lies below all values of the one before it.
    lower = group * (len(key) + 1)
    lowest = np.minimum.accumulate(balance - lower) + lower
    previous = np.where(starts, 0, np.concatenate(([0], lowest))[: len(lowest)])
    is_off = ~is_on & (lowest == previous)

    on_group, off_group = group[is_on], group[is_off]
    num_groups = int(group[-1]) + 1 if len(group) else 0
    ons, offs = (np.bincount(g, minlength=num_groups) for g in (on_group, off_group))
    number = np.arange(len(on_group)) - (np.cumsum(ons) - ons)[on_group]
    closed = number < offs[on_group]
    off = np.full(len(on_group), -1)
    off[closed] = index[is_off][((np.cumsum(offs) - offs)[on_group] + number)[closed]]
    on = index[is_on]
    in_time = np.argsort(on)
    return on[in_time], off[in_time]
