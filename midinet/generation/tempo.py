"""The tempo of a piece: the beats that its model hears, and those that its file says.

A model that hears the state of the music composes to a metronome. Where a seed has beats of its
own, the metronome follows them, and after the seed it keeps the last tempo or takes another one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from midinet.codec.vocabulary import STEP_MS
from midinet.errors import OptionError
from midinet.generation.prompts import Prompt
from midinet.generation.settings import MAX_BPM, MIN_BPM
from midinet.midi.notes import Notes
from midinet.midi.tempo_map import MIN_GRID_SHARE, TempoMap

_DECIMALS = 2  # of tempos that are drawn or shown
_DRAWING_TEMPO = 1  # makes the random numbers independent of those that choose the tokens

# Quarter notes per minute; "none": no metronome; None: what suits the seed and the model.
Bpm = float | Literal["none"] | None


def parse_bpm(bpm: float | str | None) -> Bpm:
    """Reads a tempo in quarter notes per minute, or "none".

    Raises:
        OptionError: it is neither, or too slow or too fast.
    """
    if bpm is None:
        return None
    if str(bpm).strip().lower() == "none":
        return "none"
    try:
        number = float(bpm)
    except ValueError:
        number = math.nan
    if not MIN_BPM <= number <= MAX_BPM:
        raise OptionError(
            f"bpm is {bpm}: it must be {MIN_BPM} to {MAX_BPM} quarter notes per minute, or none"
        )
    return number


def choose_metronome(
    bpm: Bpm, prompt: Prompt, tempi_bpm: Sequence[float], seed: int
) -> TempoMap | None:
    """The beats to compose to, from the beginning of the prompt; None: no metronome.

    Args:
        bpm: what was asked for. A prompt whose notes do not keep to its own beats is taken to be
            in this tempo too.
        prompt: what the piece goes on from, or what it accompanies.
        tempi_bpm: the tempos of the training songs, from which a piece from nothing draws its own.
        seed: of the random numbers.
    """
    if isinstance(bpm, str):
        return None
    tempo: float | None = bpm
    if prompt.kept is not None:
        is_on_grid = prompt.grid_share >= MIN_GRID_SHARE
        beats = prompt.kept.beats(tempo) if is_on_grid or tempo is not None else None
        return beats and beats.since(prompt.kept.begin_ms)
    if prompt.tempo_map is not None and prompt.grid_share >= MIN_GRID_SHARE:
        return continue_in(prompt.tempo_map, prompt.end_ms, tempo)
    if tempo is None and not len(prompt.tokens):
        possible = [drawable for drawable in tempi_bpm if MIN_BPM <= drawable <= MAX_BPM]
        if possible:
            drawn = np.random.default_rng([seed, _DRAWING_TEMPO]).choice(possible)
            tempo = round(float(drawn), _DECIMALS)
    return None if tempo is None else TempoMap.constant(tempo)


def continue_in(tempo_map: TempoMap, end_ms: float, bpm: float | None) -> TempoMap:
    """The beats of a song up to some time, and from there on one tempo.

    Args:
        tempo_map: the song's.
        end_ms: the time, at least 0.
        bpm: the tempo; None: the one that the song has at that time.
    """
    kept = max(1, int(tempo_map.ms.searchsorted(end_ms, side="right")))
    end_beat = float(tempo_map.beats_at(np.array(end_ms)))
    ms, beats, us_per_beat = (
        array[:kept] for array in (tempo_map.ms, tempo_map.beats, tempo_map.us_per_beat)
    )
    if bpm is not None:
        ms, beats = np.append(ms, end_ms), np.append(beats, end_beat)
        us_per_beat = np.append(us_per_beat, 60e6 / bpm)
    signatures = tuple(s for s in tempo_map.time_signatures if s[0] <= end_beat)
    return TempoMap(ms, beats, us_per_beat, signatures)


def final_bpm(tempo_map: TempoMap) -> float:
    """The last tempo, in quarter notes per minute, rounded."""
    return round(60e6 / float(tempo_map.us_per_beat[-1]), _DECIMALS)


def with_beats(notes: Notes, metronome: TempoMap | None, prompt: Prompt, inclusive: bool) -> Notes:
    """Adds the tempo map with which a piece is written, so that its bars line up.

    A piece without its seed then begins with a pause of less than a beat: with the beat in which
    the seed ended.

    Args:
        notes: the piece.
        metronome: the beats that it was composed to, from the beginning of the prompt.
        prompt: what it goes on from.
        inclusive: whether `notes` begin with the prompt.
    """
    if inclusive or not len(prompt.tokens):
        tempo_map = metronome
        if metronome is None and prompt.tempo_map is not None:
            tempo_map = continue_in(prompt.tempo_map, prompt.end_ms, None)
        return dataclasses.replace(notes, tempo_map=tempo_map)
    if metronome is None:
        return notes
    tempo_map, pause_ms = _from_the_beat_of(metronome, prompt.end_ms)
    return dataclasses.replace(
        notes,
        start_ms=notes.start_ms + pause_ms,
        end_ms=notes.end_ms + pause_ms,
        tempo_map=tempo_map,
    )


def _from_the_beat_of(tempo_map: TempoMap, start_ms: float) -> tuple[TempoMap, float]:
    """The beats of what follows some time after the last tempo change.

    Returns:
        The map, which begins with the whole beat in which `start_ms` lies, and how long before
        `start_ms` that is: a whole number of grid steps. The first beat is a little longer or
        shorter than the others, so that those lie where they do in `tempo_map`.
    """
    exact_beat = float(tempo_map.beats_at(np.array(start_ms)))
    beat_ms = float(tempo_map.us_per_beat[-1]) / 1000
    beat = math.floor(exact_beat + STEP_MS / 2 / beat_ms)
    pause_ms = max(0, round((exact_beat - beat) * beat_ms / STEP_MS) * STEP_MS)
    second_ms = pause_ms + (beat + 1 - exact_beat) * beat_ms
    return TempoMap(
        np.array([0.0, second_ms]),
        np.array([beat, beat + 1.0]),
        np.array([second_ms * 1000, beat_ms * 1000]),
        _signatures_from(tempo_map, beat),
    ), pause_ms


def _signatures_from(tempo_map: TempoMap, beat: int) -> tuple[tuple[float, int, int], ...]:
    """The last time signature, after a short bar up to the next bar line if `beat` is not one."""
    since, numerator, denominator = ([(0.0, 4, 4), *tempo_map.time_signatures])[-1]
    bar_beats = 4 * numerator / denominator
    rest = -(beat - since) % bar_beats
    if rest == round(rest) > 0:
        return ((beat, round(rest), 4), (beat + rest, numerator, denominator))
    return ((beat, numerator, denominator),)
