"""Augmentation: changes of key, instruments, loudness and tempo, and mistakes at the beginning.

Every function takes the notes of some excerpts and returns new ones; the data set is never changed.
"""

from __future__ import annotations

import numpy as np

from midinet.codec.vocabulary import NUM_PITCHES, NUM_PROGRAMS, VELOCITY
from midinet.data.draws import Draws
from midinet.data.mistakes import disturb_beginning
from midinet.data.windows import NEVER, Excerpts, without_overlaps

MIN_SEMITONES, MAX_SEMITONES = -6, 5
MIN_TEMPO_FACTOR, MAX_TEMPO_FACTOR = 0.88, 1.12  # of all times, so that over 1 is slower
EXCHANGE_SHARE = 0.5  # of all windows have some instruments exchanged
INSTRUMENT_SHARE = 0.3  # of the instruments in such a window
LOUDNESS_SHARE = 0.5  # of all windows are louder or softer
MAX_LOUDNESS_LEVELS = 4
DISTURBED_SHARE = 0.4  # of all windows begin with mistakes

_FAMILY_SIZE = 8  # General MIDI has families of eight programs: pianos, organs, guitars, ...
_MAX_LEVEL = VELOCITY.size - 1


def augment(
    excerpts: Excerpts, draws: Draws, drum_program: int | None
) -> tuple[Excerpts, np.ndarray]:
    """Changes excerpts in every way at once, each by a random amount.

    Returns:
        The new excerpts, and the factors `(B,)` by which their times were multiplied.
    """
    excerpts = transpose(excerpts, draw_semitones(draws), drum_program)
    is_exchanged = draws.uniform("exchange") < EXCHANGE_SHARE
    excerpts = exchange_instruments(excerpts, draws, drum_program, is_exchanged)
    is_changed = draws.uniform("change loudness") < LOUDNESS_SHARE
    levels = draws.integers("loudness", -MAX_LOUDNESS_LEVELS, MAX_LOUDNESS_LEVELS)
    excerpts = change_loudness(excerpts, levels * is_changed)
    is_disturbed = draws.uniform("disturb") < DISTURBED_SHARE
    excerpts = disturb_beginning(excerpts, draws, drum_program, is_disturbed)
    tempo_range = MAX_TEMPO_FACTOR - MIN_TEMPO_FACTOR
    factors = MIN_TEMPO_FACTOR + tempo_range * draws.uniform("tempo")
    return without_overlaps(stretch(excerpts, factors)), factors


def draw_semitones(draws: Draws) -> np.ndarray:
    """Draws the intervals by which to transpose, `(B,)`."""
    return draws.integers("semitones", MIN_SEMITONES, MAX_SEMITONES)


def transpose(excerpts: Excerpts, semitones: np.ndarray, drum_program: int | None) -> Excerpts:
    """Moves all melodic notes of a row by the same interval `(B,)`, upwards; percussion stays.

    If a note would leave 0-127, all move by less: as far as the outermost note can go.
    """
    melodic = np.flatnonzero(~excerpts.is_drum(drum_program))
    row, pitch = excerpts.row[melodic], excerpts.pitch[melodic]
    lowest = np.full(len(semitones), NUM_PITCHES - 1)
    highest = np.zeros(len(semitones), np.int64)
    np.minimum.at(lowest, row, pitch)
    np.maximum.at(highest, row, pitch)
    slot = excerpts.slot.copy()
    slot[melodic] += np.clip(semitones, -lowest, NUM_PITCHES - 1 - highest)[row]
    return excerpts._replace(slot=slot)


def exchange_instruments(
    excerpts: Excerpts, draws: Draws, drum_program: int | None, is_chosen: np.ndarray
) -> Excerpts:
    """Lets other instruments of the same General MIDI families play some parts.

    In the chosen rows `(B,)` each melodic instrument is exchanged with probability INSTRUMENT_SHARE
    for one that does not play in the excerpt, so that no two parts become one.
    """
    # Here a part is a row and a program as one number.
    first_parts = NUM_PROGRAMS * np.arange(len(is_chosen))
    part = excerpts.slot // NUM_PITCHES
    is_taken = np.zeros((len(is_chosen), NUM_PROGRAMS), bool)
    is_taken.ravel()[part] = True
    playing = np.flatnonzero(is_taken)
    row = playing // NUM_PROGRAMS
    draws = draws.each(row)
    is_exchanged = is_chosen[row] & (draws.uniform("exchanged") < INSTRUMENT_SHARE)
    choice = draws.uniform("other instrument")
    if drum_program is not None:
        is_taken[:, drum_program] = True
        is_exchanged &= playing % NUM_PROGRAMS != drum_program
    current = first_parts + excerpts.program
    is_taken.ravel()[current] = True
    families = is_taken.reshape(-1, _FAMILY_SIZE)
    replacement = np.arange(is_taken.size)
    for index in np.flatnonzero(is_exchanged).tolist():
        family = playing[index] // _FAMILY_SIZE
        others = np.flatnonzero(~families[family])
        if len(others):
            other = others[int(choice[index] * len(others))]
            replacement[playing[index]] = family * _FAMILY_SIZE + other
            families[family, other] = True
    # Where a song begins no instrument has been chosen yet.
    is_beginning = excerpts.current_level == 0
    return excerpts._replace(
        slot=replacement[part] * NUM_PITCHES + excerpts.pitch,
        program=np.where(is_beginning, current, replacement[current]) - first_parts,
    )


def change_loudness(excerpts: Excerpts, levels: np.ndarray) -> Excerpts:
    """Makes all notes of a row louder by so many velocity levels `(B,)`, softer if negative."""

    def change(level: np.ndarray, by: np.ndarray) -> np.ndarray:
        # Level 0 is no velocity: it stands for none at the beginning of a song.
        return np.where(level > 0, np.clip(level + by, 1, _MAX_LEVEL), 0)

    return excerpts._replace(
        level=change(excerpts.level, levels[excerpts.row]),
        current_level=change(excerpts.current_level, levels),
    )


def stretch(excerpts: Excerpts, factors: np.ndarray) -> Excerpts:
    """Multiplies all times of a row by a factor `(B,)` and rounds them to the grid.

    Every note still lasts a step; notes of a slot may overlap then.
    """

    def scaled(steps: np.ndarray, factors: np.ndarray) -> np.ndarray:
        new: np.ndarray = np.floor(steps * factors + 0.5).astype(np.int64)
        return new

    by_note = factors[excerpts.row]
    onset = scaled(excerpts.onset_steps, by_note)
    end = np.where(excerpts.end_steps == NEVER, NEVER, scaled(excerpts.end_steps, by_note))
    return excerpts._replace(
        onset_steps=onset,
        end_steps=np.maximum(end, onset + 1),
        start_steps=scaled(excerpts.start_steps, factors),
        stop_steps=scaled(excerpts.stop_steps, factors),
        counts_from_steps=scaled(excerpts.counts_from_steps, factors),
    )
