"""Standard MIDI File bytes -> note arrays: the file's header and chunks, and its tempo map.

A file's bytes become events (events.py), these get their times here, and are paired to notes
(pairing.py).

Source of the format: "Standard MIDI-File Format Spec. 1.1", MIDI Manufacturers Association.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midinet.errors import MidiError
from midinet.midi.events import LOOKAHEAD_BYTES, META, Events, find_events
from midinet.midi.notes import DRUM_CHANNEL, Notes
from midinet.midi.pairing import ChannelEvents, pair

MAX_HOURS = 24  # a later note is a damaged delta time, and its silence would fill the memory
MAX_BYTES = 1 << 28  # a larger file is no music, and its events would fill the memory

_HOUR_MS = 3_600_000.0
_DEFAULT_TEMPO_US = 500_000  # microseconds per beat
_MAX_TRACKS = 65_535
_HEADER_SEARCH_BYTES = 1 << 16  # RIFF and MacBinary put their own header in front
_META_TEMPO = 0x51

# Note-off, note-on, controller and program change, by status; the rest makes no notes.
_MAKES_NOTES = np.zeros(256, bool)
_MAKES_NOTES[0x80:0xA0] = _MAKES_NOTES[0xB0:0xD0] = True


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
        with open(source, "rb") as file:
            _check_size(os.fstat(file.fileno()).st_size)
            return _read(file.read(), sustain)
    except MidiError as error:
        raise MidiError(error.reason, error.offset, str(source)) from None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise MidiError(f"larger than {MAX_BYTES >> 20} MB", MAX_BYTES)


def _read(data: bytes, sustain: bool) -> Notes:
    _check_size(len(data))
    header = data.find(b"MThd", 0, _HEADER_SEARCH_BYTES)
    if header < 0:
        raise MidiError("no MThd header" if data else "the file is empty")
    if len(data) < header + 14:
        raise MidiError("the file ends inside its header", len(data))
    file_format = int.from_bytes(data[header + 8 : header + 10], "big")
    tick_us_per_ms, tempo_counts = _division(data[header + 12 : header + 14], header + 12)
    tracks = list(_tracks(data, header))
    padded = np.frombuffer(data + bytes(LOOKAHEAD_BYTES), np.uint8)

    events = find_events(padded, tracks)
    tempos = _tempos(padded, events) if tempo_counts else _NO_TEMPOS
    if file_format == 2:
        events, tempos = _concatenate_tracks(events, tempos)
    channel_events, ms = _merge_tracks(padded, events, _TempoMap(tempos, tick_us_per_ms))
    del events  # the next step is the one that takes most memory
    notes = _notes(channel_events, ms, sustain)
    if notes.duration_ms > MAX_HOURS * _HOUR_MS:
        hours = notes.duration_ms / _HOUR_MS
        raise MidiError(f"a note lies {hours:,.0f} hours in, the limit is {MAX_HOURS}", header)
    return notes


def _division(field: bytes, offset: int) -> tuple[float, bool]:
    """What a millisecond has, in ticks times microseconds per beat; whether tempo changes count."""
    if field[0] >= 0x80:
        frames_per_second = {29: 30_000 / 1001}.get(256 - field[0], 256 - field[0])
        if field[1] == 0:
            raise MidiError("a time division of 0 ticks per frame", offset)
        return frames_per_second * field[1] * _DEFAULT_TEMPO_US / 1000, False
    ticks_per_beat = int.from_bytes(field, "big")
    if ticks_per_beat == 0:
        raise MidiError("a time division of 0 ticks per beat", offset)
    return 1000 * ticks_per_beat, True


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


def _tempos(data: np.ndarray, events: Events) -> _Tempos:
    """The tempo changes of all tracks."""
    event = np.flatnonzero(events.status == META)
    event = event[data[events.position[event]] == _META_TEMPO]
    at = events.position[event]
    us_per_beat = data[at + 2].astype(np.int64) << 16 | data[at + 3].astype(np.int64) << 8
    us_per_beat |= data[at + 4]
    # Players take no notice of a tempo without end, nor of one that is no three bytes long.
    makes_sense = (data[at + 1] == 3) & (us_per_beat > 0)
    event, us_per_beat = event[makes_sense], us_per_beat[makes_sense]
    return _Tempos(event, events.tick[event], us_per_beat)


def _concatenate_tracks(events: Events, tempos: _Tempos) -> tuple[Events, _Tempos]:
    """Lets each track begin where the one before it ends, and at the default tempo."""
    first, stop = events.first_of_track[:-1], events.first_of_track[1:]
    length = np.append(events.tick, 0)[np.where(stop > first, stop - 1, len(events.tick))]
    begin = np.cumsum(length) - length
    tick = events.tick + np.repeat(begin, stop - first)
    resets = _Tempos(first, begin, np.full(len(first), _DEFAULT_TEMPO_US))
    tempos = tempos._replace(tick=tick[tempos.event])
    in_file_order = np.argsort(np.append(resets.event, tempos.event), kind="stable")
    both = (np.append(*fields)[in_file_order] for fields in zip(resets, tempos, strict=True))
    return events._replace(tick=tick), _Tempos(*both)


class _TempoMap:
    """Ticks -> milliseconds.

    Sums are in ticks times microseconds per beat, whole numbers that a float holds exactly for days
    of music; so the one division at the end is all that is ever rounded.
    """

    def __init__(self, tempos: _Tempos, tick_us_per_ms: float) -> None:
        """Takes the tempo changes and how many of those units a millisecond has."""
        self._units_per_ms = tick_us_per_ms
        order = np.argsort(tempos.tick, kind="stable")
        tick = np.append(0, tempos.tick[order])
        us_per_beat = np.append(_DEFAULT_TEMPO_US, tempos.us_per_beat[order]).astype(np.float64)
        counts = np.append(tick[1:] > tick[:-1], True)  # of several on one tick only the last
        self._tick, self._us_per_beat = tick[counts], us_per_beat[counts]
        self._passed = np.append(0.0, np.cumsum(np.diff(self._tick) * self._us_per_beat[:-1]))

    def to_ms(self, tick: np.ndarray) -> np.ndarray:
        """The times of ascending ticks."""
        if len(self._tick) == 1:
            units = tick * self._us_per_beat[0]
        else:
            first = np.append(np.searchsorted(tick, self._tick), len(tick))
            count = np.diff(first)
            passed = self._passed.repeat(count)
            since, us_per_beat = self._tick.repeat(count), self._us_per_beat.repeat(count)
            units = passed + (tick - since) * us_per_beat
        ms: np.ndarray = units / self._units_per_ms
        return ms


def _merge_tracks(
    data: np.ndarray, events: Events, tempo_map: _TempoMap
) -> tuple[ChannelEvents, np.ndarray]:
    """Orders the channel events of all tracks by time.

    Returns:
        The N events, and their N times in milliseconds with the song's end behind them.
    """
    order = np.flatnonzero(_MAKES_NOTES.take(events.status))
    if len(events.first_of_track) > 2:
        order = order[np.argsort(events.tick[order], kind="stable")]
    ms = tempo_map.to_ms(np.append(events.tick.take(order), events.tick.max(initial=0)))
    status, position = events.status.take(order), events.position.take(order)
    # What real files write above 127 is meant as loud, high or late as it goes.
    first = np.minimum(data.take(position), 127)
    second = np.minimum(data.take(position + 1), 127)
    return ChannelEvents(status, first, second), ms


def _notes(events: ChannelEvents, ms: np.ndarray, sustain: bool) -> Notes:
    """Pairs channel events to notes; one without an end ends with the song."""
    on, end, program = pair(events, sustain)
    return Notes(
        start_ms=ms[on],
        end_ms=ms[end],
        program=program,
        pitch=events.first[on],
        velocity=events.second[on],
        is_drum=(events.status[on] & 0x0F) == DRUM_CHANNEL,
    )
