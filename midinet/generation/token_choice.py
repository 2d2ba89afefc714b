"""Choosing a token by its logits: temperature, top-k, top-p and min-p, in the compiled loop.

Axes: B pieces, V vocabulary.
"""

from __future__ import annotations

from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf
from midinet.codec.vocabulary import TokenRange

_SORT_KEY_STRIDE = 1024  # more than there are tokens


def with_temperature_within(
    kind: TokenRange, logits: tf.Tensor, temperature: tf.Tensor
) -> tf.Tensor:
    """Logits `(B, V)` with a temperature for the choice among the tokens of one kind.

    How likely the kind is as a whole stays as it was. Forbidden tokens have -inf, and stay so.
    """
    before, within, after = tf.split(
        logits, (kind.first, kind.size, logits.shape[1] - kind.end), axis=1
    )
    return tf.concat([before, with_total_of(within, within / temperature), after], axis=1)


def with_total_of(before: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    """Changed logits `(B, N)`, together as likely as those before; all may be -inf."""
    totals = (tf.reduce_logsumexp(part, axis=1, keepdims=True) for part in (before, changed))
    gain = tf.subtract(*totals)
    return changed + tf.where(tf.math.is_finite(gain), gain, 0.0)


def sample_token(
    logits: tf.Tensor,
    top_k: int,
    temperature: tf.Tensor,
    top_p: tf.Tensor,
    min_p: tf.Tensor,
    uniform: tf.Tensor,
) -> tf.Tensor:
    """Samples a token for each row of logits `(B, V)`, where forbidden tokens have -inf.

    Only for code that XLA compiles, because it uses XLA's sort.

    Args:
        uniform: `(B,)` random numbers in [0, 1), one per row.

    Returns:
        `(B,)` int32.

    Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p).
    """
    tokens = _argsort_descending(logits)[:, :top_k]
    likeliest = tf.gather(logits, tokens, batch_dims=1)
    # The most likely token has weight 1, the others less; -inf becomes 0.
    below = likeliest - likeliest[:, :1]
    weights = tf.where(tf.exp(below) >= min_p, tf.exp(below / temperature), 0.0)
    before = tf.cumsum(weights, axis=1, exclusive=True)
    # The most likely tokens up to and including the one that reaches top_p.
    kept = tf.where(before < top_p * tf.reduce_sum(weights, axis=1, keepdims=True), weights, 0.0)
    sums = tf.cumsum(kept, axis=1)
    index = tf.reduce_sum(tf.cast(sums <= uniform[:, None] * sums[:, -1:], tf.int32), axis=1)
    # Rounding may make the product equal to the sum, so that the index would be too large.
    last = tf.reduce_sum(tf.cast(kept > 0, tf.int32), axis=1) - 1
    return tf.gather(tokens, tf.minimum(index, last), batch_dims=1)


def _argsort_descending(logits: tf.Tensor) -> tf.Tensor:
    """The tokens in descending order of their logits `(B, V)`; of equals the lower first. int32.

    XLA sorts pairs of numbers, as `tf.math.top_k` does, several times more slowly than single
    numbers, so each logit and its token are combined into one number.
    """
    bits = tf.bitcast(-logits, tf.int32)
    # As integers, negative floats are in reverse order.
    ascending = tf.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    tokens = tf.range(logits.shape[1], dtype=tf.int64)
    ordered = xla.sort(tf.cast(ascending, tf.int64) * _SORT_KEY_STRIDE + tokens)
    return tf.cast(ordered % _SORT_KEY_STRIDE, tf.int32)
