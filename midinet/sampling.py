"""Composing: a decoder that keeps its keys and values, and the samplers, in one compiled loop.

It knows the model only through its weights by name. The loop is one XLA program for a batch and a
length of the caches; it makes some hundred tokens before it comes back to Python.

Axes: B pieces, H heads, D width of the model, d = D / H, L the model's longest window, C rows of
the caches, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf
from midinet.errors import OptionError
from midinet.grammar import (
    Limits,
    State,
    advance,
    has_ended,
    limits_of,
    masked,
    read_seeds,
)
from midinet.layers import LAYER_NORM_EPSILON, relative_attention
from midinet.settings import Rules, Settings
from midinet.vocabulary import PAD

CALL_TOKENS = 256  # made by one call of the compiled loop; each call copies the caches once
_CACHE_UNIT = 256  # caches are multiples of this many rows long
_CACHE_LENGTHS = ((16, 4), (4, 2), (1, 1))  # from so many pieces on, so many lengths
_ROW_PARTS = 4  # a single row is multiplied in so many parts, so that all cores read the weights
_FEW_ROWS = (2, 4)  # from and to so many rows kernels are read in tiles
_TILE_COLUMNS = 64  # what XLA's kernel for up to four rows makes at a time
_TOKEN_PLACES = 1024  # more than there are tokens
_QKV = ("query", "key", "value")
_HIDDEN = -1e9  # score of a key that may not be seen
_HUGE = 1e30  # logits are kept within +-this, so that any allowed token beats a forbidden one


def compose(
    model: Any, seeds: Sequence[np.ndarray], length: int, *, settings: Settings | None = None
) -> list[np.ndarray]:
    """Continues each seed.

    Args:
        model: has `weights_by_name()` and `codec`.
        seeds: for each piece the tokens it begins with, all of one length; empty arrays compose
            from nothing. A PAD goes in front, as in training; but not for a model whose tokens are
            read literally (`drum_program` None), as it was trained elsewhere, without.
        length: the most tokens to make for a piece.

    Returns:
        For each piece its new tokens: uint16, without the PAD that ends a piece that ended.

    Raises:
        OptionError: no seeds, seeds of several lengths, or a length below 1.
    """
    made = np.concatenate(list(stream(model, seeds, length, settings=settings)), axis=1)
    return [until_end(piece) for piece in made]


def until_end(tokens: np.ndarray) -> np.ndarray:
    """A piece's tokens before its first PAD."""
    ends = np.flatnonzero(tokens == PAD)
    return tokens[: ends[0]] if len(ends) else tokens


def stream(
    model: Any, seeds: Sequence[np.ndarray], length: int, *, settings: Settings | None = None
) -> Iterator[np.ndarray]:
    """Does what `compose` does, and hands out the tokens `(B, some hundred)` as they are made.

    Behind a piece's end there are PADs; when all pieces have ended, the stream does.

    When the window of L tokens is full, its oldest L // 2 tokens are dropped, and one forward pass
    over the others fills the caches again, at positions from 0. So the logits behind the first n
    tokens, PAD included, are those of the model for tokens[start:n], where start is the smallest
    multiple of L // 2 that leaves at most L.
    """
    settings = settings or Settings()
    if not seeds or len({len(seed) for seed in seeds}) != 1:
        raise OptionError("seeds must be at least one array of tokens, and all of one length")
    if length < 1:
        raise OptionError(f"length is {length}: it must be at least 1 token")
    B = len(seeds)
    weights = prepare(model.weights_by_name(), B)
    limits = limits_of(settings.rules or Rules(), model.codec.drum_program)
    L = weights.longest
    uniform = [np.random.default_rng(settings.seed + i) for i in range(B)]

    tokens = np.stack(seeds).astype(np.int32)
    if not tokens.size or model.codec.drum_program is not None:
        tokens = np.pad(tokens, ((0, 0), (1, 0)), constant_values=PAD)
    last = tf.constant(tokens[:, -1])
    state = read_seeds(seeds, limits)
    capacities = _capacities(B, L, tokens.shape[1] + length - 1)
    caches: Caches = ()
    start, filled, capacity = 0, L, L  # as if full: the first pass fills the caches
    while length > 0:
        before = tokens.shape[1] - 1  # the last token is not in the caches yet
        if filled == L:
            while before - start >= L:
                start += L // 2
            filled = before - start
            capacity = next(c for c in capacities if c > filled)
            caches = fill_caches(weights, tokens[:, start:before], capacity)
        elif filled == capacity:
            capacity = next(c for c in capacities if c > filled)
            caches = _grow(caches, capacity)
        count = min(length, CALL_TOKENS, capacity - filled)
        loop = _compiled_loop(B, capacity, settings.top_k, settings.rules is not None)
        made, last, caches, state = loop(
            weights,
            caches,
            last,
            state,
            limits,
            tf.constant(filled),
            tf.constant(count),
            tf.constant(_uniforms(uniform, count)),
            tf.constant([settings.temperature, settings.top_p], tf.float32),
        )
        new = made.numpy()[:count].T
        yield new.astype(np.uint16)
        tokens = np.concatenate([tokens, new], axis=1)
        filled += count
        length -= count
        if settings.rules is not None and (new[:, -1] == PAD).all():
            return


def _uniforms(generators: Sequence[np.random.Generator], count: int) -> np.ndarray:
    """The next `count` random numbers of each piece, in [0, 1): `(CALL_TOKENS, B)`."""
    numbers = np.zeros((CALL_TOKENS, len(generators)), np.float32)
    for i, generator in enumerate(generators):
        numbers[:count, i] = generator.random(count, np.float32)
    return numbers


def _capacities(B: int, L: int, most: int) -> list[int]:
    """The lengths of caches to use, ascending, for windows of up to `most` tokens.

    Short caches are read faster, but each length takes more than a second to compile, which only
    many pieces make up for.
    """
    parts = next(parts for pieces, parts in _CACHE_LENGTHS if pieces <= B)
    longest = min(L, _round_up(most, _CACHE_UNIT))
    return [*range(unit := _round_up(L / parts, _CACHE_UNIT), longest, unit), longest]


def _round_up(number: float, unit: int) -> int:
    return math.ceil(number / unit) * unit


class Block(NamedTuple):
    """The weights of one decoder block as the loop reads them; kernels as `_tiled` says."""

    qkv: tuple[tf.Tensor, tf.Tensor]  # kernel (D, 3D) and bias; q scaled by 1 / sqrt(d)
    rows: tf.Tensor  # (d, 2L): E transposed, then zeros: slices of C from any row of E lie inside
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
            tf.pad(tf.transpose(E), ((0, 0), (0, E.shape[0]))),
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
            y = relative_attention(q, k, v, tf.transpose(block.rows)[: weights.longest])
            y = tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (B, T, D))
            x = _after_attention(block, x, y)
        keys = tf.reshape(tf.transpose(k, (0, 1, 3, 2)), (B * D // d, d, T))
        caches.append((keys, tf.reshape(v, (B * D // d, T, d))))
    return _grow(tuple(caches), capacity)


def _grow(caches: Caches, capacity: int) -> Caches:
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

    Only for code that XLA compiles: the slices move.
    """
    C, d = caches[0][1].shape[1:]
    B, D = token.shape[0], weights.tokens.shape[1]
    H = D // d
    x = tf.gather(weights.tokens, token) + tf.gather(weights.positions, position)
    future = tf.where(tf.range(C) > position, _HIDDEN, 0.0)
    new_caches = []
    for block, (keys, values) in zip(weights.blocks, caches, strict=True):
        qkv = tf.reshape(_dense(x, block.qkv), (B, 3, H, d))
        q, k, v = (tf.reshape(qkv[:, part], (B * H, 1, d)) for part in range(3))
        # Rank 3, and no axis of size 1 in front, else XLA copies the caches for every token.
        k = tf.reshape(k, (B * H, d, 1))
        keys = xla.dynamic_update_slice(keys, k, tf.stack([0, 0, position]))
        values = xla.dynamic_update_slice(values, v, tf.stack([0, position, 0]))
        # Key j is at distance position - j: row L - 1 - position + j.
        rows = xla.dynamic_slice(block.rows, [0, weights.longest - 1 - position], [d, C])
        scores = tf.matmul(q, keys)  # (B * H, 1, C)
        scores += tf.matmul(q[:, 0], rows)[:, None] + future
        # Softmax, divided by its sum where that is short: behind the product.
        shares = tf.exp(scores - tf.reduce_max(scores, axis=2, keepdims=True))
        y = tf.matmul(shares, values) / tf.reduce_sum(shares, axis=2, keepdims=True)
        y = tf.reshape(y, (B, D))
        x = _after_attention(block, x, y)
        new_caches.append((keys, values))
    return _dense(x, weights.logits), tuple(new_caches)


def choose(
    logits: tf.Tensor, top_k: int, temperature: tf.Tensor, top_p: tf.Tensor, uniform: tf.Tensor
) -> tf.Tensor:
    """Draws a token for each row of logits `(B, V)`; forbidden ones are -inf.

    Only for code that XLA compiles: it sorts.

    Args:
        uniform: `(B,)` random numbers in [0, 1); each decides its row alone.

    Returns:
        `(B,)` int32.

    Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p).
    """
    tokens = _likeliest_first(logits)[:, :top_k]
    likeliest = tf.gather(logits, tokens, batch_dims=1)
    # The likeliest has weight 1; the others fall off from there, -inf to 0.
    weights = tf.exp((likeliest - likeliest[:, :1]) / temperature)
    before = tf.cumsum(weights, axis=1, exclusive=True)
    # The likeliest tokens that together reach top_p, with the one that reaches it.
    kept = tf.where(before < top_p * tf.reduce_sum(weights, axis=1, keepdims=True), weights, 0.0)
    sums = tf.cumsum(kept, axis=1)
    index = tf.reduce_sum(tf.cast(sums <= uniform[:, None] * sums[:, -1:], tf.int32), axis=1)
    # Rounding may carry the product to the very sum.
    last = tf.reduce_sum(tf.cast(kept > 0, tf.int32), axis=1) - 1
    return tf.gather(tokens, tf.minimum(index, last), batch_dims=1)


def _likeliest_first(logits: tf.Tensor) -> tf.Tensor:
    """The tokens from the largest of the logits `(B, V)` down, the first of equals first: int32.

    XLA sorts pairs of numbers, as `top_k` asks it to, several times as slowly as single numbers: so
    each logit and its token become one.
    """
    bits = tf.bitcast(-logits, tf.int32)
    # Negative floats are the larger as integers the nearer they are to zero.
    ascending = tf.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    tokens = tf.range(logits.shape[1], dtype=tf.int64)
    ordered = xla.sort(tf.cast(ascending, tf.int64) * _TOKEN_PLACES + tokens)
    return tf.cast(ordered % _TOKEN_PLACES, tf.int32)


@functools.cache
def _compiled_loop(B: int, C: int, top_k: int, has_rules: bool) -> Callable[..., Any]:
    """The loop for B pieces and caches of C rows; compiled when first called."""

    def loop(
        weights: Weights,
        caches: Caches,
        token: tf.Tensor,
        state: State,
        limits: Limits,
        position: tf.Tensor,
        count: tf.Tensor,
        uniform: tf.Tensor,
        temperature_and_top_p: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, Caches, State]:
        """Makes `count` tokens; hands back the tokens `(CALL_TOKENS, B)` and where to go on."""

        def body(i, made, token, caches, state):
            logits, caches = next_logits(weights, caches, token, position + i)
            if has_rules:
                # A model whose numbers overflowed must not get past the grammar.
                logits = tf.where(tf.math.is_nan(logits), -_HUGE, logits)
                logits = tf.clip_by_value(logits, -_HUGE, _HUGE)
                logits = masked(logits, state, limits)
            temperature, top_p = tf.unstack(temperature_and_top_p)
            token = choose(logits, top_k, temperature, top_p, uniform[i])
            if has_rules:
                state = advance(state, token, limits)
            made = xla.dynamic_update_slice(made, token[None], [i, 0])
            return i + 1, made, token, caches, state

        # Pieces that have all ended fill the rest with PAD at once.
        made = tf.fill((CALL_TOKENS, B), PAD)
        _, *result = tf.while_loop(
            lambda i, made, token, caches, state: (i < count) & ~tf.reduce_all(has_ended(state)),
            body,
            (tf.constant(0), made, token, caches, state),
        )
        return tuple(result)

    return tf.function(loop, jit_compile=True, autograph=False)
