"""Choosing a token by its logits: kinds, temperature, top-k and top-p, in the compiled loop.

Axes: B pieces, V vocabulary.
"""

from __future__ import annotations

from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf
from midinet.codec.vocabulary import KINDS, PROGRAM

_SORT_KEY_STRIDE = 1024  # more than there are tokens


def steer_within_kinds(
    logits: tf.Tensor, preference: tf.Tensor, kind_temperature: tf.Tensor
) -> tf.Tensor:
    """Logits with a preference within each kind of tokens, and a temperature for the kinds.

    The preference leaves each kind as a whole as likely as it was: it decides which note begins,
    not whether one does. Forbidden tokens have -inf, and stay so.

    Args:
        logits: `(B, V)`.
        preference: `(B, V)`, added to them within each kind.
        kind_temperature: that of the choice of a kind, and of a program: who plays belongs to
            what happens next, as the kind does.
    """
    kinds_of_tokens = list(KINDS.values())
    sizes = [kind.size for kind in kinds_of_tokens]
    parts = []
    for kind, before, preferred in zip(
        kinds_of_tokens,
        tf.split(logits, sizes, axis=1),
        tf.split(preference, sizes, axis=1),
        strict=True,
    ):
        changed = before + preferred
        if kind is PROGRAM:
            changed /= kind_temperature
        total = tf.reduce_logsumexp(before, axis=1, keepdims=True)
        sharper = tf.where(tf.math.is_finite(total), total * (1 / kind_temperature - 1), 0.0)
        parts.append(with_total_of(before, changed) + sharper)
    return tf.concat(parts, axis=1)


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
    uniform: tf.Tensor,
) -> tf.Tensor:
    """Samples a token for each row of logits `(B, V)`, where forbidden tokens have -inf.

    Only for code that XLA compiles, because it uses XLA's sort.

    Args:
        uniform: `(B,)` random numbers in [0, 1), one per row.

    Returns:
        `(B,)` int32.

    Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p).
    """
    tokens = _argsort_descending(logits)[:, :top_k]
    likeliest = tf.gather(logits, tokens, batch_dims=1)
    # The most likely token has weight 1, the others less; -inf becomes 0.
    weights = tf.exp((likeliest - likeliest[:, :1]) / temperature)
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
