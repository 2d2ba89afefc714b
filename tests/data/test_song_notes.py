"""Excerpts of songs against all notes of the song, and which notes are kept in memory."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.vocabulary import DRUM_PROGRAM, NUM_PITCHES, STEP_MS
from midinet.data.song_notes import NotesCache, read_notes
from midinet.data.windows import NEVER
from tests.data.music import make_notes, read_excerpt


@pytest.mark.parametrize("past_steps", [0, 300])
def test_an_excerpt_holds_what_sounds_and_what_ended_shortly_before(past_steps):
    song = encode(make_notes(2))
    notes = read_notes(song, DRUM_PROGRAM)
    whole = tokens_to_notes(song)
    begins = np.rint(whole.start_ms / STEP_MS).astype(int)
    ends = np.where(whole.is_drum, begins, np.rint(whole.end_ms / STEP_MS).astype(int))
    slots = whole.program.astype(int) * NUM_PITCHES + whole.pitch
    for start in range(1, len(song), 61):
        excerpt = read_excerpt(notes, start, len(song), past_steps)
        # Notes that begin or end in the very step of the start depend on the order of its tokens.
        since = excerpt.start_steps - past_steps
        expected = zip(begins[ends > since], slots[ends > since], strict=True)
        certain = np.where(excerpt.is_drum(DRUM_PROGRAM), excerpt.onset_steps, excerpt.end_steps)
        certain = (certain > since) & (certain < NEVER)
        found = zip(excerpt.onset_steps[certain], excerpt.slot[certain], strict=True)
        assert sorted(found) == sorted(expected)


def test_notes_of_a_song_are_read_once_while_they_fit_in_memory():
    song = read_notes(encode(make_notes(0)), DRUM_PROGRAM)
    read: list[int] = []

    def read_song(index):
        read.append(index)
        return song

    notes = NotesCache(read_song, max_bytes=2 * song.num_bytes)
    for index in (0, 1, 0, 1, 0, 2, 0):
        assert notes(index) is song
    assert read == [0, 1, 2], "the song that was asked for last stays"
    notes(1)
    assert read == [0, 1, 2, 1]


def test_a_song_larger_than_the_memory_is_read_all_the_same():
    song = read_notes(encode(make_notes(0)), DRUM_PROGRAM)
    notes = NotesCache(lambda index: song, max_bytes=1)
    assert notes(0) is song
    assert notes(1) is song


def test_a_song_without_tokens_has_no_notes():
    empty = read_notes(np.empty(0, np.uint16), DRUM_PROGRAM)
    excerpt = read_excerpt(empty, 0, 0)
    assert len(excerpt.slot) == 0
    assert (excerpt.start_steps, excerpt.stop_steps, excerpt.program) == (0, 0, 0)
