"""Augmentation: changes of key, instruments, loudness and tempo, and mistakes at the beginning.

Every function takes the notes of an excerpt and returns new ones; the data set is never changed.
"""

from __future__ import annotations

import numpy as np

from midinet.codec.vocabulary import NUM_PITCHES, NUM_PROGRAMS, VELOCITY
from midinet.data.mistakes import MAX_REACTION_STEPS, disturb_beginning
from midinet.data.windows import NEVER, Excerpt, next_onsets, without_overlaps

MIN_SEMITONES, MAX_SEMITONES = -6, 5
MIN_TEMPO_FACTOR, MAX_TEMPO_FACTOR = 0.88, 1.12  # of all times, so that over 1 is slower
EXCHANGE_SHARE = 0.5  # of all windows have some instruments exchanged
INSTRUMENT_SHARE = 0.3  # of the instruments in such a window
LOUDNESS_SHARE = 0.5  # of all windows are louder or softer
MAX_LOUDNESS_LEVELS = 4
FORGETFUL_SHARE = 0.5  # of all windows begin with notes that should have ended before
MAX_FORGOTTEN = 3  # notes in such a window
PAST_STEPS = 2000  # before the window, in which they may have ended
DISTURBED_SHARE = 0.4  # of all windows begin with mistakes

_FAMILY_SIZE = 8  # General MIDI has families of eight programs: pianos, organs, guitars, ...
_MAX_LEVEL = VELOCITY.size - 1


def augment(
    excerpt: Excerpt, random: np.random.Generator, drum_program: int | None
) -> tuple[Excerpt, float]:
    """Changes an excerpt in every way at once, each by a random amount.

    Returns:
        The new excerpt, and the factor by which its times were multiplied.
    """
    excerpt = transpose(excerpt, draw_semitones(random), drum_program)
    if random.random() < EXCHANGE_SHARE:
        excerpt = exchange_instruments(excerpt, random, drum_program)
    if random.random() < LOUDNESS_SHARE:
        levels = int(random.integers(-MAX_LOUDNESS_LEVELS, MAX_LOUDNESS_LEVELS, endpoint=True))
        excerpt = change_loudness(excerpt, levels)
    if random.random() < FORGETFUL_SHARE:
        excerpt = forget_note_offs(excerpt, random, drum_program)
    if random.random() < DISTURBED_SHARE:
        excerpt = disturb_beginning(excerpt, random, drum_program)
    factor = float(random.uniform(MIN_TEMPO_FACTOR, MAX_TEMPO_FACTOR))
    return stretch(excerpt, factor), factor


def draw_semitones(random: np.random.Generator) -> int:
    """Draws the interval by which to transpose."""
    return int(random.integers(MIN_SEMITONES, MAX_SEMITONES, endpoint=True))


def transpose(excerpt: Excerpt, semitones: int, drum_program: int | None) -> Excerpt:
    """Moves all melodic notes by the same interval, upwards; percussion stays.

    If a note would leave 0-127, all move by less: as far as the outermost note can go.
    """
    is_melodic = ~excerpt.is_drum(drum_program)
    pitch = excerpt.slot[is_melodic] % NUM_PITCHES
    if len(pitch):
        lowest, highest = int(pitch.min()), int(pitch.max())
        semitones = max(-lowest, min(semitones, NUM_PITCHES - 1 - highest))
    return excerpt._replace(slot=excerpt.slot + semitones * is_melodic)


def exchange_instruments(
    excerpt: Excerpt, random: np.random.Generator, drum_program: int | None
) -> Excerpt:
    """Lets other instruments of the same General MIDI families play some parts.

    Each melodic instrument is exchanged with probability INSTRUMENT_SHARE for one that does not
    play in the excerpt, so that no two parts become one.
    """
    program = excerpt.slot // NUM_PITCHES
    playing: list[int] = np.unique(program).tolist()
    used = {excerpt.program, *playing}
    replacement = np.arange(NUM_PROGRAMS)
    for before in playing:
        if before == drum_program:
            continue
        first = before - before % _FAMILY_SIZE
        family = range(first, first + _FAMILY_SIZE)
        unused = [other for other in family if other not in used and other != drum_program]
        if unused and random.random() < INSTRUMENT_SHARE:
            replacement[before] = unused[random.integers(len(unused))]
            used.add(int(replacement[before]))
    # Where a song begins no instrument has been chosen yet.
    is_beginning = excerpt.current_level == 0
    return excerpt._replace(
        slot=replacement[program] * NUM_PITCHES + excerpt.slot % NUM_PITCHES,
        program=excerpt.program if is_beginning else int(replacement[excerpt.program]),
    )


def change_loudness(excerpt: Excerpt, levels: int) -> Excerpt:
    """Makes all notes louder by so many velocity levels, or softer if it is negative."""

    def change(level: np.ndarray) -> np.ndarray:
        # Level 0 is no velocity: it stands for none at the beginning of a song.
        return np.where(level > 0, np.clip(level + levels, 1, _MAX_LEVEL), 0)

    current_level = int(change(np.array(excerpt.current_level)))
    return excerpt._replace(level=change(excerpt.level), current_level=current_level)


def forget_note_offs(
    excerpt: Excerpt, random: np.random.Generator, drum_program: int | None
) -> Excerpt:
    """Lets some notes that ended before the window sound on into it, where they soon end.

    A model that composes forgets some NOTE_OFF sooner or later. Music in which every note ends in
    time does not teach it to recover, since what it then sees is like nothing that it learned from.
    The notes that hang are restated at the beginning of the window, which counts in no loss: so a
    model learns to end them, but not to forget.
    """
    is_last_of_slot = np.append(np.diff(excerpt.slot) != 0, True)[: len(excerpt.slot)]
    sounds_next = np.append(excerpt.began_before[1:], False)[: len(excerpt.slot)] & ~is_last_of_slot
    candidates = np.flatnonzero(excerpt.is_over & ~sounds_next & ~excerpt.is_drum(drum_program))
    count = min(len(candidates), int(random.integers(1, MAX_FORGOTTEN, endpoint=True)))
    forgotten = random.choice(candidates, count, replace=False)
    is_over, end_steps = excerpt.is_over.copy(), excerpt.end_steps.copy()
    is_over[forgotten] = False
    reaction_steps = random.integers(MAX_REACTION_STEPS, size=count, endpoint=True)
    end_steps[forgotten] = np.minimum(
        excerpt.start_steps + reaction_steps, next_onsets(excerpt)[forgotten]
    )
    return excerpt._replace(is_over=is_over, end_steps=end_steps)


def stretch(excerpt: Excerpt, factor: float) -> Excerpt:
    """Multiplies all times by a factor and rounds them to the grid.

    Every note still lasts a step; of several notes that then begin in one slot at once, the last
    counts.
    """

    def scaled(steps: np.ndarray) -> np.ndarray:
        new: np.ndarray = np.floor(steps * factor + 0.5).astype(np.int64)
        return new

    onset = scaled(excerpt.onset_steps)
    end = np.where(excerpt.end_steps == NEVER, NEVER, scaled(excerpt.end_steps))
    moments = [excerpt.start_steps, excerpt.stop_steps, excerpt.counts_from_steps]
    start, stop, counts_from = scaled(np.array(moments)).tolist()
    excerpt = excerpt._replace(
        onset_steps=onset,
        end_steps=np.maximum(end, onset + 1),
        start_steps=start,
        stop_steps=stop,
        counts_from_steps=counts_from,
    )
    return without_overlaps(excerpt)
