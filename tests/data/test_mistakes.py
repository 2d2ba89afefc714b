"""A window that begins with mistakes continues with the music as it was written."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.vocabulary import DRUM_PROGRAM, NUM_PITCHES, PAD, TIME_SHIFT
from midinet.data import augmentation
from midinet.data.batches import Windows
from midinet.data.draws import Draws
from midinet.data.mistakes import MAX_REACTION_STEPS, disturb_beginning
from midinet.data.windows import without_overlaps
from tests.data.music import make_corpus, write_window
from tests.data.test_augmentation import middle, whole_song

SEEDS = range(40)
CHOSEN = np.array([True])


def disturbed(excerpt, seed):
    return without_overlaps(disturb_beginning(excerpt, Draws([seed]), DRUM_PROGRAM, CHOSEN))


def rows(excerpt, mask):
    """The notes that a mask selects, as a set."""
    part = excerpt.select(mask)
    return set(zip(*(part[i].tolist() for i in range(4)), strict=True))


@pytest.mark.parametrize("make", [whole_song, middle])
def test_what_follows_the_mistakes_is_as_it_was(make):
    before = make(0)
    for seed in SEEDS:
        after = disturbed(before, seed)
        until = after.counts_from_steps
        assert before.start_steps < until < before.stop_steps
        assert rows(after, after.onset_steps >= until) == rows(before, before.onset_steps >= until)
        assert rows(after, after.is_over) == rows(before, before.is_over)
        assert (after.onset_steps[~after.began_before] >= before.start_steps).all()


def test_every_kind_of_mistake_is_made():
    before = whole_song(1)
    kinds = dict.fromkeys(("elsewhere", "other pitch", "hanging", "more", "fewer"), 0)
    old = rows(before, before.onset_steps >= 0)
    onsets = {(slot, onset) for onset, _, slot, _ in old}
    slots = {(onset, level, slot // NUM_PITCHES) for onset, _, slot, level in old}
    for seed in SEEDS:
        after = disturbed(before, seed)
        until = after.counts_from_steps
        for onset, end, slot, level in rows(after, after.onset_steps < until) - old:
            is_there = (onset, level, slot // NUM_PITCHES) in slots
            kinds["other pitch"] += is_there and (slot, onset) not in onsets
            kinds["elsewhere"] += not is_there
            is_late = (slot, onset) in onsets and until <= end <= until + MAX_REACTION_STEPS
            kinds["hanging"] += is_late
        kinds["more"] += len(after.slot) > len(before.slot)
        kinds["fewer"] += len(after.slot) < len(before.slot)
    assert all(count > 5 for count in kinds.values()), kinds


def test_percussion_stays_percussion():
    before = whole_song(2)
    drums = set(before.slot[before.is_drum(DRUM_PROGRAM)].tolist())
    melody = {slot % NUM_PITCHES for slot in before.slot[~before.is_drum(DRUM_PROGRAM)].tolist()}
    for seed in SEEDS:
        after = disturbed(before, seed)
        is_drum = after.is_drum(DRUM_PROGRAM)
        assert set(after.slot[is_drum].tolist()) <= drums
        assert set((after.slot[~is_drum] % NUM_PITCHES).tolist()) <= melody


@pytest.mark.parametrize("make", [whole_song, middle])
def test_mistakes_are_still_what_the_encoder_writes(make):
    before = make(3)
    for seed in SEEDS:
        after = disturbed(before, seed)
        order = np.lexsort((after.onset_steps, after.slot))
        assert (order == np.arange(len(order))).all()
        window = write_window(after, DRUM_PROGRAM, 32)
        if make is whole_song:
            notes = tokens_to_notes(window.tokens, DRUM_PROGRAM)
            # The first note may be missing; no encoder writes the silence before the next.
            silence = np.flatnonzero(~TIME_SHIFT.holds(window.tokens))[0]
            np.testing.assert_array_equal(encode(notes, DRUM_PROGRAM), window.tokens[silence:])
            assert len(notes) == len(after.slot)


def test_a_beginning_without_notes_stays():
    excerpt = middle(4)
    nothing = excerpt.select(np.zeros(len(excerpt.slot), bool))
    assert disturb_beginning(nothing, Draws([0]), DRUM_PROGRAM, CHOSEN) is nothing


def test_only_what_follows_the_mistakes_counts(monkeypatch):
    monkeypatch.setattr(augmentation, "DISTURBED_SHARE", 1.0)
    corpus = make_corpus(3)
    windows = Windows(corpus, range(3), 64, augment=True)
    batch = windows.rows(range(len(windows)))
    counted = batch.weights > 0
    assert 0.2 < counted.mean() < 0.8
    for row, targets in zip(counted, batch.targets, strict=True):
        size = np.flatnonzero(targets != PAD).max() + 1
        assert (np.diff(row[:size].astype(int)) >= 0).all(), "once it counts, all else does"
    # The first target that counts leads past the moment until which there were mistakes.
    starts_in_time = [t[r][0] for r, t in zip(counted, batch.targets, strict=True) if r.any()]
    assert np.mean(TIME_SHIFT.holds(np.array(starts_in_time))) > 0.8
