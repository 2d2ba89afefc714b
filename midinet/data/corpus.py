"""The data set folder: build it from MIDI files on all cores, open it memory-mapped, split it.

A data set holds tokens.npy (all songs end to end), offsets.npy (where each begins) and
dataset.json (codec settings, the songs' files and hashes, what was skipped and why). It appears
under its name only when it is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import VOCAB_SIZE
from midinet.errors import CorpusError, ParametersError
from midinet.folders import (
    DESCRIPTION_FILE,
    no_data_set,
)

if TYPE_CHECKING:
    pass

FORMAT_VERSION = 1
TOKENS_FILE, OFFSETS_FILE = "tokens.npy", "offsets.npy"
VALIDATION_SHARE = 0.1

TOKEN_TYPE, OFFSET_TYPE = np.dtype("<u2"), np.dtype("<i8")
_SCAN_TOKENS = 1 << 24  # looked at together when a data set is checked


class Corpus:
    """An open data set; its tokens stay on disk until they are looked at.

    Attributes:
        folder: where it is.
        codec: what its tokens mean.
        offsets: `(songs + 1,)` int64; song i is `tokens[offsets[i] : offsets[i + 1]]`.
        tokens: uint16, read-only, memory-mapped.
        names: the songs' files, relative to the folder they were made from.
        hashes: SHA-256 of each song's tokens.
    """

    def __init__(
        self,
        folder: Path,
        codec: CodecSettings,
        tokens: np.ndarray,
        offsets: np.ndarray,
        songs: list[dict[str, str]],
    ) -> None:
        self.folder = folder
        self.codec = codec
        self.tokens = tokens
        self.offsets = offsets
        self.names = [song["file"] for song in songs]
        self.hashes = [song["hash"] for song in songs]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def song(self, index: int) -> np.ndarray:
        """The tokens of a song, a view of the file: `(T,)` uint16."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def fingerprint(self) -> str:
        """Tells data sets of different songs or codec settings apart."""
        parts = [repr(dataclasses.astuple(self.codec)), *self.hashes]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Divides the songs into training and validation by their hashes.

        A song stays on its side whatever other songs join it. Where chance leaves a side of a
        small data set empty, the song nearest to that side goes over; a single song is on both.

        Returns:
            The indices of training and of validation songs, ascending.
        """
        place = np.array([int(content[:13], 16) / 16.0**13 for content in self.hashes])
        if len(place) == 1:
            return np.array([0]), np.array([0])
        limit = np.clip(VALIDATION_SHARE, place.min(), np.partition(place, -2)[-2])
        return np.flatnonzero(place > limit), np.flatnonzero(place <= limit)


def open_corpus(folder: str | Path) -> Corpus:
    """Opens a data set and checks it.

    Raises:
        CorpusError: the folder is no data set, or it is damaged.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION_FILE).is_file():
        raise no_data_set(folder)
    codec, songs = _read_description(folder / DESCRIPTION_FILE)
    offsets = _open_array(folder / OFFSETS_FILE, OFFSET_TYPE)
    tokens = _open_array(folder / TOKENS_FILE, TOKEN_TYPE)
    if len(offsets) != len(songs) + 1 or not songs:
        raise _damaged(folder / OFFSETS_FILE, f"{len(offsets)} offsets for {len(songs)} songs")
    if offsets[0] != 0 or offsets[-1] != len(tokens) or np.any(np.diff(offsets) <= 0):
        raise _damaged(folder / OFFSETS_FILE, f"offsets that do not fit {len(tokens)} tokens")
    for first in range(0, len(tokens), _SCAN_TOKENS):
        highest = int(tokens[first : first + _SCAN_TOKENS].max())
        if highest >= VOCAB_SIZE:
            raise _damaged(
                folder / TOKENS_FILE, f"token {highest}, the highest is {VOCAB_SIZE - 1}"
            )
    return Corpus(folder, codec, tokens, offsets, songs)


def _read_description(path: Path) -> tuple[CodecSettings, list[dict[str, str]]]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
        if version != FORMAT_VERSION:
            raise CorpusError(
                f"{path} has format version {version!r}, this midinet reads {FORMAT_VERSION}: "
                "run preprocess.py again"
            )
        songs = description["songs"]
        if not all(isinstance(song["file"], str) and int(song["hash"], 16) for song in songs):
            raise ValueError("songs without names and hashes")
        return CodecSettings.from_dict(description["codec"]), songs
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"what does not describe a data set ({error!r})") from error
    except ParametersError as error:
        raise _damaged(path, str(error)) from error


def _open_array(path: Path, dtype: np.dtype) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise CorpusError(f"{path} is missing: run preprocess.py again") from error
    except (ValueError, EOFError) as error:
        raise _damaged(path, f"no whole array ({error})") from error
    if array.dtype != dtype or array.ndim != 1:
        raise _damaged(path, f"{array.dtype} of shape {array.shape} in place of a row of {dtype}")
    return array


def _damaged(path: Path, what: str) -> CorpusError:
    return CorpusError(f"{path} is damaged: it holds {what}; run preprocess.py again")
