"""What a piece goes on from: nothing, a song of a data set, or a MIDI file."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.decoding import elapsed_steps, tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import NOTE_OFF, PAD, STEP_MS
from midinet.data.corpus import open_corpus
from midinet.errors import OptionError

if TYPE_CHECKING:
    from midinet.generation.request import Request

DEFAULT_SEED_LENGTH = 512  # tokens, the recipe of 2021


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
    """

    tokens: np.ndarray
    name: str


def open_prompt(request: Request, codec: CodecSettings) -> Prompt:
    """Opens what the pieces are to go on from, and cuts it to the length that is asked for.

    Args:
        request: names the song, the primer, or neither.
        codec: what the tokens of the model mean that will read them.

    Raises:
        CorpusError, MidiError, OSError: the data set or the primer can't be read.
        OptionError: there is no such song, or nothing that the model knows in it.
    """
    tokens, name = np.empty(0, np.uint16), ""
    if request.dataset is not None:
        tokens, name = open_song(request.dataset, request.song, codec, request.seed)
    elif request.primer is not None:
        tokens, name = open_primer(request.primer, codec), str(request.primer)
    return Prompt(request.seed_cut.cut(tokens), name)


def open_song(
    dataset: str | Path, name: str | None, codec: CodecSettings, seed: int
) -> tuple[np.ndarray, str]:
    """A song of a data set.

    Args:
        name: the song's file, or a part of its name that no other has; None: a random song.
        codec: what the tokens of the model mean that will read them.
        seed: chooses the random song.

    Returns:
        Its tokens, written again if those of the data set mean something else, and its name.

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
    if corpus.codec.drum_program != codec.drum_program:
        song = encode(tokens_to_notes(song, corpus.codec.drum_program), codec.drum_program)
    if not len(song):
        raise OptionError(f"{name} has nothing but percussion, of which the model knows nothing")
    return song, name


def open_primer(path: str | Path, codec: CodecSettings) -> np.ndarray:
    """The tokens of a MIDI file.

    Raises:
        MidiError, OSError: the file can't be read.
        OptionError: it is a folder, or has no notes.
    """
    if Path(path).is_dir():
        raise OptionError(f"{path} is a folder: a primer is one MIDI file")
    tokens = encode(path, codec.drum_program, codec.sustain)
    if not len(tokens):
        raise OptionError(f"{path} has no notes to go on from")
    return tokens


def _find(names: list[str], wanted: str, dataset: str | Path) -> int:
    if wanted in names:
        return names.index(wanted)
    matches = [name for name in names if wanted.lower() in name.lower()]
    if len(matches) == 1:
        return names.index(matches[0])
    close = matches[:3] or difflib.get_close_matches(wanted, names, cutoff=0.4)
    hint = f": did you mean {' or '.join(close)}?" if close else ""
    count = f"{len(matches)} songs" if matches else "no song"
    raise OptionError(f"{count} of {dataset} with {wanted!r} in the name{hint}")
