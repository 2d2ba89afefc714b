"""Restating what sounds: how a window that begins in the middle of a song tells its reader.

Such a window begins with PROGRAM, VELOCITY and NOTE_ON tokens for every note that still sounds, so
that no NOTE_OFF in it is without its NOTE_ON.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midinet.codec.decoding import current_values, elapsed_steps
from midinet.codec.encoding import write_events
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

_MAX_TOKENS_PER_NOTE = 3  # PROGRAM, VELOCITY, NOTE_ON
_CURRENT_TOKENS = 2  # PROGRAM and VELOCITY, which become current again


class Restatement(NamedTuple):
    """Tokens that restate what sounds.

    Attributes:
        tokens: `(T,)` uint16.
        onset_steps: `(T,)` int32; for each NOTE_ON when its note really began, in grid steps from
            the beginning of the song, and NOT_RESTATED for the other tokens.
        notes: `(R,)` the indices of the notes that are restated.
    """

    tokens: Tokens
    onset_steps: np.ndarray
    notes: np.ndarray


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
        Restatement(tokens=array([276,  60], dtype=uint16), onset_steps=array([-1,  0], ...), ...)
    """
    program = current_values(before, PROGRAM, 0)
    level = current_values(before, VELOCITY, 0)
    is_event = before < NOTE_OFF.end
    if drum_program is not None:
        is_event &= program != drum_program
    event = np.flatnonzero(is_event)
    # The last event of each slot, a program and a pitch, decides whether its note sounds.
    slot = program[event].astype(np.int64) * NUM_PITCHES + before[event] % NUM_PITCHES
    slots, from_end = np.unique(slot[::-1], return_index=True)
    last = event[len(event) - 1 - from_end]
    # Notes without a level, which no encoder writes, can't be restated.
    sounds = NOTE_ON.holds(before[last]) & (level[last] > 0)
    slots, last = slots[sounds], last[sounds]
    current = (int(program[-1]), int(level[-1])) if len(before) else (0, 0)
    levels = level[last].astype(np.int64)
    by_onset = np.argsort(last)
    return write_restatement(
        slots, levels, elapsed_steps(before)[last], by_onset, current, max_tokens
    )


def write_restatement(
    slot: np.ndarray,
    level: np.ndarray,
    onset_steps: np.ndarray,
    notes: np.ndarray,
    current: tuple[int, int],
    max_tokens: int,
) -> Restatement:
    """Writes the tokens that restate some notes.

    Args:
        slot: `(N,)` program * NUM_PITCHES + pitch of each note.
        level: `(N,)` velocity levels, 1 to 31.
        onset_steps: `(N,)` when each note began.
        notes: `(R,)` the indices of those that sound, each in a slot of its own.
        current: the program and the velocity level that shall be current after the tokens.
        max_tokens: as in `restate`.
    """
    by_onset = notes[np.argsort(onset_steps[notes], kind="stable")]
    notes = by_onset[len(notes) - min(len(notes), _max_notes(max_tokens)) :]
    onset_of_slot = np.zeros(NUM_PROGRAMS * NUM_PITCHES, np.int32)
    onset_of_slot[slot[notes]] = onset_steps[notes]
    no_time = np.zeros(len(notes), np.int64)
    tokens = write_events(no_time, slot[notes], no_time == 0, level[notes])
    missing = [
        kind.first + value
        for kind, value in zip((PROGRAM, VELOCITY), current, strict=True)
        if value != _last_value(current_values(tokens, kind, 0))
    ]
    tokens = np.append(tokens, np.array(missing, np.uint16))
    restated = current_values(tokens, PROGRAM, 0).astype(np.int64) * NUM_PITCHES + tokens
    onsets = np.full(len(tokens), NOT_RESTATED, np.int32)
    is_on = NOTE_ON.holds(tokens)
    onsets[is_on] = onset_of_slot[restated[is_on]]
    return Restatement(tokens, onsets, notes)


def _max_notes(max_tokens: int) -> int:
    return max(0, (max_tokens - _CURRENT_TOKENS) // _MAX_TOKENS_PER_NOTE)


def _last_value(values: np.ndarray) -> int:
    return int(values[-1]) if len(values) else 0
