"""Makes a data set folder of MIDI files, on all cores."""

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
from midinet.data.corpus import FORMAT_VERSION, OFFSET_TYPE, OFFSETS_FILE, TOKEN_TYPE, TOKENS_FILE
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
    """What went into a data set.

    Attributes:
        songs, notes, tokens: how many there are.
        hours: of music.
        onsets: notes of each program, percussion last: `(129,)`.
        skipped: files left out, by reason.
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

        most = [int(p) for p in np.argsort(-self.onsets, kind="stable")[:6] if self.onsets[p]]
        names = [
            f"{program_name(p % NUM_PROGRAMS, is_drum=p == NUM_PROGRAMS)} "
            f"{self.onsets[p] / max(self.notes, 1):.0%}"
            for p in most
        ]
        lines = [
            f"{self.songs:,} songs, {self.hours:,.1f} hours of music, {self.notes:,} notes, "
            f"{self.tokens:,} tokens ({self.tokens / max(self.notes, 1):.2f} a note)",
            f"most used: {', '.join(names)}",
        ]
        if self.skipped:
            reasons = (f"{count:,} {reason}" for reason, count in sorted(self.skipped.items()))
            lines.append(f"skipped: {', '.join(reasons)} (each is named in {DESCRIPTION_FILE})")
        return "\n".join(lines)


class _Song(NamedTuple):
    """One file as a worker leaves it: its tokens and their hash, or why there are none."""

    tokens: np.ndarray
    content: str
    notes: int
    hours: float
    onsets: np.ndarray
    reason: str  # "" if the song is fine
    detail: str


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
    """Makes a data set of all MIDI files in a folder and the folders in it.

    The result depends on the files and the codec settings only, not on the number of workers.

    Args:
        input: the folder of MIDI files.
        output: the data set folder to make.
        drum_program: the program that stands for percussion; None leaves percussion out.
        sustain: whether the sustain pedal lengthens notes.
        workers: processes; None for one a core.
        overwrite: whether a data set that is already there is replaced.
        quiet: no progress bar and no summary.

    Returns:
        What went into the data set.

    Raises:
        CorpusError: no usable MIDI files, or the output folder is taken or can't be written.
        ParametersError: drum_program is no program.
        OptionError: workers is not positive.
    """
    input, output = Path(input), Path(output)
    codec = CodecSettings(drum_program, sustain)
    if workers is not None and workers < 1:
        raise OptionError(f"workers is {workers}: it must be at least 1")
    workers = workers or os.cpu_count() or 1
    files = _midi_files(input)
    _check_free(output, overwrite)

    partial = output.absolute().parent / f".{output.absolute().name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    try:
        partial.mkdir(parents=True)
        songs = map_in_order(functools.partial(_read_song, codec=codec), files, workers)
        names = [file.relative_to(input).as_posix() for file in files]
        with _bar(songs, len(files), quiet) as bar:  # closed before an error is printed
            summary = _write(partial, zip(names, bar, strict=True), codec)
        if not summary.songs:
            raise CorpusError(
                f"{input}: none of its {len(files)} MIDI files can be used "
                f"({', '.join(f'{count} {why}' for why, count in summary.skipped.items())})"
            )
        put_in_place(partial, output)
    except OSError as error:
        # What stands under the temporary name is, to the user, the output.
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
    """All MIDI files below a folder, in the order of their names."""
    way = "-i takes the folder that holds your MIDI files"
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "no such folder"
        raise CorpusError(f"{folder}: {kind}: {way}")
    os.scandir(folder).close()  # os.walk says nothing of a folder that may not be read
    files = list(midi_files(folder))
    if not files and kind_of(folder) == Kind.DATA_SET:
        command = f"train.py -e 100 -d {shlex.quote(str(folder))}"
        raise CorpusError(f"{folder} is a data set already: {command} learns from it")
    if not files:
        raise CorpusError(
            f"{folder}: no MIDI files in it or its subfolders ({', '.join(MIDI_SUFFIXES)}): {way}"
        )
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def _check_free(output: Path, overwrite: bool) -> None:
    """Raises CorpusError unless a data set may be put at a path."""
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
    """Reads and encodes one file; runs in a worker."""
    no_onsets = np.zeros(NUM_PROGRAMS + 1, np.int64)
    nothing = _Song(np.empty(0, TOKEN_TYPE), "", 0, 0.0, no_onsets, "", "")
    try:
        notes = read_midi(file, codec.sustain)
    except MidiError as error:
        detail = f"{error.reason} (at byte {error.offset})"
        return nothing._replace(reason="not readable as MIDI", detail=detail)
    except OSError as error:
        return nothing._replace(reason="could not be opened", detail=error.strerror or str(error))
    tokens = encode(notes, codec.drum_program).astype(TOKEN_TYPE)
    if not len(tokens):
        return nothing._replace(reason="without notes")
    programs = np.where(notes.is_drum, NUM_PROGRAMS, notes.program.astype(np.int64))
    onsets = np.bincount(programs, minlength=NUM_PROGRAMS + 1)
    content = hashlib.sha256(tokens.tobytes()).hexdigest()
    return _Song(tokens, content, len(notes), notes.duration_ms / 3_600_000, onsets, "", "")


def _bar(songs: Iterable[_Song], total: int, quiet: bool) -> tqdm[_Song]:
    from tqdm import tqdm

    return tqdm(songs, total=total, unit="file", desc="Preprocessing", disable=quiet)


def _write(folder: Path, named_songs: Iterable[tuple[str, _Song]], codec: CodecSettings) -> Summary:
    """Writes the files of a data set, song by song."""
    summary = Summary()
    offsets, songs, skipped = [0], [], []
    first_file: dict[str, str] = {}
    with (folder / TOKENS_FILE).open("wb") as file:
        file.write(_npy_header(0))
        for name, song in named_songs:
            content, reason, detail = song.content, song.reason, song.detail
            if content in first_file:
                reason, detail = "with the same music as another", first_file[content]
            if reason:
                skipped.append({"file": name, "reason": reason, "detail": detail})
                summary.skipped[reason] = summary.skipped.get(reason, 0) + 1
                continue
            first_file[content] = name
            file.write(song.tokens.tobytes())
            offsets.append(offsets[-1] + len(song.tokens))
            songs.append({"file": name, "hash": content})
            summary.notes += song.notes
            summary.hours += song.hours
            summary.onsets += song.onsets
        file.seek(0)
        file.write(_npy_header(offsets[-1]))
    summary.songs, summary.tokens = len(songs), offsets[-1]
    np.save(folder / OFFSETS_FILE, np.array(offsets, OFFSET_TYPE))
    description = {
        "format_version": FORMAT_VERSION,
        "codec": dataclasses.asdict(codec),
        "tokens": summary.tokens,
        "notes": summary.notes,
        "hours": round(summary.hours, 3),
        "skipped": summary.skipped,
        "songs": songs,
        "skipped_files": skipped,
    }
    text = json.dumps(description, indent=1) + "\n"
    (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
    return summary


def _npy_header(count: int) -> bytes:
    """The header of a .npy file of tokens: always 128 bytes, so that the count can come last."""
    description = {"descr": TOKEN_TYPE.str, "fortran_order": False, "shape": (count,)}
    text = repr(description).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")
