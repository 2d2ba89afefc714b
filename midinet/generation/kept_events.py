"""Events that a piece must have: those of the instruments that the model accompanies.

The kept events are data of the compiled loop, one row for each time at which there are any. The
encoder's order of events at one time fixes where among the others each of them must come, so that
which of them are still to come follows from the last event.

Axes: B pieces, G at least as many as there are times with kept events, M at least as many as there
are kept events at any one time, H at least as many as there are moments with a harmony.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import (
    NUM_PITCHES,
    NUM_PROGRAMS,
    PAD,
    PROGRAM,
    STEP_MS,
    TIME_SHIFT,
    VELOCITY,
    VELOCITY_STEP,
)
from midinet.generation.harmony import MOMENT_MS, fitness
from midinet.midi.notes import Notes
from midinet.model.music_state import NEVER, MusicState

# The tables have few sizes, because the loop is compiled anew for each.
_MIN_TIMES, _MIN_EVENTS, _MIN_MOMENTS = 64, 8, 1024
_NOTHING = -1  # in place of a program where a time has fewer than M events


class KeptEvents(NamedTuple):
    """The events to keep, as tensors; all int32 but for `is_kept`.

    Attributes:
        times: `(G,)` ascending, in grid steps; NEVER in the last two places at least.
        programs, positions, levels: `(G, M)` the events at each time: program; pitch of a
            NOTE_OFF, or 128 + pitch of a NOTE_ON; velocity level of a NOTE_ON, or 0.
        is_kept: `(128,)` bool: the programs that have kept events.
        end: the last time, at which the piece ends.
        fits: `(H, 12)` float32: how well each pitch class fits the kept notes; see harmony.
    """

    times: tf.Tensor
    programs: tf.Tensor
    positions: tf.Tensor
    levels: tf.Tensor
    is_kept: tf.Tensor
    end: tf.Tensor
    fits: tf.Tensor


class Due(NamedTuple):
    """Which kept events must come now, before time passes.

    Attributes:
        programs: `(B, 128)` bool: the programs that have such events.
        position: `(B,)` the first of them in the current program; -1 if there is none.
        level: `(B,)` its velocity level; 0 for a NOTE_OFF.
        time_limit: `(B,)` until when time may pass.
        is_last_time: `(B,)` bool: whether the piece must end now.
    """

    programs: tf.Tensor
    position: tf.Tensor
    level: tf.Tensor
    time_limit: tf.Tensor
    is_last_time: tf.Tensor


def to_kept_events(notes: Notes, drum_program: int | None) -> KeptEvents:
    """The events of notes that decoded tokens say, at least one of them.

    Args:
        notes: on the grid; of one instrument and pitch only one sounds at a time.
        drum_program: the program that stands for percussion, which has no NOTE_OFF.
    """
    program = notes.program.astype(np.int32)
    if drum_program is not None:
        program[notes.is_drum] = drum_program
    start, end = (np.rint(ms / STEP_MS).astype(np.int32) for ms in (notes.start_ms, notes.end_ms))
    level = (notes.velocity // VELOCITY_STEP).astype(np.int32)
    pitch = notes.pitch.astype(np.int32)
    ends = ~notes.is_drum
    time = np.concatenate([start, end[ends]])
    rows = [
        np.concatenate([program, program[ends]]),
        np.concatenate([NUM_PITCHES + pitch, pitch[ends]]),
        np.concatenate([level, 0 * pitch[ends]]),
    ]
    times, group, counts = np.unique(time, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    column = np.arange(len(time)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = _at_least(_MIN_TIMES, len(times) + 2), _at_least(_MIN_EVENTS, counts.max())
    tables = np.full((3, *shape), _NOTHING, np.int32)
    for table, row in zip(tables, rows, strict=True):
        table[group[order], column] = row[order]
    fits = fitness(notes)
    fits = np.pad(fits, ((0, _at_least(_MIN_MOMENTS, len(fits)) - len(fits)), (0, 0)))
    is_kept = np.zeros(NUM_PROGRAMS, bool)
    is_kept[program] = True
    return KeptEvents(
        times=tf.constant(np.append(times, [NEVER] * (shape[0] - len(times))).astype(np.int32)),
        programs=tf.constant(tables[0]),
        positions=tf.constant(tables[1]),
        levels=tf.constant(tables[2]),
        is_kept=tf.constant(is_kept),
        end=tf.constant(times[-1].astype(np.int32)),
        fits=tf.constant(fits),
    )


def _at_least(size: int, needed: int) -> int:
    """The size, doubled until it is enough."""
    while size < needed:
        size *= 2
    return size


def due_events(kept: KeptEvents, music: MusicState, position: tf.Tensor, ranks: tf.Tensor) -> Due:
    """Finds the kept events that must come now.

    Args:
        kept: all of them.
        music: the state of the music.
        position: `(B,)` the last event of this time and program, as in the grammar's state.
        ranks: `(B, 128)` the order of the programs at this time.
    """
    is_past = kept.times < music.now[:, None]
    index = tf.reduce_sum(tf.cast(is_past, tf.int32), axis=1)
    time = tf.gather(kept.times, index)
    programs, positions, levels = (
        tf.gather(table, index) for table in (kept.programs, kept.positions, kept.levels)
    )
    rank = tf.gather(ranks, tf.maximum(programs, 0), batch_dims=1)
    current_rank = tf.gather(ranks, music.program, batch_dims=1)[:, None]
    is_current = programs == music.program[:, None]
    is_due = (programs != _NOTHING) & (time == music.now)[:, None]
    is_due &= (rank > current_rank) | (is_current & (positions > position[:, None]))
    next_positions = tf.where(is_due & is_current, positions, NEVER)
    first = tf.argmin(next_positions, axis=1, output_type=tf.int32)
    has_next = tf.reduce_min(next_positions, axis=1) != NEVER
    later = tf.where(time == music.now, tf.gather(kept.times, index + 1), time)
    later = tf.where(tf.reduce_any(is_due, axis=1), music.now, later)
    is_program = programs[:, :, None] == tf.range(NUM_PROGRAMS)
    return Due(
        programs=tf.reduce_any(is_program & is_due[:, :, None], axis=1),
        position=tf.where(has_next, tf.gather(positions, first, batch_dims=1), -1),
        level=tf.where(has_next, tf.gather(levels, first, batch_dims=1), 0),
        time_limit=tf.minimum(later, kept.end),
        is_last_time=music.now >= kept.end,
    )


def fits_now(kept: KeptEvents, music: MusicState) -> tf.Tensor:
    """`(B, 12)`: how well each pitch class fits the kept notes now."""
    return tf.gather(kept.fits, music.now * STEP_MS // MOMENT_MS)


def may_start_kept_note(level: tf.Tensor, due: Due) -> tf.Tensor:
    """`(B, 128)`: the note that comes next in the current program, once its velocity is current."""
    is_next = NUM_PITCHES + tf.range(NUM_PITCHES) == due.position[:, None]
    return is_next & (level == due.level)[:, None]


def may_end_kept_note(due: Due) -> tf.Tensor:
    """`(B, 128)`: the note whose end comes next in the current program."""
    return tf.range(NUM_PITCHES) == due.position[:, None]


def may_change_velocity_for_kept_note(level: tf.Tensor, due: Due) -> tf.Tensor:
    """`(B, 32)`: the level of the note that comes next in the current program, if it is another."""
    may = (due.level > 0) & (due.level != level)
    return may[:, None] & (tf.range(VELOCITY.size) == due.level[:, None])


def leave_room_for_kept(
    logits: tf.Tensor, kept: KeptEvents, music: MusicState, ranks: tf.Tensor, due: Due
) -> tf.Tensor:
    """Logits `(B, V)` in which forbidding what kept events rule out makes no note more likely.

    If it were only forbidden, its probability would be shared out among what the others play. So
    what would pass the next kept event leads to it instead: the probability that nothing comes
    until then stays what the model says. And where a kept instrument would play something else,
    time passes instead.

    Args:
        logits: what the model says.
        kept: the kept events.
        music: the state of the music.
        ranks: `(B, 128)` the order of the programs at this time.
        due: which kept events must come now.
    """
    shifts = logits[:, TIME_SHIFT.first : TIME_SHIFT.end]
    steps_left = (due.time_limit - music.now)[:, None]
    due_ranks = tf.where(due.programs, ranks, NEVER)
    next_rank = tf.reduce_min(due_ranks, axis=1, keepdims=True)
    before_shifts = tf.zeros_like(logits[:, : TIME_SHIFT.first], tf.bool)
    ends = tf.zeros_like(logits[:, PAD:], tf.bool)
    passes = [before_shifts, 1 + tf.range(TIME_SHIFT.size) > steps_left, ranks > next_rank, ~ends]
    is_current_kept = tf.gather(kept.is_kept, music.program)[:, None]
    of_kept = [
        before_shifts | is_current_kept,
        tf.zeros_like(shifts, tf.bool),
        kept.is_kept & (ranks < next_rank),
        ends,
    ]
    passing, kept_plays = (_total(logits, tf.concat(mask, axis=1)) for mask in (passes, of_kept))
    passing = tf.where(steps_left > 0, passing, tf.reduce_logsumexp([passing, kept_plays], axis=0))
    # The token that leads to the event: a program if it is now, else a shift, if one reaches it.
    next_program = PROGRAM.first + tf.argmin(due_ranks, axis=1, output_type=tf.int32)[:, None]
    shift = tf.where(steps_left <= TIME_SHIFT.size, TIME_SHIFT.first + steps_left - 1, -1)
    leads = tf.where(steps_left > 0, shift, tf.where(next_rank < NEVER, next_program, -1))
    tokens = tf.range(PAD + 1)
    joined = tf.reduce_logsumexp([logits, passing + tf.zeros_like(logits)], axis=0)
    logits = tf.where(tokens == leads, joined, logits)
    time_passes = tf.reduce_logsumexp(shifts, axis=1, keepdims=True)
    gain = tf.reduce_logsumexp([time_passes, kept_plays], axis=0) - time_passes
    is_shift = (tokens >= TIME_SHIFT.first) & (tokens < TIME_SHIFT.end)
    return tf.where(is_shift, logits + gain, logits)


def _total(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """`(B, 1)`: the logarithm of the probability of the tokens in a mask `(B, V)`."""
    return tf.reduce_logsumexp(tf.where(mask, logits, -math.inf), axis=1, keepdims=True)
