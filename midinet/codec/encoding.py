"""Note arrays -> tokens.

Encoding puts absolute times on the 10 ms grid once and writes the differences between grid times,
so no error accumulates, however long the song. Everything is array arithmetic, since a data set
has thousands of songs. Times are milliseconds in Notes and grid steps of STEP_MS here. A slot is a
(program, pitch) pair as one number; only one note can sound in it at a time.
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
    Tokens,
    melodic_substitute,
)
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi

if TYPE_CHECKING:
    import mido

# The VELOCITY token nearest to each velocity. The vocabulary ends at 124, and 0 would be silence:
# so 127 becomes 124 and 1 becomes 4, both off by 3; all others are off by 2 at most.
_LEVELS = np.clip((np.arange(256) + VELOCITY_STEP // 2) // VELOCITY_STEP, 1, VELOCITY.size - 1)
_NEVER = np.int64(1) << 40  # grid steps: later than any song

# An event's sort key is one integer. From the lowest bit it holds: the velocity level, the pitch,
# whether it is a NOTE_ON, the program, whether that program is not the current one, the part, and
# the time.
_PITCH_BIT, _ON_BIT, _PROGRAM_BIT, _OTHER_BIT, _PART_BIT, _TIME_BIT = 5, 12, 13, 20, 21, 23
# The tokens of events, by the pitch and the bit above it.
_NOTE_TOKENS = np.add.outer([NOTE_OFF.first, NOTE_ON.first], np.arange(NUM_PITCHES)).reshape(-1)


class _GridNotes(NamedTuple):
    """Notes as tokens can express them: arrays of one length, times in steps from the first onset.

    Attributes:
        start, end: `(N,)` int64, grid steps.
        slot: `(N,)` int64, program * NUM_PITCHES + pitch.
        level: `(N,)` int64, the index of the note's VELOCITY token, 1-31.
    """

    start: np.ndarray
    end: np.ndarray
    slot: np.ndarray
    level: np.ndarray


def encode(
    music: str | Path | bytes | Notes | mido.MidiFile,
    drum_program: int | None = DRUM_PROGRAM,
    sustain: bool = True,
    volume: bool = True,
) -> Tokens:
    """Writes music as tokens.

    Args:
        music: the path or bytes of a MIDI file, a mido.MidiFile, or notes.
        drum_program: the program that stands for percussion; None leaves percussion out.
        sustain: whether the sustain pedal lengthens the notes of a MIDI file.
        volume: whether the volume of their channels scales the velocities of its notes.

    Returns:
        `(T,)` uint16 tokens; empty for music without notes.

    Raises:
        MidiError: the file or bytes are not a MIDI file.
        OSError: the file can't be opened.

    Example:
        >>> tokens = encode("song.mid")
        >>> decode(tokens).save("the same song.mid")
    """
    if not isinstance(music, (Notes, str, Path, bytes)):
        file = io.BytesIO()
        music.save(file=file)
        music = file.getvalue()
    notes = music if isinstance(music, Notes) else read_midi(music, sustain, volume)
    start, end, slot, level = _to_grid(notes, drum_program)
    has_end = slot // NUM_PITCHES != drum_program
    keys = event_keys(start, slot, level), event_keys(end[has_end], slot[has_end])
    return write_events(np.concatenate(keys)).tokens


def _to_grid(notes: Notes, drum_program: int | None) -> _GridNotes:
    """Rounds notes to the grid.

    A new onset ends the previous note of its slot, and sounds until the latest end of the two.
    """
    program = notes.program.astype(np.int64)
    if drum_program is None:
        notes, program = notes[~notes.is_drum], program[~notes.is_drum]
    else:
        program[program == drum_program] = melodic_substitute(drum_program)
        program[notes.is_drum] = drum_program
    start = np.floor(notes.start_ms / STEP_MS + 0.5).astype(np.int64)
    end = np.floor(notes.end_ms / STEP_MS + 0.5).astype(np.int64)
    slot = (program * NUM_PITCHES + notes.pitch).astype(np.uint16)
    level = _LEVELS.take(notes.velocity)

    # By slot, then onset. NumPy sorts 16-bit integers by radix, which is several times as fast.
    if (start[1:] < start[:-1]).any():
        by_onset = np.argsort(start, kind="stable")
        start, end, slot, level = (field[by_onset] for field in (start, end, slot, level))
    order = np.argsort(slot, kind="stable")
    start, end, slot, level = (field.take(order) for field in (start, end, slot, level))
    end = np.maximum(end, start + 1)
    slot = slot.astype(np.int64)
    in_slot = slot * _NEVER
    end = np.maximum.accumulate(end + in_slot) - in_slot  # the latest so far, in each slot
    # Of several notes that begin in one slot at one time, the last counts.
    same_slot = slot[1:] == slot[:-1]
    repeated = same_slot & (start[1:] == start[:-1])
    if repeated.any():
        kept = np.append(~repeated, True)
        start, end, slot, level = (field[kept] for field in (start, end, slot, level))
        same_slot = slot[1:] == slot[:-1]
    end[:-1] = np.where(same_slot, np.minimum(end[:-1], start[1:]), end[:-1])
    first_onset = start.min(initial=_NEVER)
    return _GridNotes(start - first_onset, end - first_onset, slot, level)


def event_keys(
    time: np.ndarray, slot: np.ndarray, level: np.ndarray | None = None, part: int = 0
) -> np.ndarray:
    """The sort keys of NOTE_ONs, or of NOTE_OFFs; see `write_events`.

    Args:
        time: `(N,)` grid steps, from 0.
        slot: `(N,)` program * NUM_PITCHES + pitch.
        level: `(N,)` the VELOCITY index of each NOTE_ON; None for NOTE_OFFs.
        part: 0 to 3; at one time the events of a lower part come first.

    Returns:
        `(N,)` int64.
    """
    program, pitch = slot // NUM_PITCHES, slot & (NUM_PITCHES - 1)  # faster than %
    keys: np.ndarray = time << _TIME_BIT | program << _PROGRAM_BIT | pitch << _PITCH_BIT
    keys |= part << _PART_BIT
    return keys if level is None else keys | level | 1 << _ON_BIT


def _sort_events(keys: np.ndarray) -> np.ndarray:
    """Sorts event keys `(N,)`, N > 0, in place into the order in which tokens are written.

    Events are ordered by time and part; at one time the current program comes first, then the
    others ascending; within a program NOTE_OFFs by pitch, then NOTE_ONs by pitch.
    """
    keys.sort()
    group = keys >> _PROGRAM_BIT  # one group per time and program: the "other" bit is still 0
    first_of_group = np.flatnonzero(_run_starts(group))
    group = group[first_of_group]
    first_of_time = np.flatnonzero(_run_starts(group >> (_PART_BIT - _PROGRAM_BIT)))
    current = _current_programs(group & (NUM_PROGRAMS - 1), first_of_time)

    first_event = first_of_group[first_of_time]
    events_per_time = np.append(first_event[1:], len(keys)) - first_event
    is_other = _field(keys, _PROGRAM_BIT, NUM_PROGRAMS) != current.repeat(events_per_time)
    keys |= is_other.astype(np.int64) << _OTHER_BIT
    keys.sort()
    return keys


def _run_starts(values: np.ndarray) -> np.ndarray:
    """Marks the first of each run of equal values."""
    starts = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def _field(keys: np.ndarray, bit: int, size: int) -> np.ndarray:
    """The part of event keys that begins at a bit; its size is a power of two."""
    return keys >> bit & (size - 1)


def _current_programs(programs: np.ndarray, first_of_time: np.ndarray) -> np.ndarray:
    """The program that is current as each time begins.

    Programs are written in ascending order, so a time leaves its highest program current, unless
    that one was current before and therefore came first: then it leaves the second highest.

    Args:
        programs: `(P,)` the programs of all times, ascending within a time.
        first_of_time: `(T,)` the index in `programs` at which each time begins.

    Returns:
        `(T,)` one program per time; program 0 is current before the first.
    """
    last_of_time = np.append(first_of_time[1:], len(programs)) - 1
    highest, second = programs[last_of_time], programs[last_of_time - 1]
    before = np.append(0, highest[:-1])  # as if all times before left their highest
    # What a time leaves depends on what the time before it left. If its highest program is the
    # highest of the time before, it leaves its second highest where that one did not, and the
    # other way round. If it is the second highest of the time before, both leave the same of the
    # two. All other times leave their highest.
    has_two = first_of_time < last_of_time
    turns = has_two & (highest == before)
    keeps = np.zeros(len(highest), bool)
    keeps[1:] = has_two[1:] & (highest[1:] == second[:-1])
    num_turns = np.cumsum(turns)
    turns_before = np.maximum.accumulate(num_turns * ~(turns | keeps))
    leaves_second = num_turns - turns_before & 1
    before[1:] = np.where(leaves_second, second, highest)[:-1]
    return before


class Written(NamedTuple):
    """Events as tokens.

    Attributes:
        tokens: `(T,)` uint16.
        keys: `(N,)` int64, the keys of the events in the order in which they were written.
        event_at: `(N,)` for each of them where its NOTE_ON or NOTE_OFF is in the tokens.
    """

    tokens: Tokens
    keys: np.ndarray
    event_at: np.ndarray

    @property
    def part(self) -> np.ndarray:
        """`(N,)` the part of each event."""
        return _field(self.keys, _PART_BIT, 4)


def write_events(keys: np.ndarray) -> Written:
    """Writes events as tokens, in the order in which an encoder writes them.

    Each event becomes, in this order: TIME_SHIFTs where time passes, PROGRAM and VELOCITY where
    they change, and its own NOTE_ON or NOTE_OFF. Music begins with program 0 and without a level.

    Args:
        keys: `(N,)` from `event_keys`, in any order; they are sorted in place.
    """
    if not len(keys):
        return Written(np.empty(0, np.uint16), keys, np.empty(0, np.int64))
    _sort_events(keys)
    program = _field(keys, _PROGRAM_BIT, NUM_PROGRAMS)
    has_program = _run_starts(program)
    has_program[0] = program[0] != 0

    time = keys >> _TIME_BIT
    steps = time.copy()
    steps[1:] -= time[:-1]
    after_time = np.flatnonzero(steps)
    steps = steps[after_time]
    num_shifts = (steps + TIME_SHIFT.size - 1) // TIME_SHIFT.size

    on = np.flatnonzero(keys & (1 << _ON_BIT))
    level = _field(keys[on], 0, VELOCITY.size)
    is_new_level = np.flatnonzero(_run_starts(level))
    has_level, level = on[is_new_level], level[is_new_level]

    num_tokens = 1 + has_program
    num_tokens[after_time] += num_shifts
    num_tokens[has_level] += 1
    event_at = num_tokens.cumsum() - 1
    program_at = event_at - 1
    program_at[has_level] -= 1
    last_shift_at = (program_at - has_program)[after_time]
    has_program = np.flatnonzero(has_program)

    # Whatever is not overwritten below is a TIME_SHIFT of full length.
    tokens = np.full(event_at[-1] + 1, TIME_SHIFT.end - 1, np.uint16)
    tokens[event_at] = _NOTE_TOKENS.take(_field(keys, _PITCH_BIT, 2 * NUM_PITCHES))
    tokens[event_at[has_level] - 1] = VELOCITY.first + level
    tokens[program_at[has_program]] = PROGRAM.first + program[has_program]
    tokens[last_shift_at] = TIME_SHIFT.first + (steps - 1) % TIME_SHIFT.size
    return Written(tokens, keys, event_at)
