"""Folders that somebody names: what they hold, and how an error says what they are."""

from __future__ import annotations

import enum
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from midinet.errors import CorpusError, ModelError

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")  # of file names, in lower case
DESCRIPTION_FILE = "dataset.json"  # of a data set
WEIGHTS_FILE = "model.weights.h5"  # of a model


class Kind(enum.StrEnum):
    """What there is at a path."""

    MISSING = "no such folder"
    FILE = "it is a file"
    DATA_SET = "it is a data set"
    MODEL = "it is a model"
    MIDI = "it is a folder of MIDI files"
    EMPTY = "it is empty"
    OTHER = "it is a folder of something else"


def kind_of(path: Path) -> Kind:
    """Looks what there is at a path."""
    if not path.is_dir():
        return Kind.FILE if path.exists() else Kind.MISSING
    if (path / DESCRIPTION_FILE).is_file():
        return Kind.DATA_SET
    if (path / WEIGHTS_FILE).is_file():
        return Kind.MODEL
    if next(midi_files(path), None):
        return Kind.MIDI
    return Kind.OTHER if any(path.iterdir()) else Kind.EMPTY


def midi_files(folder: Path) -> Iterator[Path]:
    """All MIDI files below a folder, in no order."""
    for root, _, names in os.walk(folder):
        yield from (Path(root) / name for name in names if is_midi_name(name))


def existing_part(path: Path) -> Path:
    """The path itself if there is something, else the nearest folder above it that is there."""
    return next(part for part in (path, *path.absolute().parents) if part.exists())


def put_in_place(partial: Path, output: Path) -> None:
    """Gives a finished folder its name; an old one of that name is there until that moment."""
    old = partial.with_name(partial.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.rename(output, old)
    os.rename(partial, output)
    shutil.rmtree(old, ignore_errors=True)


def is_midi_name(name: str) -> bool:
    """Whether a file of this name is taken for a MIDI file."""
    return name.lower().endswith(MIDI_SUFFIXES)


def no_data_set(folder: Path) -> CorpusError:
    """The error for a folder that should be a data set."""
    kind = kind_of(folder)
    name = shlex.quote(str(folder))
    if kind == Kind.MIDI:
        way = f"preprocess.py -i {name} -o data makes one of them, for -d data"
    elif kind == Kind.MISSING:
        way = f"preprocess.py -i <midi folder> -o {name} makes one{_hint(folder)}"
    elif kind == Kind.FILE and (folder.parent / DESCRIPTION_FILE).is_file():
        way = f"name its folder, {folder.parent}"
    else:
        way = "name the folder that preprocess.py made"
    what = f"no {DESCRIPTION_FILE}" if kind == Kind.OTHER else kind
    return CorpusError(f"{folder} holds no data set ({what}): {way}")


def no_model(folder: Path) -> ModelError:
    """The error for a folder that should be a model."""
    kind = kind_of(folder)
    if kind == Kind.MISSING:
        name = shlex.quote(str(folder))
        way = f"train.py -e 100 -d <data set> -s {name} makes one{_hint(folder)}"
    elif kind == Kind.FILE and (folder.parent / WEIGHTS_FILE).is_file():
        way = f"name its folder, {folder.parent}"
    else:
        way = "name the folder that train.py made"
    what = f"no parameters.json with {WEIGHTS_FILE}" if kind in (Kind.OTHER, Kind.MODEL) else kind
    return ModelError(f"{folder} holds no model ({what}): {way}")


def _hint(path: Path) -> str:
    """A word on paths as Windows writes them, where they are none."""
    return "; folders are divided by /, not \\" if os.sep == "/" and "\\" in str(path) else ""
