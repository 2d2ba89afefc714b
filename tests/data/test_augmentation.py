"""Augmentation changes key, instruments, loudness, lengths and tempo, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.vocabulary import DRUM_PROGRAM, NUM_PITCHES, TIME_SHIFT
from midinet.data.augmentation import (
    INSTRUMENT_SHARE,
    augment,
    change_loudness,
    exchange_instruments,
    stretch,
    transpose,
)
from midinet.data.batches import PAST_STEPS
from midinet.data.draws import Draws
from midinet.data.song_notes import read_notes
from midinet.data.windows import NEVER, without_overlaps
from tests.data.music import make_notes, read_excerpt, write_window

PLENTY = 3000
CHOSEN = np.array([True])


def whole_song(seed):
    song = encode(make_notes(seed))
    return read_excerpt(read_notes(song, DRUM_PROGRAM), 0, len(song))


def middle(seed):
    song = encode(make_notes(seed))
    return read_excerpt(read_notes(song, DRUM_PROGRAM), len(song) // 3, 2 * len(song) // 3)


def pitches(excerpt):
    return excerpt.slot % NUM_PITCHES


def programs(excerpt):
    return excerpt.slot // NUM_PITCHES


@pytest.mark.parametrize("semitones", [-40, -3, 0, 5, 40])
@pytest.mark.parametrize("drum_program", [DRUM_PROGRAM, None])
def test_transposition_moves_melody_by_one_interval_and_nothing_else(semitones, drum_program):
    before = middle(0)
    after = transpose(before, np.array([semitones]), drum_program)
    is_drum = before.is_drum(drum_program)
    moved = pitches(after) - pitches(before)
    assert (moved[is_drum] == 0).all()
    melody = pitches(before)[~is_drum]
    possible = range(-melody.min(), NUM_PITCHES - melody.max())
    assert set(moved[~is_drum].tolist()) == {min(possible, key=lambda n: abs(n - semitones))}
    assert (programs(after) == programs(before)).all()
    for name in ("onset_steps", "end_steps", "level"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_instruments_are_exchanged_within_their_family_for_unused_ones():
    before = middle(1)
    changed = total = 0
    for seed in range(300):
        after = exchange_instruments(before, Draws([seed]), DRUM_PROGRAM, CHOSEN)
        assert (pitches(after) == pitches(before)).all()
        pairs = set(zip(programs(before).tolist(), programs(after).tolist(), strict=True))
        assert len(dict(pairs)) == len(pairs) == len({new for _, new in pairs}), "one to one"
        assert all(old // 8 == new // 8 for old, new in pairs)
        assert dict(pairs)[DRUM_PROGRAM] == DRUM_PROGRAM
        assert after.program[0] == dict(pairs).get(int(before.program[0]), after.program[0])
        changed += sum(old != new for old, new in pairs)
        total += len(pairs) - 1
    assert changed / total == pytest.approx(INSTRUMENT_SHARE, abs=0.05)


def test_where_a_song_begins_no_instrument_is_chosen_yet():
    excerpt = whole_song(1)
    for seed in range(50):
        after = exchange_instruments(excerpt, Draws([seed]), DRUM_PROGRAM, CHOSEN)
        assert not len(write_window(after, DRUM_PROGRAM, PLENTY).restated_onset_steps)


def test_a_melody_never_becomes_percussion():
    song = np.array([388 + 116, 276, 60, 300, 188])  # program 116, in the family of 117
    excerpt = read_excerpt(read_notes(song, DRUM_PROGRAM), 0, 5)
    exchanged = [exchange_instruments(excerpt, Draws([s]), 117, CHOSEN) for s in range(200)]
    results = {int(programs(after)[0]) for after in exchanged}
    assert results == set(range(112, 120)) - {117}


def test_loudness_changes_by_levels_and_stays_audible():
    before = middle(2)
    for levels in (-40, -4, 3, 40):
        after = change_loudness(before, np.array([levels]))
        assert after.level.tolist() == np.clip(before.level + levels, 1, 31).tolist()
        assert after.current_level == np.clip(before.current_level + levels, 1, 31)
    beginning = before._replace(current_level=np.array([0]))
    assert change_loudness(beginning, np.array([4])).current_level == 0


def middles(past_steps):
    """Excerpts from the middle of songs."""
    for seed in range(4):
        song = encode(make_notes(seed))
        for start in range(100, len(song) - 200, 97):
            yield read_excerpt(read_notes(song, DRUM_PROGRAM), start, start + 200, past_steps)


def test_notes_that_are_over_are_not_written():
    for with_past, without in zip(middles(PAST_STEPS), middles(0), strict=True):
        assert with_past.is_over.sum() > 0
        windows = [write_window(e, DRUM_PROGRAM, PLENTY) for e in (with_past, without)]
        np.testing.assert_array_equal(windows[0].tokens, windows[1].tokens)


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.013, 1.12])
def test_every_time_is_stretched_to_the_nearest_step(factor):
    before = middle(3)
    after = without_overlaps(stretch(before, np.array([factor])))
    if len(after.slot) == len(before.slot):
        assert np.abs(after.onset_steps - before.onset_steps * factor).max() <= 0.5
        ends = before.end_steps != NEVER
        late = after.end_steps[ends] - before.end_steps[ends] * factor
        assert np.abs(late).max() <= 1.0
    assert abs(after.start_steps - before.start_steps * factor) <= 0.5
    assert (after.end_steps > after.onset_steps).all()
    if factor == 1:
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)


def test_of_notes_that_fall_together_the_last_counts():
    song = np.array([276, 60, 288, 188, 280, 60, 300, 188])  # 10 ms, then again and louder
    before = read_excerpt(read_notes(song, DRUM_PROGRAM), 0, len(song))
    assert before.onset_steps.tolist() == [0, 1]
    after = without_overlaps(stretch(before, np.array([0.4])))
    assert after.onset_steps.tolist() == [0]
    assert after.level.tolist() == [24]


@pytest.mark.parametrize("seed", range(6))
def test_augmented_music_is_still_what_the_encoder_writes(seed):
    """In the order, with the pauses and without a token that it would leave out."""
    for draw in range(5):
        changed, factor = augment(whole_song(seed), Draws([5 * seed + draw]), DRUM_PROGRAM)
        tokens = write_window(changed, DRUM_PROGRAM, PLENTY).tokens
        # The first note may be missing; no encoder writes the silence before the next.
        silence = np.flatnonzero(~TIME_SHIFT.holds(tokens))[0]
        np.testing.assert_array_equal(encode(tokens_to_notes(tokens)), tokens[silence:])
        assert 0.88 <= factor <= 1.12
