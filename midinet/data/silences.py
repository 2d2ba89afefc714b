"""Shortens long silences, which teach a model nothing."""

from __future__ import annotations

import dataclasses

import numpy as np

from midinet.codec.decoding import DRUM_STEPS
from midinet.codec.vocabulary import STEP_MS
from midinet.midi.notes import Notes

MAX_SILENCE_MS = 5000.0


def shorten_silences(notes: Notes) -> tuple[Notes, np.ndarray]:
    """Shortens each silence between notes that is longer than MAX_SILENCE_MS to that length.

    Args:
        notes: the notes of a song, ordered by onset.

    Returns:
        The notes, those after a shortened silence moved forward; and the silences that were
        shortened, `(silences, 2)` float64: from when to when time was cut out, in milliseconds of
        the time before.
    """
    # Percussion has no length in tokens, whatever the file says.
    end = np.where(notes.is_drum, notes.start_ms + DRUM_STEPS * STEP_MS, notes.end_ms)
    silent_from = np.maximum.accumulate(end[:-1]) + MAX_SILENCE_MS
    is_long = notes.start_ms[1:] > silent_from
    cuts = np.stack([silent_from[is_long], notes.start_ms[1:][is_long]], axis=1)
    if not len(cuts):
        return notes, cuts
    shift = np.zeros(len(notes))
    shift[1:][is_long] = cuts[:, 1] - cuts[:, 0]
    shift = np.cumsum(shift)
    # A percussion note may last beyond the silence after it.
    start, end = notes.start_ms - shift, notes.end_ms - shift
    return dataclasses.replace(notes, start_ms=start, end_ms=end), cuts
