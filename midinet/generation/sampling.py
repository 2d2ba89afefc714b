"""Composing: the decoder, the grammar and the sampler in one compiled loop.

The loop is one XLA program per batch size and length of the caches; each call makes up to 256
tokens before it returns to Python.

Axes: B pieces, L the model's longest window, C rows of the caches, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf, warn_if_xla_lacks_tools
from midinet.codec.decoding import current_values, elapsed_steps
from midinet.codec.restating import NOT_RESTATED, restate
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import NOTE_ON, NUM_PITCHES, PAD, PROGRAM
from midinet.errors import OptionError
from midinet.generation.beats import Beats, pulse_at
from midinet.generation.cached_decoder import (
    Caches,
    Weights,
    extend_caches,
    fill_caches,
    next_logits,
    pack_weights,
    slice_relative_embeddings,
)
from midinet.generation.grammar import (
    State,
    advance,
    has_ended,
    mask_logits,
    state_after_prompts,
)
from midinet.generation.harmony import prefer_fitting
from midinet.generation.kept_events import KeptEvents, fits_now
from midinet.generation.onset_ring import OnsetRing, ring_of
from midinet.generation.repetition import without_pitches
from midinet.generation.rule_tensors import RuleTensors, to_tensors
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.generation.token_choice import sample_token, steer_within_kinds
from midinet.generation.variety import discourage_frequent, invite_programs
from midinet.midi.tempo_map import TempoMap
from midinet.model import music_state
from midinet.model.meter import Onsets

CALL_TOKENS = 256  # made by one call of the compiled loop; each call copies the caches once
_CACHE_UNIT = 256  # caches are multiples of this many rows long
_CACHE_LENGTHS = ((16, 4), (4, 2), (1, 1))  # from so many pieces on, so many lengths
_HUGE = 1e30  # logits are clipped to +-this, so that any allowed token beats a forbidden one


class Decoder(Protocol):
    """What sampling needs of a model."""

    codec: CodecSettings

    def weights_by_name(self) -> dict[str, Any]:
        """The weights by the names of `MusicTransformer.weights_by_name`."""


def compose(
    model: Decoder,
    prompts: Sequence[np.ndarray],
    length: int,
    *,
    settings: SamplingSettings | None = None,
) -> list[np.ndarray]:
    """Continues each prompt.

    Args:
        model: the model to sample from.
        prompts: for each piece the tokens that it continues, all of one length; empty arrays
            compose from nothing. A PAD is put in front, as in training; but not for a model whose
            tokens are read literally (`drum_program` None), which was trained without it.
        length: the most tokens to make per piece.

    Returns:
        For each piece its new tokens: uint16, without the PAD with which a piece ends.

    Raises:
        OptionError: no prompts, prompts of several lengths, or a length below 1.
    """
    made = np.concatenate(list(stream(model, prompts, length, settings=settings)), axis=1)
    return [trim_at_pad(piece) for piece in made]


def trim_at_pad(tokens: np.ndarray) -> np.ndarray:
    """A piece's tokens before its first PAD."""
    ends = np.flatnonzero(tokens == PAD)
    return tokens[: ends[0]] if len(ends) else tokens


def stream(
    model: Decoder,
    prompts: Sequence[np.ndarray],
    length: int,
    *,
    settings: SamplingSettings | None = None,
    metronomes: Sequence[TempoMap | None] | None = None,
    kept: KeptEvents | None = None,
) -> Iterator[np.ndarray]:
    """Does what `compose` does, and yields the tokens `(B, up to 256)` as they are made.

    After a piece's end there are PADs; the stream ends when all pieces have ended. `_Window` says
    what the model sees of the tokens before.

    Args:
        metronomes: for each piece the beats that its model hears, from the beginning of the
            prompt; None: no metronome. By default all pieces have the tempo of the settings.
        kept: events that pieces from nothing must have; they end with the last of them. The
            settings must have rules.
    """
    settings = settings or SamplingSettings()
    if not prompts or len({len(prompt) for prompt in prompts}) != 1:
        raise OptionError("seeds must be at least one array of tokens, and all of one length")
    if length < 1:
        raise OptionError(f"length is {length}: it must be at least 1 token")
    B = len(prompts)
    codec = model.codec
    rules = to_tensors(settings.rules or GrammarRules(), codec.drum_program, kept)
    uniform = [np.random.default_rng(settings.seed + i) for i in range(B)]
    tokens = np.stack(prompts).astype(np.int32)
    if not tokens.size or codec.drum_program is not None:
        tokens = np.pad(tokens, ((0, 0), (1, 0)), constant_values=PAD)
    state = state_after_prompts(prompts, rules)
    if metronomes is None:
        metronomes = [TempoMap.constant(settings.bpm) if settings.bpm else None] * B
    beats = Beats(metronomes)
    weights = pack_weights(model.weights_by_name())
    window = _Window(weights, tokens, length, codec.drum_program, beats)
    while length > 0:
        count = min(length, CALL_TOKENS, window.make_room())
        loop = _compiled_loop(B, window.capacity, settings.top_k, settings.rules is not None)
        made, _, caches, state = loop(
            weights,
            window.caches,
            tf.constant(window.tokens[:, -1]),
            state,
            rules,
            tf.constant(window.filled),
            tf.constant(count),
            tf.constant(_draw_uniforms(uniform, count)),
            tf.constant(_numbers(settings), tf.float32),
            tf.constant(beats.changes()),
        )
        new = made.numpy()[:count].T
        window.advance(new, caches)
        yield new.astype(np.uint16)
        length -= count
        if settings.rules is not None and (new[:, -1] == PAD).all():
            return


def _numbers(settings: SamplingSettings) -> list[float]:
    """Those of the settings that a compiled loop takes as tensors."""
    names = ("temperature", "top_p", "variety", "repetition", "kind_temperature")
    return [getattr(settings, name) for name in names]


class _Window:
    """The last tokens of each piece, with their keys and values cached.

    When the window of L tokens is full, its oldest L // 2 tokens are dropped, and one forward pass
    over the others fills the caches again, at positions from 0. So the logits after the first n
    tokens, PAD included, are those of the model for tokens[start:n], where start is the smallest
    multiple of L // 2 that leaves at most L.

    For a model that hears the state of the music, the refilled window is as long, but begins by
    restating what sounds, with the true ages of notes, so that it drops as many tokens more.

    Attributes:
        tokens: `(B, n)` all tokens so far; the last one is not in the caches yet.
        caches: keys and values of the window but for the last token.
        filled: positions in the caches.
        capacity: C.
    """

    def __init__(
        self,
        weights: Weights,
        tokens: np.ndarray,
        length: int,
        drum_program: int | None,
        beats: Beats,
    ) -> None:
        self.tokens = tokens
        self.caches = Caches((), ())
        # As if full, so that the first call of make_room fills the caches.
        self.filled = self.capacity = weights.longest
        self._weights = weights
        self._drum_program = drum_program
        self._beats = beats
        self._start = 0
        B, n = tokens.shape
        on_gpu = "GPU" in weights.tokens.device
        self._sizes = _cache_sizes(B, weights.longest, n + length - 1, on_gpu)

    def make_room(self) -> int:
        """Refills or extends the caches where they are full; returns for how many tokens."""
        L = self._weights.longest
        if self.filled == L:
            before = self.tokens.shape[1] - 1
            while before - self._start >= L:
                self._start += L // 2
            self.filled = before - self._start
            self.capacity = next(size for size in self._sizes if size > self.filled)
            tokens, state = self._visible_tokens()
            onsets = self._recent_onsets() if self._weights.meter else ()
            self.caches = fill_caches(self._weights, tokens, self.capacity, state, onsets)
        elif self.filled == self.capacity:
            self.capacity = next(size for size in self._sizes if size > self.filled)
            self.caches = extend_caches(self.caches, self.capacity)
        return self.capacity - self.filled

    def advance(self, tokens: np.ndarray, caches: Caches) -> None:
        """Appends tokens `(B, count)`, given the caches after them."""
        self.tokens = np.concatenate([self.tokens, tokens], axis=1)
        self.caches = caches
        self.filled += tokens.shape[1]

    def _visible_tokens(self) -> tuple[np.ndarray, music_state.Features | None]:
        """The `filled` tokens of each piece that the caches must hold, and the state after each."""
        before = self.tokens[:, :-1]
        if not self._weights.state:
            return before[:, self._start :], None
        if not self._start:
            state = music_state.window_features(before, self._drum_program)
        else:
            rows = [restated_window(row, self.filled, self._drum_program) for row in before]
            before, start_steps, onsets = map(np.stack, zip(*rows, strict=True))
            state = music_state.window_features(before, self._drum_program, start_steps, onsets)
        return before, state._replace(**self._beats.at(state.now_steps)._asdict())

    def _recent_onsets(self) -> OnsetRing:
        """Those of the last notes of each piece: as many as the window has tokens, and L // 2 more.

        Where there are fewer, what comes first is no note.
        """
        tokens = self.tokens[:, :-1]
        fields = (
            self._beats.at(elapsed_steps(tokens)).tick,
            current_values(tokens, PROGRAM, 0),
            tokens % NUM_PITCHES,
        )
        count = self._weights.longest // 2 + self.filled
        onsets = np.full((3, len(tokens), count), music_state.NO_TICK, np.int32)
        for row, is_onset in enumerate(NOTE_ON.holds(tokens)):
            last = np.flatnonzero(is_onset)[-count:]
            for which, field in enumerate(fields):
                onsets[which, row, count - len(last) :] = field[row, last]
        return ring_of(Onsets(*onsets))


def restated_window(
    tokens: np.ndarray, length: int, drum_program: int | None
) -> tuple[np.ndarray, int, np.ndarray]:
    """The end of a song as a window of a given length that begins by restating what sounds.

    Args:
        tokens: `(n,)` a song's tokens so far, n > length.
        length: tokens of the window; restating takes at most half of them.

    Returns:
        The tokens `(length,)`; the time at which the window begins, in grid steps; and `(length,)`
        the onsets of restated notes, as `music_state.window_features` takes them.
    """
    start = len(tokens) - length
    while True:
        restated = restate(tokens[:start], drum_program, max(2, length // 2))
        missing = length - len(restated.tokens) - (len(tokens) - start)
        if missing >= 0:
            break
        start -= missing
    # One token less may restate fewer notes, so that no start fits exactly. What is missing is
    # filled with a PROGRAM token that changes nothing.
    first = restated.tokens[:1]
    program = first[0] if PROGRAM.holds(first).any() else PROGRAM.first
    window = np.concatenate([np.full(missing, program), restated.tokens, tokens[start:]])
    onsets = np.full(length, NOT_RESTATED, np.int32)
    onsets[missing : missing + len(restated.tokens)] = restated.onset_steps
    return window.astype(np.int32), int(elapsed_steps(tokens[:start])[-1]), onsets


def _draw_uniforms(generators: Sequence[np.random.Generator], count: int) -> np.ndarray:
    """Draws `count` random numbers per piece, in [0, 1): `(CALL_TOKENS, B)`, zeros after them."""
    numbers = np.zeros((CALL_TOKENS, len(generators)), np.float32)
    for i, generator in enumerate(generators):
        numbers[:count, i] = generator.random(count, np.float32)
    return numbers


def _cache_sizes(B: int, L: int, most: int, on_gpu: bool) -> list[int]:
    """The lengths of caches to use, in ascending order, for windows of up to `most` tokens.

    Short caches are read faster, but each length takes more than a second to compile, which pays
    off only for many pieces; and never on a GPU, for which it takes ten.
    """
    parts = 1 if on_gpu else next(parts for pieces, parts in _CACHE_LENGTHS if pieces <= B)
    longest = min(L, _round_up(most, _CACHE_UNIT))
    return [*range(unit := _round_up(L / parts, _CACHE_UNIT), longest, unit), longest]


def _round_up(number: float, unit: int) -> int:
    return math.ceil(number / unit) * unit


@functools.cache
def _compiled_loop(B: int, C: int, top_k: int, has_rules: bool) -> Callable[..., Any]:
    """The loop for B pieces and caches of C rows; compiled when first called."""

    def loop(  # noqa: PLR0913  # what a compiled loop carries comes and goes by parameters
        weights: Weights,
        caches: Caches,
        token: tf.Tensor,
        state: State,
        rules: RuleTensors,
        position: tf.Tensor,
        count: tf.Tensor,
        uniform: tf.Tensor,
        numbers: tf.Tensor,
        tempos: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, Caches, State]:
        """Makes `count` tokens: `(CALL_TOKENS, B)`; returns also the state to continue from.

        `numbers` holds what `_numbers` returns, and `tempos` what `Beats.changes` returns.
        """
        weights = slice_relative_embeddings(weights, C)
        temperature, top_p, variety, repetition, kind_temperature = tf.unstack(numbers)

        def body(
            i: tf.Tensor, made: tf.Tensor, token: tf.Tensor, caches: Caches, state: State
        ) -> tuple[Any, ...]:
            features = None
            if weights.state:
                features = music_state.features(state.music, pulse_at(state.music.now, tempos))
            logits, returning, caches = next_logits(weights, caches, token, position + i, features)
            if has_rules:
                # Even a model whose numbers overflow must follow the grammar.
                logits, returning = _without_overflow(logits), _without_overflow(returning)
                is_melodic = state.music.program != rules.drum_program
                logits = discourage_frequent(logits, state.pitch_shares, is_melodic, variety)
                logits = invite_programs(logits, state.has_played, variety)
                if rules.kept is not None:
                    fits = fits_now(rules.kept, state.music)
                    logits = prefer_fitting(logits, fits, is_melodic)
                    returning = without_pitches(returning)
                logits = mask_logits(logits, state, rules)
            logits = steer_within_kinds(logits, repetition * returning, kind_temperature)
            token = sample_token(logits, top_k, temperature, top_p, uniform[i])
            if has_rules:
                state = advance(state, token, rules)
            elif weights.state:
                music = music_state.advance(state.music, token, rules.drum_program)
                state = state._replace(music=music)
            made = xla.dynamic_update_slice(made, token[None], [i, 0])
            return i + 1, made, token, caches, state

        # When all pieces have ended, the rest remains PAD.
        made = tf.fill((CALL_TOKENS, B), PAD)
        _, *result = tf.while_loop(
            lambda i, made, token, caches, state: (i < count) & ~tf.reduce_all(has_ended(state)),
            body,
            (tf.constant(0), made, token, caches, state),
        )
        return tuple(result)

    compiled: Callable[..., Any] = tf.function(loop, jit_compile=True, autograph=False)
    return on_cpu_if_xla_lacks_tools(compiled)


def _without_overflow(logits: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(tf.where(tf.math.is_nan(logits), -_HUGE, logits), -_HUGE, _HUGE)


def on_cpu_if_xla_lacks_tools(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a compiled function run on the CPU if XLA can't compile it for the GPU."""
    on_cpu = False

    def run(*arguments: Any) -> Any:
        nonlocal on_cpu
        if not on_cpu:
            try:
                return compiled(*arguments)
            except tf.errors.OpError as error:
                if not warn_if_xla_lacks_tools(error, "the CPU composes"):
                    raise
                on_cpu = True
        with tf.device("CPU:0"):
            return compiled(*arguments)

    return run
