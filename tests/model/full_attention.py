"""The plain form of relative attention: the reference that the blockwise form must equal."""

from __future__ import annotations

from midinet.backend import tf


def full_attention(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, E: tf.Tensor) -> tf.Tensor:
    """Causal attention with relative positions over the full T x T matrix; automatic gradient.

    Args:
        q, k, v: `(B, H, T, d)`, q scaled by the caller.
        E: `(L, d)`, whose last row is distance 0.

    Returns:
        `(B, H, T, d)`.
    """
    B, H, T, _ = q.shape
    relative = tf.einsum("bhqd,md->bhqm", q, E[E.shape[0] - T :])
    padded = tf.pad(relative, ((0, 0), (0, 0), (0, 0), (1, 0)))
    skewed = tf.reshape(padded, (B, H, T + 1, T))[:, :, 1:]
    scores = tf.matmul(q, k, transpose_b=True) + skewed
    causal = tf.linalg.band_part(tf.ones((T, T), tf.bool), -1, 0)
    scores = tf.where(causal, tf.cast(scores, tf.float32), tf.float32.min)
    return tf.matmul(tf.cast(tf.nn.softmax(scores), v.dtype), v)
