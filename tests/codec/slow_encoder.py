"""The encoding rules as a plain loop over notes and times: the judge of the vectorised encoder."""

from __future__ import annotations

import math

from midinet.midi.notes import Notes

DRUMS = 117


def slow_encode(notes: Notes, drum_program: int | None = DRUMS) -> list[int]:
    """The tokens of notes, with the numbers of the vocabulary spelled out."""
    placed = {}  # (program, pitch, start) -> (end, level); the level of the last of equals counts
    columns = (notes.start_ms, notes.end_ms, notes.program, notes.pitch, notes.velocity)
    rows = zip(*(column.tolist() for column in columns), notes.is_drum.tolist(), strict=True)
    for start_ms, end_ms, program, pitch, velocity, is_drum in rows:
        if is_drum and drum_program is None:
            continue
        if is_drum:
            program = drum_program
        elif program == drum_program:
            program += 1 if drum_program < 127 else -1
        start = math.floor(start_ms / 10 + 0.5)
        end = max(math.floor(end_ms / 10 + 0.5), start + 1)
        equal_end, _ = placed.get((program, pitch, start), (end, 0))
        level = min(31, max(1, (velocity + 2) // 4))
        placed[program, pitch, start] = max(end, equal_end), level

    sounds_until = {}  # (program, pitch) -> the latest end of the notes so far
    for program, pitch, start in sorted(placed):
        end, level = placed[program, pitch, start]
        end = max(end, sounds_until.get((program, pitch), end))
        placed[program, pitch, start] = end, level
        sounds_until[program, pitch] = end

    events = {}  # time -> program -> [(is_on, pitch, level)]
    first = min((start for _, _, start in placed), default=0)
    later_start = {}
    for program, pitch, start in sorted(placed, reverse=True):
        end, level = placed[program, pitch, start]
        end = min(end, later_start.get((program, pitch), end))
        later_start[program, pitch] = start
        events.setdefault(start - first, {}).setdefault(program, []).append((1, pitch, level))
        if program != drum_program:
            events.setdefault(end - first, {}).setdefault(program, []).append((0, pitch, 0))

    tokens, now, current, current_level = [], 0, 0, None
    for time in sorted(events):
        wait, now = time - now, time
        tokens += [387] * ((wait - 1) // 100) + ([288 + (wait - 1) % 100] if wait else [])
        for program in sorted(events[time], key=lambda program: (program != current, program)):
            if program != current:
                tokens.append(388 + program)
                current = program
            for is_on, pitch, level in sorted(events[time][program]):
                if is_on and level != current_level:
                    tokens.append(256 + level)
                    current_level = level
                tokens.append(pitch if is_on else 128 + pitch)
    return tokens
