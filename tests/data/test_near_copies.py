"""Near copies: songs that share most of their music are one family, others are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from midinet.data.near_copies import (
    SIGNATURE_SIZE,
    SIGNATURE_TYPE,
    find_families,
    signature,
    similar_pairs,
)
from midinet.midi.notes import Notes

NUM_NOTES = 600


def make_notes(seed: int) -> Notes:
    """Three instruments and percussion; every seed gives another song."""
    random = np.random.default_rng(seed)
    start = np.cumsum(random.choice([0, 125, 250, 500], NUM_NOTES)).astype(np.float64)
    program = random.choice(np.array([0, 33, 48, 0], np.uint8), NUM_NOTES)
    return Notes(
        start_ms=start,
        end_ms=start + 200,
        program=program,
        pitch=random.integers(40, 80, NUM_NOTES).astype(np.uint8),
        velocity=np.full(NUM_NOTES, 80, np.uint8),
        is_drum=random.random(NUM_NOTES) < 0.2,
    )


def transposed(notes: Notes) -> Notes:
    return dataclasses.replace(notes, pitch=notes.pitch + np.uint8(5))


def slower(notes: Notes) -> Notes:
    return dataclasses.replace(notes, start_ms=notes.start_ms * 1.25, end_ms=notes.end_ms * 1.25)


def later(notes: Notes) -> Notes:
    return dataclasses.replace(notes, start_ms=notes.start_ms + 999, end_ms=notes.end_ms + 999)


def louder(notes: Notes) -> Notes:
    return dataclasses.replace(notes, velocity=notes.velocity + np.uint8(20))


def other_instruments(notes: Notes) -> Notes:
    return dataclasses.replace(notes, program=notes.program + np.uint8(7))


def without_percussion(notes: Notes) -> Notes:
    return notes[~notes.is_drum]


def one_bar_less(notes: Notes) -> Notes:
    start, end = notes.start_ms[300], notes.start_ms[300] + 2000
    kept = notes[(notes.start_ms < start) | (notes.start_ms >= end)]
    shift = np.where(kept.start_ms >= end, 2000, 0)
    return dataclasses.replace(kept, start_ms=kept.start_ms - shift, end_ms=kept.end_ms - shift)


def a_tenth_changed(notes: Notes) -> Notes:
    random = np.random.default_rng(0)
    is_changed = random.random(len(notes)) < 0.1
    return dataclasses.replace(notes, pitch=notes.pitch + is_changed.astype(np.uint8))


@pytest.mark.parametrize("revise", [transposed, slower, later, louder, without_percussion])
def test_key_tempo_loudness_and_percussion_do_not_change_a_signature(revise):
    notes = make_notes(1)
    np.testing.assert_array_equal(signature(revise(notes)), signature(notes))


@pytest.mark.parametrize(
    "revise",
    [transposed, slower, other_instruments, one_bar_less, a_tenth_changed],
)
def test_revisions_are_families_and_other_songs_are_not(revise):
    songs = [make_notes(seed) for seed in range(30)]
    signatures = np.array([signature(notes) for notes in songs + list(map(revise, songs))])
    np.testing.assert_array_equal(find_families(signatures), np.tile(np.arange(30), 2))


def test_all_revisions_of_a_song_are_one_family():
    song = make_notes(3)
    revisions = [song, transposed(song), one_bar_less(slower(song)), a_tenth_changed(song)]
    signatures = np.array([signature(make_notes(2)), *map(signature, revisions)])
    np.testing.assert_array_equal(find_families(signatures), [0, 1, 1, 1, 1])


@pytest.mark.parametrize("num_notes", [0, 1, 4, 5, 12])
def test_songs_of_a_few_notes_are_in_no_family(num_notes):
    notes = make_notes(4)[:num_notes]
    signatures = np.array([signature(notes), signature(notes), signature(make_notes(5))])
    assert signatures.dtype == SIGNATURE_TYPE
    assert not signatures[:2].any()
    np.testing.assert_array_equal(find_families(signatures), [0, 1, 2])


def test_a_drone_tells_nothing_about_a_song():
    notes = dataclasses.replace(make_notes(6), pitch=np.full(NUM_NOTES, 60, np.uint8))
    assert not signature(notes).any()


def test_no_songs_have_no_families():
    assert len(find_families(np.zeros((0, SIGNATURE_SIZE), SIGNATURE_TYPE))) == 0


def test_a_long_chain_of_resemblance_is_not_one_family():
    """Each song shares half of its signature with the next one, and nothing with the others."""
    random = np.random.default_rng(0)
    halves = random.integers(1, 1 << 16, (41, SIGNATURE_SIZE)).astype(SIGNATURE_TYPE)
    even = np.arange(SIGNATURE_SIZE) // 2 % 2 == 0
    chain = np.array(
        [np.where(even == (song % 2 == 0), halves[song], halves[song + 1]) for song in range(40)]
    )
    pairs, _ = similar_pairs(chain)
    np.testing.assert_array_equal(pairs, [(song, song + 1) for song in range(39)])
    assert np.bincount(find_families(chain)).max() <= 3


def test_a_phrase_that_many_songs_share_hides_no_near_copies():
    """All songs agree in one band, and every second one is a near copy of the one before it."""
    random = np.random.default_rng(0)
    signatures = random.integers(1, 1 << 16, (2000, SIGNATURE_SIZE)).astype(SIGNATURE_TYPE)
    signatures[1::2, :40] = signatures[::2, :40]
    signatures[:, 60:62] = 7
    pairs, shares = similar_pairs(signatures)
    np.testing.assert_array_equal(pairs, [(song, song + 1) for song in range(0, 2000, 2)])
    assert shares.min() > 0.3
