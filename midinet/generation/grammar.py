"""Which tokens may come next: masks on the logits, one small function a rule.

The rules describe what `codec.encode` writes, so that what is composed decodes to music and
encodes back to itself. They are functions of a few small tensors that live inside the compiled
sampling loop. No state is a dead end: after every token that a mask allows, another is allowed.

Axes: B pieces, 128 programs, 128 pitches, V vocabulary. Times are in steps of the 10 ms grid.

The order of one grid time, which the encoder keeps: the program that was current when the time
began comes first, the others ascend; inside a program NOTE_OFFs ascend by pitch, then NOTE_ONs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from midinet.backend import tf
from midinet.codec.decoding import DRUM_STEPS
from midinet.codec.vocabulary import (
    NOTE_OFF,
    NOTE_ON,
    NUM_PITCHES,
    NUM_PROGRAMS,
    PAD,
    PROGRAM,
    STEP_MS,
    TIME_SHIFT,
    VELOCITY,
)
from midinet.generation.settings import Rules

_NEVER = 1 << 30  # a time that never comes: the deadline of a note that doesn't sound

# What the token before was.
_START, _NOTE, _VELOCITY, _SHIFT, _FULL_SHIFT, _PROGRAM, _END = range(7)
_KINDS = np.full(PAD + 1, _END, np.int32)
for _range, _kind in (
    (NOTE_ON, _NOTE),
    (NOTE_OFF, _NOTE),
    (VELOCITY, _VELOCITY),
    (TIME_SHIFT, _SHIFT),
    (PROGRAM, _PROGRAM),
):
    _KINDS[_range.first : _range.end] = _kind
_KINDS[TIME_SHIFT.end - 1] = _FULL_SHIFT


class Limits(NamedTuple):
    """Rules as tensors, so that one compiled loop serves them all."""

    programs: tf.Tensor  # (128,) bool
    max_silence: tf.Tensor
    max_note: tf.Tensor
    may_end: tf.Tensor
    in_order: tf.Tensor
    drum_program: tf.Tensor  # -1: no percussion


class State(NamedTuple):
    """What the rules need to know of the tokens so far; all int32.

    Attributes:
        kind: `(B,)` what the last token was.
        now: `(B,)`.
        program: `(B,)` the current one.
        first_program: `(B,)` the one that was current when this grid time began.
        velocity: `(B,)` the current level; 0: none yet, as no note has level 0.
        position: `(B,)` the last event of this time and program: a NOTE_OFF's pitch, or 128 +
            a NOTE_ON's pitch; -1: none.
        heard_until: `(B,)` when silence began, should nothing sound now.
        deadlines: `(B, 128, 128)` by when a sounding note must end.
        next_deadline: `(B, 128)` the first deadline of each program.
    """

    kind: tf.Tensor
    now: tf.Tensor
    program: tf.Tensor
    first_program: tf.Tensor
    velocity: tf.Tensor
    position: tf.Tensor
    heard_until: tf.Tensor
    deadlines: tf.Tensor
    next_deadline: tf.Tensor


def limits_of(rules: Rules, drum_program: int | None) -> Limits:
    """Turns rules into tensors, for a model's `drum_program`.

    Without a drum program tokens are read literally: the model learned from another encoder,
    whose order of events is not known, so none is asked for.
    """
    allowed = np.ones(NUM_PROGRAMS, bool)
    if rules.programs is not None:
        allowed[:] = False
        allowed[list(rules.programs)] = True
    return Limits(
        tf.constant(allowed),
        tf.constant(max(1, rules.max_silence_ms // STEP_MS)),
        tf.constant(max(1, rules.max_note_ms // STEP_MS)),
        tf.constant(rules.may_end),
        tf.constant(drum_program is not None),
        tf.constant(-1 if drum_program is None else drum_program),
    )


def start_state(B: int) -> State:
    """The state before a song's first token: program 0, no velocity, nothing sounds."""
    zeros = tf.zeros((B,), tf.int32)
    return State(
        kind=zeros + _START,
        now=zeros,
        program=zeros,
        first_program=zeros,
        velocity=zeros,
        position=zeros - 1,
        heard_until=zeros,
        deadlines=tf.fill((B, NUM_PROGRAMS, NUM_PITCHES), _NEVER),
        next_deadline=tf.fill((B, NUM_PROGRAMS), _NEVER),
    )


def read_seeds(seeds: Sequence[np.ndarray], limits: Limits) -> State:
    """The state that seeds leave behind, ready to go on from.

    A note that sounded too long in its seed, or a silence that was too long, gets one more step,
    because its end may lie behind the events that the seed's last time already has.

    Args:
        seeds: B arrays of tokens, all of one length, without PAD.
    """
    state = start_state(len(seeds))
    if not len(seeds[0]):
        return state
    state = _advance_through(state, tf.constant(np.stack(seeds).T.astype(np.int32)), limits)
    soon = state.now + 1
    # A seed cut behind a VELOCITY or a PROGRAM may still turn to something else.
    is_cut = (state.kind == _VELOCITY) | (state.kind == _PROGRAM)
    return state._replace(
        kind=tf.where(is_cut, _NOTE, state.kind),
        heard_until=tf.maximum(state.heard_until, soon - limits.max_silence),
        deadlines=tf.maximum(state.deadlines, soon[:, None, None]),
        next_deadline=tf.maximum(state.next_deadline, soon[:, None]),
    )


@tf.function(autograph=False, reduce_retracing=True)
def _advance_through(state: State, tokens: tf.Tensor, limits: Limits) -> State:
    """Advances over tokens `(T, B)`."""
    return tf.while_loop(
        lambda i, state: i < tf.shape(tokens)[0],
        lambda i, state: (i + 1, advance(state, tokens[i], limits)),
        (tf.constant(0), state),
    )[1]


def advance(state: State, token: tf.Tensor, limits: Limits) -> State:
    """The state after one more token `(B,)` a piece; any token is taken."""
    kind = tf.gather(_KINDS, token)
    is_on = token < NOTE_ON.end
    is_off = (kind == _NOTE) & ~is_on
    is_shift = (kind == _SHIFT) | (kind == _FULL_SHIFT)
    is_program = kind == _PROGRAM
    is_hit = is_on & (state.program == limits.drum_program)
    pitch = token % NUM_PITCHES

    now = state.now + tf.where(is_shift, token - TIME_SHIFT.first + 1, 0)
    ringing = tf.where(is_hit, now + DRUM_STEPS, tf.where(is_off, now, 0))
    position = tf.where(is_on, NUM_PITCHES + pitch, tf.where(is_off, pitch, state.position))

    # Only the row of the current program changes; percussion never enters it.
    deadline = tf.where(is_off, _NEVER, now + limits.max_note)
    is_changed = (is_off | (is_on & ~is_hit))[:, None] & (tf.range(NUM_PITCHES) == pitch[:, None])
    row = tf.where(is_changed, deadline[:, None], current_row(state))
    is_current = tf.range(NUM_PROGRAMS) == state.program[:, None]
    # Written in its place: all rows of all programs are 64 KB a piece.
    current = tf.stack([tf.range(tf.shape(row)[0]), state.program], axis=1)
    return State(
        kind=kind,
        now=now,
        program=tf.where(is_program, token - PROGRAM.first, state.program),
        first_program=tf.where(is_shift, state.program, state.first_program),
        velocity=tf.where(kind == _VELOCITY, token - VELOCITY.first, state.velocity),
        position=tf.where(is_shift | is_program, -1, position),
        heard_until=tf.maximum(state.heard_until, ringing),
        deadlines=tf.tensor_scatter_nd_update(state.deadlines, current, row),
        next_deadline=tf.where(
            is_current, tf.reduce_min(row, axis=1, keepdims=True), state.next_deadline
        ),
    )


def has_ended(state: State) -> tf.Tensor:
    """`(B,)` bool: whether a piece has come to its PAD."""
    return state.kind == _END


def allowed_tokens(state: State, limits: Limits) -> tf.Tensor:
    """`(B, V)` bool: the tokens that may come next."""
    row = current_row(state)
    note_on = may_start_note(state, row, limits)
    # In the order of the vocabulary.
    may = tf.concat(
        [
            note_on & (state.velocity > 0)[:, None],
            may_end_note(state, row, limits),
            may_change_velocity(state, tf.reduce_any(note_on, axis=1)),
            may_shift_time(state, limits),
            may_change_program(state, limits),
            may_end_piece(state, limits),
        ],
        axis=1,
    )
    # Behind a piece's end there is only PAD.
    return tf.where(has_ended(state)[:, None], tf.range(PAD + 1) == PAD, may)


def masked(logits: tf.Tensor, state: State, limits: Limits) -> tf.Tensor:
    """`(B, V)` logits with -inf for the tokens that may not come next.

    A NOTE_ON of a note that sounds says that the note has ended, which the model forgot to write.
    So its likelihood is not lost but goes to the NOTE_OFF that has to come first.
    """
    may = allowed_tokens(state, limits)
    on, off, others = tf.split(logits, (NUM_PITCHES, NUM_PITCHES, -1), axis=1)
    sounds = current_row(state) != _NEVER
    off = tf.where(sounds, tf.reduce_logsumexp([on, off], axis=0), off)
    return tf.where(may, tf.concat([on, off, others], axis=1), -math.inf)


def may_start_note(state: State, row: tf.Tensor, limits: Limits) -> tf.Tensor:
    """`(B, 128)`: pitches that don't sound yet, on an instrument that may play.

    Percussion never sounds on, so its pitches may always be hit again. Notes of this instrument
    that must end now go first.
    """
    in_order = NUM_PITCHES + tf.range(NUM_PITCHES) > state.position[:, None]
    may_play = tf.gather(limits.programs, state.program)
    is_due = tf.reduce_min(row, axis=1) <= state.now
    return (
        (row == _NEVER)
        & (in_order | ~limits.in_order)
        & (may_play & ~(is_due & limits.in_order))[:, None]
    )


def may_end_note(state: State, row: tf.Tensor, limits: Limits) -> tf.Tensor:
    """`(B, 128)`: pitches that sound, since a step at least, and none behind one that is due."""
    pitches = tf.range(NUM_PITCHES)
    first_due = tf.reduce_min(
        tf.where(row <= state.now[:, None], pitches, NUM_PITCHES), axis=1, keepdims=True
    )
    in_order = (pitches > state.position[:, None]) & (pitches <= first_due)
    has_lasted = row < (state.now + limits.max_note)[:, None]
    may = has_lasted & (in_order | ~limits.in_order)
    return may & (state.kind != _VELOCITY)[:, None]


def may_change_velocity(state: State, note_may_follow: tf.Tensor) -> tf.Tensor:
    """`(B, 32)`: another level than the current one, never 0, and only for a note."""
    levels = tf.range(VELOCITY.size)
    may = note_may_follow & (state.kind != _VELOCITY)
    return may[:, None] & (levels > 0) & (levels != state.velocity[:, None])


def may_shift_time(state: State, limits: Limits) -> tf.Tensor:
    """`(B, 100)`: never past a note's deadline, nor further into silence than allowed.

    Only events are left behind, and pauses are full shifts and then one rest.
    """
    deadline = tf.reduce_min(state.next_deadline, axis=1)
    end_of_silence = state.heard_until + limits.max_silence
    latest = tf.where(deadline == _NEVER, end_of_silence, deadline)
    may = (state.kind == _NOTE) | (state.kind == _FULL_SHIFT)
    may |= (state.kind == _SHIFT) & ~limits.in_order
    steps = 1 + tf.range(TIME_SHIFT.size)
    return may[:, None] & (steps <= (latest - state.now)[:, None])


def may_change_program(state: State, limits: Limits) -> tf.Tensor:
    """`(B, 128)`: another program, not behind one whose note is due, and with something to do.

    An instrument that may not play (the seed's) may still end its notes.
    """
    programs = tf.range(NUM_PROGRAMS)
    rank = tf.where(programs == state.first_program[:, None], 0, 1 + programs)
    is_current = programs == state.program[:, None]
    current_rank = tf.reduce_max(tf.where(is_current, rank, 0), axis=1, keepdims=True)
    is_due = state.next_deadline <= state.now[:, None]
    last_rank = tf.reduce_min(tf.where(is_due, rank, _NEVER), axis=1, keepdims=True)
    in_order = (rank > current_rank) & (rank <= last_rank)
    may = (state.kind != _PROGRAM) & (state.kind != _VELOCITY)
    has_use = limits.programs | (state.next_deadline < _NEVER)
    return may[:, None] & ~is_current & has_use & (in_order | ~limits.in_order)


def may_end_piece(state: State, limits: Limits) -> tf.Tensor:
    """`(B, 1)`: after an event, when no note sounds."""
    is_still = tf.reduce_min(state.next_deadline, axis=1) == _NEVER
    return (limits.may_end & is_still & (state.kind == _NOTE))[:, None]


def current_row(state: State) -> tf.Tensor:
    """`(B, 128)`: the deadlines of the current program's notes."""
    return tf.gather(state.deadlines, state.program, batch_dims=1)
