"""Causal attention with relative positions, computed in blocks of queries.

Axes: B batch, H heads, T positions, L longest sequence, d width of a head; Q positions of one
block of queries, K keys that it may see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from midinet.backend import tf

# A block has a quarter of the positions, within these bounds. Larger blocks compute more scores
# that the causal mask discards; smaller ones start more operations.
MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = 128, 256

# Large negative value that masks future positions; finite, so that no difference of two masked
# scores is NaN.
MASK_VALUE = -1e9


def relative_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    relative_embedding: tf.Tensor,
    block_size: int | None = None,
) -> tf.Tensor:
    """Computes causal attention with relative positions, block by block.

    `softmax((q_i . k_j + q_i . E[L-1-(i-j)]) for j <= i) . v`, where the caller has scaled q.
    Each block of queries meets only the keys up to its own end, so half of the score matrix is
    never computed. The gradient recomputes the softmax instead of storing it, so no more than one
    block's scores are in memory at a time.

    Args:
        q, k, v: `(B, H, T, d)`; T is static and at most L.
        relative_embedding: E `(L, d)`, whose last row belongs to distance 0.
        block_size: queries per block, for tests; the result does not depend on it.

    Returns:
        `(B, H, T, d)`.

    Sources: Huang et al. 2018, "Music Transformer" (the relative term and its skew); Dao et al.
    2022, "FlashAttention" (a gradient that recomputes the softmax).
    """
    T = q.shape[2]
    block_size = block_size or min(MAX_BLOCK_SIZE, max(MIN_BLOCK_SIZE, T // 4))

    @tf.custom_gradient
    def attend(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, E: tf.Tensor) -> tuple[tf.Tensor, Any]:
        output = _forward(_Inputs(q, k, v, E), block_size)
        return output, lambda d_output: _backward(_Inputs(q, k, v, E), output, d_output, block_size)

    return attend(q, k, v, relative_embedding)


class _Inputs(NamedTuple):
    """What attention is computed from: q, k, v `(B, H, T, d)` and E `(L, d)`."""

    q: tf.Tensor
    k: tf.Tensor
    v: tf.Tensor
    E: tf.Tensor


class _Block(NamedTuple):
    """A block of queries and what it meets."""

    start: int  # positions of its first query and after its last
    end: int
    q: tf.Tensor  # (B, H, Q, d)
    k: tf.Tensor  # (B, H, K, d): the keys and values up to its end
    v: tf.Tensor
    rows: tf.Tensor  # (K + 1, d): a row of zeros, then the rows of E for distances K - 1 to 0

    def weights(self) -> tf.Tensor:
        """The attention weights, float32 `(B, H, Q, K)`."""
        scores = tf.matmul(self.q, self.k, transpose_b=True)
        scores += rectangular_skew(tf.einsum("bhqd,md->bhqm", self.q, self.rows))
        Q, K = self.q.shape[2], self.k.shape[2]
        # TensorFlow would compute a constant mask in advance and keep it, which took a gigabyte
        # at the default size. A placeholder prevents that.
        zero = tf.compat.v1.placeholder_with_default(0, ())
        future = tf.range(K) > tf.range(K - Q, K)[:, None] + zero
        # float32: half precision overflows in the masked softmax.
        return tf.nn.softmax(tf.cast(scores, tf.float32) + tf.where(future, MASK_VALUE, 0.0))


def _blocks(inputs: _Inputs, block_size: int) -> Iterator[_Block]:
    """Yields the blocks of queries from first to last."""
    q, k, v, E = inputs
    T, L = q.shape[2], E.shape[0]
    for start in range(0, T, block_size):
        end = min(start + block_size, T)
        rows = tf.pad(E[L - end :], ((1, 0), (0, 0)))
        yield _Block(start, end, q[:, :, start:end], k[:, :, :end], v[:, :, :end], rows)


def _forward(inputs: _Inputs, block_size: int) -> tf.Tensor:
    """The attention's output `(B, H, T, d)`."""
    outputs = [
        tf.matmul(tf.cast(block.weights(), block.v.dtype), block.v)
        for block in _blocks(inputs, block_size)
    ]
    return tf.concat(outputs, axis=2)


def _backward(
    inputs: _Inputs, output: tf.Tensor, d_output: tf.Tensor, block_size: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients of q, k, v and E, given that of the output."""
    T, L = inputs.q.shape[2], inputs.E.shape[0]
    dq, dk, dv = [], tf.zeros_like(inputs.k), tf.zeros_like(inputs.v)
    dE = tf.zeros_like(inputs.E)
    # The softmax's gradient is w * (dw - sum(w * dw)), and that sum is output . d_output.
    row_sums = tf.reduce_sum(
        tf.cast(output, tf.float32) * tf.cast(d_output, tf.float32), -1, keepdims=True
    )
    # Without the dependency TensorFlow would compute the weights as soon as q and k are there, or
    # reuse those of the forward pass, and in both cases keep all of them in memory.
    with tf.control_dependencies([d_output]):
        for block in _blocks(inputs, block_size):
            weights = block.weights()
            d_block = d_output[:, :, block.start : block.end]
            d_weights = tf.cast(tf.matmul(d_block, block.v, transpose_b=True), tf.float32)
            d_scores = weights * (d_weights - row_sums[:, :, block.start : block.end])
            d_scores, weights = tf.cast(d_scores, block.q.dtype), tf.cast(weights, block.q.dtype)
            d_skewed = inverse_skew(d_scores)
            d_relative = tf.einsum("bhqm,md->bhqd", d_skewed, block.rows)
            dq.append(tf.matmul(d_scores, block.k) + d_relative)
            later = ((0, 0), (0, 0), (0, T - block.end), (0, 0))
            dk += tf.pad(tf.matmul(d_scores, block.q, transpose_a=True), later)
            dv += tf.pad(tf.matmul(weights, d_block, transpose_a=True), later)
            d_rows = tf.einsum("bhqm,bhqd->md", d_skewed, block.q)[1:]
            dE += tf.pad(d_rows, ((L - block.end, 0), (0, 0)))
    return tf.concat(dq, axis=2), dk, dv, dE


def rectangular_skew(scores: tf.Tensor) -> tf.Tensor:
    """Shifts relative logits so that column j means key j.

    Args:
        scores: `(B, H, Q, K + 1)`; column m is the logit of relative row m, column 0 a dummy.

    Returns:
        `(B, H, Q, K)`; entry `[.., i, j]` came from the row for distance `K - Q + i - j`.
        Entries with a negative distance are arbitrary: the causal mask covers them.

    Source: Huang et al. 2018, "Music Transformer", section 3.4.1, for a block of queries.
    """
    B, H, Q, columns = scores.shape
    flat = tf.reshape(scores, (B or -1, H, Q * columns))
    return tf.reshape(flat[:, :, Q:], (B or -1, H, Q, columns - 1))


def inverse_skew(gradient: tf.Tensor) -> tf.Tensor:
    """The gradient of `rectangular_skew`: `(B, H, Q, K)` -> `(B, H, Q, K + 1)`."""
    B, H, Q, K = gradient.shape
    flat = tf.reshape(gradient, (B or -1, H, Q * K))
    return tf.reshape(tf.pad(flat, ((0, 0), (0, 0), (Q, 0))), (B or -1, H, Q, K + 1))
