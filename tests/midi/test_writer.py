"""Tokens and notes -> MIDI files that any player plays as they were meant."""

from __future__ import annotations

import io

import hypothesis
import mido
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from midinet import Notes, decode, encode, read_midi
from midinet.codec.decoding import tokens_to_notes
from midinet.codec.vocabulary import NOTE_ON, PROGRAM, TIME_SHIFT
from midinet.midi.writer import notes_to_midi
from tests.conftest import make_song
from tests.midi.midi_bytes import event, midi, saved, tempo

PERCUSSION = 117


def parsed(file: mido.MidiFile) -> mido.MidiFile:
    """The file as mido reads it from its bytes."""
    return mido.MidiFile(file=io.BytesIO(saved(file)))


def messages(file: mido.MidiFile) -> list[mido.Message]:
    return [message for track in file.tracks for message in track]


def notes_that_never_end(file: mido.MidiFile) -> dict[tuple[int, int], int]:
    sounding = {}
    for message in mido.merge_tracks(file.tracks):
        if message.type in ("note_on", "note_off"):
            key = message.channel, message.note
            change = 1 if message.type == "note_on" and message.velocity else -1
            sounding[key] = sounding.get(key, 0) + change
            assert sounding[key] >= 0, "a note ends that does not sound"
    return {key: count for key, count in sounding.items() if count}


def scale(programs: list[int], step_ms: int, length_ms: int) -> Notes:
    """Middle C by one instrument after the other."""
    start = np.arange(len(programs)) * float(step_ms)
    pitch = np.full(len(programs), 60, np.uint8)
    no_drum = np.zeros(len(programs), bool)
    return Notes(start, start + length_ms, np.array(programs, np.uint8), pitch, pitch, no_drum)


@pytest.mark.parametrize("division", [24, 96, 480, 960, 32767])
@pytest.mark.parametrize("bpm", [20, 60, 100, 120, 333, 400])
@pytest.mark.parametrize("changes", [False, True], ids=["one tempo", "tempo changes"])
def test_ten_seconds_stay_ten_seconds(division, bpm, changes):
    us_per_beat = round(60_000_000 / bpm)
    track, us_left = tempo(0, us_per_beat) + event(0, 0x90, 60, 64), 10_000_000
    for other in (500_000, 150_000, 3_000_000) if changes else ():
        ticks = 1_000_000 * division // us_per_beat  # a second, rounded down to a tick
        us_left -= ticks * us_per_beat / division
        us_per_beat = other
        track += tempo(ticks, us_per_beat)
    track += event(round(us_left * division / us_per_beat), 0x80, 60, 0)
    half_a_tick_s = us_per_beat / division / 2e6
    made = parsed(decode(encode(midi(track, division=division))))
    assert made.length == pytest.approx(10, abs=0.005 + half_a_tick_s)


@pytest.mark.parametrize("frames", [24, 25, 30])
@pytest.mark.parametrize("ticks_per_frame", [4, 40, 80])
def test_ten_seconds_of_film_stay_ten_seconds(frames, ticks_per_frame):
    track = event(0, 0x90, 60, 64) + event(10 * frames * ticks_per_frame, 0x80, 60, 0)
    film = midi(tempo(0, 123_456) + track, division=bytes([256 - frames, ticks_per_frame]))
    assert parsed(decode(encode(film))).length == pytest.approx(10)


def test_one_tick_is_one_millisecond():
    made = notes_to_midi(scale([0], 0, 1234))
    assert (made.ticks_per_beat, made.type) == (500, 1)
    assert made.length == pytest.approx(1.234)


def test_each_instrument_has_its_named_track_and_channel():
    notes = read_midi(saved(make_song(0)))
    made = parsed(decode(encode(notes)))
    tracks = {track.name: track for track in made.tracks[1:]}
    assert [name for name in tracks if "ercussion" in name or "rum" in name]
    assert len(tracks) == len(made.tracks) - 1 == 4
    for track in tracks.values():
        channels = {message.channel for message in track if not message.is_meta}
        assert len(channels) == 1
        programs = [message.program for message in track if message.type == "program_change"]
        assert len(programs) == (0 if channels == {9} else 1)


def test_a_text_can_be_put_in_front():
    made = parsed(notes_to_midi(scale([0], 0, 100), text="seed 7, größer"))
    texts = [message for message in made.tracks[0] if message.type == "text"]
    assert len(texts) == 1


def test_no_tokens_make_an_empty_file():
    made = parsed(decode(np.empty(0, np.uint16)))
    assert made.length == 0
    assert len(read_midi(saved(made))) == 0


@pytest.mark.parametrize(
    ("what", "step_ms", "length_ms"),
    [("in turn", 100, 100), ("overlapping their neighbours", 100, 1000), ("slowly", 5000, 4000)],
)
def test_all_128_instruments_share_16_channels(what, step_ms, length_ms):
    notes = scale(list(range(128)), step_ms, length_ms)
    back = read_midi(saved(notes_to_midi(notes)))
    for field in ("start_ms", "end_ms", "program", "pitch"):
        np.testing.assert_array_equal(getattr(back, field), getattr(notes, field), what)
    assert not back.is_drum.any()


def test_sixteen_chords_at_once_play_with_the_right_instruments():
    # More instruments at one time than channels, but never one pitch on all of them.
    notes = scale(list(range(16)), 0, 500)
    pitch = np.arange(40, 56).astype(np.uint8)
    notes = Notes(**{**vars(notes), "pitch": pitch})
    back = read_midi(saved(notes_to_midi(notes)))
    assert {*zip(back.program.tolist(), back.pitch.tolist(), strict=True)} == {
        *zip(range(16), range(40, 56), strict=True)
    }
    assert back.end_ms.tolist() == [500] * 16


def test_where_one_pitch_sounds_on_all_channels_the_first_to_end_gives_way():
    notes = scale(list(range(16)), 10, 1000)
    notes.end_ms[4] = 900
    back = read_midi(saved(notes_to_midi(notes)))
    assert back.program.tolist() == list(range(16))
    assert back.start_ms.tolist() == notes.start_ms.tolist()
    assert np.flatnonzero(back.end_ms != notes.end_ms).tolist() == [4]
    assert back.end_ms[4] == 150


def test_a_note_lasts_a_millisecond_at_least():
    back = read_midi(saved(notes_to_midi(scale([0], 0, 0))))
    assert back.end_ms.tolist() == [1]


any_numbers = arrays.arrays(np.uint16, st.integers(0, 300))
any_tokens = arrays.arrays(np.uint16, st.integers(0, 300), elements=st.integers(0, 516))
# Mostly program changes and onsets, so that channels run short.
crowds = arrays.arrays(
    np.uint16,
    st.integers(0, 300),
    elements=st.integers(0, 3)
    | st.integers(PROGRAM.first, PROGRAM.end - 1)
    | st.integers(TIME_SHIFT.first, TIME_SHIFT.first + 3),
)


@hypothesis.given(any_numbers | any_tokens | crowds)
@hypothesis.settings(max_examples=150)
def test_any_numbers_decode_to_a_file_in_which_every_note_ends(numbers):
    made = parsed(decode(numbers))
    assert notes_that_never_end(made) == {}
    notes = tokens_to_notes(numbers)
    onsets = [m for m in messages(made) if m.type == "note_on" and m.velocity > 0]
    assert len(onsets) == len(notes)
    assert sum(m.channel == 9 for m in onsets) == notes.is_drum.sum()
    back = read_midi(saved(made))
    in_order = np.lexsort((back.pitch, back.program * ~back.is_drum, back.is_drum, back.start_ms))
    expected = np.lexsort(
        (notes.pitch, notes.program * ~notes.is_drum, notes.is_drum, notes.start_ms)
    )
    np.testing.assert_array_equal(back.is_drum[in_order], notes.is_drum[expected])
    np.testing.assert_array_equal(back.start_ms[in_order], notes.start_ms[expected])
    np.testing.assert_array_equal(back.pitch[in_order], notes.pitch[expected])
    melodic = ~back.is_drum[in_order]
    heard, meant = back.program[in_order][melodic], notes.program[expected][melodic]
    np.testing.assert_array_equal(heard, meant)


def test_without_a_drum_program_nothing_is_percussion():
    tokens = np.array([PROGRAM.first + PERCUSSION, NOTE_ON.first + 36, TIME_SHIFT.first])
    with_percussion, without = decode(tokens), decode(tokens, drum_program=None)
    assert {m.channel for m in messages(with_percussion) if m.type == "note_on"} == {9}
    assert 9 not in {m.channel for m in messages(without) if m.type == "note_on"}
