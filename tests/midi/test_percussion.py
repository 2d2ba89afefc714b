"""Percussion is channel 10 and what a file declares; ports are channels of their own."""

from __future__ import annotations

import pytest

from midinet import read_midi
from tests.midi.midi_bytes import event, meta, midi, variable
from tests.midi.rows import BEAT, CHANNEL_10, DRUM, rows


def sysex(message: str) -> bytes:
    """A system exclusive event, from what stands in hexadecimal between F0 and F7."""
    data = bytes.fromhex(message) + b"\xf7"
    return b"\0\xf0" + variable(len(data)) + data


def bank(number: int, channel: int = 11) -> bytes:
    """The bank select (MSB) of a channel, counted from 1, and a program of that bank."""
    return event(0, 0xB0 + channel - 1, 0, number) + event(0, 0xC0 + channel - 1, 0)


def port(number: int) -> bytes:
    return meta(0, 0x21, bytes([number]))


def stroke(channel: int) -> bytes:
    return event(0, 0x90 + channel - 1, 36, 100) + event(BEAT, 0x80 + channel - 1, 36, 0)


GM_ON, GM2_ON = sysex("7E 7F 09 01"), sysex("7E 7F 09 03")
XG_ON = sysex("43 10 4C 00 00 7E 00")
GS_RESET = sysex("41 10 42 12 40 00 7F 00 41")
GS_11_IS_DRUMS = sysex("41 10 42 12 40 1A 15 02 0F")
GS_11_IS_MELODIC = sysex("41 10 42 12 40 1A 15 00 11")
GS_10_IS_MELODIC = sysex("41 10 42 12 40 10 15 00 1B")
GS_9_IS_DRUMS = sysex("41 10 42 12 40 19 15 01 11")
XG_11_IS_DRUMS = sysex("43 10 4C 08 0A 07 02")
XG_11_IS_MELODIC = sysex("43 10 4C 08 0A 07 00")


def test_channel_10_is_percussion():
    track = event(0, 0xC9, 16) + event(0, CHANNEL_10, 36, 100) + event(24, CHANNEL_10, 36, 0)
    assert rows(midi(track)) == [(0, 25, DRUM, 36, 100)]


@pytest.mark.parametrize(
    ("what", "before", "is_drum"),
    [
        ("by GS", GS_11_IS_DRUMS, True),
        ("by GS after its reset", GS_RESET + GS_11_IS_DRUMS, True),
        ("by GS of any device", GS_11_IS_DRUMS.replace(b"\x41\x10", b"\x41\x7f"), True),
        ("bank 0 of a drum part is a drum kit", GS_11_IS_DRUMS + bank(0), True),
        ("by XG part mode", XG_ON + XG_11_IS_DRUMS, True),
        ("by an XG bank of drum kits", XG_ON + bank(127), True),
        ("by an XG bank of sound effects", XG_ON + bank(126), True),
        ("by a bank of XG without its reset", bank(127), True),
        ("by the GM2 bank of drum kits", GM2_ON + bank(120), True),
        ("a bank of another channel", bank(127, channel=12), False),
        ("a declaration of another channel", GS_9_IS_DRUMS, False),
        ("a bank that has no meaning", bank(125), False),
        ("its least significant byte", event(0, 0xBA, 32, 127), False),
        ("a variation of GS", GS_RESET + bank(127), False),
        ("XG after GS", GS_RESET + XG_ON + bank(127), True),
        ("the bank is melodic again", bank(127) + bank(0), False),
        ("the part is melodic again", GS_11_IS_DRUMS + GS_11_IS_MELODIC, False),
        ("the part is melodic again in XG", XG_11_IS_DRUMS + XG_11_IS_MELODIC, False),
        ("the declaration comes after the bank", bank(127) + XG_11_IS_MELODIC, False),
        ("the bank comes after the declaration", XG_11_IS_MELODIC + bank(127), True),
        ("a reset takes all back", XG_11_IS_DRUMS + bank(127) + XG_ON, False),
        ("General MIDI is a reset", GS_11_IS_DRUMS + GM_ON, False),
        ("General MIDI 2 is a reset", GS_11_IS_DRUMS + GM2_ON, False),
        ("another message of Roland's", sysex("41 10 42 12 40 1A 16 02 0F"), False),
        ("another model of Roland's", sysex("41 10 16 12 40 1A 15 02 0F"), False),
        ("a message that is cut short", sysex("41 10 42 12 40 1A 15"), False),
        ("a message of nothing", b"\0\xf0\0", False),
    ],
)
def test_channel_11_is_percussion_if_it_is_declared_so(what, before, is_drum):
    assert rows(midi(before + stroke(11))) == [(0, 500, DRUM if is_drum else 0, 36, 100)], what


@pytest.mark.parametrize(
    ("what", "before", "is_drum"),
    [
        ("GS declares it melodic", GS_10_IS_MELODIC, False),
        ("until a reset", GS_10_IS_MELODIC + GS_RESET, True),
        ("bank 0 is what many files select", bank(0, channel=10), True),
        ("bank 0 in XG too", XG_ON + bank(0, channel=10), True),
    ],
)
def test_channel_10_is_percussion_unless_it_is_declared_melodic(what, before, is_drum):
    assert read_midi(midi(before + stroke(10))).is_drum.tolist() == [is_drum], what


def test_parts_of_gs_are_numbered_around_channel_10():
    for part, channel in {0: 10, 1: 1, 9: 9, 10: 11, 15: 16}.items():
        declared = sysex(f"41 10 42 12 40 1{part:X} 15 01 00")
        notes = read_midi(midi(GS_10_IS_MELODIC + declared + stroke(channel)))
        assert notes.is_drum.tolist() == [True]


def test_a_channel_can_become_percussion_and_melodic_again_in_a_song():
    track = stroke(11) + GS_11_IS_DRUMS + stroke(11) + GS_11_IS_MELODIC + stroke(11)
    assert read_midi(midi(track)).is_drum.tolist() == [False, True, False]


def test_a_declaration_reaches_the_tracks_after_it():
    late = meta(BEAT, 1) + GS_11_IS_DRUMS
    notes = read_midi(midi(stroke(11) + stroke(11) + stroke(11), late))
    assert notes.is_drum.tolist() == [False, False, True]  # on the tick itself the file's order


def test_declarations_do_not_count_in_a_file_of_another_kind():
    # The same bytes as a text, and a system exclusive event that the end of its track cuts off.
    text = meta(0, 1, GS_11_IS_DRUMS[3:])
    assert read_midi(midi(text + stroke(11))).is_drum.tolist() == [False]
    cut_off = midi(stroke(11), b"\0\xf0\x7f" + GS_11_IS_DRUMS[3:])
    assert read_midi(cut_off).is_drum.tolist() == [False]


# Ports


def test_ports_are_channels_of_their_own():
    violin = port(0) + event(0, 0xC0, 40)
    for pitch in (60, 62):
        violin += event(0, 0x90, pitch, 80) + event(2 * BEAT, 0x80, pitch, 0)
    flute = port(1) + event(0, 0xC0, 73) + event(BEAT, 0x90, 60, 80)
    flute += event(BEAT // 2, 0x80, 60, 0)
    flute += event(BEAT // 2, 0x90, 62, 80) + event(BEAT // 2, 0x80, 62, 0)
    assert rows(midi(violin, flute)) == [
        (0, 1000, 40, 60, 80),
        (500, 750, 73, 60, 80),
        (1000, 2000, 40, 62, 80),
        (1000, 1250, 73, 62, 80),
    ]


@pytest.mark.parametrize("others", [[1], [7], list(range(1, 128))])
def test_a_track_without_a_port_plays_on_the_first(others):
    program = event(0, 0xC0, 40)
    tracks = [port(number) + event(0, 0xC0, number) + stroke(1) for number in others]
    found = rows(midi(program, *tracks, stroke(1)))
    assert sorted(row[2] for row in found) == sorted([40, *others])
    assert {row[:2] for row in found} == {(0, 500)}


def test_a_port_that_all_tracks_share_changes_nothing():
    assert rows(midi(port(3) + event(0, 0xC0, 5), port(3) + stroke(1))) == [(0, 500, 5, 36, 100)]


def test_channel_10_of_every_port_is_percussion_until_it_is_declared_otherwise_there():
    assert read_midi(midi(port(1) + stroke(10))).is_drum.tolist() == [True]
    tracks = [port(1) + GS_10_IS_MELODIC + stroke(10), port(2) + stroke(10), stroke(10)]
    assert read_midi(midi(*tracks)).is_drum.tolist() == [False, True, True]


def test_a_port_can_change_inside_a_track():
    track = event(0, 0xC0, 40) + stroke(1) + port(1) + stroke(1) + port(0) + stroke(1)
    assert [row[2] for row in rows(midi(track))] == [40, 0, 40]
    assert [row[2] for row in rows(midi(track + meta(0, 0x21)))] == [40, 0, 40]


def test_pedals_and_volumes_are_those_of_the_port():
    pedal_and_volume = event(0, 0xB0, 64, 127) + event(0, 0xB0, 7, 50)
    found = rows(midi(port(1) + pedal_and_volume, stroke(1), port(1) + stroke(1) + meta(BEAT, 1)))
    assert sorted(found) == [(0, 500, 0, 36, 100), (0, 1000, 0, 36, 50)]
