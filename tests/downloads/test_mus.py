"""MUS files, written by hand, become MIDI files that play the same."""

from __future__ import annotations

import io
import struct

import mido
import numpy as np
import pytest

from midinet.downloads.mus import MusError, mus_to_midi
from midinet.midi.reader import read_midi

SECOND = b"\x81\x0c"  # 140 ticks, as a variable length
HALF = b"\x46"
END = b"\x60"


def mus(*events: bytes, start: int = 16) -> bytes:
    """A MUS file with these events and no list of instruments."""
    body = b"".join(events)
    header = struct.pack("<4s6H", b"MUS\x1a", len(body), start, 1, 0, 0, 0)
    return header + bytes(start - 16) + body


def play(channel: int, pitch: int, volume: int | None = None, wait: bytes = b"") -> bytes:
    first = (0x90 if wait else 0x10) | channel
    note = [pitch] if volume is None else [pitch | 0x80, volume]
    return bytes([first, *note]) + wait


def release(channel: int, pitch: int, wait: bytes = b"") -> bytes:
    return bytes([(0x80 if wait else 0x00) | channel, pitch]) + wait


def control(channel: int, number: int, value: int) -> bytes:
    return bytes([0x40 | channel, number, value])


def test_notes_keep_pitch_volume_instrument_and_time():
    notes = read_midi(
        mus_to_midi(
            mus(
                control(0, 0, 30),
                play(0, 60, 100, wait=SECOND),
                release(0, 60),
                play(0, 64, wait=HALF),  # as loud as the one before
                release(0, 64),
                END,
            )
        )
    )
    assert notes.pitch.tolist() == [60, 64]
    assert notes.program.tolist() == [30, 30]
    assert notes.velocity.tolist() == [100, 100]
    np.testing.assert_allclose(notes.start_ms, [0, 1000])
    np.testing.assert_allclose(notes.end_ms, [1000, 1500])


def test_each_channel_remembers_its_own_volume():
    song = mus(play(1, 60, 90), play(2, 50, 40), play(1, 64), play(2, 54, wait=SECOND), END)
    notes = read_midi(mus_to_midi(song))
    loud = notes.velocity[notes.pitch >= 60]
    assert (loud.tolist(), notes.velocity[notes.pitch < 60].tolist()) == ([90, 90], [40, 40])


def test_a_note_without_any_volume_before_it_is_loud():
    assert read_midi(mus_to_midi(mus(play(0, 60, wait=HALF), END))).velocity.tolist() == [127]


def test_channel_15_is_percussion_and_no_other():
    notes_of_all = (play(channel, 40 + channel, 80) for channel in range(16))
    song = mus(*notes_of_all, release(0, 40, wait=SECOND), END)
    notes = read_midi(mus_to_midi(song))
    assert len(notes) == 16
    assert notes.pitch[notes.is_drum].tolist() == [55]


@pytest.mark.parametrize(
    ("number", "controller"),
    [(1, 0), (2, 1), (3, 7), (4, 10), (5, 11), (6, 91), (7, 93), (8, 64), (9, 67)],
)
def test_controllers_have_other_numbers(number, controller):
    midi = mus_to_midi(mus(control(3, number, 77), END))
    assert bytes([0, 0xB3, controller, 77]) in midi


@pytest.mark.parametrize(
    ("number", "controller"), [(10, 120), (11, 123), (12, 126), (13, 127), (14, 121)]
)
def test_so_have_the_events_of_the_system(number, controller):
    midi = mus_to_midi(mus(bytes([0x35, number]), END))
    assert bytes([0, 0xB5, controller, 0]) in midi


@pytest.mark.parametrize(
    ("bend", "expected"), [(128, 8192), (0, 0), (64, 4096), (255, 16320), (129, 8256)]
)
def test_the_middle_of_a_bend_is_the_middle(bend, expected):
    midi = mus_to_midi(mus(bytes([0x20, bend]), END))
    low, high = midi[midi.index(b"\0\xe0") + 2 :][:2]
    assert low | high << 7 == expected


def test_unused_events_and_measures_are_passed_over():
    song = mus(b"\xd0" + HALF, b"\x70\x05", b"\x3f\x63", control(0, 99, 1), play(0, 60, 1), END)
    notes = read_midi(mus_to_midi(song))
    assert notes.pitch.tolist() == [60]
    (message,) = [line for line in mido_messages(song) if line.type == "note_on"]
    assert message.time == 70


def mido_messages(song: bytes) -> list[mido.Message]:
    return list(mido.MidiFile(file=io.BytesIO(mus_to_midi(song))).tracks[0])


@pytest.mark.parametrize(
    ("delay", "ticks"),
    [
        (b"\x00", 0),
        (b"\x7f", 127),
        (b"\x81\x00", 128),
        (b"\x87\x68", 1000),
        (b"\x84\x80\x00", 65536),
    ],
)
def test_delays_are_of_any_length(delay, ticks):
    song = mus(play(0, 60, 80, wait=delay), release(0, 60), END)
    assert [m.time for m in mido_messages(song)][:2] == [0, ticks]


def test_the_events_begin_where_the_header_says():
    song = mus(play(0, 60, 80, wait=HALF), release(0, 60), END, start=50)
    assert read_midi(mus_to_midi(song)).pitch.tolist() == [60]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_song_that_is_cut_off_ends_there(cut):
    song = mus(play(0, 60, 80, wait=SECOND), release(0, 60), play(0, 62, 80, wait=HALF), END)
    assert 60 in read_midi(mus_to_midi(song[:-cut])).pitch


@pytest.mark.parametrize(
    "data", [b"", b"MUS\x1a", b"MThd" + bytes(20), mus(), mus(END), mus()[:10]]
)
def test_what_is_no_music_is_refused(data):
    with pytest.raises(MusError):
        mus_to_midi(data)


def test_no_bytes_whatever_break_it():
    random = np.random.default_rng(0)
    for _ in range(300):
        song = mus(random.bytes(int(random.integers(1, 200))))
        try:
            assert len(mido_messages(song)) > 1
        except MusError:
            continue
