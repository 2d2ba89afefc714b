import dataclasses
import math

import numpy as np
import pytest

from midinet.midi.notes import Notes
from midinet.report.quoting import PassageIndex, repeated_share


def composed(seed, seconds=60):
    """Random chords and melodies in C major on a grid of 125 ms: nobody's quote."""
    rng = np.random.default_rng(seed)
    grid = np.flatnonzero(rng.random(8 * seconds) < 0.5)
    start = np.repeat(grid, rng.integers(1, 4, len(grid))) * 125.0
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    pitch = 36 + 12 * rng.integers(0, 4, len(start)) + rng.choice(scale, len(start))
    return as_notes(start, pitch)


def as_notes(start_ms, pitch, is_drum=None):
    order = np.lexsort((pitch, start_ms))
    n = len(start_ms)
    return Notes(
        start_ms[order],
        start_ms[order] + 200.0,
        np.zeros(n, np.uint8),
        pitch[order].astype(np.uint8),
        np.full(n, 100, np.uint8),
        np.zeros(n, bool) if is_drum is None else is_drum[order],
    )


def joined(*pieces):
    """One piece after the other, each 60 seconds."""
    start = np.concatenate([piece.start_ms + 60000 * i for i, piece in enumerate(pieces)])
    return as_notes(start, np.concatenate([piece.pitch for piece in pieces]))


def changed(notes, semitones=0, stretch=1.0, lost=0.0, program=0, added=0):
    """Notes in another key and tempo, on the 10 ms grid, some left out, some added."""
    rng = np.random.default_rng(1)
    notes = notes[rng.random(len(notes)) >= lost]
    start = np.round(notes.start_ms * stretch / 10) * 10
    pitch = notes.pitch.astype(int) + semitones
    start = np.concatenate([start, rng.uniform(0, start.max(), added)])
    pitch = np.concatenate([pitch, rng.integers(36, 84, added)])
    result = as_notes(start, pitch)
    return dataclasses.replace(result, program=np.full(len(result), program, np.uint8))


SONGS = [composed(seed) for seed in range(6)]
INDEX = PassageIndex(SONGS)
NEW = composed(99)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"semitones": 3},
        {"semitones": -3, "stretch": 1.05},
        {"semitones": 6, "stretch": 0.95},
        {"lost": 0.1},
        {"program": 40},
        {"added": 10},
    ],
    ids=str,
)
def test_a_copy_is_found_in_another_key_tempo_and_instrument(changes):
    assert INDEX.quoted_share(changed(SONGS[2], **changes)) > 0.95


@pytest.mark.parametrize("stretch", [0.94, 0.96, 0.98, 1.02, 1.04, 1.06])
@pytest.mark.parametrize("step_ms", [125.0, 250.0, 333.0, 500.0])
def test_a_steady_melody_is_found_in_every_tempo(step_ms, stretch):
    """All its durations are equal, so what rounds one of them wrongly does so to all."""
    pitch = np.random.default_rng(3).integers(48, 84, 200)
    melody = as_notes(step_ms * np.arange(200), pitch)
    index = PassageIndex([*SONGS, melody])
    assert index.quoted_share(changed(melody, stretch=stretch)) > 0.95


@pytest.mark.parametrize(
    "notes",
    [
        NEW,
        changed(SONGS[2], semitones=9),
        changed(SONGS[2], stretch=1.3),
        changed(SONGS[2], lost=0.5, added=200),
        as_notes(SONGS[2].start_ms, NEW.pitch[np.arange(len(SONGS[2])) % len(NEW)]),
    ],
    ids=["new", "far key", "other tempo", "half the notes", "rhythm only"],
)
def test_what_is_no_copy_is_not_called_one(notes):
    assert INDEX.quoted_share(notes) < 0.05


def test_the_share_is_that_of_the_quoted_time():
    assert INDEX.quoted_share(joined(NEW, SONGS[4])) == pytest.approx(0.5, abs=0.05)
    assert INDEX.quoted_share(joined(NEW, composed(98), SONGS[4])) == pytest.approx(1 / 3, abs=0.05)


def test_a_song_of_the_collection_is_new_when_it_is_left_out():
    assert INDEX.quoted_share(SONGS[3], left_out=3) < 0.05
    assert INDEX.quoted_share(SONGS[3], left_out=2) > 0.95


def test_repetition_is_what_comes_again_in_the_same_key():
    assert repeated_share(NEW) < 0.05
    assert repeated_share(joined(NEW, NEW)) > 0.95
    assert repeated_share(joined(NEW, SONGS[0], NEW)) == pytest.approx(2 / 3, abs=0.05)
    assert repeated_share(joined(NEW, changed(NEW, semitones=2))) < 0.05


def test_a_note_held_in_place_is_no_repetition():
    """A window is not found in itself."""
    once = composed(5, seconds=6)
    assert repeated_share(once) == 0


@pytest.mark.parametrize(
    "notes",
    [
        SONGS[0][:0],
        SONGS[0][:7],
        as_notes(np.arange(100) * 250.0, np.full(100, 60)),
        dataclasses.replace(SONGS[0], is_drum=np.ones(len(SONGS[0]), bool)),
    ],
    ids=["nothing", "7 notes", "one pitch", "percussion"],
)
def test_too_little_music_is_not_judged(notes):
    assert math.isnan(INDEX.quoted_share(notes))
    assert math.isnan(repeated_share(notes))


def test_an_empty_collection_has_no_quotes():
    assert PassageIndex([]).quoted_share(NEW) == 0


@pytest.mark.parametrize("changes", [{}, {"semitones": 3, "stretch": 1.05}, {"lost": 0.2}], ids=str)
def test_a_copy_of_one_figure_over_and_over_is_found(changes):
    """What a window of an ostinato is made of is heard in thousands of places."""
    rng = np.random.default_rng(4)
    steps = np.arange(2000) * 170.0
    melody = np.sort(rng.choice(steps, 250, replace=False))
    start = np.concatenate([np.repeat(steps, 4), melody])
    pitch = np.concatenate([np.tile([45, 57, 60, 63], 2000), rng.integers(70, 80, 250)])
    ostinato = as_notes(start, pitch)
    index = PassageIndex([*SONGS, ostinato])
    excerpt = ostinato[(ostinato.start_ms >= 50_000) & (ostinato.start_ms < 80_000)]
    assert index.quoted_share(changed(excerpt, **changes)) > 0.95
