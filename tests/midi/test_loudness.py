"""Channel volume and expression: what General MIDI says about them, as velocities."""

from __future__ import annotations

import mido
import numpy as np
import pytest

from midinet import encode, read_midi
from tests.midi.midi_bytes import event, meta, midi, saved

BEAT = 480  # ticks; half a second
ON, OFF = (0x90, 60, 100), (0x80, 60, 0)
LEAD = event(0, 0x91, 72, 100) + event(BEAT, 0x81, 72, 0)  # at the default volume, 100


def volume(value, channel=0):
    return 0xB0 + channel, 7, value


def expression(value, channel=0):
    return 0xB0 + channel, 11, value


RESET, PEDAL = (0xB0, 121, 0), (0xB0, 64, 127)


@pytest.mark.parametrize(
    ("what", "events", "velocity"),
    [
        ("the volume of nothing set is 100 of 127", [ON, OFF], 100),
        ("half the volume is half the velocity: 12 dB less", [volume(50), ON, OFF], 50),
        ("rounded to the nearest", [volume(51), expression(126), ON, OFF], 51),
        ("volume and expression multiply", [volume(50), expression(64), ON, OFF], 25),
        ("in either order", [expression(64), volume(50), ON, OFF], 25),
        ("the latest volume counts", [volume(10), volume(50), ON, OFF], 50),
        ("a change after the onset does not", [volume(50), ON, volume(100), OFF], 50),
        ("another channel's volume does not", [volume(50, channel=2), ON, OFF], 100),
        ("resetting the controllers resets expression", [expression(64), RESET, ON, OFF], 100),
        ("but not volume", [volume(50), RESET, ON, OFF], 50),
        ("a note that can be heard has a velocity", [volume(1), expression(1), ON, OFF], 1),
        ("expression 0 is silence", [expression(0), ON, OFF], None),
        ("volume 0 is silence", [volume(0), ON, OFF], None),
        ("what is turned up after the note stays silence", [volume(0), ON, OFF, volume(99)], None),
        ("another channel turned up too", [volume(0), ON, volume(99, channel=2), OFF], None),
        ("a note that is turned up is heard", [volume(0), ON, volume(50), OFF], 50),
        (
            "a note that fades in is as loud as at the end of its fade",
            [volume(0), ON, volume(1), volume(20), volume(50), volume(30), volume(90), OFF],
            50,
        ),
        ("or as when it is released", [volume(0), ON, volume(20), OFF, volume(50)], 20),
        ("the pedal holds it", [volume(0), PEDAL, ON, OFF, volume(50), (0xB0, 64, 0)], 50),
    ],
)
def test_a_note_is_as_loud_as_its_channel(what, events, velocity):
    data = midi(LEAD, b"".join(event(BEAT // 8, *one) for one in events))
    notes = read_midi(data)
    expected = [100] if velocity is None else sorted([100, velocity])
    assert sorted(notes.velocity.tolist()) == expected, what
    assert read_midi(data, volume=False).velocity.tolist() == [100, 100]


def test_a_song_in_which_all_is_equally_soft_keeps_its_velocities():
    track = event(0, *volume(30)) + event(0, 0x90, 60, 90) + event(BEAT, *OFF)
    assert read_midi(midi(track)).velocity.tolist() == [90]


def test_a_channel_on_which_nothing_plays_is_no_measure():
    track = event(0, *volume(127, channel=5)) + event(0, *volume(50)) + event(0, *ON)
    assert read_midi(midi(track + event(BEAT, *OFF))).velocity.tolist() == [100]


def test_the_level_in_decibels_is_40_log10_of_the_ratio_of_volumes():
    # The level of a velocity grows in the same way: the two files sound alike.
    song = mido.MidiFile()
    for channel, value in enumerate((40, 127)):
        change = mido.Message("control_change", channel=channel, control=7, value=value)
        note = {"channel": channel, "note": 60, "velocity": 100}
        track = [mido.Message("note_on", **note), mido.Message("note_off", time=BEAT, **note)]
        song.tracks.append(mido.MidiTrack([change, *track]))
    pad, lead = read_midi(saved(song)).velocity.astype(float)
    assert lead == 100
    assert abs(40 * np.log10(pad / lead) - 40 * np.log10(40 / 127)) < 0.3


def test_a_song_that_is_never_heard_has_no_notes():
    track = event(0, *expression(0)) + event(0, *ON) + event(BEAT, *OFF) + meta(BEAT, 1)
    assert len(read_midi(midi(track))) == 0
    assert len(encode(midi(track))) == 0
    assert len(encode(midi(track), volume=False)) > 0
