"""Note arrays <-> tokens.

Encoding puts absolute time on the grid once and writes differences of grid times, so that no
error accumulates however long the song. Both directions are array arithmetic. Times are
milliseconds in Notes and steps of STEP_MS here; a place is a (program, pitch) pair as one number,
and sounds once at a time.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_OFF,
    NOTE_ON,
    NUM_PITCHES,
    NUM_PROGRAMS,
    PROGRAM,
    STEP_MS,
    TIME_SHIFT,
    VELOCITY,
    VELOCITY_STEP,
)
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi

if TYPE_CHECKING:
    import mido

# Which VELOCITY token is nearest to each velocity. The vocabulary ends at 124, and 0 would be
# silence: so 127 becomes 124 and 1 becomes 4, off by 3; all others are off by 2 at most.
_LEVELS = np.clip((np.arange(256) + VELOCITY_STEP // 2) // VELOCITY_STEP, 1, VELOCITY.size - 1)
_NEVER = np.int64(1) << 40  # steps: later than any song

# The parts of an event's sort key below its time, from the lowest: level, pitch, on, program,
# and whether the program is another than the current one.
_PITCH_BIT, _ON_BIT, _PROGRAM_BIT, _OTHER_BIT, _TIME_BIT = 5, 12, 13, 20, 21


class _GridNotes(NamedTuple):
    """Notes as tokens can say them: arrays of one length, times in steps from the first onset."""

    start: np.ndarray
    end: np.ndarray
    place: np.ndarray
    level: np.ndarray  # which VELOCITY token


def encode(
    music: str | Path | bytes | Notes | mido.MidiFile,
    drum_program: int | None = DRUM_PROGRAM,
    sustain: bool = True,
) -> np.ndarray:
    """Writes music as tokens.

    Args:
        music: the path or bytes of a MIDI file, a mido.MidiFile, or notes.
        drum_program: the program that stands for percussion; None leaves percussion out.
        sustain: whether the sustain pedal lengthens the notes of a MIDI file.

    Returns:
        `(T,)` uint16 tokens; empty for music without notes.

    Raises:
        MidiError: the file or bytes are no MIDI file.
        OSError: the file can't be opened.
    """
    if not isinstance(music, (Notes, str, Path, bytes)):
        file = io.BytesIO()
        music.save(file=file)
        music = file.getvalue()
    notes = music if isinstance(music, Notes) else read_midi(music, sustain)
    grid_notes = _to_grid(notes, drum_program)
    if not len(grid_notes.start):
        return np.empty(0, np.uint16)
    return _write(_in_order(_event_keys(grid_notes, drum_program)))


def _to_grid(notes: Notes, drum_program: int | None) -> _GridNotes:
    """Rounds notes to the grid; a new onset ends the old note of its place."""
    program = notes.program.astype(np.int64)
    if drum_program is None:
        notes, program = notes[~notes.is_drum], program[~notes.is_drum]
    else:
        # A melodic note of that program would read as percussion: its neighbour is the nearest.
        neighbour = drum_program + 1 if drum_program + 1 < NUM_PROGRAMS else drum_program - 1
        program[program == drum_program] = neighbour
        program[notes.is_drum] = drum_program
    start = np.floor(notes.start_ms / STEP_MS + 0.5).astype(np.int64)
    end = np.floor(notes.end_ms / STEP_MS + 0.5).astype(np.int64)
    place = (program * NUM_PITCHES + notes.pitch).astype(np.uint16)
    level = _LEVELS.take(notes.velocity)

    # By place, then onset. Sixteen bits are sorted by radix, which is several times as fast.
    if (start[1:] < start[:-1]).any():
        in_time = np.argsort(start, kind="stable")
        start, end, place, level = (field[in_time] for field in (start, end, place, level))
    order = np.argsort(place, kind="stable")
    start, end, place, level = (field.take(order) for field in (start, end, place, level))
    # Of notes that begin at once in one place the last counts.
    again = place[1:] == place[:-1]
    twice = again & (start[1:] == start[:-1])
    if twice.any():
        kept = np.append(~twice, True)
        start, end, place, level = (field[kept] for field in (start, end, place, level))
        again = place[1:] == place[:-1]
    end = np.maximum(end, start + 1)
    end[:-1] = np.where(again, np.minimum(end[:-1], start[1:]), end[:-1])
    first_onset = start.min(initial=_NEVER)
    return _GridNotes(start - first_onset, end - first_onset, place.astype(np.int64), level)


def _event_keys(notes: _GridNotes, drum_program: int | None) -> np.ndarray:
    """The events of notes as numbers that sort by time, program, what it is, and pitch."""
    program, pitch = notes.place // NUM_PITCHES, notes.place & (NUM_PITCHES - 1)
    what = program << _PROGRAM_BIT | pitch << _PITCH_BIT
    on = notes.start << _TIME_BIT | what | 1 << _ON_BIT | notes.level
    off = notes.end << _TIME_BIT | what
    return np.concatenate((on, off[program != drum_program]))


def _in_order(keys: np.ndarray, program: int = 0) -> np.ndarray:
    """Puts event keys, which it changes, into the order in which they are to be written.

    By time; the current program first, then ascending; inside a program NOTE_OFFs by pitch, then
    NOTE_ONs by pitch. `program` is the one that is current at the beginning.
    """
    keys.sort()

    group = keys >> _PROGRAM_BIT  # events of one time and program, since `other` is still 0
    first_of_group = np.flatnonzero(_differs_from_last(group))
    group = group[first_of_group]
    time = group >> (_TIME_BIT - _PROGRAM_BIT)
    first_of_time = np.flatnonzero(_differs_from_last(time))
    current = _current_programs(group & (NUM_PROGRAMS - 1), first_of_time, program)

    events_at_time = np.diff(first_of_group[first_of_time], append=len(keys))
    other = _field(keys, _PROGRAM_BIT, NUM_PROGRAMS) != current.repeat(events_at_time)
    keys |= other.astype(np.int64) << _OTHER_BIT
    keys.sort()
    return keys


def _differs_from_last(values: np.ndarray) -> np.ndarray:
    """Marks where a value is another than the one before it, and the first."""
    differs = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=differs[1:])
    return differs


def _field(keys: np.ndarray, bit: int, size: int) -> np.ndarray:
    """A part of event keys; its size is a power of two."""
    return keys >> bit & (size - 1)


def _current_programs(
    programs: np.ndarray, first_of_time: np.ndarray, first_program: int
) -> np.ndarray:
    """Which program is current as each time begins.

    A time leaves its highest program current, unless that one was current before and came first:
    then the second highest. So what a time leaves is one of two, and which one is decided by the
    time before: 0 or 1 whatever came before, the same again, or the other. The latest time that
    decides alone and the number of swaps since give every answer without a loop.

    Args:
        programs: `(P,)` the programs of all times, ascending inside a time.
        first_of_time: `(T,)` where in them each time begins.
        first_program: current as the first time begins.

    Returns:
        `(T,)` one program for each time.
    """
    last = np.append(first_of_time[1:], len(programs)) - 1
    highest = programs[last]
    alone = first_of_time == last
    second = np.where(alone, highest, programs[last - 1])
    before_highest = np.concatenate(([first_program], highest[:-1]))
    before_second = np.concatenate(([first_program], second[:-1]))
    # Whether a time leaves its second program, if the time before left its highest or its second.
    after_highest = (before_highest == highest) & ~alone
    after_second = (before_second == highest) & ~alone
    decides = after_highest == after_second
    swaps = np.cumsum(after_highest & ~after_second)
    latest = np.maximum.accumulate(np.where(decides, np.arange(len(last)), 0))
    leaves_second = after_highest[latest] ^ ((swaps - swaps[latest]) & 1 == 1)
    left = np.where(leaves_second, second, highest)
    return np.concatenate(([first_program], left[:-1]))


def _write(keys: np.ndarray, first_program: int = 0, first_level: int = 0) -> np.ndarray:
    """Writes event keys in order as tokens: each event behind the tokens it needs.

    Time begins at 0, with this program and this level; no note has level 0.
    """
    program = _field(keys, _PROGRAM_BIT, NUM_PROGRAMS)
    pitch = _field(keys, _PITCH_BIT, NUM_PITCHES)
    is_on = _field(keys, _ON_BIT, 2) == 1

    steps = np.diff(keys >> _TIME_BIT, prepend=0)
    shifted = np.flatnonzero(steps)
    steps = steps[shifted]
    num_shifts = (steps + TIME_SHIFT.size - 1) // TIME_SHIFT.size
    new_program = _differs_from_last(program)
    new_program[0] = program[0] != first_program
    on = np.flatnonzero(is_on)
    level = _field(keys[on], 0, VELOCITY.size)
    new_level = _differs_from_last(level)
    new_level[:1] = level[:1] != first_level
    on, level = on[new_level], level[new_level]

    # How many tokens each event takes, and so where its own, the last of them, stands.
    size = 1 + new_program
    size[shifted] += num_shifts
    size[on] += 1
    at = size.cumsum() - 1
    # Whatever is not overwritten is a full TIME_SHIFT.
    tokens = np.full(at[-1] + 1, TIME_SHIFT.end - 1, np.uint16)
    tokens[at] = pitch + np.where(is_on, NOTE_ON.first, NOTE_OFF.first)
    at -= 1
    tokens[at[on]] = VELOCITY.first + level
    at[on] -= 1
    new_program = np.flatnonzero(new_program)
    tokens[at[new_program]] = PROGRAM.first + program[new_program]
    at[new_program] -= 1
    tokens[at[shifted]] = TIME_SHIFT.first + (steps - 1) % TIME_SHIFT.size
    return tokens


def write_events(
    time: np.ndarray,
    place: np.ndarray,
    is_on: np.ndarray,
    level: np.ndarray,
    first_program: int = 0,
    first_level: int = 0,
) -> np.ndarray:
    """Writes events as tokens, in the order that an encoder gives them.

    Args:
        time: `(N,)` in steps, from 0.
        place: `(N,)` program * 128 + pitch.
        is_on: `(N,)` whether it is a NOTE_ON; else a NOTE_OFF.
        level: `(N,)` which VELOCITY token a NOTE_ON has, 1 to 31.
        first_program: the program that is current at the beginning.
        first_level: the level that is current there; 0: none.

    Returns:
        `(T,)` uint16 tokens.
    """
    program, pitch = place // NUM_PITCHES, place % NUM_PITCHES
    what = program << _PROGRAM_BIT | pitch << _PITCH_BIT | np.where(is_on, 1 << _ON_BIT | level, 0)
    keys = _in_order(time << _TIME_BIT | what, first_program)
    return _write(keys, first_program, first_level)
