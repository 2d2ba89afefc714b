"""Makes a data set folder from a folder of MIDI files, on all cores.

Worker processes read and encode the files; this process writes the songs in the order of their
file names, so the result is the same for any number of workers. Everything is written to a
temporary folder, which gets the name of the data set only when it is complete.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, NUM_PROGRAMS, STEP_MS
from midinet.data.corpus import OFFSETS_FILE, TEMPO_MAPS_FILE, TOKEN_TYPE, TOKENS_FILE
from midinet.data.dataset_writer import DatasetWriter, ExcludedSongs, Song, Summary
from midinet.data.near_copies import signature
from midinet.data.silences import shorten_silences
from midinet.data.workers import map_in_order
from midinet.errors import CorpusError, MidiError, OptionError
from midinet.folders import (
    DESCRIPTION_FILE,
    MIDI_SUFFIXES,
    Kind,
    file_in_the_way,
    kind_of,
    midi_files,
    put_in_place,
)
from midinet.midi.reader import read_midi

if TYPE_CHECKING:
    from tqdm import tqdm

_SMALL_PARAMETERS = "parameters_small.json"  # of a model that a CPU can train
_NOT_OPENED = "could not be opened"  # why a file is skipped


def preprocess(  # noqa: PLR0913  # a parameter for each option of the script
    input: str | Path,
    output: str | Path,
    *,
    drum_program: int | None = DRUM_PROGRAM,
    sustain: bool = True,
    volume: bool = True,
    exclude: str | Path | None = None,
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
        volume: whether the volume of their channels scales the velocities of notes.
        exclude: a folder of MIDI files, such as a test set; they and near copies of them are left
            out of the data set.
        workers: number of worker processes; None starts one per core.
        overwrite: whether an existing data set at `output` is replaced.
        quiet: shows no progress bar and prints no summary.

    Returns:
        The counts of what the data set contains.

    Raises:
        CorpusError: `input` has no usable MIDI files, a file of `exclude` can't be read, or
            `output` exists or can't be written.
        ParametersError: drum_program is not a General MIDI program.
        OptionError: workers is not positive.

    Example:
        >>> summary = preprocess("midi_files", "data")
        >>> summary.songs, summary.skipped
    """
    input, output = Path(input), Path(output)
    codec = CodecSettings(drum_program, sustain, volume)
    if workers is not None and workers < 1:
        raise OptionError(f"workers is {workers}: it must be at least 1")
    workers = workers or os.cpu_count() or 1
    files, problems = _midi_files(input, "-i takes the folder that holds your MIDI files")
    _check_output(output, overwrite)
    read_song = functools.partial(_read_song, codec=codec)
    excluded = _excluded_songs(Path(exclude), read_song, workers) if exclude is not None else None

    partial = output.absolute().parent / f".{output.absolute().name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left behind by a run that was killed
    try:
        partial.mkdir(parents=True)
        songs = map_in_order(read_song, files, workers)
        with (
            DatasetWriter(partial, codec, excluded) as writer,
            _progress_bar(songs, len(files), quiet) as bar,  # is closed before an error is printed
        ):
            for file, reason in problems.items():
                unusable = Song(skip_reason=_NOT_OPENED, skip_detail=reason)
                writer.add(file.relative_to(input).as_posix(), unusable)
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
        print(f"{summary}\nThe data set is in {output}: {_train_command(output)} learns from it.")
    return summary


def _midi_files(folder: Path, way: str) -> tuple[list[Path], dict[Path, str]]:
    """Lists all MIDI files in a folder and its subfolders, sorted by their relative paths.

    Args:
        folder: where to look.
        way: what to do if that is the wrong folder, for the error.

    Returns:
        The files; and what can't be read there, with the reason.

    Raises:
        CorpusError: there are no MIDI files.
        OSError: the folder itself can't be read.
    """
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "no such folder"
        raise CorpusError(f"{folder}: {kind}: {way}")
    os.scandir(folder).close()  # raises if the folder can't be read

    def relative(path: Path) -> str:
        return path.relative_to(folder).as_posix()

    problems: dict[Path, str] = {}
    files = sorted(midi_files(folder, problems.__setitem__), key=relative)
    if not files and kind_of(folder) == Kind.DATA_SET:
        raise CorpusError(
            f"{folder} is a data set already: {_train_command(folder)} learns from it"
        )
    if not files:
        details = "".join(f"; {path}: {reason}" for path, reason in list(problems.items())[:1])
        raise CorpusError(
            f"{folder}: no MIDI files in it or its subfolders ({', '.join(MIDI_SUFFIXES)}): "
            f"{way}{details}"
        )
    return files, {path: problems[path] for path in sorted(problems, key=relative)}


def _train_command(dataset: Path) -> str:
    """The command that trains a model of a size for this machine."""
    # Asked of the driver, because TensorFlow takes seconds to start.
    is_small = shutil.which("nvidia-smi") is None and Path(_SMALL_PARAMETERS).exists()
    size = f" --parameters {_SMALL_PARAMETERS}" if is_small else ""
    return f"python train.py -e {10 if is_small else 100} -d {shlex.quote(str(dataset))}{size}"


def _excluded_songs(folder: Path, read_song: Callable[[Path], Song], workers: int) -> ExcludedSongs:
    way = "--exclude takes the folder of MIDI files to leave out"
    files, problems = _midi_files(folder, way)
    songs = dict(zip(files, map_in_order(read_song, files, workers), strict=True))
    unreadable = problems | {
        file: f"{song.skip_reason} {song.skip_detail}".strip()
        for file, song in songs.items()
        if song.skip_reason
    }
    # Whoever keeps a test set apart must know if a part of it is not recognised.
    for file, reason in unreadable.items():
        raise CorpusError(f"{file}: {reason}: repair it or remove it from the --exclude folder")
    return ExcludedSongs(
        {file.relative_to(folder).as_posix(): song for file, song in songs.items()}
    )


def _check_output(output: Path, overwrite: bool) -> None:
    """Raises CorpusError unless a data set may be written to a path."""
    if not output.exists():
        if (file := file_in_the_way(output)) is not None:
            raise CorpusError(f"{file} is a file: -o takes the folder to make")
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if not (output / DESCRIPTION_FILE).is_file():
        raise CorpusError(f"{output} is there already and is no data set: choose another -o")
    own = {DESCRIPTION_FILE, TOKENS_FILE, OFFSETS_FILE, TEMPO_MAPS_FILE}
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


def _read_song(file: Path, codec: CodecSettings) -> Song:
    """Reads and encodes one file; runs in a worker process."""
    try:
        notes = read_midi(file, codec.sustain, codec.volume)
    except MidiError as error:
        detail = f"{error.reason} (at byte {error.offset})"
        return Song(skip_reason="not readable as MIDI", skip_detail=detail)
    except OSError as error:
        detail = error.strerror or str(error)
        return Song(skip_reason=_NOT_OPENED, skip_detail=detail)
    if codec.drum_program is None:
        notes = notes[~notes.is_drum]
    notes, cuts = shorten_silences(notes)
    tokens = encode(notes, codec.drum_program).astype(TOKEN_TYPE)
    if not len(tokens):
        return Song(skip_reason="without notes")
    # Tokens begin with the first onset, on the grid.
    begin_ms = math.floor(notes.start_ms.min() / STEP_MS + 0.5) * STEP_MS
    tempo_map = notes.tempo_map and notes.tempo_map.since(begin_ms)
    programs = np.where(notes.is_drum, NUM_PROGRAMS, notes.program.astype(np.int64))
    return Song(
        tokens,
        content_hash=hashlib.sha256(tokens.tobytes()).hexdigest(),
        num_notes=len(notes),
        hours=notes.duration_ms / 3_600_000,
        onsets=np.bincount(programs, minlength=NUM_PROGRAMS + 1),
        signature=signature(notes),
        shortened_silences=len(cuts),
        tempo_map=tempo_map,
        grid_share=tempo_map.grid_share(notes.start_ms - begin_ms) if tempo_map else 0.0,
    )


def _progress_bar(songs: Iterable[Song], total: int, quiet: bool) -> tqdm[Song]:
    from tqdm import tqdm

    return tqdm(songs, total=total, unit="file", desc="Preprocessing", disable=quiet)
