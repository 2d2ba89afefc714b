"""Converts MUS, the music format of Doom before it took MIDI files, to MIDI.

A MUS file is a header and a list of events for up to 16 channels. Each event is one byte (bit 7:
a delay follows; bits 4 to 6: what happens; bits 0 to 3: the channel) and its data. Delays count
ticks of 1/140 s, in MIDI's variable-length form. Channel 15 is percussion.

Source: the Doom Wiki, "MUS".
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

MUS_SIGNATURE = b"MUS\x1a"
MAX_MUS_BYTES = 1 << 18  # a MUS file states its length in 16 bits; some are longer nevertheless
MAX_GROWTH = 2  # a note takes two or three bytes of MUS, and four of MIDI

_TICKS_PER_QUARTER = 70  # 140 per second at MIDI's tempo of 120 quarters per minute
_HEADER = struct.Struct("<4s2H")  # signature, length and place of the events; more follows
_PERCUSSION, _MIDI_PERCUSSION = 15, 9
_MAX_VALUE = 127
_MAX_DELAY = (1 << 28) - 1  # of MIDI

# What the numbers of MUS mean as controllers of MIDI; number 0 is the program.
_CONTROLLERS = {1: 0, 2: 1, 3: 7, 4: 10, 5: 11, 6: 91, 7: 93, 8: 64, 9: 67}
_SYSTEM_EVENTS = {10: 120, 11: 123, 12: 126, 13: 127, 14: 121}

_RELEASE, _PLAY, _BEND, _SYSTEM, _CONTROL, _MEASURE, _END = range(7)


class MusError(Exception):
    """Bytes that are not music in this format; the text says why."""


def mus_to_midi(data: bytes) -> bytes:
    """Converts a MUS file to a MIDI file of one track, which plays at the same speed.

    If the file is cut off, the music ends there.

    Raises:
        MusError: this is not a MUS file, or one without any event.
    """
    if len(data) < _HEADER.size or not data.startswith(MUS_SIGNATURE):
        raise MusError("it has no header of a MUS file")
    _, _, start = _HEADER.unpack_from(data)
    track = _Track()
    with contextlib.suppress(StopIteration):  # it is cut off
        _convert_events(iter(data[start:]), track)
    if not track.has_events:
        raise MusError("it has no events")
    return track.as_file()


def _convert_events(data: Iterator[int], track: _Track) -> None:
    """Appends all events to the track; raises StopIteration if the bytes come to an end."""
    volumes = [_MAX_VALUE] * 16
    while True:
        event = next(data)
        kind, channel = event >> 4 & 7, event & 15
        if kind == _END:
            return
        if kind == _PLAY:
            note = next(data)
            if note & 128:
                volumes[channel] = next(data) & _MAX_VALUE
            track.add(0x90, channel, note & _MAX_VALUE, volumes[channel])
        elif kind == _CONTROL:
            track.control(channel, next(data), next(data) & _MAX_VALUE)
        elif kind != _MEASURE:
            _convert_short(kind, channel, next(data), track)
        if event & 128:
            track.delay += _read_delay(data)


def _convert_short(kind: int, channel: int, value: int, track: _Track) -> None:
    """Appends an event that has one byte of data."""
    if kind == _RELEASE:
        track.add(0x80, channel, value & _MAX_VALUE, 0)
    elif kind == _BEND:  # from 0 to 255, with 128 in the middle; MIDI has 14 bits
        track.add(0xE0, channel, value << 6 & _MAX_VALUE, value >> 1)
    elif kind == _SYSTEM and value in _SYSTEM_EVENTS:
        track.add(0xB0, channel, _SYSTEM_EVENTS[value], 0)


def _read_delay(data: Iterator[int]) -> int:
    """Reads a delay in ticks."""
    delay = 0
    while True:
        byte = next(data)
        delay = (delay << 7 | byte & 127) & _MAX_DELAY
        if not byte & 128:
            return delay


class _Track:
    """The MIDI track that is being written.

    Attributes:
        delay: ticks between the last event and the next.
    """

    def __init__(self) -> None:
        self.delay = 0
        self._data = bytearray()

    @property
    def has_events(self) -> bool:
        return bool(self._data)

    def control(self, channel: int, number: int, value: int) -> None:
        if number == 0:
            self.add(0xC0, channel, value)
        elif number in _CONTROLLERS:
            self.add(0xB0, channel, _CONTROLLERS[number], value)

    def add(self, status: int, channel: int, *values: int) -> None:
        """Appends a channel message; MIDI keeps percussion on channel 9, counted from 0."""
        if channel == _PERCUSSION:
            channel = _MIDI_PERCUSSION
        elif channel >= _MIDI_PERCUSSION:
            channel += 1
        self._data += _variable_length(self.delay) + bytes((status | channel, *values))
        self.delay = 0

    def as_file(self) -> bytes:
        track = bytes(self._data) + _variable_length(self.delay) + b"\xff\x2f\0"
        header = struct.pack(">4sI3H", b"MThd", 6, 0, 1, _TICKS_PER_QUARTER)
        return header + struct.pack(">4sI", b"MTrk", len(track)) + track


def _variable_length(number: int) -> bytes:
    """Writes a number as MIDI does: seven bits per byte, all bytes but the last with bit 7 set."""
    number = min(number, _MAX_DELAY)
    parts = [number & 127]
    while number := number >> 7:
        parts.append(number & 127 | 128)
    return bytes(reversed(parts))
