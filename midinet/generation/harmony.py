"""Hearing ahead: composed notes fit the harmony of what is kept, also of what is still to come.

The model hears the past. A musician who accompanies a tune knows where it goes, so the kept notes
say beforehand which pitch classes fit at each moment. How well a pitch class fits depends on the
intervals from the kept notes to it: from those that sound at that moment, and from those of the
16 seconds before and after, which tell the key. The tables below say so as log-odds, the weights
of a logistic regression from the kept part of a song to the notes of its other parts.
`benchmarks/harmony.py` finds them in a data set.

The probabilities of model and harmony are multiplied, as in a product of experts. How likely it is
that a note begins at all stays what the model says.

Axes: B pieces, G moments, V vocabulary.

Source: Hinton 2002, "Training products of experts by minimizing contrastive divergence".
"""

from __future__ import annotations

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import NUM_PITCHES
from midinet.generation.token_choice import with_total_of
from midinet.midi.notes import Notes

OCTAVE = 12
MOMENT_MS = 50  # the harmony changes on this grid
STRENGTH = 0.6  # of what the tables say: some of it the model has heard by itself
KEY_MS = 16_000  # before and after a moment, in which kept notes tell the key

# By the interval from the kept pitch class up to the composed one: unison, minor second, ...
# Each is a share of all kept notes times this weight.
SOUNDING_WEIGHTS = (1.58, -0.85, -0.30, 0.05, 0.07, 0.52, -0.62, 0.72, -0.04, 0.03, -0.36, -0.81)
KEY_WEIGHTS = (2.12, -1.23, 0.01, 0.20, -0.36, 1.06, -1.44, 1.13, -0.16, -0.16, -0.05, -1.12)


def shares_of_pitch_classes(kept: Notes, moments_ms: np.ndarray, radius_ms: float) -> np.ndarray:
    """How much of the time around each moment each pitch class has of the notes that sound.

    Args:
        kept: melodic notes.
        moments_ms: `(G,)` ascending.
        radius_ms: how far from a moment the notes count.

    Returns:
        `(G, 12)` float32; each row adds up to 1, or is 0 where nothing sounds.
    """
    edges = np.concatenate([moments_ms - radius_ms, moments_ms + radius_ms])
    # For each pitch class, the time for which its notes have sounded up to each edge.
    sounded = np.zeros((OCTAVE, len(edges)))
    for pitch_class in np.unique(kept.pitch % OCTAVE):
        notes = kept[kept.pitch % OCTAVE == pitch_class]
        for times, sign in ((np.sort(notes.start_ms), 1), (np.sort(notes.end_ms), -1)):
            count = np.searchsorted(times, edges, side="right")
            sums = np.append(0.0, np.cumsum(times))
            sounded[pitch_class] += sign * (count * edges - sums[count])
    before, after = np.split(sounded, 2, axis=1)
    total_ms = np.round((after - before).T, 3)  # rounding errors are no sound
    shares = total_ms / np.maximum(total_ms.sum(axis=1, keepdims=True), 1e-3)
    result: np.ndarray = shares.astype(np.float32)
    return result


def fitness(kept: Notes) -> np.ndarray:
    """How well each pitch class fits the kept notes at each moment, in nats: `(G, 12)` float32."""
    melodic = kept[~kept.is_drum]
    moments_ms = MOMENT_MS * (0.5 + np.arange(int(kept.duration_ms // MOMENT_MS) + 1))
    interval = (np.arange(OCTAVE) - np.arange(OCTAVE)[:, None]) % OCTAVE  # [kept, composed]
    fits = np.zeros((len(moments_ms), OCTAVE), np.float32)
    for weights, radius_ms in ((SOUNDING_WEIGHTS, MOMENT_MS / 2), (KEY_WEIGHTS, KEY_MS)):
        shares = shares_of_pitch_classes(melodic, moments_ms, radius_ms)
        fits += shares @ np.array(weights, np.float32)[interval]
    return STRENGTH * fits


def prefer_fitting(logits: tf.Tensor, fits: tf.Tensor, is_melodic: tf.Tensor) -> tf.Tensor:
    """The logits `(B, V)`, higher for NOTE_ONs that fit, and lower for those that do not.

    Args:
        logits: of the model.
        fits: `(B, 12)` how well each pitch class fits now, in nats.
        is_melodic: `(B,)` whether the current program is not percussion.
    """
    on, others = tf.split(logits, (NUM_PITCHES, -1), axis=1)
    fitting = on + tf.gather(fits, np.arange(NUM_PITCHES) % OCTAVE, axis=1)
    on = tf.where(is_melodic[:, None], with_total_of(on, fitting), on)
    return tf.concat([on, others], axis=1)
