"""The 517 tokens: one table of ranges from which everything else derives.

Models trained elsewhere depend on these numbers, so they are fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np


Tokens: TypeAlias = "np.ndarray"  # integers of the table below, in the order of the music


class TokenRange(NamedTuple):
    """A run of consecutive tokens that share a meaning."""

    first: int
    size: int

    @property
    def end(self) -> int:
        """The first token after the range."""
        return self.first + self.size

    def holds(self, tokens: Tokens) -> np.ndarray:
        """Marks the tokens of an array that lie in the range."""
        return (tokens >= self.first) & (tokens < self.end)


NUM_PITCHES = 128
NUM_PROGRAMS = 128

NOTE_ON = TokenRange(0, NUM_PITCHES)  # pitch 0-127 starts on the current instrument
NOTE_OFF = TokenRange(NOTE_ON.end, NUM_PITCHES)  # pitch 0-127 ends on the current instrument
VELOCITY = TokenRange(NOTE_OFF.end, 32)  # the following notes have velocity 0, 4, ..., 124
TIME_SHIFT = TokenRange(VELOCITY.end, 100)  # 10, 20, ..., 1000 milliseconds pass
PROGRAM = TokenRange(TIME_SHIFT.end, NUM_PROGRAMS)  # the current instrument changes
PAD = PROGRAM.end  # fills a batch; also marks the boundary between songs
VOCAB_SIZE = PAD + 1

# All tokens by their kind, in ascending order.
KINDS = {
    "NOTE_ON": NOTE_ON,
    "NOTE_OFF": NOTE_OFF,
    "VELOCITY": VELOCITY,
    "TIME_SHIFT": TIME_SHIFT,
    "PROGRAM": PROGRAM,
    "PAD": TokenRange(PAD, 1),
}

STEP_MS = 10  # one step of the time grid, which is what TIME_SHIFT.first says
VELOCITY_STEP = 4
DRUM_PROGRAM = 117  # Melodic Tom: the program that stands for percussion


def melodic_substitute(drum_program: int) -> int:
    """The program that replaces a melodic `drum_program`, whose notes would read as percussion."""
    return drum_program + 1 if drum_program + 1 < NUM_PROGRAMS else drum_program - 1
