"""Damages MIDI files in the ways that files get damaged, and in those an enemy would choose.

Everything follows from a seed, so a mutant that breaks the reader can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from midinet.midi.notes import Notes


def mutants(files: Sequence[bytes], count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yields damaged files with the kind of damage, all kinds in turn, files at random."""
    rng = random.Random(seed)
    kinds = list(_KINDS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        data = bytearray(rng.choice(files))
        yield kind, bytes(_KINDS[kind](data, rng, files))


def faults(notes: Notes) -> list[str]:
    """What is wrong with notes that no file may lead to; empty if nothing is."""
    checks = {
        "arrays of different lengths": len(
            {len(array) for array in vars(notes).values() if isinstance(array, np.ndarray)}
        )
        == 1,
        "a time that is no number": bool(
            np.isfinite(notes.start_ms).all() and np.isfinite(notes.end_ms).all()
        ),
        "a note before the song": not (notes.start_ms < 0).any(),
        "notes out of order": not (np.diff(notes.start_ms) < 0).any(),
        "a note that ends before it begins": not (notes.end_ms < notes.start_ms).any(),
        "a pitch above 127": not (notes.pitch > 127).any(),
        "a program above 127": not (notes.program > 127).any(),
        "a velocity outside 1 to 127": not ((notes.velocity < 1) | (notes.velocity > 127)).any(),
    }
    return [fault for fault, holds in checks.items() if not holds]


def _flip_bits(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 3, 30, 300))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _change_bytes(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    telling = (0x00, 0x7F, 0x80, 0x90, 0xB0, 0xC0, 0xD0, 0xF0, 0xF7, 0xFF, 0x2F, 0x51)
    for _ in range(rng.choice((1, 5, 50))):
        data[rng.randrange(len(data))] = rng.choice(telling)
    return data


def _truncate(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    return data[: rng.randrange(rng.choice((40, len(data) + 1)))]


def _insert(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 7, 100, 5000)))
    return data


def _delete(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 7, 100, 5000))]
    return data


def _splice(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    other = rng.choice(files)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _long_chunks(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """All length fields, or one, become all ones, or something near."""
    places = [at for at in range(len(data) - 7) if data[at : at + 4] in (b"MThd", b"MTrk")]
    for at in places if rng.random() < 0.3 else places and [rng.choice(places)]:
        length = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0, 1, len(data), rng.randrange(1 << 16)))
        data[at + 4 : at + 8] = length.to_bytes(4, "big")
    return data


def _long_events(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """Meta events and system exclusives that claim 100 MB and more."""
    for _ in range(rng.choice((1, 10))):
        at = rng.randrange(len(data))
        start = rng.choice((b"\xff\x01", b"\xff\x51", b"\xf0", b"\xf7"))
        length = rng.choice((b"\xaf\xd7\xc2\x00", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"))
        data[at : at + 6] = start + length
    return data


def _long_deltas(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 10, 100))):
        at = rng.randrange(len(data))
        data[at : at + 4] = rng.choice(
            (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x81\x80\x80\0")
        )
    return data


def _running_status(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """Statuses disappear, all of a stretch; or a status with one data byte runs on."""
    at = rng.randrange(len(data))
    stretch = data[at : at + rng.choice((50, 500, len(data)))]
    if rng.random() < 0.5:
        changed = bytes(b for b in stretch if b < 0x80)
    else:
        changed = bytes(b if b < 0x80 else rng.choice((0xC0, 0xD5)) for b in stretch)
    data[at : at + len(stretch)] = changed
    return data


def _tempos(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """Tempos become zero, the slowest there is, or of another length."""
    at = data.find(b"\xff\x51")
    while at >= 0:
        payload = rng.choice((b"\3\0\0\0", b"\3\xff\xff\xff", b"\3\0\0\1", b"\2\7\xa1", b"\0"))
        data[at + 2 : at + 2 + len(payload)] = payload
        at = data.find(b"\xff\x51", at + 2)
    return data


def _header(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """No division, odd divisions, 65,535 tracks, formats that do not exist."""
    if len(data) >= 14:
        field = rng.choice((8, 10, 12))
        value = rng.choice((0, 1, 2, 0x7FFF, 0x8000, 0x80FF, 0xE200, 0xE250, 0xFFFF))
        data[field : field + 2] = value.to_bytes(2, "big")
    return data


def _many_tracks(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """Track chunks without end, empty or nearly, in any format."""
    track = rng.choice((b"MTrk\0\0\0\0", b"MTrk\0\0\0\4\0\xff\x2f\0", b"MTrk\xff\xff\xff\xff\0"))
    return data[:8] + bytes([0, rng.randrange(3)]) + b"\xff\xff" + data[12:14] + track * 2000


def _noise(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> bytearray:
    """A header, and then nothing that means anything."""
    size = rng.choice((0, 10, 1000, 20_000))
    noise = rng.randbytes(size)
    if rng.random() < 0.5:  # one value again and again is the worst case of many parsers
        noise = bytes([rng.randrange(256)]) * size
    return data[:14] + b"MTrk" + size.to_bytes(4, "big") + noise


_KINDS = {
    "bits flipped": _flip_bits,
    "bytes changed": _change_bytes,
    "truncated": _truncate,
    "bytes inserted": _insert,
    "bytes deleted": _delete,
    "two files spliced": _splice,
    "chunk lengths": _long_chunks,
    "event lengths": _long_events,
    "delta times": _long_deltas,
    "running status": _running_status,
    "tempos": _tempos,
    "header fields": _header,
    "many tracks": _many_tracks,
    "noise": _noise,
}
