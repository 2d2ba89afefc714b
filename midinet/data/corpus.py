"""The data set folder that preprocess.py makes: its files, opening it, splitting it.

A data set consists of tokens.npy (all songs end to end), offsets.npy (where each song begins),
tempo_maps.npy (where the beats of each song lie) and dataset.json (codec settings; file name, hash
and family of each song; which files were skipped and why).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import VOCAB_SIZE
from midinet.data.song_notes import NotesCache, read_notes
from midinet.errors import CorpusError, ParametersError
from midinet.folders import DESCRIPTION_FILE, no_data_set
from midinet.midi.tempo_map import TempoMap

FORMAT_VERSION = 2  # version 1 had no tempo maps, and no families: each song was its own
READABLE_VERSIONS = (1, 2)
TOKENS_FILE, OFFSETS_FILE, TEMPO_MAPS_FILE = "tokens.npy", "offsets.npy", "tempo_maps.npy"
VALIDATION_SHARE = 0.1

TOKEN_TYPE, OFFSET_TYPE = np.dtype("<u2"), np.dtype("<i8")
# One row per tempo change, as in TempoMap: those of all songs end to end.
TEMPO_TYPE = np.dtype([("song", "<i8"), ("ms", "<f8"), ("beats", "<f8"), ("us_per_beat", "<f8")])
_CHUNK_TOKENS = 1 << 24  # checked at a time, so that memory stays small


class SongEntry(TypedDict):
    """A song in dataset.json.

    Attributes:
        file: its path relative to the folder of MIDI files.
        hash: SHA-256 of its tokens, in hexadecimal.
        family: hash of the song that stands for its family of near copies; absent if that is the
            song itself.
        grid_share: the share of its onsets on the grid of its tempo map; absent without a map.
        time_signatures: those of its tempo map, if it has any.
    """

    file: str
    hash: str
    family: NotRequired[str]
    grid_share: NotRequired[float]
    time_signatures: NotRequired[list[tuple[float, int, int]]]


class SkippedFile(TypedDict):
    """A file that is not in the data set, and why."""

    file: str
    reason: str
    detail: str


class Description(TypedDict):
    """The contents of dataset.json."""

    format_version: int
    codec: dict[str, object]
    tokens: int
    notes: int
    hours: float
    families: int
    shortened_silences: int
    skipped: dict[str, int]
    songs: list[SongEntry]
    skipped_files: list[SkippedFile]


class Corpus:
    """An open data set; its tokens are memory-mapped and read from disk when they are used.

    Attributes:
        folder: the data set folder.
        codec: the settings with which the songs were encoded.
        tokens: `(N,)` uint16, read-only: the tokens of all songs end to end.
        offsets: `(songs + 1,)` int64; song i is `tokens[offsets[i] : offsets[i + 1]]`.
        names: file name of each song, relative to the folder of MIDI files.
        hashes: SHA-256 of each song's tokens, in hexadecimal.
        families: for each song the hash of the song that stands for its family of near copies.
        grid_shares: for each song the share of its onsets on the grid of its tempo map; 0 without
            a map.
        notes: a function that returns the notes of a song, by its index, and keeps some of them.
    """

    def __init__(
        self,
        folder: Path,
        codec: CodecSettings,
        tokens: np.ndarray,
        offsets: np.ndarray,
        songs: list[SongEntry],
        tempo_changes: np.ndarray | None = None,
    ) -> None:
        self.folder = folder
        self.codec = codec
        self.tokens = tokens
        self.offsets = offsets
        self.names = [song["file"] for song in songs]
        self.hashes = [song["hash"] for song in songs]
        self.families = [song.get("family", song["hash"]) for song in songs]
        self.grid_shares = [song.get("grid_share", 0.0) for song in songs]
        self._time_signatures = [song.get("time_signatures", []) for song in songs]
        self._tempo_changes = np.empty(0, TEMPO_TYPE) if tempo_changes is None else tempo_changes
        songs_with_end = np.arange(len(self) + 1)
        self.notes = NotesCache(lambda index: read_notes(self.song(index), codec.drum_program))
        self._tempo_offsets = np.searchsorted(self._tempo_changes["song"], songs_with_end)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def song(self, index: int) -> np.ndarray:
        """Returns the tokens of a song, `(T,)` uint16, as a read-only view of the file."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def tempo_map(self, index: int) -> TempoMap | None:
        """Where the beats of a song lie, in the time of its tokens; None if that is not known."""
        first, end = self._tempo_offsets[index : index + 2]
        if first == end:
            return None
        changes = self._tempo_changes[first:end]
        signatures = tuple((beat, n, d) for beat, n, d in self._time_signatures[index])
        return TempoMap(changes["ms"], changes["beats"], changes["us_per_beat"], signatures)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the codec settings, the songs, their families and tempo maps.

        It is equal for data sets of equal content, which are split in the same way.
        """
        parts = [repr(tuple(self.codec.to_dict().values())), *self.hashes]
        if self.families != self.hashes:
            parts += self.families
        if len(self._tempo_changes):
            parts.append(hashlib.sha256(self._tempo_changes.tobytes()).hexdigest())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Splits the songs into training and validation by the hashes of their families.

        So near copies are on the same side, and a song changes sides only when an added file ties
        its family to another. Where chance leaves one side of a small data set empty, the family
        with the nearest hash moves to it. Songs of a single family are split one by one, and a
        single song is on both sides.

        Returns:
            The indices of the training songs and of the validation songs, each ascending.
        """
        keys = self.families if len(set(self.families)) > 1 else self.hashes
        # 13 hexadecimal digits are 52 bits, as many as a float holds exactly.
        fractions = np.array([int(digest[:13], 16) / 16.0**13 for digest in keys])
        different = np.unique(fractions)
        if len(different) == 1:
            everything = np.arange(len(self))
            return everything, everything
        threshold = np.clip(VALIDATION_SHARE, different[0], different[-2])
        return np.flatnonzero(fractions > threshold), np.flatnonzero(fractions <= threshold)


def open_corpus(folder: str | Path) -> Corpus:
    """Opens a data set folder and checks that it is complete and consistent.

    Raises:
        CorpusError: the folder is not a data set, or it is damaged.

    Example:
        >>> corpus = open_corpus("rs_ost")
        >>> notes = tokens_to_notes(corpus.song(0), corpus.codec.drum_program)
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION_FILE).is_file():
        raise no_data_set(folder)
    version, codec, songs = _read_description(folder / DESCRIPTION_FILE)
    offsets = _open_array(folder / OFFSETS_FILE, OFFSET_TYPE)
    tokens = _open_array(folder / TOKENS_FILE, TOKEN_TYPE)
    if len(offsets) != len(songs) + 1 or not songs:
        raise _damaged(folder / OFFSETS_FILE, f"{len(offsets)} offsets for {len(songs)} songs")
    if offsets[0] != 0 or offsets[-1] != len(tokens) or np.any(np.diff(offsets) <= 0):
        raise _damaged(folder / OFFSETS_FILE, f"offsets that do not fit {len(tokens)} tokens")
    for first in range(0, len(tokens), _CHUNK_TOKENS):
        highest = int(tokens[first : first + _CHUNK_TOKENS].max())
        if highest >= VOCAB_SIZE:
            raise _damaged(
                folder / TOKENS_FILE, f"token {highest}, the highest is {VOCAB_SIZE - 1}"
            )
    tempo_changes = None
    if version > 1:
        tempo_changes = _open_array(folder / TEMPO_MAPS_FILE, TEMPO_TYPE)
        if not _are_tempo_maps(tempo_changes, len(songs)):
            raise _damaged(folder / TEMPO_MAPS_FILE, "something that is not a list of tempos")
    return Corpus(folder, codec, tokens, offsets, songs, tempo_changes)


def _are_tempo_maps(changes: np.ndarray, num_songs: int) -> bool:
    """Whether they can be the tempo changes of so many songs, in order."""
    song, ms = changes["song"], changes["ms"]
    is_same_song = song[1:] == song[:-1]
    return bool(
        np.all((song >= 0) & (song < num_songs))
        and np.all(song[1:] >= song[:-1])
        and np.all(np.isfinite(ms) & np.isfinite(changes["beats"]))
        and np.all(np.isfinite(changes["us_per_beat"]) & (changes["us_per_beat"] > 0))
        and np.all(ms[1:][is_same_song] >= ms[:-1][is_same_song])
    )


def _read_description(path: Path) -> tuple[int, CodecSettings, list[SongEntry]]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
        if version not in READABLE_VERSIONS:
            raise CorpusError(
                f"{path} has format version {version!r}, this midinet reads up to "
                f"{FORMAT_VERSION}: "
                "run preprocess.py again"
            )
        songs = description["songs"]
        if not all(isinstance(song["file"], str) and int(song["hash"], 16) for song in songs):
            raise ValueError("songs without names and hashes")
        if not {song.get("family", song["hash"]) for song in songs} <= {
            song["hash"] for song in songs
        }:
            raise ValueError("families of songs that are not there")
        for song in songs:
            if not 0 <= song.get("grid_share", 0.0) <= 1:
                raise ValueError(f"a grid_share of {song['grid_share']!r}")
            for _, numerator, denominator in song.get("time_signatures", []):
                if numerator < 1 or denominator < 1:
                    raise ValueError(f"a time signature of {numerator}/{denominator}")
        return version, CodecSettings.from_dict(description["codec"]), songs
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"something that does not describe a data set ({error!r})") from error
    except ParametersError as error:
        raise _damaged(path, str(error)) from error


def _open_array(path: Path, dtype: np.dtype) -> np.ndarray:
    try:
        # As a plain array, for each slice of an np.memmap costs several microseconds.
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError as error:
        raise CorpusError(f"{path} is missing: run preprocess.py again") from error
    except (ValueError, EOFError) as error:
        raise _damaged(path, f"an incomplete array ({error})") from error
    if array.dtype != dtype or array.ndim != 1:
        raise _damaged(path, f"{array.dtype} of shape {array.shape} instead of {dtype} (N,)")
    return array


def _damaged(path: Path, what: str) -> CorpusError:
    return CorpusError(f"{path} is damaged: it holds {what}; run preprocess.py again")
