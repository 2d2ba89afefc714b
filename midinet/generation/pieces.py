"""A composed piece: its tokens as music."""

from __future__ import annotations

import dataclasses

import numpy as np

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import STEP_MS, TIME_SHIFT
from midinet.generation.prompts import time_ms, up_to_last_event
from midinet.generation.settings import GrammarRules
from midinet.midi.notes import Notes

_RING_MS = 500  # what still sounds when a piece is cut rings on for so long


@dataclasses.dataclass(frozen=True)
class Piece:
    """A composed piece.

    Attributes:
        notes: its music, with the beats that its file says.
        seed_end_ms: where its seed ends, in milliseconds, if it begins with its seed.
        seed: of the random numbers with which it was composed.
        command: the command that composes it again.
    """

    notes: Notes
    seed_end_ms: float | None
    seed: int
    command: str


def to_notes(
    seed: np.ndarray, made: np.ndarray, codec: CodecSettings, rules: GrammarRules, inclusive: bool
) -> tuple[Notes, float | None]:
    """The music of a piece.

    What sounds when the piece is cut rings on for half a second, but no longer than notes may.
    Without its seed a piece begins where the seed ends, with the notes that the seed left sounding;
    those of instruments that may not play ring on just as long.

    Returns:
        Its notes, and where its seed ends in milliseconds if it is included.
    """
    ring = np.array([TIME_SHIFT.first + _RING_MS // STEP_MS - 1])
    piece = up_to_last_event(np.concatenate([seed, made]))
    tokens = np.concatenate([piece, ring])
    notes = tokens_to_notes(tokens, codec.drum_program, 0 if inclusive else len(seed))
    seed_ms = float(time_ms(seed).max(initial=0))
    cut_ms = float(time_ms(piece).max(initial=0)) - (0 if inclusive else seed_ms)
    latest_ms = notes.start_ms + np.array(rules.longest_notes_ms)[notes.program]
    end_ms = np.minimum(notes.end_ms, np.maximum(latest_ms, cut_ms))
    if not inclusive and rules.programs is not None:
        is_left_over = (notes.start_ms == 0) & ~np.isin(notes.program, rules.programs)
        end_ms = np.where(is_left_over, np.minimum(end_ms, _RING_MS), end_ms)
    notes = dataclasses.replace(notes, end_ms=end_ms)
    return notes, seed_ms if inclusive and len(seed) else None
