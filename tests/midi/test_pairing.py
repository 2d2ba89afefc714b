"""What ends a note: note-offs, pedals, and the messages that silence a channel."""

from __future__ import annotations

import pytest

from tests.midi.midi_bytes import (
    event,
    meta,
    midi,
)
from tests.midi.rows import BEAT, NOTE, spans


def test_note_on_with_velocity_0_is_a_note_off():
    assert spans(midi(event(0, 0x90, 60, 100) + event(BEAT, 0x90, 60, 0))) == [(0, 500)]


def test_note_off_of_a_silent_note_is_ignored():
    stray = event(0, 0x80, 60, 0) + event(0, 0x80, 60, 0) + event(0, 0x81, 60, 0)
    assert spans(midi(stray + NOTE + stray + NOTE)) == [(0, 500), (500, 1000)]


@pytest.mark.parametrize(
    ("what", "strokes", "ends"),
    [
        # Times in ms: positive ones are note-ons, negative ones note-offs.
        ("an early note-off belongs to the oldest stroke", [0, 100, -120, -300], [120, 300]),
        ("each early note-off to the next", [0, 80, 100, -110, -120, -130], [110, 120, 130]),
        ("a late note-off ends all strokes", [0, 100, -150, -300], [150, 150]),
        ("early is less than 50 ms after the latest stroke", [0, 100, -149, -300], [149, 300]),
        ("a lost note-off spoils no later note", [0, 0, -250, 500, -750], [250, 250, 750]),
        (
            "nor do two lost in one key",
            [0, 0, 0, -250, 2000, -2250, 4000, -4250, 6000, -6250],
            [250, 250, 250, 2250, 4250, 6250],
        ),
        ("nor is the lost one of the first stroke", [0, 500, -750, 900, -999], [750, 750, 999]),
        ("an early note-off, and then a late one", [0, 9, 90, -99, -300, -400], [99, 300, 300]),
        ("after a late one all begins anew", [0, 9, -99, 200, 210, -220, -230], [99, 99, 220, 230]),
        (
            "strokes without any note-off last",
            [0, 9, -99, 200, 210, -220, 900],
            [99, 99, 220, 1000],
        ),
    ],
)
def test_strokes_of_one_key_that_overlap(what, strokes, ends):
    now, track = 0, b""
    for time in strokes:
        track += event(abs(time) - now, 0x90 if time >= 0 else 0x80, 60, 100)
        now = abs(time)
    found = spans(midi(track + meta(max(0, 1000 - now), 1), division=500))
    assert [end for _, end in found][: len(ends)] == ends, what


def test_equal_pitches_of_two_channels_are_two_notes():
    track = event(0, 0x90, 60, 100) + event(0, 0x91, 60, 90) + event(BEAT, 0x81, 60, 0)
    assert spans(midi(track + event(BEAT, 0x80, 60, 0))) == [(0, 1000), (0, 500)]


def test_a_note_never_closed_ends_with_the_song():
    track = event(0, 0x90, 60, 100)
    assert spans(midi(track, meta(4 * BEAT, 1))) == [(0, 2000)]


# All sound off, all notes off, and the changes of mode, which are all-notes-off too.
@pytest.mark.parametrize("controller", [120, 123, 124, 125, 126, 127])
def test_messages_that_silence_a_channel_end_its_notes(controller):
    track = event(0, 0x90, 60, 100) + event(0, 0x91, 60, 100) + event(BEAT, 0xB0, controller, 0)
    track += event(BEAT, 0x80, 60, 0) + event(0, 0x81, 60, 0)
    assert spans(midi(track)) == [(0, 500), (0, 1000)]


DOWN, UP = (0xB0, 64, 127), (0xB0, 64, 0)
CATCH, DROP = (0xB0, 66, 127), (0xB0, 66, 0)  # the sostenuto pedal
ON, OFF = (0x90, 60, 100), (0x80, 60, 0)


@pytest.mark.parametrize(
    ("what", "events", "last"),
    [
        ("a note released while the pedal is down ends when it goes up", [ON, DOWN, OFF, UP], 3),
        ("a note released before the pedal goes down ends there", [ON, OFF, DOWN, UP], 1),
        ("a note released after the pedal went up ends there", [DOWN, ON, UP, OFF], 3),
        ("half down is down", [(0xB0, 64, 64), ON, OFF, UP], 3),
        ("less than half is up", [DOWN, ON, OFF, (0xB0, 64, 63)], 3),
        ("down again while down changes nothing", [DOWN, ON, OFF, DOWN, UP], 4),
        ("up is up for the next note", [DOWN, UP, ON, OFF, DOWN], 3),
        ("resetting the controllers lets go", [DOWN, ON, OFF, (0xB0, 121, 0)], 3),
        ("resetting the controllers is up", [DOWN, (0xB0, 121, 0), ON, OFF, UP], 3),
        ("all sound off cuts what the pedal holds", [DOWN, ON, OFF, (0xB0, 120, 0), UP], 3),
        ("all sound off cuts what a key holds too", [DOWN, ON, (0xB0, 120, 0), OFF, UP], 2),
        ("all notes off is a release: the pedal holds on", [DOWN, ON, (0xB0, 123, 0), UP], 3),
        ("a change of mode is one too", [DOWN, ON, (0xB0, 126, 0), UP], 3),
        ("a pedal of another channel holds nothing", [(0xB1, 64, 127), ON, OFF, UP], 2),
        ("a pedal of another channel lets nothing go", [DOWN, ON, OFF, (0xB1, 64, 0), UP], 4),
        ("a pedal that never goes up holds to the end", [DOWN, ON, OFF, (0xB0, 7, 9)], 3),
        ("other controllers are no pedal", [(0xB0, 65, 127), ON, OFF, UP], 2),
    ],
)
def test_sustain_pedal(what, events, last):
    data = midi(b"".join(event(BEAT, *one) for one in events))
    assert spans(data) == [(500 * (events.index(ON) + 1), 500 * (last + 1))], what


@pytest.mark.parametrize(
    ("what", "events", "last"),
    [
        ("holds a note that sounds as it goes down", [ON, CATCH, OFF, DROP], 3),
        ("but none that is struck later", [CATCH, ON, OFF, DROP], 2),
        ("nor one that ended before", [ON, OFF, CATCH, DROP], 1),
        ("nor one that ends after it went up", [ON, CATCH, DROP, OFF], 3),
        ("half down is down", [ON, (0xB0, 66, 64), OFF, DROP], 3),
        ("less than half is up", [ON, (0xB0, 66, 63), OFF, DROP], 2),
        ("down again while down catches nothing more", [CATCH, ON, CATCH, OFF, DROP], 3),
        ("down again while down lets nothing go", [ON, CATCH, CATCH, OFF, DROP], 4),
        ("down again after it was up catches", [CATCH, DROP, ON, CATCH, OFF, DROP], 5),
        ("another channel's catches nothing", [ON, (0xB1, 66, 127), OFF, DROP], 2),
        ("hands over to the sustain pedal", [ON, CATCH, OFF, DOWN, DROP, UP], 5),
        ("holds what the sustain pedal lets go", [ON, CATCH, DOWN, OFF, UP, DROP], 5),
        ("does not catch what only the sustain pedal holds", [DOWN, ON, OFF, CATCH, UP, DROP], 4),
        ("all sound off cuts what it holds", [ON, CATCH, OFF, (0xB0, 120, 0), DROP], 3),
        ("all sound off cuts it with sustain too", [ON, CATCH, DOWN, OFF, (0xB0, 120, 0), DROP], 4),
        ("all notes off is a release", [ON, CATCH, (0xB0, 123, 0), DROP], 3),
        ("resetting the controllers lets go", [ON, CATCH, OFF, (0xB0, 121, 0), DROP], 3),
        ("resetting them is up", [CATCH, (0xB0, 121, 0), ON, CATCH, OFF, DROP], 5),
    ],
)
def test_sostenuto_pedal(what, events, last):
    data = midi(b"".join(event(BEAT, *one) for one in events))
    assert spans(data) == [(500 * (events.index(ON) + 1), 500 * (last + 1))], what


def test_pedals_can_be_left_out():
    track = event(0, *DOWN) + event(0, *ON) + event(BEAT, *OFF) + event(BEAT, *UP)
    assert spans(midi(track), sustain=True) == [(0, 1000)]
    assert spans(midi(track), sustain=False) == [(0, 500)]
    track = event(0, *ON) + event(0, *CATCH) + event(BEAT, *OFF) + event(BEAT, *DROP)
    assert spans(midi(track), sustain=True) == [(0, 1000)]
    assert spans(midi(track), sustain=False) == [(0, 500)]
