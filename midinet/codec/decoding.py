"""Tokens -> note arrays and MIDI files: any sequence of tokens decodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_OFF,
    NOTE_ON,
    NUM_PITCHES,
    PROGRAM,
    STEP_MS,
    TIME_SHIFT,
    VELOCITY,
    VELOCITY_STEP,
    TokenRange,
)
from midinet.midi.notes import Notes

if TYPE_CHECKING:
    import mido

DRUM_STEPS = 10  # percussion has no NOTE_OFF: it sounds for 100 ms or until the next stroke
_DEFAULT_VELOCITY = 64  # of notes before any VELOCITY token, which no encoder writes


def decode(tokens: np.ndarray, drum_program: int | None = DRUM_PROGRAM) -> mido.MidiFile:
    """Makes a MIDI file from any sequence of tokens.

    Args:
        tokens: `(T,)` whole numbers; what makes no sense is skipped.
        drum_program: the program that stands for percussion; None reads every program literally.

    Returns:
        A file of format 1 in which every note ends.
    """
    from midinet.midi.writer import notes_to_midi  # here: mido takes 0.1 s to import

    return notes_to_midi(tokens_to_notes(tokens, drum_program))


def tokens_to_notes(
    tokens: np.ndarray, drum_program: int | None = DRUM_PROGRAM, first: int = 0
) -> Notes:
    """Reads any sequence of tokens as notes.

    A NOTE_OFF of a silent note is ignored, a NOTE_ON of a sounding note ends it and starts it
    anew, PAD and numbers outside the vocabulary are skipped, and what still sounds at the end
    ends there, percussion after DRUM_STEPS.

    Args:
        tokens: `(T,)` whole numbers.
        drum_program: the program that stands for percussion; None reads every program literally.
        first: reads the continuation that begins with this token: the tokens before it count for
            the instrument, the velocity and the notes still sounding (which start at 0 ms), and
            time counts from here.

    Returns:
        The notes, ordered by onset, then program, then pitch.
    """
    tokens = np.asarray(tokens).astype(np.int64).reshape(-1)
    is_shift = TIME_SHIFT.holds(tokens)
    time = np.cumsum(np.where(is_shift, tokens - TIME_SHIFT.first + 1, 0))
    program = current_values(tokens, PROGRAM, 0)
    velocity = VELOCITY_STEP * current_values(tokens, VELOCITY, _DEFAULT_VELOCITY // VELOCITY_STEP)
    is_on, is_off = NOTE_ON.holds(tokens), NOTE_OFF.holds(tokens)
    is_drum = program == (-1 if drum_program is None else drum_program)

    event = np.flatnonzero(is_on | (is_off & ~is_drum))
    pitch = np.where(is_on, tokens - NOTE_ON.first, tokens - NOTE_OFF.first)[event]
    place = program[event] * NUM_PITCHES + pitch
    order = np.argsort(place, kind="stable")
    event, place, pitch = event[order], place[order], pitch[order]
    start, is_drum = time[event], is_drum[event]

    # A note ends with the next event of its place, whatever it is.
    song_end = time[-1] if len(time) else 0
    end = np.maximum(start + 1, song_end)
    end[is_drum] = start[is_drum] + DRUM_STEPS
    again = np.flatnonzero(place[1:] == place[:-1])
    next_start = start[again + 1]
    end[again] = np.where(is_drum[again], np.minimum(end[again], next_start), next_start)

    here = time[first - 1] if first > 0 and len(time) else 0
    sounds_on = (event >= first) | ((end > here) & ~is_drum)
    kept = np.flatnonzero(is_on[event] & (end > start) & sounds_on)
    start = np.maximum(start - here, 0)
    kept = kept[np.lexsort((place[kept], start[kept]))]
    return Notes(
        start_ms=start[kept] * float(STEP_MS),
        end_ms=(end[kept] - here) * float(STEP_MS),
        program=program[event[kept]].astype(np.uint8),
        pitch=pitch[kept].astype(np.uint8),
        velocity=np.maximum(velocity[event[kept]], 1).astype(np.uint8),
        is_drum=is_drum[kept],
    )


def current_values(tokens: np.ndarray, kind: TokenRange, first: int) -> np.ndarray:
    """The value of a kind, the program say, that is current at each token: `(T,)`.

    `first` is current before the first token of that kind.
    """
    index = np.maximum.accumulate(np.where(kind.holds(tokens), np.arange(len(tokens)), -1))
    return np.where(index < 0, first, tokens[index] - kind.first)
