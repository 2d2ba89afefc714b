"""Pitch classes that fit what is kept become likelier, also before it sounds."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.vocabulary import NOTE_ON, VOCAB_SIZE
from midinet.generation.harmony import (
    KEY_MS,
    MOMENT_MS,
    OCTAVE,
    fitness,
    prefer_fitting,
    shares_of_pitch_classes,
)
from midinet.midi.notes import Notes

MAJOR = (0, 2, 4, 5, 7, 9, 11)


def notes_of(pitches, start_ms, end_ms, is_drum=False):
    count = len(pitches)
    return Notes(
        start_ms=np.broadcast_to(np.array(start_ms, float), count).copy(),
        end_ms=np.broadcast_to(np.array(end_ms, float), count).copy(),
        program=np.zeros(count, np.uint8),
        pitch=np.array(pitches, np.uint8),
        velocity=np.full(count, 100, np.uint8),
        is_drum=np.full(count, is_drum),
    )


def test_shares_are_those_of_the_time_for_which_notes_sound():
    random = np.random.default_rng(0)
    start_ms = random.uniform(0, 5000, 60)
    kept = notes_of(random.integers(30, 90, 60), start_ms, start_ms + random.uniform(10, 900, 60))
    moments_ms = np.linspace(-100, 6500, 23)
    shares = shares_of_pitch_classes(kept, moments_ms, 200)
    for moment_ms, row in zip(moments_ms, shares, strict=True):
        begin_ms, end_ms = moment_ms - 200, moment_ms + 200
        heard = np.clip(
            np.minimum(kept.end_ms, end_ms) - np.maximum(kept.start_ms, begin_ms), 0, None
        )
        expected = np.bincount(kept.pitch % OCTAVE, heard, minlength=OCTAVE)
        np.testing.assert_allclose(row, expected / max(expected.sum(), 1e-9), atol=1e-4)


@pytest.mark.parametrize("root", range(OCTAVE))
def test_the_notes_of_the_key_fit_best(root):
    scale = [root + 60 + degree for degree in MAJOR]
    start_ms = 300.0 * np.arange(len(scale))
    fits = fitness(notes_of(scale, start_ms, start_ms + 300))
    in_key = np.isin(np.arange(OCTAVE), [pitch % OCTAVE for pitch in scale])
    for row in fits[:-1]:
        assert row[in_key].mean() > row[~in_key].mean() + 0.3


def test_what_is_still_to_come_is_heard_but_not_what_is_far_away():
    later = notes_of([60, 64, 67], KEY_MS / 2, KEY_MS)
    fits = fitness(later)
    assert fits[0, 0] > fits[0, 1] + 0.5
    much_later = notes_of([60, 64, 67], 3 * KEY_MS, 4 * KEY_MS)
    assert not fitness(much_later)[0].any()


def test_what_sounds_now_counts_beside_the_key():
    kept = notes_of([60, 66], [0, 8000], [8000, 16_000])  # C, then F sharp
    fits = fitness(kept)
    early, late = fits[4000 // MOMENT_MS], fits[12_000 // MOMENT_MS]
    assert early[7] > late[7]  # G fits C
    assert early[1] < late[1]  # C sharp fits F sharp


def test_percussion_has_no_harmony():
    assert not fitness(notes_of([36, 38], 0, 5000, is_drum=True)).any()


def test_only_the_choice_among_melodic_notes_changes():
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (2, VOCAB_SIZE)).astype(np.float32)
    fits = random.normal(0, 1, (2, OCTAVE)).astype(np.float32)
    new = prefer_fitting(logits, fits, np.array([True, False])).numpy()
    np.testing.assert_array_equal(new[1], logits[1])
    np.testing.assert_array_equal(new[0, NOTE_ON.end :], logits[0, NOTE_ON.end :])
    total = np.exp(logits[0, : NOTE_ON.end]).sum()
    assert np.exp(new[0, : NOTE_ON.end]).sum() == pytest.approx(total, rel=1e-5)
    gained = (new - logits)[0, : NOTE_ON.end]
    np.testing.assert_allclose(
        gained - gained[0], fits[0, np.arange(128) % 12] - fits[0, 0], atol=1e-5
    )
