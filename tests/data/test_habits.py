"""What is usual for each instrument is found in the songs of a data set, and read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from midinet.codec.encoding import encode
from midinet.codec.vocabulary import NUM_PROGRAMS
from midinet.data import habits
from midinet.data.habits import Habits, find_habits
from midinet.errors import ModelError
from midinet.midi.notes import Notes
from tests.data.music import FakeCorpus


def part(program, lengths_ms, voices=1, is_drum=False):
    """Chords of so many notes, one after another."""
    count = len(lengths_ms) * voices
    start_ms = np.repeat(np.cumsum(lengths_ms) - lengths_ms, voices).astype(float)
    return Notes(
        start_ms=start_ms,
        end_ms=start_ms + np.repeat(lengths_ms, voices),
        program=np.full(count, program, np.uint8),
        pitch=np.tile(np.arange(50, 50 + voices), len(lengths_ms)).astype(np.uint8),
        velocity=np.full(count, 100, np.uint8),
        is_drum=np.full(count, is_drum),
    )


def corpus_of(*parts):
    return FakeCorpus([encode(notes) for notes in parts])


def test_an_instrument_has_its_own_habits():
    bass = [100] * 97 + [500] * 3  # 3% of its notes are longer than the others
    corpus = corpus_of(part(33, bass), part(50, [2000] * 100, voices=3))
    found = find_habits(corpus, np.arange(2))
    assert found.longest_note_ms[33] == 500
    assert found.longest_note_ms[50] == 2000
    assert (found.most_voices[33], found.most_voices[50]) == (1, 3)


def test_what_few_notes_do_is_no_habit():
    bass = [100] * 99 + [500]
    found = find_habits(corpus_of(part(33, bass)), np.arange(1))
    assert found.longest_note_ms[33] == 100


def test_an_instrument_that_hardly_plays_has_the_habits_of_all():
    corpus = corpus_of(part(33, [100] * 900), part(70, [9000] * 3, voices=4))
    found = find_habits(corpus, np.arange(2))
    assert set(found.longest_note_ms) == {100}
    assert set(found.most_voices) == {1}


def test_percussion_counts_for_nothing():
    corpus = corpus_of(part(0, [50] * 200, is_drum=True))
    assert find_habits(corpus, np.arange(1)) is None
    assert find_habits(corpus, np.arange(0)) is None


def test_only_some_songs_of_a_large_data_set_are_looked_at(monkeypatch):
    monkeypatch.setattr(habits, "MAX_SONGS", 2)
    corpus = corpus_of(part(1, [100] * 100), part(2, [900] * 100), part(3, [100] * 100))
    found = find_habits(corpus, np.arange(3))
    assert max(found.longest_note_ms) == 100


def test_habits_are_read_back_from_a_model_folder():
    found = find_habits(corpus_of(part(33, [100] * 100)), np.arange(1))
    history = json.loads(json.dumps({"habits": found._asdict()}))
    assert Habits.of_history(history) == found
    assert Habits.of_history({}) is None
    assert Habits.of_history({"habits": None}) is None


@pytest.mark.parametrize(
    "value",
    [
        [],
        "habits",
        {"longest_note_ms": [100] * NUM_PROGRAMS},
        {"longest_note_ms": [100] * NUM_PROGRAMS, "most_voices": [1] * 3},
        {"longest_note_ms": [0] * NUM_PROGRAMS, "most_voices": [1] * NUM_PROGRAMS},
        {"longest_note_ms": ["x"] * NUM_PROGRAMS, "most_voices": [1] * NUM_PROGRAMS},
    ],
)
def test_damaged_habits_are_named(value):
    with pytest.raises(ModelError, match=r"parameters\.json is damaged: under habits"):
        Habits.of_history({"habits": value})
