"""Writes the files of a data set, and counts what it contains and what was left out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import NUM_PROGRAMS
from midinet.data.corpus import (
    FORMAT_VERSION,
    OFFSET_TYPE,
    OFFSETS_FILE,
    TEMPO_MAPS_FILE,
    TEMPO_TYPE,
    TOKEN_TYPE,
    TOKENS_FILE,
    Description,
    SkippedFile,
    SongEntry,
)
from midinet.data.near_copies import (
    MIN_SIMILARITY,
    SIGNATURE_SIZE,
    SIGNATURE_TYPE,
    find_families,
    similarity,
)
from midinet.data.silences import MAX_SILENCE_MS
from midinet.folders import DESCRIPTION_FILE
from midinet.midi.tempo_map import TempoMap


@dataclasses.dataclass
class Summary:
    """Counts of what a data set contains and of what was left out; its text is for the user.

    Attributes:
        songs: number of songs.
        notes: number of notes in all songs.
        tokens: number of tokens in all songs.
        hours: total duration of the music.
        onsets: `(129,)` int64, the number of notes of each program; percussion is the last entry.
        families: number of families of more than one song, which are near copies of each other.
        shortened_silences: number of silences that were shortened.
        skipped: the number of files that were left out, by reason.
    """

    songs: int = 0
    notes: int = 0
    tokens: int = 0
    hours: float = 0.0
    onsets: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(NUM_PROGRAMS + 1, np.int64)
    )
    families: int = 0
    shortened_silences: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        from midinet.midi.general_midi import program_name

        by_onsets = np.argsort(-self.onsets, kind="stable")
        names = [
            f"{program_name(program % NUM_PROGRAMS, is_drum=program == NUM_PROGRAMS)} "
            f"{self.onsets[program] / max(self.notes, 1):.0%}"
            for program in by_onsets[:6].tolist()
            if self.onsets[program]
        ]
        lines = [
            f"{self.songs:,} song{'s' * (self.songs != 1)}, {self.hours:,.1f} hours of music, "
            f"{self.notes:,} notes, {self.tokens:,} tokens "
            f"({self.tokens / max(self.notes, 1):.2f} per note)",
            f"most used: {', '.join(names)}",
        ]
        if self.families:
            lines.append(
                f"{self.families:,} {'families' if self.families > 1 else 'family'} of near "
                "copies, each on one side of the split into training and validation"
            )
        if self.shortened_silences:
            lines.append(
                f"shortened to {MAX_SILENCE_MS / 1000:g} s: {self.shortened_silences:,} "
                f"{'silences' if self.shortened_silences > 1 else 'silence'}"
            )
        if self.skipped:
            reasons = (f"{count:,} {reason}" for reason, count in sorted(self.skipped.items()))
            lines.append(f"skipped: {', '.join(reasons)} (each is named in {DESCRIPTION_FILE})")
        return "\n".join(lines)


class Song(NamedTuple):
    """The result of reading one file: the song's tokens, or the reason why there are none.

    Attributes:
        tokens: `(T,)` of TOKEN_TYPE; empty if the file is skipped.
        content_hash: SHA-256 of the tokens, in hexadecimal.
        num_notes: number of notes.
        hours: duration.
        onsets: as in `Summary`.
        signature: of the song's phrases, `(SIGNATURE_SIZE,)`; see near_copies.
        shortened_silences: number of silences that were shortened.
        tempo_map: where the beats lie, in the time of the tokens, if that is known.
        grid_share: the share of onsets on the grid of the tempo map.
        skip_reason: why the file is skipped, in words that the summary counts; "" if it is not.
        skip_detail: more about the reason, for this file.
    """

    tokens: np.ndarray = np.empty(0, TOKEN_TYPE)
    content_hash: str = ""
    num_notes: int = 0
    hours: float = 0.0
    onsets: np.ndarray = np.zeros(NUM_PROGRAMS + 1, np.int64)
    signature: np.ndarray = np.zeros(SIGNATURE_SIZE, SIGNATURE_TYPE)
    shortened_silences: int = 0
    tempo_map: TempoMap | None = None
    grid_share: float = 0.0
    skip_reason: str = ""
    skip_detail: str = ""


class ExcludedSongs:
    """Songs that must not be in a data set, and neither must their near copies.

    Args:
        songs: each song with the name of its file.
    """

    def __init__(self, songs: dict[str, Song]):
        self._names = list(songs)
        self._file_of_hash = {song.content_hash: name for name, song in songs.items()}
        self._signatures = np.array([song.signature for song in songs.values()])

    def match(self, song: Song) -> str | None:
        """Returns the file of the excluded song that a song is or resembles most, if any."""
        if song.content_hash in self._file_of_hash:
            return self._file_of_hash[song.content_hash]
        if not song.signature.any():  # too short to be compared
            return None
        shares = similarity(self._signatures, song.signature)
        nearest = int(np.argmax(shares))
        return self._names[nearest] if shares[nearest] >= MIN_SIMILARITY else None


class DatasetWriter:
    """Writes the files of a data set, one song at a time.

    Args:
        folder: an existing, empty folder.
        codec: the settings with which the songs were encoded.
        excluded: the songs to leave out.
    """

    def __init__(self, folder: Path, codec: CodecSettings, excluded: ExcludedSongs | None):
        self._folder = folder
        self._excluded = excluded
        self._signatures = bytearray()
        self._tempo_changes = bytearray()
        self._codec = codec
        self._summary = Summary()
        self._offsets = [0]
        self._songs: list[SongEntry] = []
        self._skipped_files: list[SkippedFile] = []
        self._file_of_hash: dict[str, str] = {}
        self._tokens_file = (folder / TOKENS_FILE).open("wb")
        self._tokens_file.write(_npy_header(0))

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._tokens_file.close()

    def add(self, name: str, song: Song) -> None:
        """Appends a song, or notes why its file is skipped."""
        if song.skip_reason:
            self._skip(name, song.skip_reason, song.skip_detail)
        elif song.content_hash in self._file_of_hash:
            original = self._file_of_hash[song.content_hash]
            self._skip(name, "with the same music as another", original)
        elif self._excluded and (match := self._excluded.match(song)):
            self._skip(name, "excluded or near copies of excluded songs", match)
        else:
            self._file_of_hash[song.content_hash] = name
            self._songs.append({"file": name, "hash": song.content_hash})
            if song.tempo_map is not None:
                self._add_tempo_map(song.tempo_map, song.grid_share)
            self._tokens_file.write(song.tokens.tobytes())
            self._offsets.append(self._offsets[-1] + len(song.tokens))
            self._summary.notes += song.num_notes
            self._summary.hours += song.hours
            self._summary.onsets += song.onsets
            self._summary.shortened_silences += song.shortened_silences
            self._signatures += song.signature.tobytes()

    def _add_tempo_map(self, tempo_map: TempoMap, grid_share: float) -> None:
        entry = self._songs[-1]
        entry["grid_share"] = round(grid_share, 4)
        if tempo_map.time_signatures:
            entry["time_signatures"] = list(tempo_map.time_signatures)
        changes = np.empty(len(tempo_map.ms), TEMPO_TYPE)
        changes["song"] = len(self._songs) - 1
        for name in ("ms", "beats", "us_per_beat"):
            changes[name] = getattr(tempo_map, name)
        self._tempo_changes += changes.tobytes()

    def _skip(self, name: str, reason: str, detail: str) -> None:
        self._skipped_files.append({"file": name, "reason": reason, "detail": detail})
        self._summary.skipped[reason] = self._summary.skipped.get(reason, 0) + 1

    def finish(self) -> Summary:
        """Completes the files and returns the counts of what they contain."""
        summary = self._summary
        summary.songs, summary.tokens = len(self._songs), self._offsets[-1]
        summary.families = self._set_families()
        self._tokens_file.seek(0)
        self._tokens_file.write(_npy_header(summary.tokens))
        np.save(self._folder / OFFSETS_FILE, np.array(self._offsets, OFFSET_TYPE))
        tempo_changes = np.frombuffer(self._tempo_changes, TEMPO_TYPE)
        np.save(self._folder / TEMPO_MAPS_FILE, tempo_changes)
        description: Description = {
            "format_version": FORMAT_VERSION,
            "codec": self._codec.to_dict(),
            "tokens": summary.tokens,
            "notes": summary.notes,
            "hours": round(summary.hours, 3),
            "families": summary.families,
            "shortened_silences": summary.shortened_silences,
            "skipped": summary.skipped,
            "songs": self._songs,
            "skipped_files": self._skipped_files,
        }
        text = json.dumps(description, indent=1) + "\n"
        (self._folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
        return summary

    def _set_families(self) -> int:
        """Adds its family to each song; returns the number of families of more than one song.

        The result depends on the songs alone, not on the names of their files. The song whose hash
        read backwards comes first stands for the family: the split uses the hash read forwards,
        so it is no likelier to put large families on one side.
        """
        order = sorted(range(len(self._songs)), key=lambda i: self._songs[i]["hash"][::-1])
        signatures = np.frombuffer(self._signatures, SIGNATURE_TYPE).reshape(-1, SIGNATURE_SIZE)
        families = find_families(signatures[order])
        for place, leader in enumerate(families.tolist()):
            if place != leader:
                self._songs[order[place]]["family"] = self._songs[order[leader]]["hash"]
        return int(np.count_nonzero(np.bincount(families) > 1))


def _npy_header(count: int) -> bytes:
    """Makes the header of a .npy file of `count` tokens.

    Its length is always 128 bytes, so that it can be overwritten when the count is known.
    """
    description = {"descr": TOKEN_TYPE.str, "fortran_order": False, "shape": (count,)}
    text = repr(description).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")
