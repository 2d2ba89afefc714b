"""Unpacks archives from the internet: only what is wanted, only inside one folder, within bounds.

No name in an archive is ever used as a path. A song gets its cleaned last name, a model's file
one of the fixed names of a model; so nothing an archive says can lead out of the folder.
"""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from midinet.downloads.archives import Budget, Member, read_members
from midinet.downloads.sources import Source, model_file
from midinet.errors import ArchiveError

UNSAFE_PATH = "files whose path leads out of the archive's folder"

_COPY_BYTES = 1 << 20
_MAX_NAME_BYTES = 200  # of the 255 that file systems allow, so that a number still fits
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ufffd]')
_WINDOWS_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


@dataclass
class Tally:
    """What became of an archive's members.

    Attributes:
        kept: how many files were written.
        left_out: how many were not, by reason.
    """

    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        left_out = ", ".join(f"{why} ({count:,})" for why, count in self.left_out.most_common())
        kept = f"{self.kept:,} file{'' if self.kept == 1 else 's'} kept"
        return f"{kept}; left out: {left_out}" if left_out else kept


def unpack(archive: Path, folder: Path, source: Source) -> Tally:
    """Writes what `source` wants from `archive` into the existing, empty `folder`.

    Args:
        archive: a zip, wheel, tar (plain, gzip, bzip2 or xz) or WAD, known by its content.
        folder: gets the files; what is in it after an error is of no use.
        source: whose rules decide what is kept.

    Raises:
        ArchiveError: damaged, encrypted, beyond the bounds, of no known kind, or without
            anything that is wanted.
        OSError: a file could not be read or written.
    """
    writer = _Writer(folder, source, Budget(archive))
    try:
        with archive.open("rb") as file:
            members = read_members(file, archive.name, writer.budget)
            for member in tqdm(members, "unpacking", unit=" files", leave=False, disable=None):
                writer.take(member)
        writer.check()
    except ArchiveError as error:
        raise ArchiveError(f"{archive}: {error}") from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{archive}: a name in it is not the UTF-8 it claims to be") from error
    except OSError as error:
        if error.errno is not None:  # the file system's word; decompressors give no number
            raise
        raise _damaged(archive, error) from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    return writer.tally


# What Python's readers raise on bytes that are no good archive.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,  # zipfile: encrypted; RecursionError: header upon header
)


def _damaged(archive: Path, error: Exception) -> ArchiveError:
    if isinstance(error, NotImplementedError):
        return ArchiveError(f"{archive}: packed in a way Python can't read ({error})")
    return ArchiveError(f"{archive}: damaged or cut off ({error or type(error).__name__})")


class _Writer:
    """Puts wanted members into one folder under names of its own making."""

    def __init__(self, folder: Path, source: Source, budget: Budget):
        self.folder = folder
        self.source = source
        self.budget = budget
        self.tally = Tally()
        self._used: Counter[str] = Counter()

    def take(self, member: Member) -> None:
        """Writes a member, or counts why not."""
        path = member.path.replace("\\", "/")
        if member.why_not:
            why: str | None = member.why_not
        elif path.startswith("/") or ".." in path.split("/") or _DRIVE.match(path):
            why = UNSAFE_PATH
        else:
            why = self.source.leave_out(path)
        if why is not None:
            self.tally.left_out[why] += 1
            return
        self.budget.spend(member.size)
        with member.open() as packed, self._target(path).open("xb") as file:
            while chunk := packed.read(_COPY_BYTES):
                file.write(chunk)
        self.tally.kept += 1

    def check(self) -> None:
        """Raises ArchiveError where the files don't make the data set."""
        if not self.tally.kept:
            what = "model" if self.source.is_model else "MIDI file"
            raise ArchiveError(f"it holds no {what} that {self.source.name} wants ({self.tally})")
        if self.source.is_model:
            for needed in ("saved_model.pb", "variables/variables.index"):
                if not (self.folder / needed).exists():
                    raise ArchiveError(f"it is no whole model: {needed} is missing")

    def _target(self, path: str) -> Path:
        if self.source.is_model:
            target = self.folder / str(model_file(path))
            if target.exists():
                raise ArchiveError(f"it holds more than one {target.name}")
            target.parent.mkdir(exist_ok=True)
            return target
        return self.folder / self._unused(clean_name(path))

    def _unused(self, name: str) -> str:
        """Numbers equal names; equal also where upper and lower case are one."""
        stem, dot, suffix = name.rpartition(".")
        candidate = name
        while self._used[_key(candidate)]:
            self._used[_key(name)] += 1
            candidate = f"{stem}_{self._used[_key(name)]}{dot}{suffix}"
        self._used[_key(candidate)] = 1
        return candidate


def clean_name(path: str) -> str:
    """The last part of a path as a name every file system takes."""
    name = path.rsplit("/", 1)[-1].encode("utf-8", "replace").decode()
    stem, dot, suffix = _NOT_IN_NAMES.sub("_", name).rpartition(".")
    stem = stem.encode()[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    name = f"{stem}{dot}{suffix}"
    return f"_{name}" if _WINDOWS_DEVICE.match(name) else name


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
