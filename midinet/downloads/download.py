"""Makes a data set's folder out of an archive from the internet or from the disk."""

from __future__ import annotations

import errno
import os
import shlex
import tempfile
from pathlib import Path

from midinet.downloads.sources import Source, find_source
from midinet.downloads.transfer import Part, Patience, TransferError, fetch
from midinet.downloads.unpacking import Tally, unpack
from midinet.errors import ArchiveError, DownloadError

PATIENCE = Patience()


def download(
    dataset: str, output: str | os.PathLike[str], archive: str | os.PathLike[str] | None = None
) -> Path:
    """Fetches a data set of sources.py, unpacks what is wanted and says what was kept.

    What came before an interruption stays beside `output` in a `.part` file; the next call goes
    on from there.

    Args:
        dataset: rs_ost, lahk, lahk_full, freedoom or released_model.
        output: the folder to make; it may exist, but only empty.
        archive: a file already on disk (zip, tar, wheel or WAD) to unpack instead.

    Returns:
        The folder: MIDI files or, for released_model, the model.

    Raises:
        OptionError: there is no such data set.
        DownloadError: the output is in the way, the disk full, or nothing could be fetched.
        ArchiveError: the archive is damaged, unsafe or holds nothing that is wanted.
    """
    source = find_source(dataset)
    folder = Path(os.path.realpath(output))
    _check_free(folder, output)
    try:
        _make_room(folder, output)
        if archive is None:
            tally = _fetch_and_unpack(source, folder, output)
        else:
            tally = _unpack_beside(_check_file(Path(archive)), folder, source)
    except OSError as error:
        raise DownloadError(_disk_trouble(error, folder)) from error
    print(f"{source.name}: {output}: {tally}")
    return Path(output)


def _check_free(folder: Path, output: str | os.PathLike[str]) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise DownloadError(f"{output} is not empty: name a new folder with -o")
    elif folder.exists():
        raise DownloadError(f"{output} is a file: name a new folder with -o")


def _make_room(folder: Path, output: str | os.PathLike[str]) -> None:
    """Makes the folder above and sees that the disk lets something be made in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise DownloadError(f"{output} would be in a file: name a new folder with -o") from error
    except PermissionError as error:
        raise DownloadError(
            f"{output} can't be made ({error.strerror}): name a folder with -o that you may write"
        ) from error


def _check_file(archive: Path) -> Path:
    if not archive.is_file():
        trouble = "is a folder" if archive.is_dir() else "is no file on this disk"
        raise ArchiveError(f"{archive} {trouble}: --archive takes a zip, tar, wheel or WAD")
    return archive


def _fetch_and_unpack(source: Source, folder: Path, output: str | os.PathLike[str]) -> Tally:
    fetched = folder.with_name(f"{folder.name}.{source.file_name}")
    # It is there when an earlier call could fetch but not unpack it: the disk was full.
    if not fetched.exists():
        try:
            fetch(source, fetched, PATIENCE)
        except TransferError as error:
            raise DownloadError(_way_out(source, fetched, output, error)) from error
    try:
        tally = _unpack_beside(fetched, folder, source)
    except ArchiveError as error:
        fetched.unlink()  # or the next call would take it again
        raise ArchiveError(f"{error}; it came from {source.url} and is deleted") from error
    fetched.unlink()
    return tally


def _way_out(
    source: Source, fetched: Path, output: str | os.PathLike[str], error: TransferError
) -> str:
    size = Part(fetched).size
    kept = f"{size:,} bytes are kept, the same command goes on from there. " if size else ""
    command = f"python download.py -d {source.name} -o {shlex.quote(str(output))} --archive FILE"
    return (
        f"{source.name}: {error}, at {source.url}. {kept}"
        f"By hand: fetch that address with a browser, then {command}"
    )


def _unpack_beside(archive: Path, folder: Path, source: Source) -> Tally:
    """Unpacks into a temporary folder that takes `folder`'s name when all is there."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        # One deeper: the temporary folder itself may be read by its owner only.
        inside = Path(scratch, "unpacked")
        inside.mkdir()
        tally = unpack(archive, inside, source)
        if folder.exists():
            folder.rmdir()  # refuses if somebody has filled it meanwhile
        inside.rename(folder)
    return tally


def _disk_trouble(error: OSError, folder: Path) -> str:
    trouble = f"{error.filename or folder}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        trouble += ": make room and run the same command again; what was fetched is kept"
    return trouble
