"""Metrics of a piece of music: functions from notes to a number.

Where MusPy (Dong et al. 2020, "MusPy: A Toolkit for Symbolic Music Generation") defines a metric,
its definition is used. Pitch-class entropy, scale consistency and groove consistency are the three
that the Multitrack Music Transformer (Dong et al. 2023) was evaluated with. A metric that makes no
sense for a piece, such as the scale of a drum solo, is NaN.

Times are in seconds. Percussion sounds for 100 ms, whatever the file says, because that is how
midinet writes it. MusPy counts beats and bars on the beat grid of the file, but composed music has
none, because tokens count milliseconds. So one tempo per piece is estimated from its onsets, in
the same way for every piece. The figures can be compared within a report, but not with those in
papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from midinet.codec.decoding import DRUM_STEPS
from midinet.codec.vocabulary import NUM_PITCHES, NUM_PROGRAMS, STEP_MS
from midinet.midi.notes import Notes

HANGING_S = 4.0
"""A melodic note that sounds longer than this was probably never meant to."""

PATTERN_S = 2.0
MIN_PATTERN_MATCH = 0.8
BEATS_PER_BAR = 4
POSITIONS_PER_BAR = 16
_PITCH_CLASSES = 12
_MAJOR = (0, 2, 4, 5, 7, 9, 11)

# The beat is searched for within these bounds and expected to be near the usual one.
_MIN_BEAT_S, _MAX_BEAT_S, _USUAL_BEAT_S = 0.3, 1.2, 0.5
_TEMPO_SPREAD_OCTAVES = 0.9
_GRID_S = STEP_MS / 1000
_MAX_ESTIMATED_S = 600  # more music does not make the tempo clearer


def notes_per_second(notes: Notes) -> float:
    """Notes per second from the first onset to the last release, percussion included."""
    start, end = _times_s(notes)
    duration_s = end.max(initial=0.0) - start.min(initial=np.inf)
    return float(len(notes) / duration_s) if duration_s > 0 else math.nan


def polyphony(notes: Notes) -> float:
    """Mean number of pitches sounding at once, silence and percussion ignored (as in MusPy)."""
    melodic = notes[~notes.is_drum]
    start, end = _times_s(melodic)
    any_pitch_s = _covered_s(start, end)
    if not any_pitch_s:
        return math.nan
    # Each pitch gets a stretch of time of its own, so that one sweep measures them all separately.
    offset = melodic.pitch * (end.max() + 1.0)
    return _covered_s(start + offset, end + offset) / any_pitch_s


def num_instruments(notes: Notes) -> float:
    """Number of programs that play; percussion counts as one more."""
    programs = np.unique(notes.program[~notes.is_drum])
    return float(len(programs) + notes.is_drum.any()) if len(notes) else math.nan


def pitch_class_entropy(notes: Notes) -> float:
    """Entropy in bits of the twelve pitch classes, percussion ignored.

    It is 0 for a single pitch class and 3.58 if all twelve are equally frequent; music in a key
    mostly has 2.5 to 3.2.

    Source: Wu and Yang 2020 ("The Jazz Transformer on the Front Line"), as in MusPy.
    """
    share = _pitch_class_shares(notes)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) if len(share) else math.nan


def scale_consistency(notes: Notes) -> float:
    """Share of the notes that belong to the scale that fits best, percussion ignored.

    The twelve major scales are tried, which have the same notes as the twelve natural minor ones.

    Source: Mogren 2016 (C-RNN-GAN), as in MusPy.
    """
    share = _pitch_class_shares(notes)
    if not share.any():
        return math.nan
    return float(max(np.roll(share, root)[list(_MAJOR)].sum() for root in range(_PITCH_CLASSES)))


def groove_consistency(notes: Notes) -> float:
    """Similarity of the rhythms of neighbouring bars: 1 means the same rhythm throughout.

    It is one minus the mean Hamming distance, per position, between the onset patterns of
    neighbouring bars. A bar is four beats of the estimated tempo and has 16 positions. NaN if the
    piece has fewer than two bars.

    Source: Wu and Yang 2020, as in MusPy.
    """
    if not len(notes):
        return math.nan
    position_s = estimate_beat_s(notes) * BEATS_PER_BAR / POSITIONS_PER_BAR
    start = notes.start_ms / 1000
    position = np.rint((start - start.min()) / position_s).astype(np.int64)
    num_bars = int(position.max()) // POSITIONS_PER_BAR + 1
    if num_bars < 2:
        return math.nan
    has_onset = np.zeros(num_bars * POSITIONS_PER_BAR, bool)
    has_onset[position] = True
    bars = has_onset.reshape(num_bars, POSITIONS_PER_BAR)
    return float(1 - (bars[1:] != bars[:-1]).mean())


def empty_beat_rate(notes: Notes) -> float:
    """Share of the beats, at the estimated tempo, in which nothing sounds.

    Source: Dong et al. 2018 (MuseGAN), as in MusPy.
    """
    if not len(notes):
        return math.nan
    start, end = _times_s(notes)
    beat_s = estimate_beat_s(notes)
    first = np.floor((start - start.min()) / beat_s).astype(np.int64)
    last = np.maximum(np.ceil((end - start.min()) / beat_s).astype(np.int64), first + 1)
    changes = np.bincount(first, minlength=last.max() + 1) - np.bincount(last)
    return float((np.cumsum(changes[:-1]) == 0).mean())


def longest_silence_s(notes: Notes) -> float:
    """Longest silence in seconds between the first and the last note."""
    if not len(notes):
        return math.nan
    start, end = _times_s(notes)
    order = np.argsort(start, kind="stable")
    silence = start[order][1:] - np.maximum.accumulate(end[order])[:-1]
    return float(silence.max(initial=0.0))


def percussion_share(notes: Notes) -> float:
    """Share of the notes that are percussion."""
    return float(notes.is_drum.mean()) if len(notes) else math.nan


def melodic_lengths_s(notes: Notes) -> np.ndarray:
    """Returns the lengths in seconds of the melodic notes."""
    lengths_s: np.ndarray = (notes.end_ms - notes.start_ms)[~notes.is_drum] / 1000
    return lengths_s


def hanging_share(notes: Notes) -> float:
    """Share of the melodic sounding time that lies in notes over 4 s; 0.03 in real music.

    Sounding time is the sum of the lengths of all melodic notes.
    """
    lengths_s = melodic_lengths_s(notes)
    total_s = lengths_s.sum()
    return float(lengths_s[lengths_s > HANGING_S].sum() / total_s) if total_s else math.nan


def most_frequent_pitch_share(notes: Notes) -> float:
    """Share of the melodic notes that have the most frequent pitch."""
    pitches = notes.pitch[~notes.is_drum]
    return float(np.bincount(pitches).max() / len(pitches)) if len(pitches) else math.nan


def longest_loop_s(notes: Notes) -> float:
    """Longest time in seconds that one short pattern fills; 0 if none comes twice in a row.

    A pattern lasts 2 s, or three or four beats of the estimated tempo. It comes again if at least
    80% of the notes of both occurrences are equal in instrument, pitch and position, with 16
    positions per pattern.
    """
    if not len(notes):
        return math.nan
    beat_s = estimate_beat_s(notes)
    return max(
        _longest_loop_s(notes, pattern_s) for pattern_s in (PATTERN_S, 3 * beat_s, 4 * beat_s)
    )


def _longest_loop_s(notes: Notes, pattern_s: float) -> float:
    start_s = (notes.start_ms - notes.start_ms.min()) / 1000
    position = np.rint(start_s * POSITIONS_PER_BAR / pattern_s).astype(np.int64)
    instrument = np.where(notes.is_drum, NUM_PROGRAMS, notes.program.astype(np.int64))
    # Occurrence, position, instrument and pitch as one number; two of a kind count once.
    slots = (POSITIONS_PER_BAR, NUM_PROGRAMS + 1, NUM_PITCHES)
    occurrence, position = np.divmod(position, POSITIONS_PER_BAR)
    slot = np.ravel_multi_index((position, instrument, notes.pitch), slots)
    keys = np.unique(occurrence * math.prod(slots) + slot)
    count = np.bincount(keys // math.prod(slots))
    is_repeated = np.isin(keys - math.prod(slots), keys)
    repeated = np.bincount(keys[is_repeated] // math.prod(slots), minlength=len(count))[1:]
    either = count[1:] + count[:-1] - repeated
    is_same = (repeated > 0) & (repeated >= MIN_PATTERN_MATCH * either)
    breaks = np.flatnonzero(~np.concatenate([[False], is_same, [False]]))
    repeats = int(np.diff(breaks).max()) - 1
    return (repeats + 1) * pattern_s if repeats else 0.0


def estimate_beat_s(notes: Notes) -> float:
    """Estimates the length of a beat from the onsets.

    It is the lag with the highest autocorrelation of the onsets, weighted towards 120 beats per
    minute on a logarithmic scale. The autocorrelation at 2, 4, 8 and 16 beats then refines it,
    because an error of half a 10 ms grid step would add up to a whole beat within a minute. The
    estimate may be half or double the true tempo.

    Returns:
        Seconds, 0.3 to 1.2 (200 to 50 beats per minute).

    Source: Ellis 2007 ("Beat Tracking by Dynamic Programming"), section 3.2, applied to notes.
    """
    start = notes.start_ms / 1000
    start = start[start < start.min(initial=np.inf) + _MAX_ESTIMATED_S]
    if len(start) < 2:
        return _USUAL_BEAT_S
    steps = np.rint((start - start.min()) / _GRID_S).astype(np.int64)
    onsets = np.bincount(steps).astype(float)
    onsets = np.convolve(np.sqrt(onsets), (0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25))
    onsets -= onsets.mean()
    spectrum = np.fft.rfft(onsets, 2 * len(onsets))
    autocorrelation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(onsets)]

    lags = np.arange(round(_MIN_BEAT_S / _GRID_S), round(_MAX_BEAT_S / _GRID_S) + 1)
    octaves = np.log2(lags * _GRID_S / _USUAL_BEAT_S)
    weight = np.exp(-0.5 * (octaves / _TEMPO_SPREAD_OCTAVES) ** 2)
    lags = lags[lags < len(autocorrelation)]
    if not len(lags):
        return _USUAL_BEAT_S
    lag = float(lags[np.argmax(autocorrelation[lags] * weight[: len(lags)])])
    for beats in (2, 4, 8, 16):
        near = np.arange(math.floor(beats * lag - beats), math.ceil(beats * lag + beats) + 1)
        near = near[np.abs(near - beats * lag) <= 2 + beats // 8]
        if near[-1] >= len(autocorrelation):
            break
        lag = float(near[np.argmax(autocorrelation[near])]) / beats
    return lag * _GRID_S


class Metric(NamedTuple):
    """A metric and its title in the report."""

    title: str
    measure: Callable[[Notes], float]


METRICS: tuple[Metric, ...] = (
    Metric("notes per second", notes_per_second),
    Metric("polyphony", polyphony),
    Metric("instruments", num_instruments),
    Metric("pitch-class entropy (bits)", pitch_class_entropy),
    Metric("scale consistency", scale_consistency),
    Metric("groove consistency", groove_consistency),
    Metric("empty-beat rate", empty_beat_rate),
    Metric("longest silence (s)", longest_silence_s),
    Metric("percussion share", percussion_share),
    Metric("time in notes over 4 s", hanging_share),
    Metric("most frequent pitch, share", most_frequent_pitch_share),
    Metric("longest loop (s)", longest_loop_s),
)


class Fault(NamedTuple):
    """A fault that single pieces have, though the means may hide it.

    Attributes:
        title: what is wrong with such a piece.
        metric: title of the metric that shows it.
        is_faulty: maps values of the metric to a mask.
    """

    title: str
    metric: str
    is_faulty: Callable[[np.ndarray], np.ndarray]


FAULTS: tuple[Fault, ...] = (
    Fault("a single instrument", "instruments", lambda number: number <= 1),
    Fault(
        "over half of the melody on one pitch",
        "most frequent pitch, share",
        lambda share: share > 0.5,
    ),
    Fault("one pattern for over 20 s", "longest loop (s)", lambda seconds: seconds > 20),
)


def _times_s(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Returns onsets and releases in seconds, percussion being as long as the codec makes it."""
    start = notes.start_ms / 1000
    return start, np.where(notes.is_drum, start + DRUM_STEPS * _GRID_S, notes.end_ms / 1000)


def _covered_s(start: np.ndarray, end: np.ndarray) -> float:
    """Returns the time in seconds that is covered by at least one of the intervals."""
    if not len(start):
        return 0.0
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    covered_until = np.concatenate(([-np.inf], np.maximum.accumulate(end)[:-1]))
    return float(np.maximum(end - np.maximum(start, covered_until), 0).sum())


def _pitch_class_shares(notes: Notes) -> np.ndarray:
    pitches = np.bincount(notes.pitch[~notes.is_drum], minlength=NUM_PITCHES)
    counts = np.bincount(np.arange(NUM_PITCHES) % _PITCH_CLASSES, pitches)
    shares: np.ndarray = counts / max(counts.sum(), 1)
    return shares
