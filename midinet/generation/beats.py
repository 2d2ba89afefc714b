"""The beats that a model hears: in windows as arrays, and inside the compiled loop.

Axes: B pieces, T tokens, M tempo changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import STEP_MS
from midinet.midi.tempo_map import TempoMap
from midinet.model.music_state import (
    BEATS_PER_CYCLE,
    NO_BEAT,
    NO_TICK,
    TICKS_PER_BEAT,
    Pulse,
    nearest_tick,
)


class Beats:
    """The metronomes of B pieces; a piece without one has beats of NaN."""

    def __init__(self, metronomes: Sequence[TempoMap | None]) -> None:
        self._metronomes = metronomes

    def at(self, steps: np.ndarray) -> Pulse:
        """Where in the beats the times `(B, T)` in grid steps lie."""
        beats, beats_per_step = np.full((2, *steps.shape), NO_BEAT)
        for row, metronome in enumerate(self._metronomes):
            if metronome is not None:
                ms = steps[row] * float(STEP_MS)
                beats[row] = metronome.beats_at(ms)
                beats_per_step[row] = 1000 * STEP_MS / metronome.us_per_beat_at(ms)
        return Pulse.of(beats, beats_per_step)

    def changes(self) -> np.ndarray:
        """The tempos `(3, B, M)` as `pulse_at` takes them, M at most per piece.

        For each from when on it holds, in grid steps; the beat that step 0 would have in it; and
        its beats per grid step.
        """
        most = max([1, *(len(metronome.ms) for metronome in self._metronomes if metronome)])
        changes = np.full((3, len(self._metronomes), most), NO_BEAT)
        changes[0, :, 0], changes[0, :, 1:] = -math.inf, math.inf
        for row, metronome in enumerate(self._metronomes):
            if metronome is not None:
                M = len(metronome.ms)
                changes[0, row, 1:M] = metronome.ms[1:] / STEP_MS
                changes[1, row, :M] = metronome.beats - metronome.ms * 1000 / metronome.us_per_beat
                changes[2, row, :M] = 1000 * STEP_MS / metronome.us_per_beat
        return changes


def pulse_at(now: tf.Tensor, changes: tf.Tensor) -> Pulse:
    """Where in the beats the times `(B,)` lie; see `Beats.changes`."""
    # float64: in a long piece float32 would blur the fastest waves of the metronome.
    now = tf.cast(now, tf.float64)
    begins, first_beats, beats_per_step = tf.unstack(changes)
    index = tf.reduce_sum(tf.cast(begins <= now[:, None], tf.int32), axis=1) - 1
    first_beat, per_step = (
        tf.gather(x, index, batch_dims=1) for x in (first_beats, beats_per_step)
    )
    beat = first_beat + now * per_step
    has_beat = ~tf.math.is_nan(beat)
    return Pulse(
        beat=tf.cast(tf.math.floormod(beat, BEATS_PER_CYCLE), tf.float32),
        tick=tf.cast(tf.where(has_beat, nearest_tick(beat), NO_TICK), tf.int32),
        ticks_per_step=tf.cast(tf.where(has_beat, TICKS_PER_BEAT * per_step, 0.0), tf.float32),
    )
