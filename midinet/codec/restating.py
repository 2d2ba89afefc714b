"""Restating what sounds: how a window that begins in the middle of a song tells its reader.

Such a window begins with PROGRAM, VELOCITY and NOTE_ON tokens for every note that still sounds, so
that no NOTE_OFF in it is without its NOTE_ON.

Several windows, the rows of a batch, are written at once, because that takes little longer than
one. In this module a slot is a row, a program and a pitch as one number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midinet.codec.decoding import current_values, elapsed_steps
from midinet.codec.encoding import event_keys, write_events
from midinet.codec.vocabulary import (
    NOTE_OFF,
    NOTE_ON,
    NUM_PITCHES,
    NUM_PROGRAMS,
    PROGRAM,
    VELOCITY,
    Tokens,
)

NOT_RESTATED = -1  # in place of an onset, for tokens that restate no note
NUM_SLOTS = NUM_PROGRAMS * NUM_PITCHES  # of a row

_MAX_TOKENS_PER_NOTE = 3  # PROGRAM, VELOCITY, NOTE_ON
_CURRENT_TOKENS = 2  # PROGRAM and VELOCITY, which become current again
# The parts of a row: a mark that its state is that of a song's beginning, the notes that are
# restated, a mark that brings back the current program and level, and the music.
_BEGINNING, _RESTATED, _CURRENT, _MUSIC = range(4)


class Events(NamedTuple):
    """Events of some rows.

    Attributes:
        steps: `(N,)` int64, when they happen, in grid steps.
        slot: `(N,)` int64, row * NUM_SLOTS + program * NUM_PITCHES + pitch.
        level: `(N,)` int64, the velocity level of each NOTE_ON, 1 to 31; None for NOTE_OFFs.
    """

    steps: np.ndarray
    slot: np.ndarray
    level: np.ndarray | None = None


class Restatement(NamedTuple):
    """Tokens that restate what sounds, and those of the music that follows.

    Attributes:
        tokens: `(T,)` uint16.
        onset_steps: `(R,)` int32, for the first R tokens, which restate what sounds: for each
            NOTE_ON when its note really began, in grid steps from the beginning of the song, and
            NOT_RESTATED for the other tokens.
    """

    tokens: Tokens
    onset_steps: np.ndarray


def restate(before: Tokens, drum_program: int | None, max_tokens: int) -> Restatement:
    """Restates the notes that still sound after a song's first tokens.

    They come in the encoder's order, without time. After them the program and the velocity level
    are those after `before`, so that the song's next token has its meaning.

    Args:
        before: `(T,)` the tokens from the beginning of the song.
        drum_program: the program that stands for percussion, or None.
        max_tokens: the most tokens to write, at least 2; of too many notes, the latest are kept.

    Example:
        >>> restate(np.array([276, 60, 387, 288]), 117, 100)  # pitch 60 has sounded for 1.01 s
        Restatement(tokens=array([276,  60], dtype=uint16), onset_steps=array([-1,  0], ...))
    """
    program = current_values(before, PROGRAM, 0).astype(np.int64)
    level = current_values(before, VELOCITY, 0).astype(np.int64)
    is_event = before < NOTE_OFF.end
    if drum_program is not None:
        is_event &= program != drum_program
    event = np.flatnonzero(is_event)
    # The last event of each slot, a program and a pitch, decides whether its note sounds.
    slot = program[event] * NUM_PITCHES + before[event] % NUM_PITCHES
    slots, from_end = np.unique(slot[::-1], return_index=True)
    last = event[len(event) - 1 - from_end]
    # Notes without a level, which no encoder writes, can't be restated.
    sounds = NOTE_ON.holds(before[last]) & (level[last] > 0)
    slots, last = slots[sounds], last[sounds]
    kept = latest(last, slots, max_tokens)
    slots, last = slots[kept], last[kept]
    sounding = Events(elapsed_steps(before)[last], slots, level[last])
    nothing = np.zeros(0, np.int64)
    program, level = (np.append(0, values)[-1:] for values in (program, level))
    starts, ends = Events(nothing, nothing, nothing), Events(nothing, nothing)
    return write_rows(sounding, program, level, starts, ends)[0]


def latest(onset_steps: np.ndarray, slot: np.ndarray, max_tokens: int) -> np.ndarray:
    """Chooses which of the notes that sound in each row are restated: the latest.

    Args:
        onset_steps: `(N,)` when each note began.
        slot: `(N,)` as in `Events`, ascending.
        max_tokens: how many tokens may restate the notes of each row, at least 2.

    Returns:
        `(R,)` the indices of the notes, ascending.
    """
    max_notes = (max_tokens - _CURRENT_TOKENS) // _MAX_TOKENS_PER_NOTE
    row = slot // NUM_SLOTS
    # The k-th latest note of its row has `from_end` k.
    from_end = row.searchsorted(row, side="right") - np.arange(len(row))
    return np.sort(np.lexsort((onset_steps, row))[from_end <= max_notes])


def write_rows(
    sounding: Events, program: np.ndarray, level: np.ndarray, starts: Events, ends: Events
) -> list[Restatement]:
    """Writes the tokens of B rows: what sounds at the beginning of each, then its music.

    Args:
        sounding: the notes that are restated, with their onsets in the song; slots ascend.
        program: `(B,)` int64, the program that is current when they have been restated.
        level: `(B,)` int64, the velocity level that is current then.
        starts: the NOTE_ONs that follow; their steps count from the beginning of their rows.
        ends: the NOTE_OFFs that follow.
    """
    row = np.arange(len(program))
    # Rows follow one another in time, so that they can be written as one piece of music.
    span = 1 + max(starts.steps.max(initial=0), ends.steps.max(initial=0))

    def keys(part: int, events: Events) -> np.ndarray:
        time = events.slot // NUM_SLOTS * span + events.steps
        return event_keys(time, events.slot & (NUM_SLOTS - 1), events.level, part)

    no_time = np.zeros(1, np.int64)
    parts = (
        (_BEGINNING, Events(no_time, row * NUM_SLOTS, 0 * row)),
        (_RESTATED, sounding._replace(steps=no_time)),
        (_CURRENT, Events(no_time, row * NUM_SLOTS + program * NUM_PITCHES, level)),
        (_MUSIC, starts),
        (_MUSIC, ends),
    )
    written = write_events(np.concatenate([keys(*part) for part in parts]))
    part, event_at, tokens = written.part, written.event_at, written.tokens
    onset_steps = np.full(len(tokens), NOT_RESTATED, np.int32)
    onset_steps[event_at[part == _RESTATED]] = sounding.steps
    beginning = np.flatnonzero(part == _BEGINNING)
    # Each row lies between its marks and its last event; the marks themselves are left out.
    first = event_at[beginning] + 1
    current_at = event_at[part == _CURRENT]
    end = event_at[np.append(beginning[1:], len(part)) - 1] + 1 if len(row) else first
    return [
        Restatement(np.concatenate((tokens[a:b], tokens[b + 1 : c])), onset_steps[a:b])
        for a, b, c in zip(first.tolist(), current_at.tolist(), end.tolist(), strict=True)
    ]
