"""Windows made of notes say the same as the song, whatever part of it they are."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.decoding import elapsed_steps
from midinet.codec.encoding import encode
from midinet.codec.restating import NOT_RESTATED, restate
from midinet.codec.vocabulary import DRUM_PROGRAM, NOTE_OFF, NOTE_ON, NUM_PITCHES, PROGRAM
from midinet.data.song_notes import read_notes
from tests.data.music import make_notes, read_excerpt, write_window

PLENTY = 3000  # tokens, more than restating ever takes here


def silent_note_offs(tokens):
    """How many NOTE_OFFs end a note that does not sound."""
    program, sounding, silent = 0, set(), 0
    for token in map(int, tokens):
        if PROGRAM.first <= token < PROGRAM.end:
            program = token - PROGRAM.first
        elif token < NOTE_OFF.first and program != DRUM_PROGRAM:
            sounding.add((program, token))
        elif NOTE_OFF.first <= token < NOTE_OFF.end:
            silent += (program, token - NOTE_OFF.first) not in sounding
            sounding.discard((program, token - NOTE_OFF.first))
    return silent


@pytest.mark.parametrize("seed", range(4))
def test_a_window_restates_what_sounds_and_goes_on_as_the_song_does(seed):
    song = encode(make_notes(seed))
    for start in range(0, len(song), 29):
        stop = min(len(song), start + 200)
        excerpt = read_excerpt(read_notes(song, DRUM_PROGRAM), start, stop)
        window = write_window(excerpt, DRUM_PROGRAM, PLENTY)
        num_restated = len(window.restated_onset_steps)
        # But for tokens after the last note event, which say nothing that is heard.
        last = start + 1 + int(np.flatnonzero(song[start:stop] < NOTE_OFF.end)[-1])
        np.testing.assert_array_equal(window.tokens[num_restated:], song[start:last])
        assert window.start_steps == (elapsed_steps(song[:start])[-1] if start else 0)
        assert not silent_note_offs(window.tokens)

        # It restates what generation restates when it refills its window there.
        expected = restate(song[:start], DRUM_PROGRAM, PLENTY)
        np.testing.assert_array_equal(window.tokens[:num_restated], expected.tokens)
        np.testing.assert_array_equal(window.restated_onset_steps, expected.onset_steps)


def test_of_too_many_notes_the_oldest_are_left_out_with_their_note_offs():
    song = encode(make_notes(0))
    fewer = 0
    for start in range(0, len(song), 29):
        excerpt = read_excerpt(read_notes(song, DRUM_PROGRAM), start, len(song))
        whole = write_window(excerpt, DRUM_PROGRAM, PLENTY)
        window = write_window(excerpt, DRUM_PROGRAM, 10)
        assert len(window.restated_onset_steps) <= 10
        assert not silent_note_offs(window.tokens)
        kept = window.restated_onset_steps[window.restated_onset_steps != NOT_RESTATED]
        all_onsets = np.sort(whole.restated_onset_steps[whole.restated_onset_steps >= 0])
        np.testing.assert_array_equal(np.sort(kept), all_onsets[len(all_onsets) - len(kept) :])
        fewer += len(kept) < len(all_onsets)
    assert fewer > 5


def test_a_program_and_a_velocity_are_current_after_restating():
    #          piano, level 20, C4 on   violin, level 9, E4 on   1 s    E4 off
    song = np.array([388, 276, 60, 388 + 40, 265, 64, 387, 128 + 64])
    window = write_window(read_excerpt(read_notes(song, DRUM_PROGRAM), 6, 8), DRUM_PROGRAM, PLENTY)
    assert window.tokens.tolist() == [276, 60, 428, 265, 64, 387, 192]
    assert window.restated_onset_steps.tolist() == [-1, 0, -1, -1, 0]
    # After the violin has ended only the piano is restated, and the violin becomes current.
    window = write_window(read_excerpt(read_notes(song, DRUM_PROGRAM), 8, 8), DRUM_PROGRAM, PLENTY)
    assert window.tokens.tolist() == [276, 60, 428, 265]
    assert window.start_steps == 100


def test_percussion_is_never_restated():
    song = np.array([PROGRAM.first + DRUM_PROGRAM, 280, NOTE_ON.first + 36, 290, 38])
    excerpt = read_excerpt(read_notes(song, DRUM_PROGRAM), 3, 5)
    assert excerpt.slot.tolist() == [DRUM_PROGRAM * NUM_PITCHES + 38]
    literal = read_excerpt(read_notes(song, None), 3, 5)
    assert literal.slot.tolist() == [DRUM_PROGRAM * NUM_PITCHES + pitch for pitch in (36, 38)]


def test_tokens_that_no_encoder_writes_make_windows_too():
    random = np.random.default_rng(0)
    for _ in range(50):
        song = random.integers(0, 517, size=200)
        start = int(random.integers(200))
        window = write_window(
            read_excerpt(read_notes(song, DRUM_PROGRAM), start, 200), DRUM_PROGRAM, 20
        )
        assert not silent_note_offs(window.tokens)
