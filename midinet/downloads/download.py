"""Makes a folder of MIDI files, or of a model, from an archive on the internet or on the disk."""

from __future__ import annotations

import errno
import os
import shlex
import tempfile
from pathlib import Path

from midinet.downloads.sources import Source, find_source
from midinet.downloads.transfer import PartialFile, RetryPolicy, TransferError, fetch
from midinet.downloads.unpacking import Tally, unpack
from midinet.errors import ArchiveError, DownloadError

RETRY_POLICY = RetryPolicy()


def download(
    dataset: str, output: str | os.PathLike[str], archive: str | os.PathLike[str] | None = None
) -> Path:
    """Downloads a data set, unpacks the wanted files and prints how many were kept.

    An interrupted download is kept beside `output` in a `.part` file; the next call resumes it.

    Args:
        dataset: rs_ost, lahk, lahk_full, freedoom or released_model.
        output: the folder to make; it may exist if it is empty.
        archive: a file on this disk (zip, tar, wheel or WAD) to unpack instead.

    Returns:
        The folder. It holds MIDI files or, for released_model, the model.

    Raises:
        OptionError: if there is no such data set.
        DownloadError: if the output folder can't be made, the disk is full or the download fails.
        ArchiveError: if the archive is damaged, unsafe or holds nothing that is wanted.

    Example:
        >>> midinet.download("freedoom", "raw")
        PosixPath('raw')
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
        raise DownloadError(_describe(error, folder)) from error
    print(f"{source.name}: {output}: {tally}")
    return Path(output)


def _check_free(folder: Path, output: str | os.PathLike[str]) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise DownloadError(f"{output} is not empty: name a new folder with -o")
    elif folder.exists():
        raise DownloadError(f"{output} is a file: name a new folder with -o")


def _make_room(folder: Path, output: str | os.PathLike[str]) -> None:
    """Makes the parent folder and checks that files can be made in it."""
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
        trouble = "is a folder" if archive.is_dir() else "does not exist"
        raise ArchiveError(f"{archive} {trouble}: --archive takes a zip, tar, wheel or WAD")
    return archive


def _fetch_and_unpack(source: Source, folder: Path, output: str | os.PathLike[str]) -> Tally:
    fetched = folder.with_name(f"{folder.name}.{source.file_name}")
    # It exists if an earlier call could not unpack it, because the disk was full.
    if not fetched.exists():
        try:
            fetch(source, fetched, RETRY_POLICY)
        except TransferError as error:
            raise DownloadError(_advice(source, fetched, output, error)) from error
    try:
        tally = _unpack_beside(fetched, folder, source)
    except ArchiveError as error:
        fetched.unlink()  # otherwise the next call would use it again
        raise ArchiveError(f"{error}; it came from {source.url} and was deleted") from error
    fetched.unlink()
    return tally


def _advice(
    source: Source, fetched: Path, output: str | os.PathLike[str], error: TransferError
) -> str:
    size = PartialFile(fetched).size
    kept = f"{size:,} bytes are kept, and the same command resumes from there. " if size else ""
    command = f"python download.py -d {source.name} -o {shlex.quote(str(output))} --archive FILE"
    return (
        f"{source.name}: {error}, at {source.url}. {kept}"
        f"Or download it with a browser, then run {command}"
    )


def _unpack_beside(archive: Path, folder: Path, source: Source) -> Tally:
    """Unpacks to a temporary folder that is renamed to `folder` once it is complete."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        # In a subfolder, because the temporary folder itself is readable by its owner only.
        inside = Path(scratch, "unpacked")
        inside.mkdir()
        tally = unpack(archive, inside, source)
        if folder.exists():
            folder.rmdir()  # fails if somebody has put something in meanwhile
        inside.rename(folder)
    return tally


def _describe(error: OSError, folder: Path) -> str:
    trouble = f"{error.filename or folder}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        trouble += ": free some space and run the same command again; what was downloaded is kept"
    return trouble
