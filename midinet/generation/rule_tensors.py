"""The rules of the grammar as tensors, so that one compiled loop serves all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import NUM_PITCHES, NUM_PROGRAMS, STEP_MS
from midinet.generation.kept_events import KeptEvents
from midinet.generation.settings import GrammarRules


class RuleTensors(NamedTuple):
    """The rules; times are in steps of the 10 ms grid, and numbers int32."""

    programs: tf.Tensor  # (128,) bool
    max_programs: tf.Tensor  # how many of them may play in a piece
    max_silence: tf.Tensor
    max_note: tf.Tensor  # (128,) of each program
    max_voices: tf.Tensor  # (128,) of each program
    may_end: tf.Tensor
    earliest_end: tf.Tensor
    in_order: tf.Tensor
    drum_program: tf.Tensor  # -1: no percussion
    kept: KeptEvents | None = None  # what the piece must have; it then ends with the last of it


def to_tensors(
    rules: GrammarRules, drum_program: int | None, kept: KeptEvents | None = None
) -> RuleTensors:
    """Turns rules into tensors, for a model's `drum_program`.

    Without a drum program, tokens are read literally: the model was trained on the tokens of
    another encoder, whose order of events is unknown, so no order is required; but kept events
    need one.

    Args:
        rules: what a user may choose.
        drum_program: the program that stands for percussion, or None.
        kept: the events that a piece from nothing must have, of programs which then play nothing
            else; another program at least must be free to play.
    """
    allowed = np.ones(NUM_PROGRAMS, bool)
    if rules.programs is not None:
        allowed[:] = False
        allowed[list(rules.programs)] = True
    if kept is not None:
        allowed &= ~kept.is_kept.numpy()
    in_order = drum_program is not None or kept is not None
    voices = np.full(NUM_PROGRAMS, NUM_PITCHES)
    # In no order there would be a dead end: a program that is full, whose notes all begin now.
    if rules.habits is not None and in_order:
        voices[:] = rules.habits.most_voices
    return RuleTensors(
        tf.constant(allowed),
        tf.constant(NUM_PROGRAMS if rules.max_programs is None else rules.max_programs),
        tf.constant(max(1, rules.max_silence_ms // STEP_MS)),
        tf.constant(_longest_notes(rules)),
        tf.constant(voices, tf.int32),
        tf.constant(rules.may_end),
        tf.constant(rules.earliest_end_ms // STEP_MS),
        tf.constant(in_order),
        tf.constant(-1 if drum_program is None else drum_program),
        kept,
    )


def _longest_notes(rules: GrammarRules) -> np.ndarray:
    """The longest note of each program: `(128,)` int32, in steps, at least one."""
    steps = np.array(rules.longest_notes_ms, np.int32) // STEP_MS
    return np.maximum(steps, np.int32(1))
