"""Composing: the decoder, the grammar and the samplers in one compiled loop.

The loop is one XLA program for a batch and a length of the caches; it makes some hundred tokens
before it comes back to Python.

Axes: B pieces, L the model's longest window, C rows of the caches, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf
from midinet.codec.vocabulary import PAD
from midinet.errors import OptionError
from midinet.generation.cached_decoder import (
    Caches,
    Weights,
    cut_rows,
    fill_caches,
    grow,
    next_logits,
    prepare,
)
from midinet.generation.grammar import (
    Limits,
    State,
    advance,
    has_ended,
    limits_of,
    masked,
    read_seeds,
)
from midinet.generation.settings import Rules, Settings

CALL_TOKENS = 256  # made by one call of the compiled loop; each call copies the caches once
_CACHE_UNIT = 256  # caches are multiples of this many rows long
_CACHE_LENGTHS = ((16, 4), (4, 2), (1, 1))  # from so many pieces on, so many lengths
_TOKEN_PLACES = 1024  # more than there are tokens
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
            caches = grow(caches, capacity)
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

    def loop(  # noqa: PLR0913  # what a compiled loop carries comes and goes by parameters
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
        weights = cut_rows(weights, C)

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
