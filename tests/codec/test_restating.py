"""A window from the middle of a song says first what sounds."""

import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.restating import NOT_RESTATED, restate
from midinet.codec.vocabulary import DRUM_PROGRAM, NOTE_OFF, PROGRAM, TIME_SHIFT, VELOCITY

FLUTE, BASS = PROGRAM.first + 73, PROGRAM.first + 32
DRUMS = PROGRAM.first + DRUM_PROGRAM


def wait(steps):
    return TIME_SHIFT.first + steps - 1


def loud(level):
    return VELOCITY.first + level


@pytest.mark.parametrize(
    ("before", "tokens", "onsets"),
    [
        ([], [], []),
        ([loud(20), 60, wait(5)], [loud(20), 60], [-1, 0]),
        ([loud(20), 60, wait(5), NOTE_OFF.first + 60], [loud(20)], [-1]),
        # In the encoder's order, with the level of each note; then the current program and level.
        (
            [FLUTE, loud(9), 70, wait(5), BASS, 40, wait(1), loud(20), 33, FLUTE],
            [BASS, loud(20), 33, loud(9), 40, FLUTE, 70, loud(20)],
            [-1, -1, 6, -1, 5, -1, 0, -1],
        ),
        ([DRUMS, loud(20), 36, wait(5)], [DRUMS, loud(20)], [-1, -1]),
        ([loud(20), 60, wait(5), 60, wait(5)], [loud(20), 60], [-1, 5]),  # it began anew
    ],
)
def test_restates_what_sounds(before, tokens, onsets):
    restated = restate(np.array(before, np.int32), DRUM_PROGRAM, 100)
    assert restated.tokens.tolist() == tokens
    assert restated.onset_steps.tolist() == onsets
    assert NOT_RESTATED == -1


def test_of_too_many_notes_the_latest_are_restated():
    before = np.array([loud(20), *range(40, 60), wait(1), 80])
    restated = restate(before, DRUM_PROGRAM, 8)
    assert restated.tokens.tolist() == [loud(20), 59, 80]
    assert restate(before, DRUM_PROGRAM, 2).tokens.tolist() == [loud(20)]


def test_what_follows_has_its_meaning():
    song = np.array(
        [
            FLUTE,
            loud(9),
            70,
            wait(50),
            BASS,
            loud(20),
            33,
            wait(50),
            NOTE_OFF.first + 33,
            35,
            wait(5),
        ]
    )
    for cut in range(len(song) - 1):
        restated = restate(song[:cut], DRUM_PROGRAM, 100).tokens
        notes = tokens_to_notes(np.concatenate([restated, song[cut:]]))
        expected = tokens_to_notes(song, DRUM_PROGRAM, cut)
        assert sorted(zip(notes.program, notes.pitch, notes.velocity, strict=True)) == sorted(
            zip(expected.program, expected.pitch, expected.velocity, strict=True)
        )
