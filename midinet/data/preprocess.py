"""Makes a data set folder from a folder of MIDI files, on all cores.

Worker processes read and encode the files; this process writes the songs in the order of their
file names, so the result is the same for any number of workers. Everything is written to a
temporary folder, which gets the name of the data set only when it is complete.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, NUM_PROGRAMS
from midinet.data.corpus import (
    FORMAT_VERSION,
    OFFSET_TYPE,
    OFFSETS_FILE,
    TOKEN_TYPE,
    TOKENS_FILE,
    Description,
    SkippedFile,
    SongEntry,
)
from midinet.data.workers import map_in_order
from midinet.errors import CorpusError, MidiError, OptionError
from midinet.folders import (
    DESCRIPTION_FILE,
    MIDI_SUFFIXES,
    Kind,
    existing_part,
    kind_of,
    midi_files,
    put_in_place,
)
from midinet.midi.reader import read_midi

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclasses.dataclass
class Summary:
    """Counts of what a data set contains and of what was left out; its text is for the user.

    Attributes:
        songs: number of songs.
        notes: number of notes in all songs.
        tokens: number of tokens in all songs.
        hours: total duration of the music.
        onsets: `(129,)` int64, the number of notes of each program; percussion is the last entry.
        skipped: the number of files that were left out, by reason.
    """

    songs: int = 0
    notes: int = 0
    tokens: int = 0
    hours: float = 0.0
    onsets: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(NUM_PROGRAMS + 1, np.int64)
    )
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
            f"{self.songs:,} songs, {self.hours:,.1f} hours of music, {self.notes:,} notes, "
            f"{self.tokens:,} tokens ({self.tokens / max(self.notes, 1):.2f} per note)",
            f"most used: {', '.join(names)}",
        ]
        if self.skipped:
            reasons = (f"{count:,} {reason}" for reason, count in sorted(self.skipped.items()))
            lines.append(f"skipped: {', '.join(reasons)} (each is named in {DESCRIPTION_FILE})")
        return "\n".join(lines)


class _Song(NamedTuple):
    """The result of reading one file: the song's tokens, or the reason why there are none.

    Attributes:
        tokens: `(T,)` of TOKEN_TYPE; empty if the file is skipped.
        content_hash: SHA-256 of the tokens, in hexadecimal.
        num_notes: number of notes.
        hours: duration.
        onsets: as in `Summary`.
        skip_reason: why the file is skipped, in words that the summary counts; "" if it is not.
        skip_detail: more about the reason, for this file.
    """

    tokens: np.ndarray = np.empty(0, TOKEN_TYPE)
    content_hash: str = ""
    num_notes: int = 0
    hours: float = 0.0
    onsets: np.ndarray = np.zeros(NUM_PROGRAMS + 1, np.int64)
    skip_reason: str = ""
    skip_detail: str = ""


def preprocess(
    input: str | Path,
    output: str | Path,
    *,
    drum_program: int | None = DRUM_PROGRAM,
    sustain: bool = True,
    workers: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Summary:
    """Makes a data set from all MIDI files in a folder and its subfolders.

    The result depends only on the files and the codec settings, not on the number of workers.

    Args:
        input: the folder of MIDI files.
        output: the data set folder to make.
        drum_program: the program that stands for percussion; None leaves percussion out.
        sustain: whether the sustain pedal lengthens notes.
        workers: number of worker processes; None starts one per core.
        overwrite: whether an existing data set at `output` is replaced.
        quiet: shows no progress bar and prints no summary.

    Returns:
        The counts of what the data set contains.

    Raises:
        CorpusError: `input` has no usable MIDI files, or `output` exists or can't be written.
        ParametersError: drum_program is not a General MIDI program.
        OptionError: workers is not positive.

    Example:
        >>> summary = preprocess("midi_files", "data")
        >>> summary.songs, summary.skipped
    """
    input, output = Path(input), Path(output)
    codec = CodecSettings(drum_program, sustain)
    if workers is not None and workers < 1:
        raise OptionError(f"workers is {workers}: it must be at least 1")
    workers = workers or os.cpu_count() or 1
    files = _midi_files(input)
    _check_output(output, overwrite)

    partial = output.absolute().parent / f".{output.absolute().name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left behind by a run that was killed
    try:
        partial.mkdir(parents=True)
        songs = map_in_order(functools.partial(_read_song, codec=codec), files, workers)
        with (
            _DatasetWriter(partial, codec) as writer,
            _progress_bar(songs, len(files), quiet) as bar,  # is closed before an error is printed
        ):
            for file, song in zip(files, bar, strict=True):
                writer.add(file.relative_to(input).as_posix(), song)
            summary = writer.finish()
        if not summary.songs:
            raise CorpusError(
                f"{input}: none of its {len(files)} MIDI files can be used "
                f"({', '.join(f'{count} {why}' for why, count in summary.skipped.items())})"
            )
        put_in_place(partial, output)
    except OSError as error:
        # The user knows the temporary folder only by the name it was going to have.
        is_partial = error.filename is None or partial.name in str(error.filename)
        name = output if is_partial else error.filename
        raise CorpusError(f"{name}: {error.strerror or error}; no data set was written") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not quiet:
        command = f"train.py -e 100 -d {shlex.quote(str(output))}"
        print(f"{summary}\nThe data set is in {output}: {command} learns from it.")
    return summary


def _midi_files(folder: Path) -> list[Path]:
    """Lists all MIDI files in a folder and its subfolders, sorted by their relative paths."""
    way = "-i takes the folder that holds your MIDI files"
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "no such folder"
        raise CorpusError(f"{folder}: {kind}: {way}")
    os.scandir(folder).close()  # raises if the folder can't be read; os.walk would ignore that
    files = list(midi_files(folder))
    if not files and kind_of(folder) == Kind.DATA_SET:
        command = f"train.py -e 100 -d {shlex.quote(str(folder))}"
        raise CorpusError(f"{folder} is a data set already: {command} learns from it")
    if not files:
        raise CorpusError(
            f"{folder}: no MIDI files in it or its subfolders ({', '.join(MIDI_SUFFIXES)}): {way}"
        )
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def _check_output(output: Path, overwrite: bool) -> None:
    """Raises CorpusError unless a data set may be written to a path."""
    if not output.exists():
        above = existing_part(output)
        if above.is_file():
            raise CorpusError(f"{above} is a file: -o takes the folder to make")
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if not (output / DESCRIPTION_FILE).is_file():
        raise CorpusError(f"{output} is there already and is no data set: choose another -o")
    own = {DESCRIPTION_FILE, TOKENS_FILE, OFFSETS_FILE}
    others = sorted(path.name for path in output.iterdir() if path.name not in own)
    if overwrite and others:
        raise CorpusError(
            f"{output} holds more than a data set ({', '.join(others[:3])}), which would be lost: "
            "nothing was changed; choose another -o"
        )
    if not overwrite:
        raise CorpusError(
            f"{output} holds a data set already: nothing was changed; "
            "choose another -o, or --overwrite to replace it"
        )


def _read_song(file: Path, codec: CodecSettings) -> _Song:
    """Reads and encodes one file; runs in a worker process."""
    try:
        notes = read_midi(file, codec.sustain)
    except MidiError as error:
        detail = f"{error.reason} (at byte {error.offset})"
        return _Song(skip_reason="not readable as MIDI", skip_detail=detail)
    except OSError as error:
        detail = error.strerror or str(error)
        return _Song(skip_reason="could not be opened", skip_detail=detail)
    tokens = encode(notes, codec.drum_program).astype(TOKEN_TYPE)
    if not len(tokens):
        return _Song(skip_reason="without notes")
    programs = np.where(notes.is_drum, NUM_PROGRAMS, notes.program.astype(np.int64))
    return _Song(
        tokens,
        content_hash=hashlib.sha256(tokens.tobytes()).hexdigest(),
        num_notes=len(notes),
        hours=notes.duration_ms / 3_600_000,
        onsets=np.bincount(programs, minlength=NUM_PROGRAMS + 1),
    )


def _progress_bar(songs: Iterable[_Song], total: int, quiet: bool) -> tqdm[_Song]:
    from tqdm import tqdm

    return tqdm(songs, total=total, unit="file", desc="Preprocessing", disable=quiet)


class _DatasetWriter:
    """Writes the files of a data set, one song at a time.

    Args:
        folder: an existing, empty folder.
        codec: the settings with which the songs were encoded.
    """

    def __init__(self, folder: Path, codec: CodecSettings):
        self._folder = folder
        self._codec = codec
        self._summary = Summary()
        self._offsets = [0]
        self._songs: list[SongEntry] = []
        self._skipped_files: list[SkippedFile] = []
        self._file_of_hash: dict[str, str] = {}
        self._tokens_file = (folder / TOKENS_FILE).open("wb")
        self._tokens_file.write(_npy_header(0))

    def __enter__(self) -> _DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._tokens_file.close()

    def add(self, name: str, song: _Song) -> None:
        """Appends a song, or notes why its file is skipped."""
        if song.skip_reason:
            self._skip(name, song.skip_reason, song.skip_detail)
        elif song.content_hash in self._file_of_hash:
            original = self._file_of_hash[song.content_hash]
            self._skip(name, "with the same music as another", original)
        else:
            self._file_of_hash[song.content_hash] = name
            self._songs.append({"file": name, "hash": song.content_hash})
            self._tokens_file.write(song.tokens.tobytes())
            self._offsets.append(self._offsets[-1] + len(song.tokens))
            self._summary.notes += song.num_notes
            self._summary.hours += song.hours
            self._summary.onsets += song.onsets

    def _skip(self, name: str, reason: str, detail: str) -> None:
        self._skipped_files.append({"file": name, "reason": reason, "detail": detail})
        self._summary.skipped[reason] = self._summary.skipped.get(reason, 0) + 1

    def finish(self) -> Summary:
        """Completes the files and returns the counts of what they contain."""
        summary = self._summary
        summary.songs, summary.tokens = len(self._songs), self._offsets[-1]
        self._tokens_file.seek(0)
        self._tokens_file.write(_npy_header(summary.tokens))
        np.save(self._folder / OFFSETS_FILE, np.array(self._offsets, OFFSET_TYPE))
        description: Description = {
            "format_version": FORMAT_VERSION,
            "codec": dataclasses.asdict(self._codec),
            "tokens": summary.tokens,
            "notes": summary.notes,
            "hours": round(summary.hours, 3),
            "skipped": summary.skipped,
            "songs": self._songs,
            "skipped_files": self._skipped_files,
        }
        text = json.dumps(description, indent=1) + "\n"
        (self._folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
        return summary


def _npy_header(count: int) -> bytes:
    """Makes the header of a .npy file of `count` tokens.

    Its length is always 128 bytes, so that it can be overwritten when the count is known.
    """
    description = {"descr": TOKEN_TYPE.str, "fortran_order": False, "shape": (count,)}
    text = repr(description).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")
