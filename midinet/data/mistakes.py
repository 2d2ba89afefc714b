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

import numpy as np

from midinet.data.draws import Draws
from midinet.data.windows import NEVER, NOTE_ARRAYS, Excerpts, stable_order

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
    excerpts: Excerpts, draws: Draws, drum_program: int | None, is_chosen: np.ndarray
) -> Excerpts:
    """Makes mistakes in the notes that begin in an excerpt before a random moment.

    Args:
        excerpts: B rows.
        draws: the random numbers of these rows.
        drum_program: the program that stands for percussion, or None.
        is_chosen: `(B,)` bool, the rows to change.

    Returns:
        The new excerpts, in which notes of a slot may overlap; that moment is the
        `counts_from_steps` of those that were changed.
    """
    least, most = DISTURBED_PART
    part = least + (most - least) * draws.uniform("disturbed part")
    start = excerpts.start_steps
    until = start + ((excerpts.stop_steps - start) * part).astype(np.int64)
    is_early = excerpts.onset_steps < until[excerpts.row]
    is_beginning = is_chosen[excerpts.row] & ~excerpts.began_before & is_early
    if not is_beginning.any():
        return excerpts
    notes = excerpts.select(is_beginning)
    row, of_notes = notes.row, draws.each(notes.row)
    is_changed = np.zeros(len(start), bool)
    is_changed[row] = True

    def some(kind: str, max_share: float) -> np.ndarray:
        """Marks notes that have a kind of mistake: `(N,)` bool."""
        share = draws.uniform(kind) / KIND_SHARE
        share = np.where(share < 1, max_share * share, 0)
        marks: np.ndarray = of_notes.uniform(kind) < share[row]
        return marks

    def moved(notes: Excerpts, steps: np.ndarray) -> Excerpts:
        """Moves notes in time, but not out of the beginning."""
        row = notes.row
        onset = np.clip(notes.onset_steps + steps, start[row], until[row] - 1)
        length = notes.end_steps - notes.onset_steps
        end = np.where(notes.end_steps == NEVER, NEVER, onset + length)
        return notes._replace(onset_steps=onset, end_steps=end)

    steps = of_notes.integers("steps", -MAX_MISPLACED_STEPS, MAX_MISPLACED_STEPS)
    notes = moved(notes, steps * some("misplaced", MAX_MISPLACED_SHARE))
    notes = _with_pitches_of_others(
        notes, of_notes.uniform("other"), drum_program, some("mistaken", MAX_MISTAKEN_SHARE)
    )
    hangs = some("hanging", MAX_HANGING_SHARE) & ~notes.is_drum(drum_program)
    reaction_steps = of_notes.integers("reaction", 0, MAX_REACTION_STEPS)
    late_end = np.maximum(until[row] + reaction_steps, notes.onset_steps + 1)
    notes = notes._replace(end_steps=np.where(hangs, late_end, notes.end_steps))
    is_repeated = some("repeated", MAX_REPEATED_SHARE)
    steps = of_notes.integers("steps again", -MAX_REPEATED_STEPS, MAX_REPEATED_STEPS)
    repeated = moved(notes.select(is_repeated), steps[is_repeated])
    notes = notes.select(~some("missing", MAX_MISSING_SHARE))
    together = _together(excerpts.select(~is_beginning), notes, repeated)
    counts_from = np.where(is_changed, until, excerpts.counts_from_steps)
    return together._replace(counts_from_steps=counts_from)


def _with_pitches_of_others(
    notes: Excerpts, choice: np.ndarray, drum_program: int | None, marks: np.ndarray
) -> Excerpts:
    """Gives notes the pitches of other notes of their row, melodic ones those of melodic ones.

    Args:
        notes: N notes.
        choice: `(N,)` random numbers from 0 up to 1.
        drum_program: the program that stands for percussion, or None.
        marks: `(N,)` bool, the notes to change.
    """
    pitch = notes.pitch
    other_pitch = pitch.copy()
    is_drum = notes.is_drum(drum_program)
    for group in (np.flatnonzero(is_drum), np.flatnonzero(~is_drum)):
        row = notes.row[group]
        first, end = row.searchsorted(row), row.searchsorted(row, side="right")
        other = first + (choice[group] * (end - first)).astype(np.int64)
        other_pitch[group] = pitch[group[other]]
    return notes._replace(slot=notes.slot + (other_pitch - pitch) * marks)


def _together(*parts: Excerpts) -> Excerpts:
    """The notes of several excerpts of the same rows in order of their slots, then onsets."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in NOTE_ARRAYS}
    together = parts[0]._replace(**arrays)
    in_order = together.slot * (1 + together.onset_steps.max(initial=0)) + together.onset_steps
    return together.select(stable_order(in_order))
