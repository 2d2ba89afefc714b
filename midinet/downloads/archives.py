"""Reads zips, wheels, tars and WADs from the internet, member by member and within bounds.

Nobody may trust what stands in such a file: sizes, numbers of entries and names may be made to
fill the disk, the memory or the day. So everything read here is paid from a budget.
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

from midinet.errors import ArchiveError

MAX_ENTRIES = 250_000
"""Members of one archive; the largest known, Lakh, has 178,561 songs in 17 folders."""

FREE_ENTRIES = 20_000
BYTES_PER_ENTRY = 64
"""Beyond the free ones, how much of an archive each entry has to be. A song takes thousands."""

MAX_UNPACKED_BYTES = 16 << 30
"""What any archive may unpack to; all of Lakh is some 6 GB."""

FREE_UNPACKED_BYTES = 256 << 20
MAX_RATIO = 25
"""Beyond the free ones, how many bytes a byte of archive may become. MIDI packs 3 to 5 times."""

MAX_ZIP_NAMES_BYTES = 32 << 20
"""A zip's table of contents, which is read at one stroke."""

MAX_TAR_NAME_BYTES = 1 << 20
"""A header of a tar, long names and all."""

MAX_WAD_BYTES = 256 << 20
"""A WAD inside an archive is held in memory; Freedoom's are 28 MB."""

LINK_OR_DEVICE = "links or devices"
NOT_MIDI_LUMP = "lumps that are not MIDI"

_CHUNK_BYTES = 1 << 20
_WAD_HEADER = struct.Struct("<4sii")  # IWAD or PWAD, number of lumps, where their directory is
_WAD_ENTRY = struct.Struct("<ii8s")  # position, size, name
_NOT_IN_LUMP_NAMES = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Attributes:
        path: its name in the archive, which nobody may trust.
        size: in bytes, still to be paid from the budget.
        open: to be called before the next member is asked for.
        why_not: why it can't be wanted, whatever its name.
    """

    path: str
    size: int
    open: Callable[[], IO[bytes]]
    why_not: str | None = None


class Budget:
    """How many entries and bytes may still come out of an archive."""

    def __init__(self, archive: Path):
        size = archive.stat().st_size
        self._most_bytes = min(MAX_UNPACKED_BYTES, FREE_UNPACKED_BYTES + MAX_RATIO * size)
        self._most_entries = min(MAX_ENTRIES, FREE_ENTRIES + size // BYTES_PER_ENTRY)
        self._bytes = 0
        self._entries = 0

    def enter(self) -> None:
        """Pays for an entry, be it a file, a folder or a lump."""
        self._entries += 1
        if self._entries > self._most_entries:
            raise ArchiveError(
                f"it has more than {self._most_entries:,} entries, "
                "the bound for an archive of its size"
            )

    def spend(self, size: int) -> None:
        """Pays for bytes before they are made."""
        if size < 0:
            raise ArchiveError("damaged: the size of a file in it is negative")
        self._bytes += size
        if self._bytes > self._most_bytes:
            raise ArchiveError(
                f"it unpacks to more than {self._most_bytes >> 20:,} MB, "
                "the bound for an archive of its size"
            )


class _BoundedReader:
    """What zipfile and tarfile read through: one read can't fill the memory."""

    def __init__(self, file: io.BufferedIOBase, most: int):
        self._file = file
        self._most = most
        self.seekable = file.seekable
        self.tell = file.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise ArchiveError("damaged: a file in it begins before the archive does")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        too_many = self._most + 1
        data = self._file.read(too_many if size < 0 else min(size, too_many))
        if len(data) > self._most:
            raise ArchiveError(f"the names in it take more than {self._most >> 20} MB")
        return data


def read_members(file: io.BufferedReader, name: str, budget: Budget) -> Iterator[Member]:
    """All files of an archive, lumps of WADs inside it included.

    Args:
        file: the archive, known by its content.
        name: its name, after which a WAD's lumps are called.
        budget: raises ArchiveError as soon as the archive wants more than it may.

    Raises:
        ArchiveError, or whatever Python's readers make of damaged bytes.
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
    raise ArchiveError("not an archive midinet knows (zip, whl, tar, tar.gz, .bz2, .xz or wad)")


def _zip_members(file: io.BufferedIOBase, budget: Budget) -> Iterator[Member]:
    reader = _BoundedReader(file, MAX_ZIP_NAMES_BYTES)
    with zipfile.ZipFile(reader) as archive:
        for entry in archive.infolist():
            budget.enter()
            if entry.filename.endswith("/"):  # is_dir() trips over an empty name
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            member = Member(
                path=entry.filename,
                size=entry.file_size,
                open=partial(_open_zipped, archive, entry),
                why_not=None if kind in (0, stat.S_IFREG) else LINK_OR_DEVICE,
            )
            yield from _with_lumps(member, budget)


def _open_zipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    if entry.flag_bits & 1:
        raise ArchiveError(f"{entry.filename!r} in it is encrypted: unpack it with its password")
    return archive.open(entry)


class _StrictTarInfo(tarfile.TarInfo):
    """Takes a bad header for damage, where tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the mark of the true end
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar_members(stream: io.BufferedIOBase, budget: Budget) -> Iterator[Member]:
    reader = _BoundedReader(stream, MAX_TAR_NAME_BYTES)
    with tarfile.TarFile(fileobj=reader, tarinfo=_StrictTarInfo) as archive:  # type: ignore[arg-type]
        for entry in archive:
            # tarfile would keep every entry it has seen: 200 MB for Lakh.
            archive.members.clear()  # type: ignore[attr-defined]
            budget.enter()
            budget.spend(entry.size)  # wanted or not, it has to be decompressed
            if entry.isdir():
                continue
            member = Member(
                path=entry.name,
                size=0,
                open=partial(_open_tarred, archive, entry),
                why_not=None if entry.isreg() else LINK_OR_DEVICE,
            )
            yield from _with_lumps(member, budget)
        # The checksum of a compressed file stands behind the padding.
        reader.read(_CHUNK_BYTES)


def _open_tarred(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(entry)
    assert file is not None, "only links and folders have no content"
    return file


def _with_lumps(member: Member, budget: Budget) -> Iterator[Member]:
    """The member itself, or the lumps in it where it is a WAD."""
    path = PurePosixPath(member.path)
    if member.why_not or path.suffix.lower() != ".wad":
        yield member
        return
    budget.spend(member.size)
    wad = io.BytesIO()
    with member.open() as packed:
        while chunk := packed.read(_CHUNK_BYTES):
            wad.write(chunk)
            if wad.tell() > MAX_WAD_BYTES:
                raise ArchiveError(f"{path.name!r} in it is over {MAX_WAD_BYTES >> 20} MB")
    yield from _lumps(wad, path.stem, budget)


def _lumps(wad: io.BufferedIOBase, wad_name: str, budget: Budget) -> Iterator[Member]:
    """The lumps of a WAD, the archive of Doom: a header, the data, a directory."""
    total = wad.seek(0, io.SEEK_END)
    wad.seek(0)
    header = wad.read(_WAD_HEADER.size)
    if len(header) < _WAD_HEADER.size or header[:4] not in (b"IWAD", b"PWAD"):
        raise ArchiveError(f"{wad_name!r} is no WAD")
    _, count, start = _WAD_HEADER.unpack(header)
    if count < 0 or start < 0 or start + count * _WAD_ENTRY.size > total:
        raise ArchiveError(f"the directory of the WAD {wad_name!r} lies outside of it: cut off?")
    wad.seek(start)
    directory = wad.read(min(count, MAX_ENTRIES + 1) * _WAD_ENTRY.size)
    for position, size, raw_name in _WAD_ENTRY.iter_unpack(directory):
        budget.enter()
        name = _NOT_IN_LUMP_NAMES.sub("_", raw_name.split(b"\0")[0].decode("latin-1"))
        if size and (position < 0 or size < 0 or position + size > total):
            raise ArchiveError(f"the lump {name!r} of the WAD {wad_name!r} lies outside of it")
        is_midi = size >= 4 and _slice(wad, position, 4).read() == b"MThd"
        yield Member(
            path=f"{wad_name}_{name}.mid",
            size=size,
            open=partial(_slice, wad, position, size),
            why_not=None if is_midi else NOT_MIDI_LUMP,
        )


def _slice(file: io.BufferedIOBase, position: int, size: int) -> IO[bytes]:
    file.seek(position)
    return io.BytesIO(file.read(size))
