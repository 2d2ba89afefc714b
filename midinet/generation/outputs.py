"""Where composed music goes: names that are free, and files that are whole or not there."""

from __future__ import annotations

import datetime
import io
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from midinet.errors import MidinetError, OptionError
from midinet.folders import existing_part
from midinet.midi.notes import Notes

# Suffixes of files that a user may hope for, and the option that writes something like it.
_OPTION_FOR = {
    **dict.fromkeys((".aac", ".flac", ".m4a", ".ogg", ".wav"), "--wav"),
    ".mp3": "--mp3",
    **dict.fromkeys((".jpeg", ".jpg", ".pdf", ".png", ".svg"), "--plot"),
    **dict.fromkeys((".htm", ".html"), "--html"),
}


def check_output(output: Path) -> None:
    """Refuses what can't be a place for music, and makes nothing yet.

    Raises:
        OptionError: it names a sound, a picture or a page, or lies in what is no folder.
    """
    option = _OPTION_FOR.get(output.suffix.lower())
    if option and not output.is_dir():
        raise OptionError(
            f"output is {output}: it takes a folder, or a name that ends in .mid; "
            f"{option} writes its file beside the music"
        )
    folder = output.parent if _is_file_name(output) else output
    there = existing_part(folder)
    if not there.is_dir():
        raise OptionError(
            f"output is {output}, and {there} is a file: it takes a folder, or a name that ends "
            "in .mid"
        )


def check_writable(output: Path) -> None:
    """Makes the folder, and fails now rather than when the music is there.

    Raises:
        MidinetError: nothing can be written there.
        OSError: the folder can't be made.
    """
    folder = output.parent if _is_file_name(output) else output
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MidinetError(
            f"{folder} can't be written to ({error.strerror}): choose another -o"
        ) from error


def _is_file_name(output: Path) -> bool:
    return output.suffix.lower() in (".mid", ".midi")


def unused_paths(output: Path, num: int, suffixes: Sequence[str]) -> list[Path]:
    """Names for the pieces that no file has, with none of the suffixes of what lies beside it."""
    if not _is_file_name(output):
        output = output / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}.mid"
    first = 0 if num == 1 else 1
    stems = (f"{output.stem}_{i}" if i else output.stem for i in itertools.count(first))
    names = (output.with_stem(stem) for stem in stems)
    free = (
        name
        for name in names
        if not any(file.exists() for file in (name, *map(name.with_suffix, suffixes)))
    )
    return list(itertools.islice(free, num))


def write_midi(notes: Notes, path: Path, text: str, seed: int) -> None:
    """Writes a piece, or nothing; `seed` is that of the first piece, to compose it again.

    Raises:
        FileExistsError: there is a file of that name.
        MidinetError: it can't be written.
    """
    from midinet.midi.writer import notes_to_midi

    # A file's name may hold bytes that are no text.
    text = text.encode("utf-8", "replace").decode("utf-8")
    midi = notes_to_midi(notes, text, notes.tempo_map)
    data = io.BytesIO()
    midi.save(file=data)
    try:
        with open(path, "xb") as file:  # x: a file that came up since is not overwritten either
            file.write(data.getvalue())
    except FileExistsError:
        raise
    except OSError as error:
        path.unlink(missing_ok=True)
        raise MidinetError(
            f"{path} can't be written ({error.strerror}): "
            f"the same command with --seed {seed} composes it again"
        ) from error
