"""Mistakes at the beginning of a training window, from which a model learns to recover.

A model that composes hears its own mistakes and continues them: notes beside the beat, out of key,
too many of them, or without an end. Music without mistakes can't teach it to recover. In some
windows the music before a random moment is therefore full of mistakes. They count in no loss, so
the model does not learn to make them; what follows is the music as it was written.

Source: Ross et al. 2011, "A reduction of imitation learning and structured prediction to no-regret
online learning", trains on states to which mistakes have led. Here the mistakes are drawn at
random.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midinet.codec.vocabulary import NUM_PITCHES
from midinet.data.windows import NEVER, Excerpt, without_overlaps

DISTURBED_PART = (0.1, 0.6)  # of an excerpt, at least and at most
KIND_SHARE = 0.6  # of these beginnings have any one kind of mistake
# The most of their notes that have it:
MAX_MISPLACED_SHARE = MAX_MISTAKEN_SHARE = MAX_MISSING_SHARE = 0.4
MAX_HANGING_SHARE = 0.1
MAX_REPEATED_SHARE = 0.6
MAX_MISPLACED_STEPS = 12  # from where a note belongs
MAX_REPEATED_STEPS = 200  # from a note to its repetition
MAX_REACTION_STEPS = 50  # until a note ends that hangs, from when the loss counts


def disturb_beginning(
    excerpt: Excerpt, random: np.random.Generator, drum_program: int | None
) -> Excerpt:
    """Makes mistakes in the notes that begin in an excerpt before a random moment.

    Returns:
        The new excerpt, whose `counts_from_steps` is that moment.
    """
    length_steps = excerpt.stop_steps - excerpt.start_steps
    until_steps = excerpt.start_steps + int(length_steps * random.uniform(*DISTURBED_PART))
    is_beginning = ~excerpt.began_before & (excerpt.onset_steps < until_steps)
    notes, others = excerpt.select(is_beginning), excerpt.select(~is_beginning)
    if not len(notes.slot):
        return excerpt

    def some(max_share: float) -> np.ndarray:
        """Marks notes that have a kind of mistake: `(N,)` bool."""
        share = random.uniform(0, max_share) * (random.random() < KIND_SHARE)
        marks: np.ndarray = random.random(len(notes.slot)) < share
        return marks

    def moved(notes: Excerpt, max_steps: int, marks: np.ndarray) -> Excerpt:
        """Moves notes in time, but not out of the beginning."""
        steps = random.integers(-max_steps, max_steps, len(marks), endpoint=True) * marks
        onset = np.clip(notes.onset_steps + steps, excerpt.start_steps, until_steps - 1)
        length = notes.end_steps - notes.onset_steps
        end = np.where(notes.end_steps == NEVER, NEVER, onset + length)
        return notes._replace(onset_steps=onset, end_steps=end)

    notes = moved(notes, MAX_MISPLACED_STEPS, some(MAX_MISPLACED_SHARE))
    notes = _with_pitches_of_others(notes, random, drum_program, some(MAX_MISTAKEN_SHARE))
    hangs = some(MAX_HANGING_SHARE) & ~notes.is_drum(drum_program)
    reaction_steps = random.integers(MAX_REACTION_STEPS, size=len(hangs), endpoint=True)
    late_end = np.maximum(until_steps + reaction_steps, notes.onset_steps + 1)
    notes = notes._replace(end_steps=np.where(hangs, late_end, notes.end_steps))
    repeated = notes.select(some(MAX_REPEATED_SHARE))
    repeated = moved(repeated, MAX_REPEATED_STEPS, np.ones(len(repeated.slot), bool))
    notes = notes.select(~some(MAX_MISSING_SHARE))
    together = _together(others, notes, repeated)
    return without_overlaps(together._replace(counts_from_steps=until_steps))


def _with_pitches_of_others(
    notes: Excerpt, random: np.random.Generator, drum_program: int | None, marks: np.ndarray
) -> Excerpt:
    """Gives notes the pitches of other notes, melodic ones those of melodic ones."""
    pitch = notes.slot % NUM_PITCHES
    other_pitch = pitch.copy()
    is_drum = notes.is_drum(drum_program)
    for group in (is_drum, ~is_drum):
        if group.any():
            other_pitch[group] = random.choice(pitch[group], group.sum())
    return notes._replace(slot=notes.slot + (other_pitch - pitch) * marks)


def _together(*parts: Excerpt) -> Excerpt:
    """The notes of several excerpts in order of their slots, then onsets."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in parts[0]._asdict().items()
        if isinstance(value, np.ndarray)
    }
    order = np.lexsort((arrays["onset_steps"], arrays["slot"]))
    return parts[0]._replace(**{name: values[order] for name, values in arrays.items()})
