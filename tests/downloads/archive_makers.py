"""Archives for the tests, honest ones and others."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Sequence

SONG = b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0"


def song(number: int) -> bytes:
    """A MIDI file of its own, as far as unpacking is concerned."""
    return SONG + number.to_bytes(4, "big")


def make_zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A zip; equal names are as welcome as any."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def make_tar(*members: tuple[str | tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    """A tar; mode "w:gz", "w:bz2" or "w:xz" compresses it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def make_wad(
    *lumps: tuple[str, bytes],
    count: int | None = None,
    directory: int | None = None,
    entries: Sequence[tuple[int, int, bytes]] | None = None,
) -> bytes:
    """A WAD, with whatever number of lumps, place and entries its directory is to claim."""
    body = b""
    true_entries = []
    for name, data in lumps:
        true_entries.append((12 + len(body), len(data), name.encode("latin-1")))
        body += data
    table = b"".join(struct.pack("<ii8s", *entry) for entry in entries or true_entries)
    header = struct.pack(
        "<4sii",
        b"IWAD",
        len(table) // 16 if count is None else count,
        12 + len(body) if directory is None else directory,
    )
    return header + body + table
