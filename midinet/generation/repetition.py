"""Repetition: what was played four or eight bars ago returns more faithfully.

Real songs repeat their bars exactly, but every token that is sampled is a chance to leave them. The
meter (see model/meter.py) tells apart how much of the logits comes from what was played bars ago,
so this part can be made stronger: the logits move farther in the direction in which the past has
moved them. A bar that repeats itself at once soon bores, so copies of the last half bar and of the
last bar become weaker by the same rule.

Source for moving farther along a difference of logits: Ho and Salimans 2022, "Classifier-free
diffusion guidance".
"""

from __future__ import annotations

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import NUM_PITCHES
from midinet.model.meter import LAGS_TICKS, NUM_SCORES, TICKS_PER_BAR

# By how much of itself the score of each lag grows, by its length in bars. They and the strength of
# 1 were chosen by the music that they make; midinet/demo/README.md has the table.
GAIN_BY_BARS = {0.5: -0.7, 1: -0.7, 2: 0.3, 4: 3.0, 8: 3.0}
_POSITION_GAIN = 0.5  # of the scores of positions in the bar, which keep notes on the beat


def repetition_weights(meter: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    """The weights of what repetition adds to the logits, given those of the meter's head.

    Args:
        meter: kernel `(D, NUM_SCORES)` and bias `(NUM_SCORES,)`; empty without such a head.

    Returns:
        The same shapes, as `meter_logits` takes them.
    """
    gains = np.full(NUM_SCORES, _POSITION_GAIN, np.float32)
    of_lags = [GAIN_BY_BARS[lag / TICKS_PER_BAR] for lag in LAGS_TICKS]
    # Lines, pitches and programs have a score for each lag, after those of positions.
    gains[2 * TICKS_PER_BAR :] = np.tile(of_lags, 3)
    return tuple(weight * gains for weight in meter)


def without_pitches(repetition: tf.Tensor) -> tf.Tensor:
    """What repetition adds to the logits `(B, V)`, but nothing for NOTE_ONs.

    For accompaniments: their rhythm returns, but the kept notes may have moved on to other chords,
    where the pitches of bars ago no longer fit.
    """
    return tf.pad(repetition[:, NUM_PITCHES:], ((0, 0), (NUM_PITCHES, 0)))
