"""Which tokens may come next: masks on the logits, one small function per rule.

The rules describe what `codec.encode` writes, so that a composed piece decodes to music and
encodes back to itself. They are functions of a few small tensors inside the compiled sampling
loop. No state is a dead end: after every token that a mask allows, another one is allowed.

Axes: B pieces, 128 programs, 128 pitches, V vocabulary. Times are in steps of the 10 ms grid.

The encoder's order of the events at one grid time: the program that was current when the time
began comes first, then the others in ascending order; within a program NOTE_OFFs ascend by pitch,
then NOTE_ONs.
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
    TIME_SHIFT,
    VELOCITY,
)
from midinet.generation.kept_events import (
    Due,
    due_events,
    leave_room_for_kept,
    may_change_velocity_for_kept_note,
    may_end_kept_note,
    may_start_kept_note,
)
from midinet.generation.rule_tensors import RuleTensors
from midinet.generation.variety import remember_pitch
from midinet.model import music_state
from midinet.model.music_state import NEVER, MusicState

# The kinds of the previous token.
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


class State(NamedTuple):
    """What the rules need to know of the tokens so far; all int32 but for the last two.

    Attributes:
        music: the state of the music: program, velocity level, time, onsets of sounding notes.
        kind: `(B,)` what the last token was.
        first_program: `(B,)` the program that was current when this grid time began.
        position: `(B,)` the last event of this time and program: the pitch of a NOTE_OFF, or
            128 + the pitch of a NOTE_ON; -1: none.
        heard_until: `(B,)` when silence began, if nothing sounds now.
        first_deadline: `(B,)` no note has to end before this time: see `state_after_prompts`.
        has_played: `(B, 128)` bool: the programs that have begun a note.
        pitch_shares: `(B, 128)` float32: see variety.
    """

    music: MusicState
    kind: tf.Tensor
    first_program: tf.Tensor
    position: tf.Tensor
    heard_until: tf.Tensor
    first_deadline: tf.Tensor
    has_played: tf.Tensor
    pitch_shares: tf.Tensor


def initial_state(B: int) -> State:
    """The state before a song's first token: program 0, no velocity, nothing sounds."""
    zeros = tf.zeros((B,), tf.int32)
    return State(
        music=music_state.initial_state(B),
        kind=zeros + _START,
        first_program=zeros,
        position=zeros - 1,
        heard_until=zeros,
        first_deadline=zeros,
        has_played=tf.zeros((B, NUM_PROGRAMS), tf.bool),
        pitch_shares=tf.zeros((B, NUM_PITCHES)),
    )


def state_after_prompts(prompts: Sequence[np.ndarray], rules: RuleTensors) -> State:
    """The state after prompts, from which a piece can continue.

    A note that sounds for too long in its prompt, or a silence that is too long, gets one more
    step, because its end may have to come before events that the prompt's last time already has.

    Args:
        prompts: B arrays of tokens, all of one length, without PAD.
    """
    start = initial_state(len(prompts))
    if not len(prompts[0]):
        return start
    tokens = tf.constant(np.stack(prompts).T.astype(np.int32))
    state: State = _advance_through(start, tokens, rules)
    soon = state.music.now + 1
    # A prompt that ends in VELOCITY or PROGRAM may still continue with something else.
    is_cut = (state.kind == _VELOCITY) | (state.kind == _PROGRAM)
    return state._replace(
        kind=tf.where(is_cut, _NOTE, state.kind),
        heard_until=tf.maximum(state.heard_until, soon - rules.max_silence),
        first_deadline=soon,
    )


@tf.function(autograph=False, reduce_retracing=True)
def _advance_through(state: State, tokens: tf.Tensor, rules: RuleTensors) -> State:
    """Advances over tokens `(T, B)`."""
    _, state = tf.while_loop(
        lambda i, state: i < tf.shape(tokens)[0],
        lambda i, state: (i + 1, advance(state, tokens[i], rules)),
        (tf.constant(0), state),
    )
    return state


def advance(state: State, token: tf.Tensor, rules: RuleTensors) -> State:
    """The state after one more token `(B,)` per piece; any token is accepted."""
    kind = tf.gather(_KINDS, token)
    is_on = token < NOTE_ON.end
    is_off = (kind == _NOTE) & ~is_on
    is_shift = (kind == _SHIFT) | (kind == _FULL_SHIFT)
    is_drum_hit = is_on & (state.music.program == rules.drum_program)
    pitch = token % NUM_PITCHES

    music = music_state.advance(state.music, token, rules.drum_program)
    ringing = tf.where(is_drum_hit, music.now + DRUM_STEPS, tf.where(is_off, music.now, 0))
    position = tf.where(is_on, NUM_PITCHES + pitch, tf.where(is_off, pitch, state.position))
    is_current = tf.range(NUM_PROGRAMS) == state.music.program[:, None]
    return State(
        music=music,
        kind=kind,
        first_program=tf.where(is_shift, music.program, state.first_program),
        position=tf.where(is_shift | (kind == _PROGRAM), -1, position),
        heard_until=tf.maximum(state.heard_until, ringing),
        first_deadline=state.first_deadline,
        has_played=state.has_played | (is_current & is_on[:, None]),
        pitch_shares=remember_pitch(state.pitch_shares, pitch, is_on & ~is_drum_hit),
    )


def deadlines(onsets: tf.Tensor, longest: tf.Tensor, state: State, rules: RuleTensors) -> tf.Tensor:
    """By when notes must end; NEVER for those that do not sound.

    Args:
        onsets: `(B, 128)` when they began.
        longest: `(1 or B, 1 or 128)` how long they may be.
        state: of the piece.
        rules: that hold for it.
    """
    deadline = tf.maximum(onsets + longest, state.first_deadline[:, None])
    if rules.kept is not None:
        deadline = tf.minimum(deadline, rules.kept.end)
    return tf.where(onsets == NEVER, NEVER, deadline)


def has_ended(state: State) -> tf.Tensor:
    """`(B,)` bool: whether a piece has reached its PAD."""
    return state.kind == _END


def allowed_tokens(state: State, rules: RuleTensors) -> tf.Tensor:
    """`(B, V)` bool: the tokens that may come next."""
    return _allowed_tokens(state, rules, _due_now(state, rules))


def _due_now(state: State, rules: RuleTensors) -> Due | None:
    if rules.kept is None:
        return None
    return due_events(rules.kept, state.music, state.position, program_ranks(state))


def _allowed_tokens(state: State, rules: RuleTensors, due: Due | None) -> tf.Tensor:
    longest = tf.gather(rules.max_note, state.music.program)[:, None]
    note_deadlines = deadlines(music_state.current_onsets(state.music), longest, state, rules)
    program_deadlines = deadlines(state.music.oldest_onsets, rules.max_note[None], state, rules)
    if rules.kept is not None:
        # When kept notes end is not for the other rules to say.
        is_kept = tf.gather(rules.kept.is_kept, state.music.program)
        note_deadlines = tf.where(is_kept[:, None], NEVER, note_deadlines)
        program_deadlines = tf.where(rules.kept.is_kept, NEVER, program_deadlines)
    programs = programs_that_may_play(state, rules)
    note_on = may_start_note(state, note_deadlines, rules, programs, due)
    # In the order of the vocabulary.
    may = [
        note_on & (state.music.level > 0)[:, None],
        may_end_note(state, note_deadlines, rules),
        may_change_velocity(state, tf.reduce_any(note_on, axis=1)),
        may_shift_time(state, program_deadlines, rules, due),
        may_change_program(state, program_deadlines, rules, programs, due),
        may_end_piece(state, rules, due),
    ]
    if due is not None:
        may[0] |= may_start_kept_note(state.music.level, due)
        may[1] |= may_end_kept_note(due)
        may[2] |= may_change_velocity_for_kept_note(state.music.level, due)
    # After a piece's end there is only PAD.
    return tf.where(has_ended(state)[:, None], tf.range(PAD + 1) == PAD, tf.concat(may, axis=1))


def mask_logits(logits: tf.Tensor, state: State, rules: RuleTensors) -> tf.Tensor:
    """The logits `(B, V)`, with -inf for the tokens that may not come next.

    A NOTE_ON of a note that sounds implies that the note has ended, which the model forgot to
    write. Its probability is therefore added to that of the NOTE_OFF, which has to come first. In
    the same way, a note for which an instrument has no voice left implies that its oldest one has
    ended, and a token that would pass a kept event leads to that event.
    """
    due = _due_now(state, rules)
    may = _allowed_tokens(state, rules, due)
    if due is not None and rules.kept is not None:
        logits = leave_room_for_kept(logits, rules.kept, state.music, program_ranks(state), due)
    on, off, others = tf.split(logits, (NUM_PITCHES, NUM_PITCHES, -1), axis=1)
    onsets = music_state.current_onsets(state.music)
    sounds = onsets != NEVER
    off = tf.where(sounds, tf.reduce_logsumexp([on, off], axis=0), off)
    is_oldest = tf.range(NUM_PITCHES) == tf.argmin(onsets, axis=1, output_type=tf.int32)[:, None]
    new = tf.reduce_logsumexp(tf.where(sounds, -math.inf, on), axis=1, keepdims=True)
    makes_room = is_oldest & sounds & ~may_have_voice(state, rules)[:, None]
    off = tf.where(makes_room, tf.reduce_logsumexp([off, new + tf.zeros_like(off)], axis=0), off)
    return tf.where(may, tf.concat([on, off, others], axis=1), -math.inf)


def programs_that_may_play(state: State, rules: RuleTensors) -> tf.Tensor:
    """`(B, 128)`: those allowed; once as many of them as may play have played, only those."""
    has_played = state.has_played & rules.programs
    count = tf.reduce_sum(tf.cast(has_played, tf.int32), axis=1, keepdims=True)
    return rules.programs & (has_played | (count < rules.max_programs))


def may_start_note(
    state: State,
    note_deadlines: tf.Tensor,
    rules: RuleTensors,
    programs: tf.Tensor,
    due: Due | None,
) -> tf.Tensor:
    """`(B, 128)`: pitches that do not sound yet, on an instrument that may play and has a voice.

    Percussion notes have no length, so their pitches may always be hit again. Notes of this
    instrument that must end now come first. Beside kept events nothing begins at the last time.
    """
    in_order = NUM_PITCHES + tf.range(NUM_PITCHES) > state.position[:, None]
    may_play = tf.gather(programs, state.music.program, batch_dims=1) & may_have_voice(state, rules)
    is_due = tf.reduce_min(note_deadlines, axis=1) <= state.music.now
    if due is not None:
        may_play &= ~due.is_last_time
    return (
        (note_deadlines == NEVER)
        & (in_order | ~rules.in_order)
        & (may_play & ~(is_due & rules.in_order))[:, None]
    )


def may_have_voice(state: State, rules: RuleTensors) -> tf.Tensor:
    """`(B,)`: whether one more note may sound on the current instrument."""
    sounds = music_state.current_onsets(state.music) != NEVER
    voices = tf.reduce_sum(tf.cast(sounds, tf.int32), axis=1)
    return voices < tf.gather(rules.max_voices, state.music.program)


def may_end_note(state: State, note_deadlines: tf.Tensor, rules: RuleTensors) -> tf.Tensor:
    """`(B, 128)`: pitches that have sounded for a step at least, up to the first that must end."""
    now = state.music.now[:, None]
    pitches = tf.range(NUM_PITCHES)
    first_due = tf.reduce_min(
        tf.where(note_deadlines <= now, pitches, NUM_PITCHES), axis=1, keepdims=True
    )
    in_order = (pitches > state.position[:, None]) & (pitches <= first_due)
    has_lasted = (note_deadlines != NEVER) & (music_state.current_onsets(state.music) < now)
    may = has_lasted & (in_order | ~rules.in_order)
    return may & (state.kind != _VELOCITY)[:, None]


def may_change_velocity(state: State, note_may_follow: tf.Tensor) -> tf.Tensor:
    """`(B, 32)`: another level than the current one, never 0, and only for a note."""
    levels = tf.range(VELOCITY.size)
    may = note_may_follow & (state.kind != _VELOCITY)
    return may[:, None] & (levels > 0) & (levels != state.music.level[:, None])


def may_shift_time(
    state: State, program_deadlines: tf.Tensor, rules: RuleTensors, due: Due | None
) -> tf.Tensor:
    """`(B, 100)`: never past a note's deadline or a kept event, nor too far into silence.

    Time passes only after a note's beginning or end; a long pause is a run of full shifts and
    then the rest.
    """
    deadline = tf.reduce_min(program_deadlines, axis=1)
    end_of_silence = state.heard_until + rules.max_silence
    is_silent = tf.reduce_min(state.music.oldest_onsets, axis=1) == NEVER
    latest = tf.where(is_silent, end_of_silence, deadline)
    if due is not None:
        latest = tf.minimum(latest, due.time_limit)
    may = (state.kind == _NOTE) | (state.kind == _FULL_SHIFT)
    may |= (state.kind == _SHIFT) & ~rules.in_order
    steps = 1 + tf.range(TIME_SHIFT.size)
    return may[:, None] & (steps <= (latest - state.music.now)[:, None])


def program_ranks(state: State) -> tf.Tensor:
    """`(B, 128)`: the order in which the programs of this time come."""
    programs = tf.range(NUM_PROGRAMS)
    return tf.where(programs == state.first_program[:, None], 0, 1 + programs)


def may_change_program(
    state: State,
    program_deadlines: tf.Tensor,
    rules: RuleTensors,
    programs: tf.Tensor,
    due: Due | None,
) -> tf.Tensor:
    """`(B, 128)`: another program that can do something, up to the first that must do something.

    That is one whose note must end, or one that has kept events now. An instrument that may not
    play, but did in the prompt, may still end its notes.
    """
    rank = program_ranks(state)
    is_current = tf.range(NUM_PROGRAMS) == state.music.program[:, None]
    current_rank = tf.reduce_max(tf.where(is_current, rank, 0), axis=1, keepdims=True)
    is_due = program_deadlines <= state.music.now[:, None]
    has_use = programs
    if due is not None:
        is_due |= due.programs
        has_use = due.programs | (has_use & ~due.is_last_time[:, None])
    has_use |= program_deadlines < NEVER
    last_rank = tf.reduce_min(tf.where(is_due, rank, NEVER), axis=1, keepdims=True)
    in_order = (rank > current_rank) & (rank <= last_rank)
    may = (state.kind != _PROGRAM) & (state.kind != _VELOCITY)
    return may[:, None] & ~is_current & has_use & (in_order | ~rules.in_order)


def may_end_piece(state: State, rules: RuleTensors, due: Due | None) -> tf.Tensor:
    """`(B, 1)`: after an event, when no note sounds; with kept events when they have all come."""
    may_end = rules.may_end & (state.music.now >= rules.earliest_end)
    if due is not None:
        may_end = due.is_last_time & ~tf.reduce_any(due.programs, axis=1)
    is_still = tf.reduce_min(state.music.oldest_onsets, axis=1) == NEVER
    return (may_end & is_still & (state.kind == _NOTE))[:, None]
