"""Playing along: the part of a song that is kept, around which a model composes the rest."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, STEP_MS, melodic_substitute
from midinet.errors import OptionError
from midinet.midi.general_midi import find_instruments, program_name
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi
from midinet.midi.tempo_map import TempoMap


@dataclasses.dataclass(frozen=True)
class KeptPart:
    """The instruments of a song that a piece keeps.

    Attributes:
        notes: their notes on the grid of tokens, in the time of the song's file.
        heard: what of them a model can hear, with programs as in tokens; time counts from the
            song's first onset, on the grid.
        begin_ms: when that is in the file.
        tempo_map: the song's beats in the time of its file, if they are known.
        grid_share: the share of the song's onsets on the grid of that map.
        num_merged: how many notes became one with another one of their instrument and pitch,
            because tokens can't say that both begin at one time.
        num_left_out: how many instruments the song has besides.
    """

    notes: Notes
    heard: Notes
    begin_ms: float
    tempo_map: TempoMap | None
    grid_share: float
    num_merged: int
    num_left_out: int

    @property
    def names(self) -> list[str]:
        """The names of the instruments."""
        return _names(self.notes)

    @property
    def end_ms(self) -> float:
        """When the last kept note that a model hears ends, from the song's first onset."""
        return self.heard.duration_ms

    def token_programs(self, codec: CodecSettings) -> set[int]:
        """The programs that stand for the kept instruments in tokens."""
        programs = set(self.heard.program[~self.heard.is_drum].tolist())
        if self.heard.is_drum.any() and codec.drum_program is not None:
            programs.add(codec.drum_program)
        return programs

    def beats(self, bpm: float | None) -> TempoMap | None:
        """The beats of the piece in the time of the file: those of the song, or in one tempo."""
        return self.tempo_map if bpm is None else TempoMap.constant(bpm)

    def joined_by(self, composed: Notes, tempo_map: TempoMap | None) -> Notes:
        """The kept notes together with composed ones, in the time of the song's file.

        Args:
            composed: what a model made, with its version of the kept notes; time counts from the
                song's first onset.
            tempo_map: the beats to write.
        """
        kept_programs = np.unique(self.heard.program[~self.heard.is_drum])
        is_kept = np.where(
            composed.is_drum, self.heard.is_drum.any(), np.isin(composed.program, kept_programs)
        )
        others = composed[~is_kept]
        # Where composing was interrupted, no note rings on after the last kept one.
        latest_ms = np.maximum(self.end_ms, others.start_ms + STEP_MS)
        others = dataclasses.replace(others, end_ms=np.minimum(others.end_ms, latest_ms))
        others = _moved(others, self.begin_ms)
        return dataclasses.replace(_together(self.notes, others), tempo_map=tempo_map)


def open_kept_part(
    path: str | Path, keep: str | None, seconds: float | None, codec: CodecSettings
) -> KeptPart:
    """Reads the part of a MIDI file that is to be kept.

    Args:
        path: the file.
        keep: the instruments to keep, as `find_instruments` reads them; None: all of them.
        seconds: how much of the song; None: all.
        codec: what the tokens of the model mean that will accompany it.

    Raises:
        MidiError, OSError: the file can't be read.
        OptionError: it is a folder, has no notes or no such instruments, or the model knows
            nothing of what is kept.
    """
    if Path(path).is_dir():
        raise OptionError(f"{path} is a folder: accompany takes one MIDI file")
    song = read_midi(path, codec.sustain, codec.volume)
    if not len(song):
        raise OptionError(f"{path} has no notes to accompany")
    begin_ms = _grid_ms(song.start_ms.min())
    is_kept = _find_kept(song, keep, path)
    kept, left_out = song[is_kept], _names(song[~is_kept])
    if seconds is not None:
        end_ms = begin_ms + seconds * 1000
        kept = kept[kept.start_ms < end_ms]
        kept = dataclasses.replace(kept, end_ms=np.minimum(kept.end_ms, end_ms))
    drums = codec.drum_program
    heard = _on_grid(kept if drums is not None else kept[~kept.is_drum], drums)
    if not len(heard):
        raise OptionError(
            f"keep: the model knows no percussion, so keep other instruments of {path} too"
            if len(kept)
            else f"{path} has nothing to keep in its first {seconds:g} seconds"
        )
    if drums is None:
        notes = _together(heard, _on_grid(kept[kept.is_drum], DRUM_PROGRAM))
    else:
        notes = _with_program_of_percussion(heard, kept, drums)
    share = 0.0 if song.tempo_map is None else song.tempo_map.grid_share(song.start_ms)
    return KeptPart(
        notes,
        _moved(heard, -begin_ms),
        begin_ms,
        song.tempo_map,
        share,
        num_merged=len(kept) - len(notes),
        num_left_out=len(left_out),
    )


def _find_kept(song: Notes, keep: str | None, path: str | Path) -> np.ndarray:
    """Marks the notes of the instruments that are named."""
    is_kept = np.full(len(song), keep is None)
    for name in keep.split(",") if keep is not None else ():
        programs, percussion = find_instruments(name)
        is_named = np.where(song.is_drum, percussion, np.isin(song.program, programs))
        if not is_named.any():
            there = ", ".join(_names(song))
            raise OptionError(
                f"keep {name.strip()!r}: {path} has no such instrument; it has {there}"
            )
        is_kept |= is_named
    return is_kept


def _names(notes: Notes) -> list[str]:
    names = [program_name(program) for program in np.unique(notes.program[~notes.is_drum])]
    return names + [program_name(0, is_drum=True)] * bool(notes.is_drum.any())


def _on_grid(notes: Notes, drum_program: int | None) -> Notes:
    """Notes as tokens say them, at their own time."""
    if not len(notes):
        return notes
    tokens = encode(notes, drum_program)
    return _moved(tokens_to_notes(tokens, drum_program), _grid_ms(notes.start_ms.min()))


def _with_program_of_percussion(heard: Notes, kept: Notes, drum_program: int) -> Notes:
    """Gives notes the program back that stands for percussion in tokens, if it is theirs."""
    programs = np.unique(kept.program[~kept.is_drum])
    substitute = melodic_substitute(drum_program)
    if drum_program not in programs or substitute in programs:
        return heard
    is_moved = (heard.program == substitute) & ~heard.is_drum
    program = np.where(is_moved, drum_program, heard.program).astype(np.uint8)
    return dataclasses.replace(heard, program=program)


def _moved(notes: Notes, ms: float) -> Notes:
    return dataclasses.replace(notes, start_ms=notes.start_ms + ms, end_ms=notes.end_ms + ms)


def _together(some: Notes, others: Notes) -> Notes:
    """Notes in order of their onsets, then programs, then pitches."""
    names = ("start_ms", "end_ms", "program", "pitch", "velocity", "is_drum")
    arrays: dict[str, Any] = {
        name: np.append(getattr(some, name), getattr(others, name)) for name in names
    }
    order = np.lexsort((arrays["pitch"], arrays["program"], arrays["start_ms"]))
    return Notes(**{name: array[order] for name, array in arrays.items()})


def _grid_ms(ms: float) -> float:
    return float(math.floor(ms / STEP_MS + 0.5) * STEP_MS)
