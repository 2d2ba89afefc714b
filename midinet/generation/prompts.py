"""What a piece goes on from: nothing, a song of a data set, or a MIDI file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.decoding import current_values, elapsed_steps, tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import NOTE_OFF, NOTE_ON, PAD, PROGRAM, STEP_MS
from midinet.data.corpus import open_corpus
from midinet.errors import OptionError
from midinet.generation.accompaniment import KeptPart, open_kept_part
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi
from midinet.midi.tempo_map import TempoMap

if TYPE_CHECKING:
    from midinet.generation.request import Request

DEFAULT_SEED_LENGTH = 512  # tokens, the recipe of 2021
_MIN_BAND = 4  # such as drums, a bass, chords and a melody


class SeedLength(NamedTuple):
    """How much of a song to take: some tokens, or some milliseconds."""

    tokens: int | None
    milliseconds: float | None

    @classmethod
    def parse(cls, text: int | str) -> SeedLength:
        """Reads "512" as tokens and "10s" as seconds.

        Raises:
            OptionError: neither, or none.
        """
        tokens = re.fullmatch(r"0*([1-9]\d{0,8})", str(text))
        seconds = re.fullmatch(r"(\d{1,6}(?:\.\d*)?)\s*s", str(text))
        if tokens:
            return cls(int(tokens[1]), None)
        if seconds and float(seconds[1]) > 0:
            return cls(None, float(seconds[1]) * 1000)
        raise OptionError(f"seed_length is {text}: give tokens, as in 512, or seconds, as in 10s")

    def cut(self, song: np.ndarray) -> np.ndarray:
        """The beginning of a song of this length at most, and up to a note's beginning or end."""
        song = song[song != PAD]
        if self.tokens is not None:
            return up_to_last_event(song[: self.tokens])
        return up_to_last_event(song[time_ms(song) < self.milliseconds])


def up_to_last_event(tokens: np.ndarray) -> np.ndarray:
    """Tokens without what follows the last NOTE_ON or NOTE_OFF."""
    events = np.flatnonzero(tokens < NOTE_OFF.end)
    return tokens[: events[-1] + 1] if len(events) else tokens[:0]


def time_ms(tokens: np.ndarray) -> np.ndarray:
    """The time behind each token `(.., T)`, in milliseconds from before the first."""
    return elapsed_steps(tokens) * STEP_MS


class Prompt(NamedTuple):
    """What a piece goes on from.

    Attributes:
        tokens: `(T,)` uint16; empty for a piece from nothing.
        name: the song's file or that of the primer; "" for a piece from nothing.
        tempo_map: where its beats lie, if that is known; time 0 is the first token's.
        grid_share: the share of the whole song's onsets on the grid of that map.
        kept: the part of a song that the piece, which then has no tokens yet, accompanies.
        num_instruments: how many the whole song has that the model can hear; 0 for a piece from
            nothing.
    """

    tokens: np.ndarray
    name: str
    tempo_map: TempoMap | None = None
    grid_share: float = 0.0
    kept: KeptPart | None = None
    num_instruments: int = 0

    @property
    def max_instruments(self) -> int | None:
        """How many may be composed if nobody says it: as many as the song has, or as it has beside
        the kept ones, but then up to four in any case; None: any number.
        """
        if self.kept is None:
            return self.num_instruments or None
        return max(_MIN_BAND, self.kept.num_left_out)

    @property
    def origin(self) -> str:
        """What it does with which song, as in "from my song"; "" for a piece from nothing."""
        what = "from" if self.kept is None else "with"
        return f"{what} {Path(self.name).stem}" if self.name else ""

    @property
    def end_ms(self) -> float:
        """The time after the last token, in milliseconds."""
        return float(time_ms(self.tokens).max(initial=0))


def open_prompt(request: Request, codec: CodecSettings) -> Prompt:
    """Opens what the pieces are to go on from, cut to the length that is asked for, or to join.

    Args:
        request: names the song, the primer, what to accompany, or nothing of these.
        codec: what the tokens of the model mean that will read them.

    Raises:
        CorpusError, MidiError, OSError: the data set or the primer can't be read.
        OptionError: there is no such song, or nothing that the model knows in it.
    """
    if request.dataset is not None:
        prompt = open_song(request.dataset, request.song, codec, request.seed)
    elif request.primer is not None:
        prompt = open_primer(request.primer, codec)
    elif request.accompany is not None:
        kept = open_kept_part(request.accompany, request.keep, request.seconds, codec)
        tempo_map = kept.tempo_map and kept.tempo_map.since(kept.begin_ms)
        nothing = np.empty(0, np.uint16)
        prompt = Prompt(nothing, str(request.accompany), tempo_map, kept.grid_share, kept)
    else:
        prompt = Prompt(np.empty(0, np.uint16), "")
    programs = current_values(prompt.tokens, PROGRAM, 0)[NOTE_ON.holds(prompt.tokens)]
    count = len(np.unique(programs))
    return prompt._replace(tokens=request.seed_cut.cut(prompt.tokens), num_instruments=count)


def open_song(dataset: str | Path, name: str | None, codec: CodecSettings, seed: int) -> Prompt:
    """A song of a data set.

    Args:
        name: the song's file, or a part of its name that no other has; None: a random song.
        codec: what the tokens of the model mean that will read them.
        seed: chooses the random song.

    Returns:
        The whole song, written again if its tokens mean something else to the model.

    Raises:
        CorpusError: the folder holds no data set.
        OptionError: no such song, or it has nothing but percussion and the model knows none.
    """
    corpus = open_corpus(dataset)
    if name is None:
        index = int(np.random.default_rng(seed).integers(len(corpus)))
    else:
        index = _find(corpus.names, name, dataset)
    song, name = np.array(corpus.song(index)), corpus.names[index]
    tempo_map, grid_share = corpus.tempo_map(index), corpus.grid_shares[index]
    if corpus.codec.drum_program != codec.drum_program:
        notes = tokens_to_notes(song, corpus.codec.drum_program)
        notes = dataclasses.replace(notes, tempo_map=tempo_map)
        song, tempo_map, grid_share = _encode_with_beats(notes, codec)
    if not len(song):
        raise OptionError(f"{name} has nothing but percussion, of which the model knows nothing")
    return Prompt(song, name, tempo_map, grid_share)


def open_primer(path: str | Path, codec: CodecSettings) -> Prompt:
    """A whole MIDI file.

    Raises:
        MidiError, OSError: the file can't be read.
        OptionError: it is a folder, or has no notes.
    """
    if Path(path).is_dir():
        raise OptionError(f"{path} is a folder: a primer is one MIDI file")
    notes = read_midi(path, codec.sustain, codec.volume)
    tokens, tempo_map, grid_share = _encode_with_beats(notes, codec)
    if not len(tokens):
        raise OptionError(f"{path} has no notes to go on from")
    return Prompt(tokens, str(path), tempo_map, grid_share)


def _encode_with_beats(
    notes: Notes, codec: CodecSettings
) -> tuple[np.ndarray, TempoMap | None, float]:
    """The tokens of notes, their tempo map in the time of the tokens, and their share on its grid.

    Tokens begin with the first onset, on the grid of steps.
    """
    if codec.drum_program is None:
        notes = notes[~notes.is_drum]
    tokens = encode(notes, codec.drum_program)
    if not len(notes) or notes.tempo_map is None:
        return tokens, None, 0.0
    begin_ms = math.floor(notes.start_ms.min() / STEP_MS + 0.5) * STEP_MS
    tempo_map = notes.tempo_map.since(begin_ms)
    return tokens, tempo_map, tempo_map.grid_share(notes.start_ms - begin_ms)


def _find(names: list[str], wanted: str, dataset: str | Path) -> int:
    if wanted in names:
        return names.index(wanted)
    matches = [name for name in names if wanted.lower() in name.lower()]
    if len(matches) == 1:
        return names.index(matches[0])
    close = matches[:3] or difflib.get_close_matches(wanted, names, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    shown = f"generate.py --list songs -d {shlex.quote(str(dataset))} shows all"
    count = f"{len(matches)} songs" if matches else "no song"
    raise OptionError(f"{count} of {dataset} with {wanted!r} in the name: {hint}{shown}")
