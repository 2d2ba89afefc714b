"""Reads zips, wheels, tars and WADs from the internet, member by member and within limits.

The contents of such a file can't be trusted: its sizes, counts and names may be made to fill the
disk or the memory, or to take hours. So everything that is read here counts against a budget.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from midinet.downloads.mus import MAX_GROWTH, MAX_MUS_BYTES, MUS_SIGNATURE, MusError, mus_to_midi
from midinet.errors import ArchiveError

MAX_ENTRIES = 250_000
"""Limit for any archive; the largest known, Lakh, has 178,561 songs in 17 folders."""

FREE_ENTRIES = 20_000
BYTES_PER_ENTRY = 64
"""Minimum size of an archive per entry beyond the free ones. A song takes thousands of bytes."""

MAX_UNPACKED_BYTES = 16 << 30
"""Limit for any archive; all of Lakh unpacks to some 6 GB."""

FREE_UNPACKED_BYTES = 256 << 20
MAX_RATIO = 25
"""Maximum compression ratio of what exceeds the free bytes. MIDI is compressed 3 to 5 times."""

MAX_ZIP_NAMES_BYTES = 32 << 20
"""Limit for the central directory of a zip, which zipfile reads at once."""

MAX_TAR_NAME_BYTES = 1 << 20
"""Limit for a header of a tar, including long names."""

MAX_WAD_BYTES = 256 << 20
"""Limit for a WAD inside an archive, which is held in memory; Freedoom's WADs have 28 MB."""

LINK_OR_DEVICE = "links or devices"
NOT_MUSIC_LUMP = "lumps that are not music"
DAMAGED_MUS = "damaged MUS files"

_CHUNK_BYTES = 1 << 20
_WAD_HEADER = struct.Struct("<4sii")  # IWAD or PWAD, number of lumps, offset of the directory
_WAD_ENTRY = struct.Struct("<ii8s")  # offset, size, name
_NOT_IN_LUMP_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Attributes:
        path: its untrusted path in the archive.
        size: in bytes, if it has not been counted against the budget yet, otherwise 0.
        open: opens it; only valid until the next member is read.
        skip_reason: why it is never wanted, whatever its name; None if it may be wanted.
    """

    path: str
    size: int
    open: Callable[[], IO[bytes]]
    skip_reason: str | None = None


class Budget:
    """Limits the number of entries and bytes that come out of an archive.

    Args:
        archive: the file, whose size determines the limits.
    """

    def __init__(self, archive: Path):
        size = archive.stat().st_size
        self._max_bytes = min(MAX_UNPACKED_BYTES, FREE_UNPACKED_BYTES + MAX_RATIO * size)
        self._max_entries = min(MAX_ENTRIES, FREE_ENTRIES + size // BYTES_PER_ENTRY)
        self._bytes = 0
        self._entries = 0

    def count_entry(self) -> None:
        """Counts an entry, which may be a file, a folder or a lump; raises ArchiveError."""
        self._entries += 1
        if self._entries > self._max_entries:
            raise ArchiveError(
                f"it has more than {self._max_entries:,} entries, "
                "the limit for an archive of its size"
            )

    def count_bytes(self, size: int) -> None:
        """Counts bytes before they are unpacked; raises ArchiveError."""
        if size < 0:
            raise ArchiveError("damaged: the size of a file in it is negative")
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise ArchiveError(
                f"it unpacks to more than {self._max_bytes >> 20:,} MB, "
                "the limit for an archive of its size"
            )


class _BoundedReader:
    """Stands between an archive and zipfile or tarfile, so that no read fills the memory."""

    def __init__(self, file: io.BufferedIOBase, max_bytes: int):
        self._file = file
        self._max_bytes = max_bytes
        self.seekable = file.seekable
        self.tell = file.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise ArchiveError("damaged: a file in it begins before the archive does")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        too_many = self._max_bytes + 1
        data = self._file.read(too_many if size < 0 else min(size, too_many))
        if len(data) > self._max_bytes:
            raise ArchiveError(f"the names in it take more than {self._max_bytes >> 20} MB")
        return data


def read_members(file: io.BufferedReader, name: str, budget: Budget) -> Iterator[Member]:
    """Reads all files of an archive, and the lumps of WADs inside it.

    Args:
        file: the archive, whose kind is recognised by its content.
        name: its file name; the lumps of a WAD are named after it.
        budget: limits what may come out of the archive.

    Raises:
        ArchiveError: if this is not an archive, or it exceeds the budget. Damaged bytes raise any
            of the errors of Python's own readers instead.
    """
    head = file.read(512)
    file.seek(0)
    if not head:
        raise ArchiveError("it is empty")
    if head.startswith(b"PK"):
        return _zip_members(file, budget)
    if head.startswith((b"IWAD", b"PWAD")):
        return _lumps(file, PurePosixPath(name).stem, budget)
    if head.startswith(b"\x1f\x8b"):
        return _tar_members(gzip.open(file), budget)
    if head.startswith(b"BZh"):
        return _tar_members(bz2.open(file), budget)
    if head.startswith(b"\xfd7zXZ"):
        return _tar_members(lzma.open(file), budget)
    if head[257:262] == b"ustar":
        return _tar_members(file, budget)
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ArchiveError("it is a web page, not an archive")
    raise ArchiveError("it is not a zip, whl, tar, tar.gz, tar.bz2, tar.xz or wad")


def _zip_members(file: io.BufferedIOBase, budget: Budget) -> Iterator[Member]:
    reader = _BoundedReader(file, MAX_ZIP_NAMES_BYTES)
    with zipfile.ZipFile(reader) as archive:
        for entry in archive.infolist():
            budget.count_entry()
            if entry.filename.endswith("/"):  # is_dir() fails for an empty name
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            member = Member(
                path=entry.filename,
                size=entry.file_size,
                open=partial(_open_zipped, archive, entry),
                skip_reason=None if kind in (0, stat.S_IFREG) else LINK_OR_DEVICE,
            )
            yield from _with_lumps(member, budget)


def _open_zipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    if entry.flag_bits & 1:
        raise ArchiveError(f"{entry.filename!r} in it is encrypted: unpack it with its password")
    return archive.open(entry)


class _StrictTarInfo(tarfile.TarInfo):
    """Reports a bad header as damage, whereas tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the true end of the archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar_members(stream: io.BufferedIOBase, budget: Budget) -> Iterator[Member]:
    reader = _BoundedReader(stream, MAX_TAR_NAME_BYTES)
    with tarfile.TarFile(fileobj=reader, tarinfo=_StrictTarInfo) as archive:  # type: ignore[arg-type]
        for entry in archive:
            # tarfile would keep every entry that it has read: 200 MB for Lakh.
            archive.members.clear()  # type: ignore[attr-defined]
            budget.count_entry()
            budget.count_bytes(entry.size)  # even an unwanted entry is decompressed
            if entry.isdir():
                continue
            member = Member(
                path=entry.name,
                size=0,
                open=partial(_open_tarred, archive, entry),
                skip_reason=None if entry.isreg() else LINK_OR_DEVICE,
            )
            yield from _with_lumps(member, budget)
        # Reads on to the checksum of a compressed file, which follows the padding.
        reader.read(_CHUNK_BYTES)


def _open_tarred(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(entry)
    assert file is not None, "only links and folders have no content"
    return file


def _with_lumps(member: Member, budget: Budget) -> Iterator[Member]:
    """Yields the member itself or, if it is a WAD, its lumps; a MUS file as a MIDI file."""
    path = PurePosixPath(member.path)
    if not member.skip_reason and path.suffix.lower() == ".mus":
        with member.open() as mus:
            yield _converted_mus(f"{member.path}.mid", mus, budget)
        return
    if member.skip_reason or path.suffix.lower() != ".wad":
        yield member
        return
    budget.count_bytes(member.size)
    wad = io.BytesIO()
    with member.open() as packed:
        while chunk := packed.read(_CHUNK_BYTES):
            wad.write(chunk)
            if wad.tell() > MAX_WAD_BYTES:
                raise ArchiveError(f"{path.name!r} in it is over {MAX_WAD_BYTES >> 20} MB")
    yield from _lumps(wad, path.stem, budget)


def _lumps(wad: io.BufferedIOBase, wad_name: str, budget: Budget) -> Iterator[Member]:
    """Yields the lumps of a WAD, Doom's archive format: a header, the data and a directory."""
    total = wad.seek(0, io.SEEK_END)
    wad.seek(0)
    header = wad.read(_WAD_HEADER.size)
    if len(header) < _WAD_HEADER.size or header[:4] not in (b"IWAD", b"PWAD"):
        raise ArchiveError(f"{wad_name!r} is not a WAD")
    _, count, start = _WAD_HEADER.unpack(header)
    if count < 0 or start < 0 or start + count * _WAD_ENTRY.size > total:
        raise ArchiveError(
            f"the directory of the WAD {wad_name!r} lies outside it: was it cut off?"
        )
    wad.seek(start)
    directory = wad.read(min(count, MAX_ENTRIES + 1) * _WAD_ENTRY.size)
    for offset, size, raw_name in _WAD_ENTRY.iter_unpack(directory):
        budget.count_entry()
        name = _NOT_IN_LUMP_NAME.sub("_", raw_name.split(b"\0")[0].decode("latin-1"))
        if size and (offset < 0 or size < 0 or offset + size > total):
            raise ArchiveError(f"the lump {name!r} of the WAD {wad_name!r} lies outside it")
        path = f"{wad_name}_{name}.mid"
        signature = _slice(wad, offset, min(size, 12)).read()
        if signature.startswith(MUS_SIGNATURE):
            yield _converted_mus(path, _slice(wad, offset, size), budget)
            continue
        is_midi = signature.startswith(b"MThd") or signature[8:] == b"RMID"
        yield Member(
            path=path,
            size=size,
            open=partial(_slice, wad, offset, size),
            skip_reason=None if is_midi else NOT_MUSIC_LUMP,
        )


def _converted_mus(path: str, file: IO[bytes], budget: Budget) -> Member:
    """The MIDI file that a MUS file becomes."""
    mus = file.read(MAX_MUS_BYTES)
    budget.count_bytes(MAX_GROWTH * len(mus))
    try:
        midi = mus_to_midi(mus)
    except MusError:
        return Member(path, 0, partial(io.BytesIO, b""), skip_reason=DAMAGED_MUS)
    return Member(path, 0, partial(io.BytesIO, midi))


def _slice(file: io.BufferedIOBase, offset: int, size: int) -> IO[bytes]:
    file.seek(offset)
    return io.BytesIO(file.read(size))
