"""Builds MIDI files byte by byte, so that a test can say exactly which byte is wrong."""

from __future__ import annotations

import io

import mido

END_OF_TRACK = b"\x00\xff\x2f\x00"


def variable(value: int) -> bytes:
    """A variable-length quantity."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def event(delta: int, *data: int) -> bytes:
    """An event after some ticks."""
    return variable(delta) + bytes(data)


def meta(delta: int, kind: int, payload: bytes = b"") -> bytes:
    """A meta event after some ticks."""
    return variable(delta) + bytes([0xFF, kind]) + variable(len(payload)) + payload


def tempo(delta: int, us_per_beat: int) -> bytes:
    """A tempo change after some ticks."""
    return meta(delta, 0x51, us_per_beat.to_bytes(3, "big"))


def header(tracks: int, division: int | bytes = 480, file_format: int = 1) -> bytes:
    """A header chunk; the division is in ticks per beat, or its two bytes."""
    fields = file_format.to_bytes(2, "big") + tracks.to_bytes(2, "big")
    if isinstance(division, int):
        division = division.to_bytes(2, "big")
    return b"MThd\x00\x00\x00\x06" + fields + division


def chunk(events: bytes, name: bytes = b"MTrk", length: int | None = None) -> bytes:
    """A chunk whose length field is true unless another is given."""
    return name + (len(events) if length is None else length).to_bytes(4, "big") + events


def midi(*tracks: bytes, division: int | bytes = 480, file_format: int = 1) -> bytes:
    """A whole file; each track gets its end-of-track event."""
    chunks = (chunk(track + END_OF_TRACK) for track in tracks)
    return header(len(tracks), division, file_format) + b"".join(chunks)


def saved(file: mido.MidiFile) -> bytes:
    """A mido file's bytes."""
    stream = io.BytesIO()
    file.save(file=stream)
    return stream.getvalue()
