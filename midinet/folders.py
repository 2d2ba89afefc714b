"""Files and folders that a user names: what they hold, and how they are written safely."""

from __future__ import annotations

import contextlib
import enum
import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from midinet.errors import CorpusError, ModelError

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")  # of file names, in lower case
DESCRIPTION_FILE = "dataset.json"  # of a data set
WEIGHTS_FILE = "model.weights.h5"  # of a model
CHECKPOINTS_FOLDER = "checkpoints"  # of a model's training
RELEASED_MODEL = "midinet_model_trained"  # where the README puts the model released in 2021


class Kind(enum.StrEnum):
    """What is found at a path."""

    MISSING = "no such folder"
    FILE = "it is a file"
    DATA_SET = "it is a data set"
    MODEL = "it is a model"
    RELEASED_MODEL = "it is a model of 2021"
    RUN = "no epoch of its training has ended yet"
    MIDI = "it is a folder of MIDI files"
    EMPTY = "it is empty"
    OTHER = "it is a folder of something else"


def kind_of(path: Path) -> Kind:
    """Returns what is found at a path."""
    if not path.is_dir():
        return Kind.FILE if path.exists() else Kind.MISSING
    if (path / DESCRIPTION_FILE).is_file():
        return Kind.DATA_SET
    if (path / WEIGHTS_FILE).is_file():
        return Kind.MODEL
    if (path / "variables" / "variables.index").is_file() or next(path.glob("ckpt-*.index"), None):
        return Kind.RELEASED_MODEL
    if next((path / CHECKPOINTS_FOLDER).glob("*.npz"), None):
        return Kind.RUN
    if next(midi_files(path), None):
        return Kind.MIDI
    return Kind.OTHER if any(path.iterdir()) else Kind.EMPTY


def midi_files(
    folder: Path, on_problem: Callable[[Path, str], object] | None = None
) -> Iterator[Path]:
    """Yields all MIDI files in a folder and its subfolders, in no particular order.

    Links are followed; a folder that several links lead to, perhaps in a circle, is read once.

    Args:
        folder: where to look.
        on_problem: is called with the path of each folder that can't be read, and of each file
            with the name of a MIDI file that is none or can't be reached (such as a named pipe, a
            device, or a broken link), and with the reason.
    """
    report = on_problem or (lambda path, reason: None)
    seen: set[tuple[int, int]] = set()
    folders = [folder]
    while folders:
        current = folders.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                paths = sorted(Path(entry.path) for entry in entries)
        except OSError as error:
            report(current, error.strerror or str(error))
            continue
        for path in paths:
            try:
                mode = path.stat().st_mode
            except OSError as error:
                if is_midi_name(path.name):
                    report(path, error.strerror or str(error))
                continue
            if stat.S_ISDIR(mode):
                folders.append(path)
            elif is_midi_name(path.name) and stat.S_ISREG(mode):
                yield path
            elif is_midi_name(path.name):
                report(path, "is not a regular file")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lets the block write a file under a temporary name, which becomes `path` at the end.

    Nobody ever sees a half-written file: if the block fails, the temporary file is removed and an
    older file at `path` is left as it was. The temporary name has the same suffixes.

    Example:
        with replacing(Path("song.mid")) as unfinished:
            unfinished.write_bytes(content)

    Raises:
        OSError: the file can't be written; the error names `path`, not the temporary file.
    """
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def file_in_the_way(folder: Path) -> Path | None:
    """Returns the file that keeps a folder from being made: the path itself or a parent of it."""
    existing = existing_part(folder)
    return None if existing.is_dir() else existing


def existing_part(path: Path) -> Path:
    """Returns the path itself if it exists, else its nearest parent that does."""
    return next(part for part in (path, *path.absolute().parents) if part.exists())


def put_in_place(partial: Path, output: Path) -> None:
    """Renames a finished folder to `output`; an older folder stays in place until that moment."""
    old = partial.with_name(partial.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.rename(output, old)
    os.rename(partial, output)
    shutil.rmtree(old, ignore_errors=True)


def is_midi_name(name: str) -> bool:
    """Returns whether a file name has a suffix of MIDI files."""
    return name.lower().endswith(MIDI_SUFFIXES)


def no_data_set(folder: Path) -> CorpusError:
    """Makes the error for a folder that should be a data set but is not."""
    kind = kind_of(folder)
    name = shlex.quote(str(folder))
    if kind == Kind.MIDI:
        way = f"preprocess.py -i {name} -o data makes one of them, for -d data"
    elif kind == Kind.MISSING:
        way = f"preprocess.py -i <midi folder> -o {name} makes one{_hint(folder)}"
    elif kind == Kind.FILE and (folder.parent / DESCRIPTION_FILE).is_file():
        way = f"name its folder, {folder.parent}"
    elif kind == Kind.FILE and is_midi_name(folder.name):
        way = (
            "generate.py --primer continues a MIDI file, preprocess.py makes a data set of a folder"
        )
    else:
        way = "name the folder that preprocess.py made"
    what = f"no {DESCRIPTION_FILE}" if kind == Kind.OTHER else kind
    return CorpusError(f"{folder} holds no data set ({what}): {way}")


def no_model(folder: Path) -> ModelError:
    """Makes the error for a folder that should be a model but is not."""
    kind = kind_of(folder)
    name = shlex.quote(str(folder))
    if kind == Kind.MISSING and folder.name == RELEASED_MODEL:
        way = f"python download.py -d released_model -o {name} downloads the model of 2021"
    elif kind == Kind.MISSING:
        way = f"train.py -e 100 -d <data set> -s {name} makes one{_hint(folder)}"
    elif kind == Kind.RUN:
        way = f"train.py with the options of that run, -s {name} and --restore resumes it"
    elif kind == Kind.FILE and (folder.parent / WEIGHTS_FILE).is_file():
        way = f"name its folder, {folder.parent}"
    else:
        way = "name the folder that train.py made"
    what = f"no parameters.json with {WEIGHTS_FILE}" if kind in (Kind.OTHER, Kind.MODEL) else kind
    return ModelError(f"{folder} holds no model ({what}): {way}")


def _hint(path: Path) -> str:
    """Explains a path written as on Windows, on systems where `\\` divides no folders."""
    return "; folders are divided by /, not \\" if os.sep == "/" and "\\" in str(path) else ""
