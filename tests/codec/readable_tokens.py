"""Notes and tokens as a test can spell them out: `[velocity(64), on(60), wait(500), off(60)]`."""

from __future__ import annotations

import numpy as np

from midinet import Notes

DRUM = -1


def notes_of(*rows: tuple[float, float, int, int, int]) -> Notes:
    """Notes from (start, end, program or DRUM, pitch, velocity)."""
    start, end, program, pitch, velocity = np.array(rows, np.float64).reshape(-1, 5).T
    is_drum = program == DRUM
    small = (np.where(is_drum, 0, program), pitch, velocity)
    return Notes(start, end, *(column.astype(np.uint8) for column in small), is_drum)


def rows_of(notes: Notes) -> list[tuple[float, ...]]:
    program = np.where(notes.is_drum, DRUM, notes.program.astype(int))
    columns = (notes.start_ms, notes.end_ms, program, notes.pitch, notes.velocity)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def on(pitch: int) -> int:
    return pitch


def off(pitch: int) -> int:
    return 128 + pitch


def velocity(value: int) -> int:
    return 256 + value // 4


def wait(ms: int) -> int:
    return 287 + ms // 10


def program(number: int) -> int:
    return 388 + number
