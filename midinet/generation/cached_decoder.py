"""The decoder as composing needs it: keys and values are kept, and a token costs one token's work.

It knows the model only through its weights by name. What it must do to read weights and caches as
fast as memory can, under XLA on a CPU, is all in here.

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
from midinet.model.attention import MASK_VALUE, relative_attention
from midinet.model.layers import LAYER_NORM_EPSILON

_ROW_PARTS = 4  # a single row is multiplied in so many parts, so that all cores read the weights
_FEW_ROWS = (2, 4)  # from and to so many rows kernels are read in tiles
_TILE_COLUMNS = 64  # what XLA's kernel for up to four rows makes at a time
_QKV = ("query", "key", "value")


class Block(NamedTuple):
    """The weights of one decoder block as the loop reads them; kernels as `_tiled` says."""

    qkv: tuple[tf.Tensor, tf.Tensor]  # kernel (D, 3D) and bias; q scaled by 1 / sqrt(d)
    rows: tf.Tensor  # (d, L): E transposed; (d, C) for the loop, see `cut_rows`
    output: tuple[tf.Tensor, tf.Tensor]
    norm_1: tuple[tf.Tensor, tf.Tensor]
    feed_forward_1: tuple[tf.Tensor, tf.Tensor]
    feed_forward_2: tuple[tf.Tensor, tf.Tensor]
    norm_2: tuple[tf.Tensor, tf.Tensor]


class Weights(NamedTuple):
    """A model's weights as the loop reads them."""

    tokens: tf.Tensor  # (V, D)
    positions: tf.Tensor  # (L, D)
    blocks: tuple[Block, ...]
    logits: tuple[tf.Tensor, tf.Tensor]

    @property
    def longest(self) -> int:
        """L."""
        return self.positions.shape[0]


# For each block keys (B * H, d, C) and values (B * H, C, d): so laid, both of attention's products
# read their cache from front to back.
Caches = tuple[tuple[tf.Tensor, tf.Tensor], ...]


def prepare(named: Mapping[str, Any], B: int) -> Weights:
    """Puts weights by name into the form that the loop reads fastest for B pieces."""
    named = {name: tf.convert_to_tensor(value) for name, value in named.items()}

    def norm(name: str) -> tuple[tf.Tensor, tf.Tensor]:
        return named[f"{name}/gamma"], named[f"{name}/beta"]

    def dense(name: str) -> tuple[tf.Tensor, tf.Tensor]:
        return _tiled(named[f"{name}/kernel"], B), named[f"{name}/bias"]

    def block(name: str) -> Block:
        E = named[f"{name}/relative_embedding"]

        def joined(which: str) -> tf.Tensor:
            """One product instead of three."""
            query, key, value = (named[f"{name}/{part}/{which}"] for part in _QKV)
            return tf.concat([query / math.sqrt(E.shape[1]), key, value], axis=-1)

        return Block(
            (_tiled(joined("kernel"), B), joined("bias")),
            tf.transpose(E),
            dense(f"{name}/output"),
            norm(f"{name}/norm_1"),
            dense(f"{name}/feed_forward_1"),
            dense(f"{name}/feed_forward_2"),
            norm(f"{name}/norm_2"),
        )

    num_blocks = sum(name.endswith("relative_embedding") for name in named)
    return Weights(
        named["token_embedding"],
        named["position_embedding"],
        tuple(block(f"block_{index}") for index in range(num_blocks)),
        dense("logits"),
    )


def _tiled(kernel: tf.Tensor, B: int) -> tf.Tensor:
    """A kernel `(K, N)` as it is, or for few rows as tiles `(tiles, K, _TILE_COLUMNS)`.

    XLA multiplies up to four rows by so many columns at a time: tiles of that width are read from
    front to back, where the kernel as it is would be read in short pieces, at two thirds of the
    speed.
    """
    if not _FEW_ROWS[0] <= B <= _FEW_ROWS[1]:
        return kernel
    K, N = kernel.shape
    kernel = tf.pad(kernel, ((0, 0), (0, -N % _TILE_COLUMNS)))
    return tf.transpose(tf.reshape(kernel, (K, -1, _TILE_COLUMNS)), (1, 0, 2))


def cut_rows(weights: Weights, C: int) -> Weights:
    """The weights with only those relative rows that the distances in caches of C rows need.

    To be cut before the loop, not in it, where they would be copied for every token.
    """
    blocks = (block._replace(rows=block.rows[:, -C:]) for block in weights.blocks)
    return weights._replace(blocks=tuple(blocks))


def fill_caches(weights: Weights, tokens: np.ndarray, capacity: int) -> Caches:
    """One forward pass over tokens `(B, T)`, T < C; what it knows of each position is kept.

    Rows from T on hold zeros: each is written before it is read.
    """
    B, T = tokens.shape
    x = tf.gather(weights.tokens, tokens) + weights.positions[:T]  # (B, T, D)
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
    return grow(tuple(caches), capacity)


def grow(caches: Caches, capacity: int) -> Caches:
    """Caches with zeros behind, up to `capacity` positions."""
    more = (0, capacity - caches[0][1].shape[1])
    return tuple(
        (tf.pad(keys, ((0, 0), (0, 0), more)), tf.pad(values, ((0, 0), more, (0, 0))))
        for keys, values in caches
    )


def _beside(tiles: tf.Tensor, N: int) -> tf.Tensor:
    """Tiles `(tiles, R, _TILE_COLUMNS)` -> `(R, N)`, without the columns that filled the last."""
    joined = tf.reshape(tf.transpose(tiles, (1, 0, 2)), (tiles.shape[1], -1))
    return joined[:, :N]


def _dense(x: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """`(.., K)` -> `(.., N)`."""
    kernel, bias = weights
    tiled = kernel.shape.rank == 3
    if tiled and x.shape.rank == 2:
        # Spread out by hand: XLA would put the tiles together again for every token.
        rows = tf.broadcast_to(x, (kernel.shape[0], *x.shape))
        return _beside(tf.matmul(rows, kernel), bias.shape[0]) + bias
    if tiled:
        kernel = _beside(kernel, bias.shape[0])
    if x.shape[:-1] != (1,):
        return tf.matmul(x, kernel) + bias
    # XLA multiplies a single row on one core, but the rows of a batch on all.
    K, N = kernel.shape
    parts = math.gcd(K, _ROW_PARTS)
    x = tf.reshape(x, (parts, 1, K // parts))
    products = tf.matmul(x, tf.reshape(kernel, (parts, K // parts, N)))  # (parts, 1, N)
    return tf.reduce_sum(products, axis=0) + bias


def _layer_norm(x: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    gamma, beta = weights
    x -= tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * gamma + beta


def _after_attention(block: Block, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The rest of a decoder block behind what its heads found, y: `(.., D)`."""
    x = _layer_norm(x + _dense(y, block.output), block.norm_1)
    y = _dense(tf.nn.relu(_dense(x, block.feed_forward_1)), block.feed_forward_2)
    return _layer_norm(x + y, block.norm_2)


def next_logits(
    weights: Weights, caches: Caches, token: tf.Tensor, position: tf.Tensor
) -> tuple[tf.Tensor, Caches]:
    """The logits `(B, V)` behind one more token `(B,)` at a position of the window.

    The weights come from `cut_rows`. Only for code that XLA compiles: the slices move.
    """
    C, d = caches[0][1].shape[1:]
    B, D = token.shape[0], weights.tokens.shape[1]
    H = D // d
    x = tf.gather(weights.tokens, token) + tf.gather(weights.positions, position)
    future = tf.where(tf.range(C) > position, MASK_VALUE, 0.0)
    new_caches = []
    for block, (keys, values) in zip(weights.blocks, caches, strict=True):
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
        # Softmax, divided by its sum where that is short: behind the product.
        shares = tf.exp(scores - tf.reduce_max(scores, axis=2, keepdims=True))
        y = tf.matmul(shares, values) / tf.reduce_sum(shares, axis=2, keepdims=True)
        y = tf.reshape(y, (B, D))
        x = _after_attention(block, x, y)
        new_caches.append((keys, values))
    return _dense(x, weights.logits), tuple(new_caches)
