"""The catalogue: which data sets download.py knows, where they live and what of them is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from midinet.errors import OptionError
from midinet.folders import is_midi_name

NOT_MIDI = "files that are not MIDI"
NOT_MODEL = "files that are no part of a model"
APPLE_DOUBLE = "files of macOS's own in __MACOSX"
SPECIAL_SOUNDFONT = "songs that need a special SoundFont"
NUMBERED_COPY = "numbered copies like song.1.mid"

_NEEDS_SOUNDFONT = re.compile(r"[0-9]{4}\.midi?$", re.IGNORECASE)
_IS_NUMBERED_COPY = re.compile(r"\.[0-9]+\.midi?$", re.IGNORECASE)
_MODEL_FILE = re.compile(
    r"(?:^|/)(saved_model\.pb|keras_metadata\.pb"
    r"|variables/variables\.(?:index|data-[0-9]{5}-of-[0-9]{5}))$"
)


def leave_out_of_midi(path: str) -> str | None:
    """Says why a member of an archive is no song, or None for one to keep.

    Args:
        path: the member's name in the archive, folders separated by `/`.
    """
    parts = PurePosixPath(path).parts
    # Beside every file macOS packs a "._" twin with the same suffix, which holds no music.
    if "__MACOSX" in parts or PurePosixPath(path).name.startswith("._"):
        return APPLE_DOUBLE
    return None if is_midi_name(path) else NOT_MIDI


def leave_out_of_runescape(path: str) -> str | None:
    """As `leave_out_of_midi`; songs numbered 1000 and up sound right only with a SoundFont."""
    why = leave_out_of_midi(path)
    return SPECIAL_SOUNDFONT if why is None and _NEEDS_SOUNDFONT.search(path) else why


def leave_out_of_lakh(path: str) -> str | None:
    """As `leave_out_of_midi`; the clean subset numbers further versions of a song it has."""
    why = leave_out_of_midi(path)
    return NUMBERED_COPY if why is None and _IS_NUMBERED_COPY.search(path) else why


def leave_out_of_model(path: str) -> str | None:
    """Keeps the files of a TensorFlow SavedModel that hold weights."""
    return NOT_MODEL if model_file(path) is None else None


def model_file(path: str) -> str | None:
    """The path inside a model folder, whatever folder of the archive the model is in."""
    match = _MODEL_FILE.search(path)
    return match[1] if match else None


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        name: what `download.py -d` calls it.
        title: what it is, for people.
        url: where it is fetched.
        file_name: what the fetched archive is called.
        leave_out: says why a member of the archive is not wanted, None for one to keep.
        is_model: a model folder, whose structure stays; otherwise songs, all in one folder.
        size_bytes: of the archive, where it is known.
        sha256_start: the first hexadecimal digits of the archive's hash, where they are known.
    """

    name: str
    title: str
    url: str
    file_name: str
    leave_out: Callable[[str], str | None] = leave_out_of_midi
    is_model: bool = False
    size_bytes: int | None = None
    sha256_start: str = ""


_TABLE = (
    Source(
        name="rs_ost",
        title="RuneScape's music (Google Drive)",
        url="https://drive.google.com/uc?export=download&id=0Bx3m4LvdozzGRE5hRlJjWFFGR0E",
        file_name="rs_ost.zip",
        leave_out=leave_out_of_runescape,
    ),
    Source(
        name="lahk",
        title="Lakh MIDI Dataset, clean subset: 17,000 songs of artists",
        url="http://hog.ee.columbia.edu/craffel/lmd/clean_midi.tar.gz",
        file_name="clean_midi.tar.gz",
        leave_out=leave_out_of_lakh,
    ),
    Source(
        name="lahk_full",
        title="Lakh MIDI Dataset, all of it: 178,561 songs, 1.8 GB",
        url="http://hog.ee.columbia.edu/craffel/lmd/lmd_full.tar.gz",
        file_name="lmd_full.tar.gz",
        size_bytes=1_768_163_879,
        sha256_start="6fcfe2ac",
    ),
    Source(
        name="freedoom",
        title="the music of the free game Freedoom (BSD licence)",
        url="https://github.com/freedoom/freedoom/releases/download/v0.13.0/freedoom-0.13.0.zip",
        file_name="freedoom-0.13.0.zip",
    ),
    Source(
        name="released_model",
        title="no songs, but the model of 2021, for generate.py -s",
        url="https://github.com/Kipwisp/runescape-midinet/releases/download/1.0/midinet_model_trained.zip",
        file_name="midinet_model_trained.zip",
        leave_out=leave_out_of_model,
        is_model=True,
    ),
)

SOURCES = {source.name: source for source in _TABLE}


def find_source(name: str) -> Source:
    """Looks a data set up.

    Raises:
        OptionError: no data set is called that.
    """
    if name not in SOURCES:
        raise OptionError(f"no data set is called {name!r}: there are {', '.join(SOURCES)}")
    return SOURCES[name]
