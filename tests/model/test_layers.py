"""New blocks begin near the identity; dropout depends on its seed alone."""

import numpy as np
import pytest

from midinet.backend import tf
from midinet.model.layers import DecoderBlock, dropout, fold_in
from midinet.model.parameters import Parameters


@pytest.mark.parametrize("num_blocks", [1, 8])
def test_what_new_blocks_add_varies_less_the_more_there_are(num_blocks):
    parameters = Parameters(embedding_size=64, num_blocks=num_blocks, feed_forward_dim=64)
    block = DecoderBlock(parameters)
    block.build((None, None, 64))
    of_glorot = np.sqrt(2 / (64 + 64))
    for layer in (block.attention.output_projection, block.feed_forward_2):
        expected = of_glorot / np.sqrt(2 * num_blocks)
        assert np.std(layer.kernel) == pytest.approx(expected, rel=0.05)
    assert np.std(block.feed_forward_1.kernel) == pytest.approx(of_glorot, rel=0.05)


def test_dropout_follows_its_seed():
    x, seed = tf.ones((50, 40)), tf.constant([3, 7])
    once = dropout(x, 0.25, seed).numpy()
    assert set(np.unique(once)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((once == 0).mean() - 0.25) < 0.04
    np.testing.assert_array_equal(once, dropout(x, 0.25, seed))
    assert (once != dropout(x, 0.25, fold_in(seed, 1)).numpy()).any()
    np.testing.assert_array_equal(x, dropout(x, 0.25, None))
