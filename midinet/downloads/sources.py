"""The catalogue of download.py: which data sets there are, where they are and what is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from midinet.cli import did_you_mean
from midinet.errors import OptionError
from midinet.folders import is_midi_name

NOT_MIDI = "files that are not MIDI"
NOT_MODEL = "files that are not part of a model"
APPLE_DOUBLE = "macOS metadata in __MACOSX"

_MODEL_FILE = re.compile(
    r"(?:^|/)(saved_model\.pb|keras_metadata\.pb"
    r"|variables/variables\.(?:index|data-[0-9]{5}-of-[0-9]{5}))$"
)


@dataclass(frozen=True)
class UnwantedSongs:
    """Songs of a data set that are skipped because of their name.

    Attributes:
        names: matches their file names.
        reason: what they are, for the summary.
    """

    names: re.Pattern[str]
    reason: str


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        name: the value of `download.py -d`.
        title: a description for the help text.
        url: address of the archive.
        file_name: name under which the archive is stored while it is downloaded.
        unwanted: songs to skip, if any.
        is_model: whether this is a model folder, which keeps its structure; all songs of a data
            set go into one folder.
        size_bytes: size of the archive, if it is known.
        sha256_start: the first hexadecimal digits of the archive's hash, as far as they are known.
        mark: matches paths that only this data set's archive holds, if they are known.
        mirror: a command that fetches the same music from elsewhere, if there is one.
        mirror_file: the archive that this command makes.
    """

    name: str
    title: str
    url: str
    file_name: str
    unwanted: UnwantedSongs | None = None
    is_model: bool = False
    size_bytes: int | None = None
    sha256_start: str = ""
    mark: re.Pattern[str] | None = None
    mirror: str = ""
    mirror_file: str = "FILE"

    def skip_reason(self, path: str) -> str | None:
        """Returns why a member of the archive is not wanted, or None if it is to be kept.

        Args:
            path: the member's path in the archive, with `/` between folders.
        """
        if self.is_model:
            return NOT_MODEL if model_file(path) is None else None
        name = PurePosixPath(path).name
        # macOS packs a "._" twin with the same suffix beside every file; it holds no music.
        if "__MACOSX" in PurePosixPath(path).parts or name.startswith("._"):
            return APPLE_DOUBLE
        if not is_midi_name(path):
            return NOT_MIDI
        if self.unwanted and self.unwanted.names.search(path):
            return self.unwanted.reason
        return None


def model_file(path: str) -> str | None:
    """Returns the path of a weight file inside its model folder; None for any other file."""
    match = _MODEL_FILE.search(path)
    return match[1] if match else None


_TABLE = (
    Source(
        name="rs_ost",
        title="RuneScape's music (Google Drive)",
        url="https://drive.google.com/uc?export=download&id=0Bx3m4LvdozzGRE5hRlJjWFFGR0E",
        file_name="rs_ost.zip",
        unwanted=UnwantedSongs(
            re.compile(r"[0-9]{4}\.midi?$", re.IGNORECASE), "songs that need a special SoundFont"
        ),
    ),
    Source(
        name="lahk",
        title="Lakh MIDI Dataset, clean subset: 17,000 songs of artists",
        url="http://hog.ee.columbia.edu/craffel/lmd/clean_midi.tar.gz",
        file_name="clean_midi.tar.gz",
        unwanted=UnwantedSongs(
            re.compile(r"\.[0-9]+\.midi?$", re.IGNORECASE), "numbered copies like song.1.mid"
        ),
        mark=re.compile(r"(?:^|/)clean_midi/"),
    ),
    Source(
        name="lahk_full",
        title="Lakh MIDI Dataset, all of it: 178,561 songs, 1.8 GB",
        url="http://hog.ee.columbia.edu/craffel/lmd/lmd_full.tar.gz",
        file_name="lmd_full.tar.gz",
        size_bytes=1_768_163_879,
        sha256_start="6fcfe2ac",
        mark=re.compile(r"(?:^|/)lmd_full/"),
    ),
    Source(
        name="freedoom",
        title="the music of the free game Freedoom (BSD licence)",
        url="https://github.com/freedoom/freedoom/releases/download/v0.13.0/freedoom-0.13.0.zip",
        file_name="freedoom-0.13.0.zip",
        mark=re.compile(r"^(?:freedoom[12]|freedm)_\w+\.mid$", re.IGNORECASE),  # from its WADs
        mirror="pip download --no-deps vizdoom==1.3.2",
        mirror_file="vizdoom-1.3.2-*.whl",
    ),
    Source(
        name="released_model",
        title="no songs, but the model of 2021, for generate.py -s",
        url="https://github.com/Kipwisp/runescape-midinet/releases/download/1.0/midinet_model_trained.zip",
        file_name="midinet_model_trained.zip",
        is_model=True,
        mark=_MODEL_FILE,
    ),
)

SOURCES = {source.name: source for source in _TABLE}


def find_source(name: str) -> Source:
    """Finds a data set by its name.

    Raises:
        OptionError: if there is no data set of this name.
    """
    if name not in SOURCES:
        hint = did_you_mean(name, SOURCES)
        known = f"there are {', '.join(SOURCES)}"
        raise OptionError(f"no data set is called {name!r}: {hint + ' ' if hint else ''}{known}")
    return SOURCES[name]


def source_of(path: str) -> Source | None:
    """Returns the data set whose archive is known to hold this path, if there is one."""
    return next((s for s in SOURCES.values() if s.mark and s.mark.search(path)), None)
