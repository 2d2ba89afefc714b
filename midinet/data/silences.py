"""Shortens long silences, which teach a model nothing."""

from __future__ import annotations

import dataclasses

import numpy as np

from midinet.codec.decoding import DRUM_STEPS
from midinet.codec.vocabulary import STEP_MS
from midinet.midi.notes import Notes
from midinet.midi.tempo_map import TempoMap

MAX_SILENCE_MS = 5000.0
_MAX_US_PER_BEAT = 1_000_000  # longer beats are not completed, or too little silence would be left


def shorten_silences(notes: Notes) -> tuple[Notes, np.ndarray]:
    """Shortens each silence between notes that is longer than MAX_SILENCE_MS to that length.

    Where the beats are known, and are short, whole beats are cut out and up to a beat more, so that
    the music after the silence stays on the beat.

    Args:
        notes: the notes of a song, ordered by onset.

    Returns:
        The notes, those after a shortened silence moved forward, with their tempo map; and the
        silences that were shortened, `(silences, 2)` float64: from when to when time was cut out,
        in milliseconds of the time before.
    """
    # Percussion has no length in tokens, whatever the file says.
    end = np.where(notes.is_drum, notes.start_ms + DRUM_STEPS * STEP_MS, notes.end_ms)
    silent_from = np.maximum.accumulate(end[:-1]) + MAX_SILENCE_MS
    is_long = notes.start_ms[1:] > silent_from
    cuts = np.stack([silent_from[is_long], notes.start_ms[1:][is_long]], axis=1)
    if not len(cuts):
        return notes, cuts
    tempo_map = notes.tempo_map
    if tempo_map is not None:
        for cut in cuts:
            cut[0] -= _until_whole_beats(tempo_map, *cut)
        for cut in cuts[::-1]:  # from the last, so that the times of the others stay right
            tempo_map = tempo_map.without(*cut)
    shift = np.zeros(len(notes))
    shift[1:][is_long] = cuts[:, 1] - cuts[:, 0]
    shift = np.cumsum(shift)
    # A percussion note may last beyond the silence after it.
    start, end = notes.start_ms - shift, notes.end_ms - shift
    moved = dataclasses.replace(notes, start_ms=start, end_ms=end, tempo_map=tempo_map)
    return moved, cuts


def _until_whole_beats(tempo_map: TempoMap, from_ms: float, to_ms: float) -> float:
    """How many milliseconds more to cut out for whole beats; 0 where beats are long."""
    beats = np.ptp(tempo_map.beats_at(np.array([from_ms, to_ms])))
    us_per_beat = tempo_map.us_per_beat[max(int(tempo_map.ms.searchsorted(from_ms)) - 1, 0)]
    missing_ms = float((np.ceil(beats) - beats) * us_per_beat / 1000)
    return missing_ms if us_per_beat <= _MAX_US_PER_BEAT else 0.0
