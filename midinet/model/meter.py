"""The meter: what the beat suggests, by where its lines lie and by what was played bars ago.

Music is written in beats and repeats after whole bars, but tokens say times in steps of 10 ms.
From the embedding alone a model has to learn for every tempo anew how many steps lead to the next
eighth note. So the last layer gets a second way to say what follows, in terms of the beat:

- TIME_SHIFT: it scores the lines of the beat, by their position in the bar, by their distance, and
  by whether notes began a whole number of bars before them. A line's scores are added to the logit
  of the TIME_SHIFT that leads to it. A line is a tick, a twelfth of a quarter note, so that every
  sixteenth and every triplet has one.
- NOTE_ON: it scores the pitches that the current program began so many bars ago, at the same place
  in the bar.
- PROGRAM: it scores the programs that began notes then.

The lags are half a bar, one, two, four and eight bars of four quarter notes. What was played is
known from before the window, too.

Without a metronome nothing is added.

What was played is looked up in lists of onsets for whole windows; composing has a faster way, see
generation/onset_ring.py.

Source for scores of what was there before: Gu et al. 2016, "Incorporating copying mechanism in
sequence-to-sequence learning".

Axes: B windows or pieces, Q queries (the tokens after which logits are wanted), C onsets, L lags,
D width of the model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from midinet.backend import keras, tf
from midinet.codec.vocabulary import (
    NOTE_ON,
    NUM_PITCHES,
    NUM_PROGRAMS,
    PROGRAM,
    TIME_SHIFT,
    VOCAB_SIZE,
)
from midinet.model.music_state import (
    BEATS_PER_CYCLE,
    NO_TICK,
    TICKS_PER_BEAT,
    Features,
    Pulse,
)

TICKS_PER_BAR = 4 * TICKS_PER_BEAT
LAGS_TICKS = tuple(int(bars * TICKS_PER_BAR) for bars in (0.5, 1, 2, 4, 8))
_RING_TICKS = 4096  # longer than most windows; of a longer one some onsets are mixed up

# Positions in the bar, distances, and for each lag a score for lines, for pitches, for programs.
NUM_SCORES = 2 * TICKS_PER_BAR + 3 * len(LAGS_TICKS)

_DISTANCES_TICKS = np.arange(1, TICKS_PER_BAR + 1, dtype=np.int32)
# The line so many ticks after the present, for each lag: whether what it repeats is in the past.
_IS_PAST = np.less.outer(_DISTANCES_TICKS, LAGS_TICKS).T.astype(np.float32)

_EPSILON = 1e-3  # ticks; ties are decided alike wherever this is computed


class Onsets(NamedTuple):
    """The notes that began in a window and before it: int32 arrays or tensors `(B, C)`.

    Attributes:
        tick: when the note began, as in `Features`; NO_TICK for an entry that is no note.
        program: of the note.
        pitch: of the note.
    """

    tick: Any
    program: Any
    pitch: Any


def onsets_of(tokens: tf.Tensor, features: Features) -> Onsets:
    """The onset of each token `(B, C)` that is a NOTE_ON, given the state after each token."""
    is_on = (tokens >= NOTE_ON.first) & (tokens < NOTE_ON.end)
    return Onsets(
        tf.where(is_on, tf.cast(features.tick, tf.int32), NO_TICK),
        tf.cast(features.program, tf.int32),
        tokens % NUM_PITCHES,
    )


def window_onsets(
    tokens: np.ndarray,
    features: Features,
    is_new: np.ndarray,
    past_beats: np.ndarray,
    past_slots: np.ndarray,
) -> Onsets:
    """The onsets in training windows and before them, in NumPy: `(B, P + T)`.

    Args:
        tokens: `(B, T)` the model's inputs.
        features: the state after each of them.
        is_new: `(B, T)` False for tokens that restate a note, which began before.
        past_beats: `(B, P)` when the notes before the windows began, in quarter notes; NaN without
            a metronome.
        past_slots: `(B, P)` their programs and pitches: program * 128 + pitch.
    """
    is_onset = NOTE_ON.holds(tokens) & is_new
    past_ticks = Pulse.of(past_beats, past_beats).tick
    columns = (
        (past_ticks, np.where(is_onset, features.tick, NO_TICK)),
        (past_slots // NUM_PITCHES, features.program),
        (past_slots % NUM_PITCHES, tokens % NUM_PITCHES),
    )
    return Onsets(*(np.concatenate(c, axis=1, dtype=np.int32) for c in columns))


class Lookup(NamedTuple):
    """How to look up what was played: functions that return 0 and 1 as float32.

    Attributes:
        began: maps times in ticks `(B, Q, L)` and programs `(B, Q)` to what began at those times:
            which pitches of the program `(B, Q, L, 128)`, and which programs `(B, Q, L, 128)`.
        had_onset: maps times in ticks `(B, Q, L)` to whether any note began at each of the 48
            ticks after them, `(B, Q, L, 48)`.
    """

    began: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    had_onset: Callable[[tf.Tensor], tf.Tensor]


def meter_logits(
    x: tf.Tensor, features: Features, lookup: Lookup, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """What the meter adds to the logits: `(B, Q, V)` float32.

    Args:
        x: `(B, Q, D)` the output of the last block.
        features: the state of the music after Q tokens.
        lookup: of what was played. Notes after a query don't matter: what is looked up lies at
            least half a bar in the past.
        kernel: `(D, NUM_SCORES)`.
        bias: `(NUM_SCORES,)`.
    """
    scores = tf.tensordot(tf.cast(x, tf.float32), kernel, 1) + bias
    L = len(LAGS_TICKS)
    sizes = (TICKS_PER_BAR, TICKS_PER_BAR, L, L, L)
    at_position, at_distance, line_lags, pitch_lags, program_lags = tf.split(scores, sizes, axis=-1)
    tick, program = (tf.cast(x, tf.int32) for x in (features.tick, features.program))
    before = tick[..., None] - tf.constant(LAGS_TICKS)
    began_pitches, began_programs = lookup.began(before, program)
    had_onset = lookup.had_onset(before) * _IS_PAST
    pitches, programs, lines = (
        tf.einsum("bql,bqlx->bqx", lags, began)
        for lags, began in (
            (pitch_lags, began_pitches),
            (program_lags, began_programs),
            (line_lags, had_onset),
        )
    )
    position = (tick[..., None] + _DISTANCES_TICKS) % TICKS_PER_BAR
    lines += at_distance + tf.gather(at_position, position, batch_dims=2)

    distance = distances_of_lines(features)
    shifts = tf.gather(lines, tf.maximum(distance - 1, 0), batch_dims=2)
    shifts = tf.where(distance > 0, shifts, 0.0)
    columns, end = [], 0
    for kind, logits in ((NOTE_ON, pitches), (TIME_SHIFT, shifts), (PROGRAM, programs)):
        columns += [tf.zeros((*logits.shape[:2], kind.first - end)), logits]
        end = kind.end
    columns.append(tf.zeros((*shifts.shape[:2], VOCAB_SIZE - end)))
    return tf.concat(columns, axis=-1)


def lookup_in(onsets: Onsets) -> Lookup:
    """Looks up what was played in lists of onsets, for many queries at once."""
    onsets = Onsets(*(tf.cast(field, tf.int32) for field in onsets))
    B, C = onsets.tick.shape
    # The onsets of a time are neighbours in this order, and so are those of a program among them.
    key = onsets.tick * NUM_PROGRAMS + onsets.program
    order = tf.argsort(key, axis=1)
    key, pitch = (tf.gather(field, order, batch_dims=1) for field in (key, onsets.pitch))
    row = tf.broadcast_to(tf.range(B)[:, None], (B, C))
    is_onset = tf.cast(key >= (NO_TICK + 1) * NUM_PROGRAMS, tf.float32)

    def table(group: tf.Tensor, value: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """Looks up which values the onsets of a group have, given a number `(B, N)` of the group.

        Args:
            group: `(B, C)` ascending numbers of groups.
            value: `(B, C)` from 0 to 127.
        """
        is_first = group != tf.pad(group[:, :-1], ((0, 0), (1, 0)), constant_values=-1 << 31)
        line = tf.cumsum(tf.cast(is_first, tf.int32), axis=1)
        index = tf.stack([row, line, value], axis=-1)
        # Line 0 is for groups that have no onsets.
        values = tf.minimum(tf.scatter_nd(index, is_onset, (B, C + 1, NUM_PITCHES)), 1.0)

        def look_up(wanted: tf.Tensor) -> tf.Tensor:
            place = tf.minimum(tf.searchsorted(group, wanted), C - 1)
            is_found = tf.gather(group, place, batch_dims=1) == wanted
            found = tf.where(is_found, tf.gather(line, place, batch_dims=1), 0)
            return tf.gather(values, found, batch_dims=1)

        return look_up

    pitches_of = table(key, pitch)
    programs_of = table(key // NUM_PROGRAMS, key % NUM_PROGRAMS)

    def began(tick: tf.Tensor, program: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = (*tick.shape, NUM_PITCHES)
        wanted = tf.reshape(tick * NUM_PROGRAMS + program[..., None], (B, -1))
        return (
            tf.reshape(pitches_of(wanted), shape),
            tf.reshape(programs_of(wanted // NUM_PROGRAMS), shape),
        )

    following = _following_onsets(onsets)

    def had_onset(tick: tf.Tensor) -> tf.Tensor:
        bits = tf.gather(following, tick % _RING_TICKS, batch_dims=1)
        bits = tf.bitwise.right_shift(bits[..., None], tf.range(TICKS_PER_BAR, dtype=tf.int64))
        return tf.cast(bits & 1, tf.float32)

    return Lookup(began, had_onset)


def _following_onsets(onsets: Onsets) -> tf.Tensor:
    """At which ticks after each tick notes began: `(B, _RING_TICKS)` int64, by tick modulo length.

    Bit k of a number stands for the tick that comes k + 1 ticks later.
    """
    B, C = onsets.tick.shape
    row = tf.broadcast_to(tf.range(B)[:, None], (B, C))
    index = tf.stack([row, (onsets.tick - 1) % _RING_TICKS], axis=-1)
    is_onset = tf.cast(onsets.tick > NO_TICK, tf.int64)
    bits = tf.minimum(tf.scatter_nd(index, is_onset, (B, _RING_TICKS)), 1)
    size = 1  # bits that are known; each round doubles them
    while size < TICKS_PER_BAR:
        bits |= tf.bitwise.left_shift(tf.roll(bits, -size, axis=1), tf.constant(size, tf.int64))
        size *= 2
    return bits


def distances_of_lines(features: Features) -> tf.Tensor:
    """For each TIME_SHIFT after `(..)` tokens to which line of the beat it leads: `(.., 100)`.

    Lines are numbered by their distance in ticks from the tick nearest to the present, 1 to
    TICKS_PER_BAR. 0 means that the TIME_SHIFT leads to no line, or farther.
    """
    cycle = TICKS_PER_BEAT * BEATS_PER_CYCLE
    has_beat = ~tf.math.is_nan(features.beat)
    # By how many ticks the present lies after its nearest tick, from -1/2 to 1/2.
    now = TICKS_PER_BEAT * tf.where(has_beat, features.beat, 0.0)
    now -= tf.cast(features.tick % cycle, tf.float32)
    now = (now + cycle / 2) % cycle - cycle / 2
    per_step = features.ticks_per_step[..., None]
    ticks = now[..., None] + tf.range(1, TIME_SHIFT.size + 1, dtype=tf.float32) * per_step
    line = tf.round(ticks)
    # Of the steps around a line the nearest leads to it; of two that are as near, the later one.
    late = ticks - line
    is_nearest = (late > _EPSILON - per_step / 2) & (late <= _EPSILON + per_step / 2)
    is_in_reach = (line >= 1) & (line <= TICKS_PER_BAR) & has_beat[..., None]
    return tf.where(is_nearest & is_in_reach, tf.cast(line, tf.int32), 0)


def meter_head_shapes(embedding_size: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of MeterHead, by name."""
    return {"meter_kernel": (embedding_size, NUM_SCORES), "meter_bias": (NUM_SCORES,)}


class MeterHead(keras.layers.Layer):
    """Adds to the logits what the meter suggests; see `meter_logits`. Begins by adding nothing."""

    def __init__(self, embedding_size: int, **options: Any) -> None:
        # float32, as the logits are; half precision would blur the beat.
        super().__init__(autocast=False, dtype="float32", **options)
        self.meter_kernel, self.meter_bias = (
            self.add_weight(shape=shape, initializer="zeros", name=name)
            for name, shape in meter_head_shapes(embedding_size).items()
        )

    def call(self, x: tf.Tensor, features: Features, onsets: Onsets) -> tf.Tensor:
        weights = self.meter_kernel.value, self.meter_bias.value
        return meter_logits(x, features, lookup_in(onsets), *weights)
