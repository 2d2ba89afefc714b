"""Tokens -> note arrays and MIDI files. Any sequence of tokens can be decoded."""

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
    Tokens,
)
from midinet.midi.notes import Notes

if TYPE_CHECKING:
    import mido

DRUM_STEPS = 10  # percussion has no NOTE_OFF: it sounds for 100 ms or until the next stroke
_DEFAULT_VELOCITY = 64  # for notes before the first VELOCITY token; an encoder writes none such


def decode(tokens: Tokens, drum_program: int | None = DRUM_PROGRAM) -> mido.MidiFile:
    """Makes a MIDI file from any sequence of tokens.

    Args:
        tokens: `(T,)` integers; tokens without meaning at their place are skipped.
        drum_program: the program that stands for percussion; None reads every program literally.

    Returns:
        A file of format 1 in which every note ends.

    Example:
        >>> decode(encode("song.mid")).save("copy.mid")
    """
    from midinet.midi.writer import notes_to_midi  # here: mido takes 0.1 s to import

    return notes_to_midi(tokens_to_notes(tokens, drum_program))


def tokens_to_notes(
    tokens: Tokens, drum_program: int | None = DRUM_PROGRAM, first: int = 0
) -> Notes:
    """Reads any sequence of tokens as notes.

    A NOTE_OFF of a silent note is ignored; a NOTE_ON of a sounding note ends it and starts it
    again; PAD and numbers outside the vocabulary are skipped. Notes that still sound after the
    last token end there; percussion ends DRUM_STEPS after its onset.

    Args:
        tokens: `(T,)` integers.
        drum_program: the program that stands for percussion; None reads every program literally.
        first: the index of the first token of a continuation, if only that is wanted: the tokens
            before it still decide the instrument, the velocity and which notes sound (these start
            at 0 ms), and time counts from this token.

    Returns:
        The notes, ordered by onset, then program, then pitch.
    """
    tokens = np.asarray(tokens).astype(np.int64).reshape(-1)
    time = elapsed_steps(tokens)
    program = current_values(tokens, PROGRAM, 0)
    velocity = VELOCITY_STEP * current_values(tokens, VELOCITY, _DEFAULT_VELOCITY // VELOCITY_STEP)
    is_on, is_off = NOTE_ON.holds(tokens), NOTE_OFF.holds(tokens)
    is_drum = program == (-1 if drum_program is None else drum_program)

    event = np.flatnonzero(is_on | (is_off & ~is_drum))
    pitch = np.where(is_on, tokens - NOTE_ON.first, tokens - NOTE_OFF.first)[event]
    slot = program[event] * NUM_PITCHES + pitch
    order = np.argsort(slot.astype(np.uint16), kind="stable")  # 16 bits are sorted fastest
    event, slot, pitch = event[order], slot[order], pitch[order]
    start, is_drum = time[event], is_drum[event]

    # A note ends with the next event in its slot, be it a NOTE_OFF or a NOTE_ON.
    song_end = time[-1] if len(time) else 0
    end = np.maximum(start + 1, song_end)
    end[is_drum] = start[is_drum] + DRUM_STEPS
    has_next = np.flatnonzero(slot[1:] == slot[:-1])
    next_start = start[has_next + 1]
    end[has_next] = np.where(is_drum[has_next], np.minimum(end[has_next], next_start), next_start)

    first_time = time[first - 1] if first > 0 and len(time) else 0
    is_wanted = (event >= first) | ((end > first_time) & ~is_drum)
    kept = np.flatnonzero(is_on[event] & (end > start) & is_wanted)
    start = np.maximum(start - first_time, 0)
    kept = kept[np.lexsort((slot[kept], start[kept]))]
    return Notes(
        start_ms=start[kept] * float(STEP_MS),
        end_ms=(end[kept] - first_time) * float(STEP_MS),
        program=program[event[kept]].astype(np.uint8),
        pitch=pitch[kept].astype(np.uint8),
        velocity=np.maximum(velocity[event[kept]], 1).astype(np.uint8),
        is_drum=is_drum[kept],
    )


def elapsed_steps(tokens: Tokens) -> np.ndarray:
    """The time after each token `(.., T)`, in grid steps from the first token: `(.., T)` int64."""
    steps = np.where(TIME_SHIFT.holds(tokens), tokens.astype(np.int64) - TIME_SHIFT.first + 1, 0)
    return np.cumsum(steps, axis=-1)


def current_values(tokens: Tokens, kind: TokenRange, initial: int) -> np.ndarray:
    """The value of one kind of token (the program, say) that is current at each token `(.., T)`.

    Before the first token of that kind, `initial` is current.
    """
    is_new = kind.holds(tokens)
    starts = is_new.copy()  # of the runs of one value; each row begins one
    starts[..., :1] = True
    start = np.flatnonzero(starts)
    values = np.where(is_new.ravel()[start], tokens.ravel()[start] - kind.first, initial)
    lengths = np.empty_like(start)
    lengths[:-1] = start[1:] - start[:-1]
    lengths[-1:] = tokens.size - start[-1:]
    return values.repeat(lengths).reshape(tokens.shape)
