"""The model's decoder with cached keys and values, so that a token costs one token's work.

It knows the model only through its weights by name. All that is needed to read weights and caches
at the speed of memory, under XLA on a CPU, is in this module.

Axes: B pieces, H heads, D width of the model, d = D / H, L the model's longest window, C rows of
the caches, K and N a kernel's inputs and outputs, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf
from midinet.generation.onset_ring import OnsetRing, lookup_in_ring, remember_onset
from midinet.generation.repetition import repetition_weights
from midinet.model.attention import MASK_VALUE, relative_attention
from midinet.model.layers import LAYER_NORM_EPSILON
from midinet.model.meter import meter_logits
from midinet.model.music_state import Features, embed, to_numbers

_ROW_PARTS = 4  # a single row is multiplied in so many parts, so that all cores read the weights
# So many rows are multiplied one by one, as a matrix product would pack the weights first.
_FEW_ROWS = 4
_QKV = ("query", "key", "value")
_STATE_TABLES = ("program_embedding", "velocity_embedding", "state_kernel")
_METER = ("meter_kernel", "meter_bias")


class Block(NamedTuple):
    """The weights of one decoder block as the loop reads them."""

    qkv: tuple[tf.Tensor, tf.Tensor]  # kernel (D, 3D) and bias; q scaled by 1 / sqrt(d)
    rows: tf.Tensor  # (d, L): E transposed; (d, C) for the loop, see `slice_relative_embeddings`
    output: tuple[tf.Tensor, tf.Tensor]
    norm_1: tuple[tf.Tensor, tf.Tensor]
    feed_forward_1: tuple[tf.Tensor, tf.Tensor]
    feed_forward_2: tuple[tf.Tensor, tf.Tensor]
    norm_2: tuple[tf.Tensor, tf.Tensor]


class Weights(NamedTuple):
    """A model's weights as the loop reads them."""

    tokens: tf.Tensor  # (V, D)
    positions: tf.Tensor  # (L, D)
    # The tables of programs and of velocity levels, and the kernel of `music_state.to_numbers`;
    # empty for a model that does not hear the state of the music.
    state: tuple[tf.Tensor, ...]
    blocks: tuple[Block, ...]
    logits: tuple[tf.Tensor, tf.Tensor]
    meter: tuple[tf.Tensor, ...]  # kernel and bias; empty for a model without a head for the meter
    repetition: tuple[tf.Tensor, ...]  # what repetition adds to these, of the same shapes

    @property
    def longest(self) -> int:
        """L."""
        return int(self.positions.shape[0])


class Caches(NamedTuple):
    """What the loop remembers of the tokens before.

    Attributes:
        blocks: for each block keys `(B * H, d, C)` and values `(B * H, C, d)`: so laid, both of
            attention's products read their cache from front to back.
        onsets: of the notes played, for a model with a head for the meter; else empty, as a
            compiled loop carries no None.
    """

    blocks: tuple[tuple[tf.Tensor, tf.Tensor], ...]
    onsets: OnsetRing | tuple[()]

    @property
    def capacity(self) -> int:
        """C."""
        return int(self.blocks[0][1].shape[1])


def pack_weights(named: Mapping[str, Any]) -> Weights:
    """Puts weights, given by name, into the form that the loop reads fastest.

    They are copied to the device on which this runs.
    """
    named = {name: tf.identity(tf.convert_to_tensor(value)) for name, value in named.items()}

    def norm(name: str) -> tuple[tf.Tensor, tf.Tensor]:
        return named[f"{name}/gamma"], named[f"{name}/beta"]

    def dense(name: str) -> tuple[tf.Tensor, tf.Tensor]:
        return named[f"{name}/kernel"], named[f"{name}/bias"]

    def block(name: str) -> Block:
        E = named[f"{name}/relative_embedding"]

        def joined(which: str) -> tf.Tensor:
            """One product instead of three."""
            query, key, value = (named[f"{name}/{part}/{which}"] for part in _QKV)
            return tf.concat([query / math.sqrt(E.shape[1]), key, value], axis=-1)

        return Block(
            (joined("kernel"), joined("bias")),
            tf.transpose(E),
            dense(f"{name}/output"),
            norm(f"{name}/norm_1"),
            dense(f"{name}/feed_forward_1"),
            dense(f"{name}/feed_forward_2"),
            norm(f"{name}/norm_2"),
        )

    num_blocks = sum(name.endswith("relative_embedding") for name in named)
    meter = tuple(named[name] for name in _METER if name in named)
    return Weights(
        named["token_embedding"],
        named["position_embedding"],
        tuple(named[name] for name in _STATE_TABLES if name in named),
        tuple(block(f"block_{index}") for index in range(num_blocks)),
        dense("logits"),
        meter,
        repetition_weights(meter),
    )


def slice_relative_embeddings(weights: Weights, C: int) -> Weights:
    """The weights with only the relative rows for the distances in caches of C rows.

    Called before the loop; inside it the rows would be copied for every token.
    """
    blocks = (block._replace(rows=block.rows[:, -C:]) for block in weights.blocks)
    return weights._replace(blocks=tuple(blocks))


def fill_caches(
    weights: Weights,
    tokens: np.ndarray,
    capacity: int,
    state: Features | None = None,
    onsets: OnsetRing | tuple[()] = (),
) -> Caches:
    """Computes the keys and values of tokens `(B, T)`, T < C, in one forward pass.

    Args:
        capacity: C. The rows from T on hold zeros; each is written before it is read.
        state: the state of the music after each token, for a model that hears it.
        onsets: of the notes played, for a model with a head for the meter.
    """
    B, T = tokens.shape
    x = tf.gather(weights.tokens, tokens) + weights.positions[:T]  # (B, T, D)
    if weights.state and state is not None:
        x += embed(state, *weights.state)
    D = x.shape[2]
    caches = []
    for block in weights.blocks:
        d = block.rows.shape[0]
        qkv = tf.reshape(_dense(x, block.qkv), (B, T, 3, D // d, d))
        q, k, v = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)))  # (B, H, T, d)
        if T:
            y = relative_attention(q, k, v, tf.transpose(block.rows))
            y = tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (B, T, D))
            x = _after_attention(block, x, y)
        keys = tf.reshape(tf.transpose(k, (0, 1, 3, 2)), (B * D // d, d, T))
        caches.append((keys, tf.reshape(v, (B * D // d, T, d))))
    return extend_caches(Caches(tuple(caches), onsets), capacity)


def extend_caches(caches: Caches, capacity: int) -> Caches:
    """Appends rows of zeros to caches, up to `capacity` positions."""
    more = (0, capacity - caches.capacity)
    blocks = tuple(
        (tf.pad(keys, ((0, 0), (0, 0), more)), tf.pad(values, ((0, 0), more, (0, 0))))
        for keys, values in caches.blocks
    )
    return Caches(blocks, caches.onsets)


def _dense(x: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """`(.., K)` -> `(.., N)`."""
    kernel, bias = weights
    if len(x.shape) > 2 or x.shape[0] > _FEW_ROWS:
        return tf.matmul(x, kernel) + bias
    rows = [_row_times(row, kernel) for row in tf.split(x, x.shape[0])]
    return tf.concat(rows, axis=0) + bias


def _row_times(row: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`(1, K)` -> `(1, N)`: XLA multiplies one row on one core, but those of a batch on all."""
    K, N = kernel.shape
    parts = math.gcd(K, _ROW_PARTS)
    row = tf.reshape(row, (parts, 1, K // parts))
    products = tf.matmul(row, tf.reshape(kernel, (parts, K // parts, N)))  # (parts, 1, N)
    return tf.reduce_sum(products, axis=0)


def _layer_norm(x: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    gamma, beta = weights
    x -= tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * gamma + beta


def _after_attention(block: Block, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The rest of a decoder block after its attention heads, whose output is y `(.., D)`."""
    x = _layer_norm(x + _dense(y, block.output), block.norm_1)
    y = _dense(tf.nn.relu(_dense(x, block.feed_forward_1)), block.feed_forward_2)
    return _layer_norm(x + y, block.norm_2)


def next_logits(
    weights: Weights,
    caches: Caches,
    token: tf.Tensor,
    position: tf.Tensor,
    state: Features | None = None,
) -> tuple[tf.Tensor, tf.Tensor, Caches]:
    """The logits `(B, V)` after one more token `(B,)` at a position of the window.

    The weights come from `slice_relative_embeddings`. Only for code that XLA compiles, because the
    slices move.

    Args:
        state: the state of the music after the token, for a model that hears it.

    Returns:
        The logits; what to add to them for more repetition, `(B, V)`, zeros for a model without a
        head for the meter; the caches.
    """
    C, d = caches.blocks[0][1].shape[1:]
    B, D = token.shape[0], weights.tokens.shape[1]
    H = D // d
    x = tf.gather(weights.tokens, token) + tf.gather(weights.positions, position)
    if weights.state and state is not None:
        programs, levels, kernel = weights.state
        x += tf.gather(programs, state.program) + tf.gather(levels, state.level)
        x += _dense(to_numbers(state), (kernel, tf.zeros((D,))))
    future = tf.where(tf.range(C) > position, MASK_VALUE, 0.0)
    new_caches = []
    for block, (keys, values) in zip(weights.blocks, caches.blocks, strict=True):
        qkv = tf.reshape(_dense(x, block.qkv), (B, 3, H, d))
        q, k, v = (tf.reshape(qkv[:, part], (B * H, 1, d)) for part in range(3))
        # Rank 3, and no axis of size 1 in front, else XLA copies the caches for every token.
        k = tf.reshape(k, (B * H, d, 1))
        keys = xla.dynamic_update_slice(keys, k, tf.stack([0, 0, position]))
        values = xla.dynamic_update_slice(values, v, tf.stack([0, position, 0]))
        # Key j is at distance position - j: row C - 1 - position + j. All C rows stay where they
        # are, and their scores move, which are far fewer numbers.
        relative = tf.pad(tf.matmul(q[:, 0], block.rows), ((0, 0), (0, C)))
        relative = xla.dynamic_slice(relative, [0, C - 1 - position], [B * H, C])
        scores = tf.matmul(q, keys) + relative[:, None] + future  # (B * H, 1, C)
        # The softmax is divided by its sum after the product, where there are fewer numbers.
        shares = tf.exp(scores - tf.reduce_max(scores, axis=2, keepdims=True))
        y = tf.matmul(shares, values) / tf.reduce_sum(shares, axis=2, keepdims=True)
        y = tf.reshape(y, (B, D))
        x = _after_attention(block, x, y)
        new_caches.append((keys, values))
    logits, onsets = _dense(x, weights.logits), caches.onsets
    repetition = tf.zeros_like(logits)
    if onsets and state is not None:
        onsets = remember_onset(onsets, token, state)
        row = Features(*(field[:, None] for field in state))
        lookup = lookup_in_ring(onsets)
        logits += meter_logits(x[:, None], row, lookup, *weights.meter)[:, 0]
        repetition = meter_logits(x[:, None], row, lookup, *weights.repetition)[:, 0]
    return logits, repetition, Caches(tuple(new_caches), onsets)
