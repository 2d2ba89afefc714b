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
from midinet.model import music_state


class Beats:
    """The metronomes of B pieces; a piece without one has beats of NaN."""

    def __init__(self, metronomes: Sequence[TempoMap | None]) -> None:
        self._metronomes = metronomes

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The beats at times `(B, T)` in grid steps, modulo what the model can tell apart."""
        beats = np.full(steps.shape, music_state.NO_BEAT)
        for row, metronome in enumerate(self._metronomes):
            if metronome is not None:
                beats[row] = metronome.beats_at(steps[row] * float(STEP_MS))
        return (beats % music_state.BEATS_PER_CYCLE).astype(np.float32)

    def changes(self) -> np.ndarray:
        """The tempos `(3, B, M)` as `beats_at` takes them, M at most per piece.

        For each from when on it holds, in grid steps; the beat that step 0 would have in it; and
        its beats per grid step.
        """
        most = max([1, *(len(metronome.ms) for metronome in self._metronomes if metronome)])
        changes = np.full((3, len(self._metronomes), most), music_state.NO_BEAT)
        changes[0, :, 0], changes[0, :, 1:] = -math.inf, math.inf
        for row, metronome in enumerate(self._metronomes):
            if metronome is not None:
                M = len(metronome.ms)
                changes[0, row, 1:M] = metronome.ms[1:] / STEP_MS
                changes[1, row, :M] = metronome.beats - metronome.ms * 1000 / metronome.us_per_beat
                changes[2, row, :M] = 1000 * STEP_MS / metronome.us_per_beat
        return changes


def beats_at(now: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    """The beats at times `(B,)`, modulo what the model can tell apart; see `Beats.changes`."""
    # float64: in a long piece float32 would blur the fastest waves of the metronome.
    now = tf.cast(now, tf.float64)
    begins, first_beats, beats_per_step = tf.unstack(changes)
    index = tf.reduce_sum(tf.cast(begins <= now[:, None], tf.int32), axis=1) - 1
    first_beat, per_step = (
        tf.gather(x, index, batch_dims=1) for x in (first_beats, beats_per_step)
    )
    beat = first_beat + now * per_step
    return tf.cast(tf.math.floormod(beat, music_state.BEATS_PER_CYCLE), tf.float32)
