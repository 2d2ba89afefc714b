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
    fetched = folder.with_name(f"{folder.name}.{source.file_name}")
    try:
        _make_room(folder, output)
        if archive is None:
            tally = _fetch_and_unpack(source, fetched, folder, output)
        else:
            tally = _unpack_beside(_check_file(Path(archive)), folder, source)
    except OSError as error:
        # The user knows nothing of the temporary files, but knows the archive.
        name = archive if archive and error.filename == str(archive) else output
        trouble = f"{name}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            trouble += f": free some space and run the same command again{_kept(fetched)}"
        raise DownloadError(trouble) from error
    print(f"{source.name}: {output}: {tally}")
    return Path(output)


def _kept(fetched: Path) -> str:
    """Says what the next call with the same arguments need not download again, if anything."""
    if fetched.exists():
        return "; the archive is kept and will not be downloaded again"
    size = PartialFile(fetched).size
    return f"; the {size:,} bytes that were downloaded are kept" if size else ""


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
    """Returns the archive; PowerShell leaves it to the program to find the file for a `*`."""
    if not archive.exists() and "*" in archive.name:
        found = sorted(archive.parent.glob(archive.name))
        if len(found) > 1:
            raise ArchiveError(f"{archive} fits {len(found)} files: --archive takes one")
        archive = found[0] if found else archive
    if not archive.is_file():
        trouble = "is a folder" if archive.is_dir() else "does not exist"
        raise ArchiveError(f"{archive} {trouble}: --archive takes a zip, tar, wheel or WAD")
    return archive


def _fetch_and_unpack(
    source: Source, fetched: Path, folder: Path, output: str | os.PathLike[str]
) -> Tally:
    # It exists if an earlier call could not unpack it, because the disk was full.
    if not fetched.exists():
        try:
            fetch(source, fetched, RETRY_POLICY)
        except TransferError as error:
            raise DownloadError(_advice(source, fetched, output, error)) from error
    try:
        tally = _unpack_beside(fetched, folder, source, name=source.url)
    except ArchiveError as error:
        fetched.unlink()  # otherwise the next call would use it again
        raise ArchiveError(f"{error}; the download was deleted: run the command again") from error
    fetched.unlink()
    return tally


def _advice(
    source: Source, fetched: Path, output: str | os.PathLike[str], error: TransferError
) -> str:
    size = PartialFile(fetched).size
    kept = f"{size:,} bytes are kept, and the same command resumes from there. " if size else ""
    command = f"python download.py -d {source.name} -o {shlex.quote(str(output))} --archive"
    way = f"run {source.mirror}" if source.mirror else "download it with a browser"
    return (
        f"{source.name}: {error}, at {source.url}. {kept}"
        f"Or {way}, and then {command} {source.mirror_file}"
    )


def _unpack_beside(archive: Path, folder: Path, source: Source, name: str | None = None) -> Tally:
    """Unpacks to a temporary folder that is renamed to `folder` once it is complete.

    Args:
        archive: the file.
        folder: the folder to make.
        source: decides what is wanted.
        name: what errors call the archive; None: its path.
    """
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        # In a subfolder, because the temporary folder itself is readable by its owner only.
        inside = Path(scratch, "unpacked")
        inside.mkdir()
        tally = unpack(archive, inside, source, name)
        if folder.exists():
            folder.rmdir()  # fails if somebody has put something in meanwhile
        inside.rename(folder)
    return tally
