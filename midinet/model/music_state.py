"""The state of the music: what a musician hears at a glance, given to the model beside the tokens.

Tokens are events. Which instrument is current, what sounds on it and for how long, which other
instruments sound, how loud the next note is and where in time and in the bar the music stands, all
follow from the events so far, but a model would have to add them up from hundreds of tokens. So
they are computed here and added to the embedding of each token.

There are two ways to compute them, which agree exactly: `window_features` for whole training
windows at once, in NumPy, and `advance` for one token of each piece, in TensorFlow, which the
sampler uses inside its compiled loop and the model when it is called with tokens alone.

Axes: B pieces or windows, T tokens, D width of the model. Times are in steps of the 10 ms grid,
counted from the beginning of the song. Percussion has no length and never counts as sounding.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from midinet.backend import keras, tf
from midinet.codec.decoding import current_values, elapsed_steps
from midinet.codec.restating import NOT_RESTATED
from midinet.codec.vocabulary import (
    NOTE_OFF,
    NOTE_ON,
    NUM_PITCHES,
    NUM_PROGRAMS,
    PROGRAM,
    TIME_SHIFT,
    VELOCITY,
    TokenRange,
)

NEVER = 1 << 30  # the onset of a note that does not sound
NO_BEAT = math.nan  # the beat of music without a metronome
NO_TICK = -(1 << 23)  # its tick
TICKS_PER_BEAT = 12  # so that sixteenths and triplets are whole numbers of ticks

MAX_AGE_STEPS = 32_767  # longer ages count as this one, so that they fit into 16 bits
AGE_SCALE = 7.0  # log1p of 11 s, so that ages lie mostly between 0 and 1

# The clock: sine and cosine of the time, for periods of 0.08 s, doubled up to 20.48 s.
CLOCK_PERIODS_STEPS = tuple(8 << k for k in range(9))
# The metronome: sine and cosine of the beat, for so many periods per quarter note.
BEAT_RATES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 4, 8)
BEATS_PER_CYCLE = 16  # after so many beats all of them begin anew

NUM_FEATURES = (
    2 * NUM_PITCHES + 2 * NUM_PROGRAMS + 2 * len(CLOCK_PERIODS_STEPS) + 2 * len(BEAT_RATES)
)


class Features(NamedTuple):
    """The state of the music after each token, as compact arrays or tensors of `(..)` tokens.

    Attributes:
        program: `(..)` the current program.
        level: `(..)` the current velocity level, 0 to 31; 0 before the first VELOCITY token.
        note_ages: `(.., 128)` for each pitch of the current program how many steps its note has
            sounded; -1 where none sounds.
        program_ages: `(.., 128)` the same for the oldest sounding note of each program.
        now_steps: `(..)` the time.
        beat: `(..)` float32, see `Pulse`, as are the other two.
        tick: `(..)` int32.
        ticks_per_step: `(..)` float32.
    """

    program: Any
    level: Any
    note_ages: Any
    program_ages: Any
    now_steps: Any
    beat: Any
    tick: Any
    ticks_per_step: Any


class Pulse(NamedTuple):
    """Where music stands in its beats, as arrays or tensors of one shape `(..)`.

    Attributes:
        beat: float32, the position in quarter notes, modulo 16; NaN without a metronome.
        tick: int32, the nearest twelfth of a quarter note, counted from the beginning of the song;
            NO_TICK without a metronome.
        ticks_per_step: float32, the tempo; 0 without a metronome.
    """

    beat: Any
    tick: Any
    ticks_per_step: Any

    @classmethod
    def of(cls, beats: np.ndarray, beats_per_step: np.ndarray) -> Pulse:
        """Makes arrays from positions in quarter notes and tempos; NaN without a metronome."""
        has_beat = ~np.isnan(beats)
        ticks = nearest_tick(np.where(has_beat, beats, 0.0))
        return cls(
            beat=np.mod(beats, BEATS_PER_CYCLE).astype(np.float32),
            tick=np.where(has_beat, ticks, NO_TICK).astype(np.int32),
            ticks_per_step=np.where(has_beat, beats_per_step * TICKS_PER_BEAT, 0).astype(
                np.float32
            ),
        )

    @classmethod
    def silent(cls, shape: tuple[int, ...]) -> Pulse:
        """That of music without a metronome."""
        nothing = np.full(shape, NO_BEAT)
        return cls.of(nothing, nothing)


class MusicState(NamedTuple):
    """What `advance` carries from token to token, for B pieces; all int32.

    Attributes:
        program: `(B,)` the current one; 0 at the beginning.
        level: `(B,)` the current velocity level; 0 at the beginning, which no note has.
        now: `(B,)` the time.
        onsets: `(B, 128, 128)` by program and pitch, when the sounding note began; NEVER if
            none sounds.
        oldest_onsets: `(B, 128)` the first of each program's onsets.
    """

    program: tf.Tensor
    level: tf.Tensor
    now: tf.Tensor
    onsets: tf.Tensor
    oldest_onsets: tf.Tensor


def initial_state(B: int | tf.Tensor) -> MusicState:
    """The state before a song's first token."""
    zeros = tf.zeros((B,), tf.int32)
    return MusicState(
        program=zeros,
        level=zeros,
        now=zeros,
        onsets=tf.fill((B, NUM_PROGRAMS, NUM_PITCHES), NEVER),
        oldest_onsets=tf.fill((B, NUM_PROGRAMS), NEVER),
    )


def current_onsets(state: MusicState) -> tf.Tensor:
    """The onsets of the current program's notes, `(B, 128)`; NEVER for silent pitches."""
    return tf.gather(state.onsets, state.program, batch_dims=1)


def advance(state: MusicState, token: tf.Tensor, drum_program: tf.Tensor | int) -> MusicState:
    """The state after one more token per piece.

    Args:
        state: of B pieces.
        token: `(B,)` int32; any token is accepted. PAD changes nothing.
        drum_program: the program that stands for percussion; -1 if there is none.
    """
    is_on = _holds(NOTE_ON, token)
    is_off = _holds(NOTE_OFF, token)
    is_shift = _holds(TIME_SHIFT, token)
    now = state.now + tf.where(is_shift, token - (TIME_SHIFT.first - 1), 0)
    # A note begins, begins anew or ends: only the current program's row of onsets changes.
    is_changed = (is_off | is_on) & (state.program != drum_program)
    is_pitch = tf.range(NUM_PITCHES) == (token % NUM_PITCHES)[:, None]
    row = tf.where(
        is_changed[:, None] & is_pitch,
        tf.where(is_on, now, NEVER)[:, None],
        current_onsets(state),
    )
    is_current = tf.range(NUM_PROGRAMS) == state.program[:, None]
    # Written in place: all rows of all programs are 64 KB per piece.
    indices = tf.stack([tf.range(tf.shape(row)[0]), state.program], axis=1)
    return MusicState(
        program=tf.where(_holds(PROGRAM, token), token - PROGRAM.first, state.program),
        level=tf.where(_holds(VELOCITY, token), token - VELOCITY.first, state.level),
        now=now,
        onsets=tf.tensor_scatter_nd_update(state.onsets, indices, row),
        oldest_onsets=tf.where(
            is_current, tf.reduce_min(row, axis=1, keepdims=True), state.oldest_onsets
        ),
    )


def _holds(kind: TokenRange, token: tf.Tensor) -> tf.Tensor:
    return (token >= kind.first) & (token < kind.end)


def nearest_tick(beats: Any) -> Any:
    """The nearest tick to positions in quarter notes, as a float64 array or tensor."""
    floor = tf.floor if tf.is_tensor(beats) else np.floor
    # A little more than half, so that ties are decided alike however a beat was computed.
    return floor(beats * TICKS_PER_BEAT + 0.5 + 1e-4)


def features(state: MusicState, pulse: Pulse) -> Features:
    """What the model sees of a state.

    Args:
        state: of B pieces.
        pulse: tensors `(B,)`.
    """

    def ages(onsets: tf.Tensor) -> tf.Tensor:
        age = tf.minimum(state.now[:, None] - onsets, MAX_AGE_STEPS)
        return tf.where(onsets == NEVER, -1, age)

    return Features(
        program=state.program,
        level=state.level,
        note_ages=ages(current_onsets(state)),
        program_ages=ages(state.oldest_onsets),
        now_steps=state.now,
        beat=pulse.beat,
        tick=pulse.tick,
        ticks_per_step=pulse.ticks_per_step,
    )


@tf.function(autograph=False, reduce_retracing=True)
def token_features(tokens: tf.Tensor, drum_program: tf.Tensor) -> Features:
    """The features after each token of songs that begin with the first token, without a metronome.

    Args:
        tokens: `(B, T)` int32.
        drum_program: the program that stands for percussion; -1 if there is none.

    Returns:
        Features of `(B, T)` tokens.
    """
    B, T = tf.unstack(tf.shape(tokens))
    by_time = tf.transpose(tokens)
    pulse = Pulse(tf.fill((B,), NO_BEAT), tf.fill((B,), NO_TICK), tf.zeros((B,)))
    kinds = [tf.int32] * 5 + [tf.float32, tf.int32, tf.float32]
    arrays = Features(*(tf.TensorArray(kind, T) for kind in kinds))

    def body(t: tf.Tensor, state: MusicState, arrays: Features) -> tuple[Any, ...]:
        state = advance(state, by_time[t], drum_program)
        now = features(state, pulse)
        written = (a.write(t, v) for a, v in zip(arrays, now, strict=True))
        return t + 1, state, Features(*written)

    _, _, arrays = tf.while_loop(lambda t, *_: t < T, body, (0, initial_state(B), arrays))
    stacked = (array.stack() for array in arrays)
    # (T, B, ..) -> (B, T, ..)
    return Features(*(tf.transpose(a, (1, 0, *range(2, a.shape.rank))) for a in stacked))


def window_features(
    tokens: np.ndarray,
    drum_program: int | None,
    start_steps: np.ndarray | int = 0,
    restated_onset_steps: np.ndarray | None = None,
    pulse: Pulse | None = None,
) -> Features:
    """The features after each token of training windows, all tokens at once.

    Args:
        tokens: `(B, T)` whole numbers: the model's inputs.
        drum_program: the program that stands for percussion, or None.
        start_steps: `(B,)` the time at which each window begins.
        restated_onset_steps: `(B, T)` when the note began that a NOTE_ON restates;
            NOT_RESTATED where a NOTE_ON is a note's own onset. None: nothing is restated.
        pulse: `(B, T)` where in its beats the music stands after each token. None: it has no
            metronome.

    Returns:
        Features of `(B, T)` tokens; ages are int16, the rest int32 and float32.
    """
    tokens = np.asarray(tokens, np.int32)
    B, T = tokens.shape
    now = elapsed_steps(tokens).astype(np.int32)
    now += np.reshape(np.asarray(start_steps, np.int32), (-1, 1))
    program = current_values(tokens, PROGRAM, 0)
    is_on, is_off = NOTE_ON.holds(tokens), NOTE_OFF.holds(tokens)
    onset = now
    if restated_onset_steps is not None:
        onset = np.where(restated_onset_steps != NOT_RESTATED, restated_onset_steps, now)

    is_event = is_on | is_off
    if drum_program is not None:
        is_event &= program != drum_program
    event = np.flatnonzero(is_event)
    event_program, pitch = program.ravel()[event], tokens.ravel()[event] % NUM_PITCHES
    # A note sounds until the next event of its program and pitch, or until its window ends.
    place = (event // T * NUM_PROGRAMS + event_program) * NUM_PITCHES + pitch
    order = np.argsort(place, kind="stable")
    until = np.empty(len(event), np.int64)
    until[order] = np.append(event[order][1:], 0)
    is_last = np.append(np.diff(place[order]) != 0, True)[: len(event)]
    until[order[is_last]] = (event[order[is_last]] // T + 1) * T
    note = np.flatnonzero(is_on.ravel()[event])
    # The oldest notes last: of several notes of a program the oldest is written last, and stays.
    note = note[np.argsort(-onset.ravel()[event[note]].astype(np.int64), kind="stable")]
    first, length = event[note], until[note] - event[note]

    # Each note's positions, in a row: those of all tokens after which it sounds.
    ends = np.cumsum(length)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - length), length)
    age = now.ravel()[at] - np.repeat(onset.ravel()[first], length)
    age = np.minimum(age, MAX_AGE_STEPS).astype(np.int16)
    sounding_program = np.repeat(event_program[note], length)
    program_ages = np.full(B * T * NUM_PROGRAMS, -1, np.int16)
    program_ages[at * NUM_PROGRAMS + sounding_program] = age
    is_current = sounding_program == program.ravel()[at]
    note_ages = np.full(B * T * NUM_PITCHES, -1, np.int16)
    pitches = np.repeat(pitch[note], length)[is_current]
    note_ages[at[is_current] * NUM_PITCHES + pitches] = age[is_current]
    pulse = pulse or Pulse.silent((B, T))
    return Features(
        program=program,
        level=current_values(tokens, VELOCITY, 0),
        note_ages=note_ages.reshape(B, T, NUM_PITCHES),
        program_ages=program_ages.reshape(B, T, NUM_PROGRAMS),
        now_steps=now,
        beat=pulse.beat,
        tick=pulse.tick,
        ticks_per_step=pulse.ticks_per_step,
    )


def to_numbers(features: Features, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """The features of `(..)` tokens, but for program and level, as one row each: `(.., 548)`.

    In this order: which pitches of the current program sound, how long, which programs sound,
    how long, the clock, the metronome.
    """
    now = tf.cast(features.now_steps, tf.int32)[..., None]
    # Whole numbers of steps modulo the period, so that a song's length costs no precision.
    phases = [
        tf.cast(now % period, tf.float32) * (2 * math.pi / period) for period in CLOCK_PERIODS_STEPS
    ]
    clock = tf.concat(phases, axis=-1)
    beats = 2 * math.pi * features.beat[..., None] * tf.constant(BEAT_RATES, tf.float32)
    has_beat = ~tf.math.is_nan(beats)
    beats = tf.where(has_beat, beats, 0.0)
    metronome = [tf.where(has_beat, wave(beats), 0.0) for wave in (tf.sin, tf.cos)]
    numbers = [
        *_sounding_and_age(features.note_ages, dtype),
        *_sounding_and_age(features.program_ages, dtype),
        *(tf.cast(wave, dtype) for wave in (tf.sin(clock), tf.cos(clock), *metronome)),
    ]
    return tf.concat(numbers, axis=-1)


def _sounding_and_age(ages: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    ages = tf.cast(ages, tf.float32)
    age = tf.math.log1p(tf.maximum(ages, 0.0)) / AGE_SCALE
    return tf.cast(ages >= 0, dtype), tf.cast(age, dtype)


def state_table_shapes(embedding_size: int) -> dict[str, tuple[int, int]]:
    """The shapes of the weights of MusicStateEmbedding, by name."""
    return {
        "program_embedding": (NUM_PROGRAMS, embedding_size),
        "velocity_embedding": (VELOCITY.size, embedding_size),
        "state_kernel": (NUM_FEATURES, embedding_size),
    }


class MusicStateEmbedding(keras.layers.Layer):
    """Embeds the state of the music: features of `(B, T)` tokens -> `(B, T, D)`.

    `program[p] + velocity[v] + numbers . kernel`, where the numbers are those of `to_numbers`.
    """

    def __init__(self, embedding_size: int, **options: Any) -> None:
        # Half precision would blur the beat, so inputs are not cast.
        super().__init__(autocast=False, **options)
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.program_embedding, self.velocity_embedding, self.state_kernel = (
            self.add_weight(shape=shape, initializer=initializer, name=name)
            for name, shape in state_table_shapes(embedding_size).items()
        )

    def call(self, features: Features) -> tf.Tensor:
        named = (self.program_embedding, self.velocity_embedding, self.state_kernel)
        return embed(features, *(tf.cast(table, self.compute_dtype) for table in named))


def embed(
    features: Features, program: tf.Tensor, velocity: tf.Tensor, kernel: tf.Tensor
) -> tf.Tensor:
    """`(.., D)`: what is added to the embedding of `(..)` tokens; see MusicStateEmbedding."""
    x = tf.gather(program, tf.cast(features.program, tf.int32))
    x += tf.gather(velocity, tf.cast(features.level, tf.int32))
    return x + tf.tensordot(to_numbers(features, kernel.dtype), kernel, 1)
