"""What is usual for each instrument: how long its notes are, and how many of them sound at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.vocabulary import NUM_PROGRAMS, STEP_MS
from midinet.data.corpus import Corpus
from midinet.errors import ModelError

LONGEST_SHARE = 0.98  # of the notes are not longer
VOICES_SHARE = 0.95  # of the notes begin beside fewer others
MIN_NOTES = 100  # from which an instrument's habits are told; otherwise they are those of all
MAX_SONGS = 1000  # that are looked at


class Habits(NamedTuple):
    """The habits of the 128 programs, as the codec writes them.

    A marimba that sounds for ten seconds is a mistake, and a pad that does is none.

    Attributes:
        longest_note_ms: `(128,)` the length that 98 of 100 notes do not exceed.
        most_voices: `(128,)` how many notes sound at most where 95 of 100 notes begin, they
            included.
    """

    longest_note_ms: tuple[int, ...]
    most_voices: tuple[int, ...]

    @classmethod
    def of_history(cls, history: Mapping[str, Any]) -> Habits | None:
        """What a model folder tells of the songs of its training.

        Args:
            history: its `history_of_training`.

        Returns:
            The habits; None if it tells none, as those of older models.

        Raises:
            ModelError: it tells something else by that name.
        """
        value = history.get("habits")
        if value is None:
            return None
        try:
            habits = cls(*(tuple(map(int, value[name])) for name in cls._fields))
        except (TypeError, ValueError, KeyError):
            habits = cls((), ())
        if any(len(limits) != NUM_PROGRAMS or min(limits) < 1 for limits in habits):
            raise ModelError(
                f"the model's parameters.json is damaged: under habits there must be {NUM_PROGRAMS}"
                f" numbers above 0 for each of {' and '.join(cls._fields)}"
            )
        return habits


def find_habits(corpus: Corpus, songs: np.ndarray) -> Habits | None:
    """The habits in some songs of a data set.

    Args:
        corpus: an open data set.
        songs: `(S,)` the indices of the songs; of more than MAX_SONGS, evenly spaced ones count.

    Returns:
        The habits; None if there are no melodic notes.
    """
    chosen = np.linspace(0, len(songs) - 1, min(len(songs), MAX_SONGS)).astype(int)
    rows = [np.empty((3, 0))]
    for song in np.asarray(songs)[chosen]:
        notes = tokens_to_notes(corpus.song(int(song)), corpus.codec.drum_program)
        notes = notes[~notes.is_drum]
        for program in np.unique(notes.program):
            part = notes[notes.program == program]
            start_ms, end_ms = np.sort(part.start_ms), np.sort(part.end_ms)
            begun = np.searchsorted(start_ms, part.start_ms, side="right")
            ended = np.searchsorted(end_ms, part.start_ms, side="right")
            rows.append(np.stack([part.program, part.end_ms - part.start_ms, begun - ended]))
    program, length_ms, voices = np.concatenate(rows, axis=1)
    if not len(program):
        return None

    def usual(values: np.ndarray, share: float) -> np.ndarray:
        limits: np.ndarray = np.full(NUM_PROGRAMS, np.quantile(values, share))
        counts = np.bincount(program.astype(int), minlength=NUM_PROGRAMS)
        for played in np.flatnonzero(counts >= MIN_NOTES):
            limits[played] = np.quantile(values[program == played], share)
        return limits

    longest_ms = np.ceil(usual(length_ms, LONGEST_SHARE) / STEP_MS) * STEP_MS
    most_voices = np.ceil(usual(voices, VOICES_SHARE))
    return Habits(*(tuple(limits.astype(int).tolist()) for limits in (longest_ms, most_voices)))
