"""The bytes of a SoundFont file: its chunks, its tables, and the zones that they describe.

Everything that could point outside the file is checked once, when the file is opened.

Source: E-mu Systems, "SoundFont Technical Specification", version 2.04, 2006.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from midinet.errors import AudioError

Tables = dict[bytes, np.ndarray]

ROM_SAMPLE, COMPRESSED_SAMPLE = 0x8000, 0x10  # bits of a sample's type


class Gen(enum.IntEnum):
    """The generators that matter here: what a zone of a SoundFont can set.

    Source: section 8.1.2 of the specification.
    """

    START = 0
    END = 1
    LOOP_START = 2
    LOOP_END = 3
    START_COARSE = 4
    MOD_LFO_TO_PITCH = 5
    VIB_LFO_TO_PITCH = 6
    MOD_ENV_TO_PITCH = 7
    CUTOFF = 8
    RESONANCE = 9
    MOD_LFO_TO_CUTOFF = 10
    MOD_ENV_TO_CUTOFF = 11
    END_COARSE = 12
    MOD_LFO_TO_VOLUME = 13
    CHORUS = 15
    REVERB = 16
    PAN = 17
    MOD_LFO_DELAY = 21
    MOD_LFO_RATE = 22
    VIB_LFO_DELAY = 23
    VIB_LFO_RATE = 24
    MOD_ENV = 25  # the first of eight; see `_envelope`
    VOLUME_ENV = 33  # the first of eight
    INSTRUMENT = 41
    KEYS = 43
    VELOCITIES = 44
    LOOP_START_COARSE = 45
    FIXED_KEY = 46
    FIXED_VELOCITY = 47
    ATTENUATION = 48
    LOOP_END_COARSE = 50
    COARSE_TUNE = 51
    FINE_TUNE = 52
    SAMPLE = 53
    LOOP_MODE = 54
    SCALE_TUNING = 56
    EXCLUSIVE_CLASS = 57
    ROOT_KEY = 58


GENERATOR_COUNT = 61

_PRESET_DTYPE = np.dtype(
    [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "<u4", 3)]
)
_INSTRUMENT_DTYPE = np.dtype([("name", "S20"), ("bag", "<u2")])
_BAG_DTYPE = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATOR_DTYPE = np.dtype([("kind", "<u2"), ("amount", "<i2")])
_SAMPLE_DTYPE = np.dtype(
    [
        *(("name", "S20"), ("start", "<u4"), ("end", "<u4")),
        *(("loop_start", "<u4"), ("loop_end", "<u4"), ("rate", "<u4")),
        *(("key", "u1"), ("correction", "i1"), ("link", "<u2"), ("type", "<u2")),
    ]
)
_TABLES = {
    b"phdr": _PRESET_DTYPE,
    b"pbag": _BAG_DTYPE,
    b"pgen": _GENERATOR_DTYPE,
    b"inst": _INSTRUMENT_DTYPE,
    b"ibag": _BAG_DTYPE,
    b"igen": _GENERATOR_DTYPE,
    b"shdr": _SAMPLE_DTYPE,
}


def read_tables(path: Path) -> tuple[np.ndarray, Tables]:
    """Reads the tables of a SoundFont file and maps its samples.

    Returns:
        The samples, `(frames,)` int16, and the tables by the names of their chunks.

    Raises:
        AudioError: the file can't be read, is not a SoundFont, or is damaged.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(12)
            if header[:4] != b"RIFF" or header[8:12] != b"sfbk":
                raise AudioError(f"{path} is not a SoundFont: name a .sf2 or .sf3 file")
            if struct.unpack("<I", header[4:8])[0] + 8 > size:
                raise _damaged(path, "it is cut short")
            chunks: dict[bytes, tuple[int, int]] = {}
            for name, offset, length in _chunks(file, 12, size, path):
                if name == b"LIST":
                    for inner in _chunks(file, offset + 4, offset + length, path):
                        chunks[inner[0]] = inner[1:]
            tables = {name: _read_table(file, name, chunks, path) for name in _TABLES}
        _check_tables(tables, path)
        offset, length = chunks.get(b"smpl", (0, 0))
        if length < 2:
            raise _damaged(path, "it has no samples")
        samples = np.memmap(path, "<i2", "r", offset, length // 2)
    except OSError as error:
        raise AudioError(f"SoundFont {path} can't be read: {error.strerror or error}") from error
    headers = tables[b"shdr"][:-1]
    in_memory = headers[headers["type"] & (ROM_SAMPLE | COMPRESSED_SAMPLE) == 0]
    if (in_memory["end"] > len(samples)).any():
        raise _damaged(path, "a sample lies outside the file")
    return samples, tables


def _damaged(path: Path, reason: str) -> AudioError:
    return AudioError(f"{path} is a damaged SoundFont ({reason}): get it again or name another one")


def _chunks(
    file: BinaryIO, position: int, end: int, path: Path
) -> Iterator[tuple[bytes, int, int]]:
    """The chunks between two places of a RIFF file: name, offset of the content, its length."""
    while position + 8 <= end:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if position + length > end:
            raise _damaged(path, f"chunk {name!r} is cut short")
        yield name, position, length
        position += length + length % 2  # chunks begin at even offsets


def _read_table(
    file: BinaryIO, name: bytes, chunks: dict[bytes, tuple[int, int]], path: Path
) -> np.ndarray:
    dtype = _TABLES[name]
    if name not in chunks:
        raise _damaged(path, f"it has no chunk {name.decode()}")
    offset, length = chunks[name]
    if length % dtype.itemsize or not length:
        raise _damaged(path, f"chunk {name.decode()} has an impossible length, {length} bytes")
    file.seek(offset)
    return np.frombuffer(file.read(length), dtype)


def _check_tables(tables: Tables, path: Path) -> None:
    """Fails over numbers that point outside the tables; afterwards all of them can be followed."""
    for owner, bag, generators in ((b"phdr", b"pbag", b"pgen"), (b"inst", b"ibag", b"igen")):
        for name, index, target in (
            (owner, tables[owner]["bag"], bag),
            (bag, tables[bag]["generator"], generators),
        ):
            # The last entry of each table only says where the one before it ends.
            steps = np.diff(index.astype(np.int64))
            if (steps < 0).any() or index[-1] >= len(tables[target]) + (target == generators):
                raise _damaged(path, f"chunk {name.decode()} points outside {target.decode()}")
    for generators, kind, target in (
        (b"pgen", Gen.INSTRUMENT, b"inst"),
        (b"igen", Gen.SAMPLE, b"shdr"),
    ):
        table = tables[generators]
        amounts = table["amount"][table["kind"] == kind].view(np.uint16)
        if (amounts >= len(tables[target]) - 1).any():
            raise _damaged(path, f"chunk {generators.decode()} points outside {target.decode()}")


def zones(tables: Tables, level: bytes, index: int, defaults: np.ndarray) -> list[np.ndarray]:
    """The generators of each zone of a preset (level `b"p"`) or an instrument (`b"i"`)."""
    owner, last_kind = (b"phdr", Gen.INSTRUMENT) if level == b"p" else (b"inst", Gen.SAMPLE)
    bags, generators = tables[level + b"bag"]["generator"], tables[level + b"gen"]
    first, end = (int(bag) for bag in tables[owner]["bag"][index : index + 2])
    zones = []
    for bag in range(first, end):
        zone = defaults.copy()
        is_global = True
        for kind, amount in generators[bags[bag] : bags[bag + 1]].tolist():
            if kind < GENERATOR_COUNT:
                # Ranges and indices are unsigned.
                unsigned = kind in (Gen.KEYS, Gen.VELOCITIES, last_kind)
                zone[kind] = amount & 0xFFFF if unsigned else amount
            if kind == last_kind:
                is_global = False
                break  # what follows it is to be ignored
        if not is_global:
            zones.append(zone)
        elif bag == first:  # the zone without a sample holds the defaults of the others
            defaults = zone
    return zones
