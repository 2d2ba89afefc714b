"""Relative attention by blocks equals the plain form."""

import numpy as np
import pytest

from midinet.backend import tf
from midinet.model.attention import rectangular_skew, relative_attention
from tests.model.full_attention import full_attention


def random_tensor(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


@pytest.mark.parametrize(
    ("B", "H", "T", "L", "d", "block_size"),
    [
        (2, 2, 32, 32, 8, 8),
        (1, 2, 29, 32, 8, 8),  # T is no multiple of the block
        (2, 3, 20, 64, 4, 16),  # T is shorter than the longest sequence
        (1, 1, 7, 32, 8, 16),  # one block, shorter than its size
        (2, 1, 1, 16, 8, 8),
    ],
)
def test_blocks_equal_the_full_matrix(B, H, T, L, d, block_size):
    q, k, v = (random_tensor(seed, B, H, T, d) for seed in range(3))
    E, d_output = random_tensor(3, L, d), random_tensor(4, B, H, T, d)
    results = []
    for attention in (full_attention, lambda *x: relative_attention(*x, block_size=block_size)):
        with tf.GradientTape() as tape:
            tape.watch((q, k, v, E))
            output = attention(q, k, v, E)
        gradients = tape.gradient(output, (q, k, v, E), output_gradients=d_output)
        results.append([output, *(tf.convert_to_tensor(gradient) for gradient in gradients)])
    for plain, blockwise in zip(*results, strict=True):
        np.testing.assert_allclose(plain, blockwise, atol=1e-4)


def test_a_query_meets_the_row_of_its_distance():
    # E's row r is filled with r: the relative score of keys at distance j is L - 1 - j.
    Q, K, L = 3, 5, 8
    rows = np.concatenate([[-1], np.arange(L - K, L)]).astype(np.float32)
    scores = rectangular_skew(tf.broadcast_to(rows, (1, 1, Q, K + 1)))[0, 0].numpy()
    for i in range(Q):
        for j in range(K - Q + i + 1):
            assert scores[i, j] == L - 1 - (K - Q + i - j)


def test_no_position_sees_the_future():
    q, k, v = (random_tensor(seed, 1, 1, 12, 4) for seed in range(3))
    E = random_tensor(3, 12, 4)
    before = relative_attention(q, k, v, E, block_size=4)
    later = tf.concat([tf.zeros((1, 1, 6, 4)), tf.ones((1, 1, 6, 4))], axis=2)
    after = relative_attention(q, k + 9 * later, v + 9 * later, E, block_size=4)
    np.testing.assert_array_equal(before[:, :, :6], after[:, :, :6])
    assert np.abs(before[:, :, 6:] - after[:, :, 6:]).min() > 0


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_stays_close(dtype):
    inputs = [random_tensor(seed, 1, 2, 24, 8) for seed in range(3)] + [random_tensor(3, 24, 8)]
    exact = relative_attention(*inputs, block_size=8)
    half = relative_attention(*(tf.cast(x, dtype) for x in inputs), block_size=8)
    assert half.dtype == dtype
    np.testing.assert_allclose(exact, tf.cast(half, tf.float32), atol=0.1)
