"""Variety: what makes too much of a piece becomes less likely, and what is missing more likely.

A small model that has repeated one pitch for a while expects more of the same. Real music seldom
does: in the demo's training songs no pitch makes more than 0.36 of the last 128 melodic notes at
95% of all moments. And where it has had one instrument for a while, it expects no other, while 96%
of those songs have three or more by their 1,500th token.

Source for lowering what was there too often: Keskar et al. 2019, "CTRL: a conditional transformer
language model for controllable generation".

Axes: B pieces, V vocabulary.
"""

from __future__ import annotations

from midinet.backend import tf
from midinet.codec.vocabulary import NUM_PITCHES, PROGRAM

MEMORY_NOTES = 128  # the weight of a melodic note falls to 1/e after so many others
_MIN_NOTES = 16  # of a melody with fewer notes a pitch can't have much
USUAL_SHARE = 0.3  # a pitch that has no more of the melody stays as likely as it is
USUAL_PROGRAMS = 3  # a piece with fewer invites others
_INVITATION = 0.1  # how much more likely they become, as a share of `variety`


def remember_pitch(shares: tf.Tensor, pitch: tf.Tensor, is_melodic_note: tf.Tensor) -> tf.Tensor:
    """The share `(B, 128)` of each pitch in the latest melodic notes, after one more token.

    Args:
        shares: before it; zeros at the beginning of a piece.
        pitch: `(B,)` of the token, if it begins a note.
        is_melodic_note: `(B,)` whether it begins a melodic note.
    """
    change = tf.one_hot(pitch, NUM_PITCHES) - shares
    return shares + tf.where(is_melodic_note[:, None], change / MEMORY_NOTES, 0.0)


def discourage_frequent(
    logits: tf.Tensor, shares: tf.Tensor, is_melodic: tf.Tensor, variety: tf.Tensor
) -> tf.Tensor:
    """The logits `(B, V)`, lower for the NOTE_ONs of pitches with an unusual share.

    Args:
        logits: of the model.
        shares: `(B, 128)` what `remember_pitch` returned last.
        is_melodic: `(B,)` whether the current program is not percussion.
        variety: by how much a logit falls per unit of share above USUAL_SHARE; 0: not at all.
    """
    # At the beginning of a piece they do not add up to 1 yet.
    total = tf.reduce_sum(shares, axis=1, keepdims=True)
    shares /= tf.maximum(total, _MIN_NOTES / MEMORY_NOTES)
    excess = tf.where(is_melodic[:, None], tf.nn.relu(shares - USUAL_SHARE), 0.0)
    return logits - variety * tf.pad(excess, ((0, 0), (0, logits.shape[1] - NUM_PITCHES)))


def invite_programs(logits: tf.Tensor, has_played: tf.Tensor, variety: tf.Tensor) -> tf.Tensor:
    """The logits `(B, V)`, higher for new PROGRAMs in a piece of few instruments.

    Args:
        logits: of the model.
        has_played: `(B, 128)` the programs that have begun a note.
        variety: as for `discourage_frequent`.
    """
    count = tf.reduce_sum(tf.cast(has_played, tf.float32), axis=1, keepdims=True)
    missing_share = tf.nn.relu(USUAL_PROGRAMS - count) / USUAL_PROGRAMS
    invitation = variety * _INVITATION * tf.where(has_played, 0.0, missing_share)
    return logits + tf.pad(invitation, ((0, 0), (PROGRAM.first, logits.shape[1] - PROGRAM.end)))
