"""Unpacks archives from the internet: only wanted files, only into one folder, within limits.

No path in an archive is ever used as it is. A song gets the cleaned last part of its path, a
model's file one of the fixed names in a model folder, so that no file can leave the folder.
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
from midinet.downloads.sources import Source, model_file, source_of
from midinet.errors import ArchiveError

UNSAFE_PATH = "files whose path leads out of the archive's folder"

_COPY_BYTES = 1 << 20
_MAX_NAME_BYTES = 200  # file systems allow 255; the rest is left for a suffix and a number
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_NOT_IN_NAME = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ufffd]')
_WINDOWS_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


@dataclass
class Tally:
    """Counts the members of an archive.

    Attributes:
        kept: number of files written.
        skipped: number of files skipped, by reason.
    """

    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        skipped = ", ".join(f"{why} ({count:,})" for why, count in self.skipped.most_common())
        kept = f"{self.kept:,} file{'' if self.kept == 1 else 's'} kept"
        return f"{kept}; left out: {skipped}" if skipped else kept


def unpack(archive: Path, folder: Path, source: Source, name: str | None = None) -> Tally:
    """Writes the wanted files of an archive to a folder.

    Args:
        archive: a zip, wheel, tar (plain, gzip, bzip2 or xz) or WAD, recognised by its content.
        folder: an existing, empty folder. After an error its contents are incomplete.
        source: the data set, which decides what is wanted.
        name: what errors call the archive; None: its path.

    Raises:
        ArchiveError: if the archive is damaged, encrypted, beyond the limits, of an unknown kind,
            or holds nothing that is wanted.
        OSError: if a file can't be read or written.
    """
    name = name or str(archive)
    writer = _Writer(folder, source, Budget(archive))
    try:
        with archive.open("rb") as file:
            members = read_members(file, archive.name, writer.budget)
            for member in tqdm(members, "unpacking", unit=" files", leave=False, disable=None):
                writer.write(member)
        writer.check()
    except ArchiveError as error:
        raise ArchiveError(f"{name}: {error}") from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{name}: a name in it is not the UTF-8 it claims to be") from error
    except OSError as error:
        if error.errno is not None:  # from the file system; decompressors set no errno
            raise
        raise _damaged(name, error) from error
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    return writer.tally


# The errors that Python's readers raise for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,  # from zipfile if encrypted; also RecursionError for nested headers
)


def _damaged(name: str, error: Exception) -> ArchiveError:
    if isinstance(error, NotImplementedError):  # zipfile lacks this compression
        return ArchiveError(f"{name}: compressed in a way that Python can't read ({error})")
    return ArchiveError(f"{name}: damaged or cut off ({error or type(error).__name__})")


class _Writer:
    """Writes wanted members to one folder, under safe names."""

    def __init__(self, folder: Path, source: Source, budget: Budget):
        self.folder = folder
        self.source = source
        self.budget = budget
        self.tally = Tally()
        self._used: Counter[str] = Counter()

    def write(self, member: Member) -> None:
        """Writes a member, or counts why it is skipped."""
        path = member.path.replace("\\", "/")
        owner = source_of(path)
        if owner and owner.name != self.source.name:
            raise ArchiveError(f"it is the archive of {owner.name}: unpack it with -d {owner.name}")
        reason = member.skip_reason
        if reason is None and (
            path.startswith("/") or ".." in path.split("/") or _DRIVE.match(path)
        ):
            reason = UNSAFE_PATH
        reason = reason or self.source.skip_reason(path)
        if reason is not None:
            self.tally.skipped[reason] += 1
            return
        self.budget.count_bytes(member.size)
        with member.open() as packed, self._target(path).open("xb") as file:
            while chunk := packed.read(_COPY_BYTES):
                file.write(chunk)
        self.tally.kept += 1

    def check(self) -> None:
        """Raises ArchiveError if the written files are not a data set or a model."""
        if not self.tally.kept:
            what = "model" if self.source.is_model else "MIDI file"
            raise ArchiveError(f"it holds no {what} that {self.source.name} wants ({self.tally})")
        if self.source.is_model:
            for needed in ("saved_model.pb", "variables/variables.index"):
                if not (self.folder / needed).exists():
                    raise ArchiveError(f"it is no complete model: {needed} is missing")

    def _target(self, path: str) -> Path:
        if self.source.is_model:
            target = self.folder / str(model_file(path))
            if target.exists():
                raise ArchiveError(f"it holds more than one {target.name}")
            target.parent.mkdir(exist_ok=True)
            return target
        return self.folder / self._unused(clean_name(path))

    def _unused(self, name: str) -> str:
        """Adds a number to a name that is taken, upper and lower case being the same."""
        stem, dot, suffix = name.rpartition(".")
        candidate = name
        while self._used[_folded(candidate)]:
            self._used[_folded(name)] += 1
            candidate = f"{stem}_{self._used[_folded(name)]}{dot}{suffix}"
        self._used[_folded(candidate)] = 1
        return candidate


def clean_name(path: str) -> str:
    """Returns the last part of a path as a file name that every file system accepts."""
    name = path.rsplit("/", 1)[-1].encode("utf-8", "replace").decode()
    stem, dot, suffix = _NOT_IN_NAME.sub("_", name).rpartition(".")
    stem = stem.encode()[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    name = f"{stem}{dot}{suffix}"
    return f"_{name}" if _WINDOWS_DEVICE.match(name) else name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
