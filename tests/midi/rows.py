"""The notes of a file as rows that a test can spell out."""

from __future__ import annotations

import numpy as np

from midinet import read_midi
from tests.midi.midi_bytes import event

BEAT = 480  # ticks; at the default tempo a beat lasts 500 ms
NOTE = event(0, 0x90, 60, 100) + event(BEAT, 0x80, 60, 0)
CHANNEL_10 = 0x99  # its note-on
DRUM = 255


def rows(source: bytes, sustain: bool = True) -> list[tuple[float, ...]]:
    """The notes as (start, end, program, pitch, velocity), percussion with program DRUM."""
    notes = read_midi(source, sustain)
    program = np.where(notes.is_drum, DRUM, notes.program)
    columns = (notes.start_ms, notes.end_ms, program, notes.pitch, notes.velocity)
    return [
        (float(start), float(end), int(what), int(pitch), int(velocity))
        for start, end, what, pitch, velocity in zip(*columns, strict=True)
    ]


def spans(source: bytes, sustain: bool = True) -> list[tuple[float, ...]]:
    """The notes as (start, end)."""
    return [row[:2] for row in rows(source, sustain)]
