"""What can be measured on a piece of music: functions from notes to a number.

The definitions are those of MusPy (Dong et al. 2020, "MusPy: A Toolkit for Symbolic Music
Generation") where it has one; pitch-class entropy, scale consistency and groove consistency are
the three that the Multitrack Music Transformer (Dong et al. 2023) was judged by. A metric that
makes no sense for a piece (the scale of a drum solo) is NaN.

Times are in seconds here. Percussion counts as sounding for 100 ms, whatever its file says: that
is how midinet writes it. MusPy counts beats and bars by the file's own beat grid, but composed
music has none: tokens tell milliseconds. So the beat is estimated from the onsets, for every piece
the same way, as one tempo a piece; figures compare within a report, and not with those of papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from midinet.codec.decoding import DRUM_STEPS
from midinet.codec.vocabulary import NUM_PITCHES, STEP_MS
from midinet.midi.notes import Notes

BEATS_A_BAR = 4
POSITIONS_A_BAR = 16
_PITCH_CLASSES = 12
_MAJOR = (0, 2, 4, 5, 7, 9, 11)

# The tempo is looked for within these, and believed to lie near the usual one.
_FASTEST_BEAT_S, _SLOWEST_BEAT_S, _USUAL_BEAT_S = 0.3, 1.2, 0.5
_TEMPO_SPREAD_OCTAVES = 0.9
_GRID_S = STEP_MS / 1000
_LONGEST_ESTIMATED_S = 600  # more music does not make the tempo clearer


def notes_per_second(notes: Notes) -> float:
    """Notes, percussion included, per second from the first onset to the last release."""
    start, end = _times_s(notes)
    lasts_s = end.max(initial=0.0) - start.min(initial=np.inf)
    return float(len(notes) / lasts_s) if lasts_s > 0 else math.nan


def polyphony(notes: Notes) -> float:
    """The mean number of pitches that sound while any does, percussion ignored (MusPy)."""
    melodic = notes[~notes.is_drum]
    start, end = _times_s(melodic)
    any_s = _covered_s(start, end)
    if not any_s:
        return math.nan
    # Pitches are laid end to end in time, so that one sweep covers each by itself.
    apart = melodic.pitch * (end.max() + 1.0)
    return _covered_s(start + apart, end + apart) / any_s


def num_instruments(notes: Notes) -> float:
    """How many programs play; percussion counts as one more."""
    programs = np.unique(notes.program[~notes.is_drum])
    return float(len(programs) + notes.is_drum.any()) if len(notes) else math.nan


def pitch_class_entropy(notes: Notes) -> float:
    """Entropy in bits of the twelve pitch classes, percussion ignored.

    0 is one pitch class only, 3.58 all twelve alike; music in a key is between 2.5 and 3.2.
    Source: Wu and Yang 2020 ("The Jazz Transformer on the Front Line"), as in MusPy.
    """
    share = _pitch_class_shares(notes)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) if len(share) else math.nan


def scale_consistency(notes: Notes) -> float:
    """The share of notes in the scale that fits best, percussion ignored.

    Over the twelve major scales, whose notes are those of the twelve natural minor ones too.
    Source: Mogren 2016 (C-RNN-GAN), as in MusPy.
    """
    share = _pitch_class_shares(notes)
    if not share.any():
        return math.nan
    return float(max(np.roll(share, root)[list(_MAJOR)].sum() for root in range(_PITCH_CLASSES)))


def groove_consistency(notes: Notes) -> float:
    """How alike neighbouring bars are in where notes begin: 1 is the same rhythm throughout.

    One minus the mean Hamming distance, per position, of the onset patterns of neighbouring bars;
    16 positions a bar of four beats of the estimated tempo. NaN under two bars.
    Source: Wu and Yang 2020, as in MusPy.
    """
    if not len(notes):
        return math.nan
    position_s = estimate_beat_s(notes) * BEATS_A_BAR / POSITIONS_A_BAR
    start = notes.start_ms / 1000
    position = np.rint((start - start.min()) / position_s).astype(np.int64)
    num_bars = int(position.max()) // POSITIONS_A_BAR + 1
    if num_bars < 2:
        return math.nan
    has_onset = np.zeros(num_bars * POSITIONS_A_BAR, bool)
    has_onset[position] = True
    bars = has_onset.reshape(num_bars, POSITIONS_A_BAR)
    return float(1 - (bars[1:] != bars[:-1]).mean())


def empty_beat_rate(notes: Notes) -> float:
    """The share of beats (of the estimated tempo) in which nothing sounds.

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
    """The longest time in seconds, between the first and the last note, without a sound."""
    if not len(notes):
        return math.nan
    start, end = _times_s(notes)
    order = np.argsort(start, kind="stable")
    silence = start[order][1:] - np.maximum.accumulate(end[order])[:-1]
    return float(silence.max(initial=0.0))


def percussion_share(notes: Notes) -> float:
    """The share of notes that are percussion."""
    return float(notes.is_drum.mean()) if len(notes) else math.nan


def estimate_beat_s(notes: Notes) -> float:
    """The length of a beat in seconds, 0.3 to 1.2 (200 to 50 beats a minute), from the onsets.

    The lag at which the onsets are most like themselves, weighted towards 120 beats a minute on
    a logarithmic scale, then made exact by the same likeness 2, 4, 8 and 16 beats away: a grid of
    10 ms alone would drift by a beat in a minute. Half and double tempo can be taken for each
    other. Source: Ellis 2007 ("Beat Tracking by Dynamic Programming"), section 3.2, on notes.
    """
    start = notes.start_ms / 1000
    start = start[start < start.min(initial=np.inf) + _LONGEST_ESTIMATED_S]
    if len(start) < 2:
        return _USUAL_BEAT_S
    steps = np.rint((start - start.min()) / _GRID_S).astype(np.int64)
    onsets = np.bincount(steps).astype(float)
    onsets = np.convolve(np.sqrt(onsets), (0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25))
    onsets -= onsets.mean()
    spectrum = np.fft.rfft(onsets, 2 * len(onsets))
    likeness = np.fft.irfft(np.abs(spectrum) ** 2)[: len(onsets)]

    lags = np.arange(round(_FASTEST_BEAT_S / _GRID_S), round(_SLOWEST_BEAT_S / _GRID_S) + 1)
    octaves = np.log2(lags * _GRID_S / _USUAL_BEAT_S)
    weight = np.exp(-0.5 * (octaves / _TEMPO_SPREAD_OCTAVES) ** 2)
    lags = lags[lags < len(likeness)]
    if not len(lags):
        return _USUAL_BEAT_S
    lag = float(lags[np.argmax(likeness[lags] * weight[: len(lags)])])
    for beats in (2, 4, 8, 16):
        near = np.arange(math.floor(beats * lag - beats), math.ceil(beats * lag + beats) + 1)
        near = near[np.abs(near - beats * lag) <= 2 + beats // 8]
        if near[-1] >= len(likeness):
            break
        lag = float(near[np.argmax(likeness[near])]) / beats
    return lag * _GRID_S


class Metric(NamedTuple):
    """A metric as the report shows it."""

    title: str
    measure: Callable[[Notes], float]


METRICS: tuple[Metric, ...] = (
    Metric("notes a second", notes_per_second),
    Metric("polyphony", polyphony),
    Metric("instruments", num_instruments),
    Metric("pitch-class entropy (bits)", pitch_class_entropy),
    Metric("scale consistency", scale_consistency),
    Metric("groove consistency", groove_consistency),
    Metric("empty-beat rate", empty_beat_rate),
    Metric("longest silence (s)", longest_silence_s),
    Metric("percussion share", percussion_share),
)


def _times_s(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Onsets and releases in seconds; percussion as long as the codec makes it."""
    start = notes.start_ms / 1000
    return start, np.where(notes.is_drum, start + DRUM_STEPS * _GRID_S, notes.end_ms / 1000)


def _covered_s(start: np.ndarray, end: np.ndarray) -> float:
    """How long at least one of the intervals lasts."""
    if not len(start):
        return 0.0
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    covered_until = np.concatenate(([-np.inf], np.maximum.accumulate(end)[:-1]))
    return float(np.maximum(end - np.maximum(start, covered_until), 0).sum())


def _pitch_class_shares(notes: Notes) -> np.ndarray:
    pitches = np.bincount(notes.pitch[~notes.is_drum], minlength=NUM_PITCHES)
    counts = np.bincount(np.arange(NUM_PITCHES) % _PITCH_CLASSES, pitches)
    return counts / max(counts.sum(), 1)
