"""Standard MIDI File bytes -> note arrays: the file's header, its chunks and its tempos.

The bytes of the tracks become events (events.py). Here the events of all tracks are put in the
order of their times (tempo_map.py) and sorted by channel (channel_events.py). Then note-ons are
paired with what ends them (pairing.py), and each note gets its loudness (loudness.py) and whether
it is percussion (percussion.py).

Source of the format: "Standard MIDI-File Format Spec. 1.1", MIDI Manufacturers Association.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midinet.errors import MidiError
from midinet.midi.channel_events import CHANNELS_PER_PORT, DECLARATION, NOTE_ON, ChannelEvents
from midinet.midi.events import LOOKAHEAD_BYTES, META, SYSEX, Events, find_events
from midinet.midi.loudness import heard_velocity
from midinet.midi.notes import Notes
from midinet.midi.pairing import pair
from midinet.midi.percussion import find_declarations, is_percussion
from midinet.midi.tempo_map import DEFAULT_US_PER_BEAT, Clock

MAX_HOURS = 24  # later events are due to damaged delta times; silence would fill the memory
MAX_BYTES = 1 << 28  # a larger file is not music, and its events would fill the memory

_HOUR_MS = 3_600_000.0
_MAX_TRACKS = 65_535
_HEADER_SEARCH_BYTES = 1 << 16  # MacBinary and others put their own header in front
_META_PORT, _META_TEMPO, _META_TIME_SIGNATURE = 0x21, 0x51, 0x58
_MAX_DENOMINATOR_POWER = 6  # sixty-fourths
_TEMPO_BYTES, _TEMPO_WEIGHTS = np.array([2, 3, 4]), np.array([1 << 16, 1 << 8, 1])

# Note-off, note-on, controller and program change, by status; the rest makes no notes.
_MAKES_NOTES = np.zeros(256, bool)
_MAKES_NOTES[0x80:0xA0] = _MAKES_NOTES[0xB0:0xD0] = True


def read_midi(source: str | Path | bytes, sustain: bool = True, volume: bool = True) -> Notes:
    """Reads the notes of a Standard MIDI File: format 0, 1 or 2, plain or wrapped in RIFF.

    The program of a note is that of its channel at the onset, whichever track set it; ports have
    channels of their own. Percussion is channel 10, and what the file declares to be percussion.
    The tempo map is merged over all tracks (of several tempos on one tick, the last in the file
    counts). In format 2, whose tracks are separate patterns, each track follows the one before it.
    A note that is never released ends with the song. Events more than a day after the beginning are
    left out, since only damage puts them there. Other damage is read as far as it makes sense, as
    players do.

    Args:
        source: the path of a file, or its bytes.
        sustain: whether the pedals (controllers 64 and 66) hold notes until they are released.
        volume: whether the volume of their channels (controllers 7 and 11) scales the velocities,
            relative to the file's loudest channel, and notes that are never heard are left out.

    Returns:
        The notes, ordered by onset, with the song's tempo map.

    Raises:
        MidiError: this is not a MIDI file; the error has the reason and the byte offset.
        OSError: the file can't be opened.

    Example:
        >>> notes = read_midi("song.mid")
        >>> notes.tempo_map.beats_at(notes.start_ms)
    """
    if isinstance(source, bytes):
        return _read(source, sustain, volume)
    try:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise MidiError("it is not a regular file")  # opening a named pipe would wait for ever
        _check_size(status.st_size)
        with open(source, "rb") as file:
            data = file.read()
        return _read(data, sustain, volume)
    except MidiError as error:
        raise MidiError(error.reason, error.offset, str(source)) from None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise MidiError(f"larger than {MAX_BYTES >> 20} MB", MAX_BYTES)


def _read(data: bytes, sustain: bool, volume: bool) -> Notes:
    _check_size(len(data))
    header = _find_header(data)
    if header < 0:
        raise MidiError("no MThd header" if data else "the file is empty")
    if len(data) < header + 14:
        raise MidiError("the file ends inside its header", len(data))
    file_format = int.from_bytes(data[header + 8 : header + 10], "big")
    tick_us_per_ms, ticks_per_beat = _division(data[header + 12 : header + 14], header + 12)
    tracks = list(_tracks(data, header))
    padded = np.frombuffer(data + bytes(LOOKAHEAD_BYTES), np.uint8)

    events = find_events(padded, tracks)
    meta = np.flatnonzero(events.status == META)
    meta_type = padded[events.position[meta]]
    tempos = _tempos(padded, events, meta[meta_type == _META_TEMPO])
    if not ticks_per_beat:
        tempos = _NO_TEMPOS
    if file_format == 2:
        events, tempos = _concatenate_tracks(events, tempos)
    clock = Clock(tempos.tick, tempos.us_per_beat, tick_us_per_ms)
    tempo_map = None
    if ticks_per_beat:
        signatures = _time_signatures(padded, events, meta[meta_type == _META_TIME_SIGNATURE])
        tempo_map = clock.tempo_map(ticks_per_beat, signatures)
    ports = _ports(padded, events, meta[meta_type == _META_PORT])
    song = _merge_tracks(padded, events, ports, clock, header)
    del events  # the next step is the one that takes most memory
    paired = pair(song, sustain)
    on, end, program = paired
    velocity = heard_velocity(song, paired) if volume else song.second[on]
    notes = Notes(
        start_ms=song.ms[on],
        end_ms=song.ms[end],
        program=program,
        pitch=song.first[on],
        velocity=velocity,
        is_drum=is_percussion(song, on),
        tempo_map=tempo_map,
    )
    return notes if velocity.all() else notes[velocity > 0]


def _find_header(data: bytes) -> int:
    """The position of the MThd chunk, or -1."""
    if not data.startswith(b"RIFF"):
        return data.find(b"MThd", 0, _HEADER_SEARCH_BYTES)
    # Pictures or sounds may come before the chunk with the music, and may hold any bytes.
    position = 12
    while position <= len(data) - 8:
        start = position + 8
        if data.startswith(b"data", position) and data.startswith(b"MThd", start):
            return start
        length = int.from_bytes(data[position + 4 : start], "little")
        position = start + length + length % 2
    return data.find(b"MThd")


def _division(field: bytes, offset: int) -> tuple[float, int]:
    """Reads the time division.

    Returns:
        What a millisecond has, in ticks times microseconds per beat; and the ticks per beat, which
        are 0 where ticks are fractions of a film's frames, so that tempos do not count.
    """
    if field[0] >= 0x80:
        frames_per_second = {29: 30_000 / 1001}.get(256 - field[0], 256 - field[0])
        if field[1] == 0:
            raise MidiError("a time division of 0 ticks per frame", offset)
        return frames_per_second * field[1] * DEFAULT_US_PER_BEAT / 1000, 0
    ticks_per_beat = int.from_bytes(field, "big")
    if ticks_per_beat == 0:
        raise MidiError("a time division of 0 ticks per beat", offset)
    return 1000 * ticks_per_beat, ticks_per_beat


def _tracks(data: bytes, header: int) -> Iterator[tuple[int, int]]:
    """Yields where the events of each track chunk begin and end.

    A length that does not lead to another chunk or the file's end is wrong: such a track ends
    with the next track chunk, or with its end-of-track event.
    """
    position = header + 8 + int.from_bytes(data[header + 4 : header + 8], "big")
    if not _is_chunk(data, position):
        position = data.find(b"MTrk", header + 14)
    count = 0
    while 0 <= position <= len(data) - 8 and count < _MAX_TRACKS:
        start = position + 8
        end = start + int.from_bytes(data[position + 4 : start], "big")
        if end != len(data) and not _is_chunk(data, end):
            following = data.find(b"MTrk", start)
            end = following if following >= 0 else len(data)
        if data.startswith(b"MTrk", position):
            count += 1
            yield start, end
        position = end


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether a chunk's four-letter name and length stand at a position."""
    name = data[position : position + 4]
    return position + 8 <= len(data) and name.isascii() and name.decode().isprintable()


class _Tempos(NamedTuple):
    """Tempo changes in file order; arrays of one length."""

    event: np.ndarray  # which event each is
    tick: np.ndarray
    us_per_beat: np.ndarray


_NO_TEMPOS = _Tempos(*(np.empty(0, np.int64) for _ in range(3)))


def _tempos(data: np.ndarray, events: Events, event: np.ndarray) -> _Tempos:
    """The tempo changes of all tracks; `event` has the numbers of the meta events that set them."""
    at = events.position[event]
    us_per_beat = data.take(at[:, None] + _TEMPO_BYTES) @ _TEMPO_WEIGHTS
    # Players ignore a tempo of 0, and one that is not three bytes long.
    makes_sense = (data[at + 1] == 3) & (us_per_beat > 0)
    event, us_per_beat = event[makes_sense], us_per_beat[makes_sense]
    return _Tempos(event, events.tick[event], us_per_beat)


def _time_signatures(
    data: np.ndarray, events: Events, event: np.ndarray
) -> list[tuple[int, int, int]]:
    """(tick, numerator, denominator) of the time signatures that make sense."""
    at = events.position[event]
    columns = events.tick[event], data[at + 1], data[at + 2], data[at + 3]
    return [
        (tick, numerator, 1 << power)
        for tick, length, numerator, power in zip(*(c.tolist() for c in columns), strict=True)
        if length >= 2 and numerator > 0 and power <= _MAX_DENOMINATOR_POWER
    ]


def _concatenate_tracks(events: Events, tempos: _Tempos) -> tuple[Events, _Tempos]:
    """Lets each track begin where the one before it ends, at the default tempo."""
    first, stop = events.first_of_track[:-1], events.first_of_track[1:]
    length = np.append(events.tick, 0)[np.where(stop > first, stop - 1, len(events.tick))]
    begin = np.cumsum(length) - length
    tick = events.tick + np.repeat(begin, stop - first)
    resets = _Tempos(first, begin, np.full(len(first), DEFAULT_US_PER_BEAT))
    tempos = tempos._replace(tick=tick[tempos.event])
    in_file_order = np.argsort(np.append(resets.event, tempos.event), kind="stable")
    both = (np.append(*fields)[in_file_order] for fields in zip(resets, tempos, strict=True))
    return events._replace(tick=tick), _Tempos(*both)


def _ports(data: np.ndarray, events: Events, event: np.ndarray) -> np.ndarray | None:
    """The port of each event, counted from 0 without gaps; None if there is only one.

    Args:
        data, events: the file.
        event: the meta events that set the port for the rest of their track.
    """
    if not len(event):
        return None
    at = events.position[event]
    event, port = event[data[at + 1] > 0], data[at + 2][data[at + 1] > 0]
    if not port.any():
        return None
    first = events.first_of_track[:-1]
    event = np.append(first, event)  # each track begins at port 0
    _, port = np.unique(np.append(np.zeros(len(first), np.uint8), port), return_inverse=True)
    order = np.argsort(event, kind="stable")
    lengths = np.diff(event[order], append=len(events.status))
    return port[order].astype(np.uint16).repeat(lengths)


def _merge_tracks(
    data: np.ndarray, events: Events, ports: np.ndarray | None, clock: Clock, header: int
) -> ChannelEvents:
    """Brings the channel events of all tracks in the order they happen, and then by channel."""
    is_used = _MAKES_NOTES.take(events.status)
    sysex = np.flatnonzero(events.status == SYSEX)
    declarations = find_declarations(data, sysex, events.position[sysex]) if len(sysex) else None
    if declarations is not None:
        is_used[declarations.event] = True
    order = np.flatnonzero(is_used)
    tick = events.tick.take(order)
    if len(events.first_of_track) > 2:
        in_time = np.argsort(tick, kind="stable")
        order, tick = order.take(in_time), tick.take(in_time)
    ms = clock.to_ms(np.append(tick, events.tick.max(initial=0)))
    status, position = events.status.take(order), events.position.take(order)
    # What real files write above 127 is meant as the highest value there is.
    first = np.minimum(data.take(position), 127)
    second = np.minimum(data.take(position + 1), 127)
    channel = (status & 0x0F).astype(np.uint16)
    if declarations is not None and len(declarations.event):
        declared = np.flatnonzero(status == DECLARATION)
        which = declarations.event.searchsorted(order[declared])
        first[declared], second[declared] = declarations.channel[which], declarations.value[which]
        channel[declared] = declarations.channel[which] % CHANNELS_PER_PORT
    if ports is not None:
        channel += CHANNELS_PER_PORT * ports.take(order)
    kept, end_ms = _without_stray_events(status, second, ms, header)
    number = np.argsort(channel[:kept], kind="stable")  # a radix sort: channels have 16 bits
    status, channel, first, second = (x.take(number) for x in (status, channel, first, second))
    ms = np.append(ms.take(number), end_ms)
    begins = np.flatnonzero(np.append(True, channel[1:] != channel[:-1])[: len(channel)])
    return ChannelEvents(status, channel, first, second, number, ms, begins)


def _without_stray_events(
    status: np.ndarray, second: np.ndarray, ms: np.ndarray, header: int
) -> tuple[int, float]:
    """Finds where events later than MAX_HOURS begin, which are left out.

    Args:
        status, second: `(N,)` the events in the order they happen.
        ms: `(N + 1,)` their times, and the end of the song.
        header: the position of the file's header.

    Returns:
        How many events are kept, and the end of the song: if any are left out, it is the time of
        the last event before them.

    Raises:
        MidiError: all notes of the file are later.
    """
    limit_ms = MAX_HOURS * _HOUR_MS
    if ms[-1] <= limit_ms:
        return len(status), ms[-1]
    kept = int(ms[:-1].searchsorted(limit_ms, side="right"))
    is_on = (status & 0xF0 == NOTE_ON) & (second > 0)
    if is_on[kept:].any() and not is_on[:kept].any():
        hours = ms[kept:-1][is_on[kept:]][0] / _HOUR_MS
        raise MidiError(f"its notes begin {hours:,.0f} hours in, the limit is {MAX_HOURS}", header)
    return kept, ms[kept - 1] if kept else 0.0
