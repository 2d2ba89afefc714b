"""The reader: what MIDI says, what damaged files still say, and what no bytes can make it do."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from pathlib import Path

import hypothesis
import mido
import numpy as np
import pytest
from hypothesis import strategies as st

from midinet import MidiError, encode, read_midi
from midinet.midi.events import _WINDOW_BYTES
from tests.conftest import make_song
from tests.midi.by_mido import notes_by_mido
from tests.midi.midi_bytes import (
    END_OF_TRACK,
    chunk,
    event,
    header,
    meta,
    midi,
    saved,
    tempo,
    variable,
)
from tests.midi.mutations import faults, mutants

BEAT = 480  # ticks; at the default tempo a beat lasts 500 ms
NOTE = event(0, 0x90, 60, 100) + event(BEAT, 0x80, 60, 0)
CHANNEL_10 = 0x99  # its note-on
DRUM = 255


def rows(source: bytes, sustain: bool = True) -> list[tuple[float, ...]]:
    """The notes as (start, end, program, pitch, velocity), percussion with program DRUM."""
    notes = read_midi(source, sustain)
    program = np.where(notes.is_drum, DRUM, notes.program)
    columns = (notes.start_ms, notes.end_ms, program, notes.pitch, notes.velocity)
    return [
        (float(start), float(end), int(what), int(pitch), int(velocity))
        for start, end, what, pitch, velocity in zip(*columns, strict=True)
    ]


def spans(source: bytes, sustain: bool = True) -> list[tuple[float, ...]]:
    """The notes as (start, end)."""
    return [row[:2] for row in rows(source, sustain)]


# What MIDI defines


@pytest.mark.parametrize("file_format", [0, 1, 2])
def test_a_note_of_one_beat_lasts_half_a_second(file_format):
    assert rows(midi(NOTE, file_format=file_format)) == [(0, 500, 0, 60, 100)]


@pytest.mark.parametrize("file_format", [0, 1])
def test_tracks_play_together(file_format):
    other = event(BEAT, 0x91, 40, 50) + event(BEAT, 0x81, 40, 0)
    both = [(0, 500, 0, 60, 100), (500, 1000, 0, 40, 50)]
    assert rows(midi(NOTE, other, file_format=file_format)) == both
    assert rows(midi(other, NOTE, file_format=file_format)) == both


def test_patterns_of_format_2_play_one_after_the_other_each_at_its_own_tempo():
    fast = tempo(0, 250_000) + NOTE
    assert spans(midi(NOTE, b"", fast, NOTE, file_format=2)) == [
        (0, 500),
        (500, 750),  # twice as fast
        (750, 1250),  # the default tempo again
    ]


def test_a_tempo_at_the_very_end_of_a_pattern_does_not_reach_the_next_one():
    pattern = NOTE + tempo(0, 100_000)
    assert spans(midi(pattern, pattern, file_format=2)) == [(0, 500), (500, 1000)]


@pytest.mark.parametrize(
    ("division", "ticks_per_second"),
    [
        pytest.param(96, 192, id="96 ticks per beat"),
        pytest.param(32767, 65534, id="32767 ticks per beat"),
        pytest.param(bytes([256 - 24, 4]), 96, id="24 frames"),
        pytest.param(bytes([256 - 25, 40]), 1000, id="25 frames of 40: milliseconds"),
        pytest.param(bytes([256 - 29, 100]), 100 * 30 / 1.001, id="29 means 29.97 frames"),
        pytest.param(bytes([256 - 30, 80]), 2400, id="30 frames"),
    ],
)
def test_time_division(division, ticks_per_second):
    long = event(0, 0x90, 60, 100) + event(100_000, 0x80, 60, 0)
    assert spans(midi(long, division=division)) == [(0, pytest.approx(1e8 / ticks_per_second))]


def test_tempo_does_not_count_under_smpte_division():
    assert spans(midi(tempo(0, 100_000) + NOTE, division=b"\xe7\x28")) == [(0, BEAT)]


def test_tempo_changes_inside_a_note_count_from_where_they_stand():
    track = event(0, 0x90, 60, 100) + tempo(BEAT, 1_000_000) + tempo(BEAT, 250_000)
    assert spans(midi(track + event(2 * BEAT, 0x80, 60, 0))) == [(0, 500 + 1000 + 2 * 250)]


def test_tempo_of_any_track_counts_for_all():
    conductor = tempo(BEAT, 1_000_000)
    late = event(BEAT, 0x90, 60, 100) + event(BEAT, 0x80, 60, 0)
    assert spans(midi(conductor, late)) == [(500, 1500)]
    assert spans(midi(late, conductor)) == [(500, 1500)]


def test_of_two_tempos_on_one_tick_the_last_in_the_file_counts():
    one_track = tempo(0, 100_000) + tempo(0, 1_000_000)
    assert spans(midi(one_track + NOTE)) == [(0, 1000)]
    assert spans(midi(tempo(0, 1_000_000), tempo(0, 250_000), NOTE)) == [(0, 250)]


def test_running_status_repeats_the_status_of_the_channel():
    track = event(0, 0x90, 60, 100) + event(BEAT, 64, 90) + event(BEAT, 60, 0) + event(0, 64, 0)
    assert rows(midi(track)) == [(0, 1000, 0, 60, 100), (500, 1000, 0, 64, 90)]


def test_running_status_with_one_data_byte():
    programs = event(0, 0xC0, 5) + event(0, 6) + event(0, 7)
    pressure = event(0, 0xD0, 1) + event(12, 2) + event(12, 3) + event(0, 0x90, 62, 80)
    assert rows(midi(programs + NOTE)) == [(0, 500, 7, 60, 100)]
    assert rows(midi(pressure + event(BEAT - 24, 62, 0))) == [(25, 500, 0, 62, 80)]


@pytest.mark.parametrize("delta", [0, 1, 127, 128, 0x3FFF, 0x4000, 0x1FFFFF, 0x200000])
def test_delta_times_of_one_to_four_bytes(delta):
    track = event(delta, 0x90, 60, 100) + event(1, 60, 0)
    (note,) = spans(midi(track, division=1000))
    assert note == (delta / 2, (delta + 1) / 2)


def test_program_is_the_channels_whatever_track_sets_it():
    setting = event(0, 0xC3, 40) + event(BEAT, 0xC3, 41)
    playing = b"".join(event(0, 0x93, 60, 100) + event(BEAT, 0x83, 60, 0) for _ in range(2))
    assert [row[2] for row in rows(midi(setting, playing))] == [40, 41]


def test_program_of_a_note_is_that_at_its_onset_on_its_own_channel():
    track = event(0, 0xC0, 10) + event(0, 0xC1, 20) + event(0, 0x90, 60, 100)
    track += event(10, 0xC0, 11) + event(0, 0x91, 60, 100) + event(10, 0x80, 60, 0)
    assert [row[2] for row in rows(midi(track + event(0, 0x81, 60, 0)))] == [10, 20]


def test_channel_10_is_percussion():
    track = event(0, 0xC9, 16) + event(0, CHANNEL_10, 36, 100) + event(24, CHANNEL_10, 36, 0)
    assert rows(midi(track)) == [(0, 25, DRUM, 36, 100)]


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
    found = spans(midi(track + meta(1000 - now, 1), division=500))
    assert [end for _, end in found][: len(ends)] == ends, what


def test_equal_pitches_of_two_channels_are_two_notes():
    track = event(0, 0x90, 60, 100) + event(0, 0x91, 60, 90) + event(BEAT, 0x81, 60, 0)
    assert spans(midi(track + event(BEAT, 0x80, 60, 0))) == [(0, 1000), (0, 500)]


def test_a_note_never_closed_ends_with_the_song():
    track = event(0, 0x90, 60, 100)
    assert spans(midi(track, meta(4 * BEAT, 1))) == [(0, 2000)]


@pytest.mark.parametrize(("controller", "name"), [(120, "sound"), (123, "notes")])
def test_all_sound_and_all_notes_off_end_the_notes_of_their_channel(controller, name):
    track = event(0, 0x90, 60, 100) + event(0, 0x91, 60, 100) + event(BEAT, 0xB0, controller, 0)
    track += event(BEAT, 0x80, 60, 0) + event(0, 0x81, 60, 0)
    assert spans(midi(track)) == [(0, 500), (0, 1000)]


DOWN, UP = (0xB0, 64, 127), (0xB0, 64, 0)
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
        ("a pedal of another channel holds nothing", [(0xB1, 64, 127), ON, OFF, UP], 2),
        ("a pedal of another channel lets nothing go", [DOWN, ON, OFF, (0xB1, 64, 0), UP], 4),
        ("a pedal that never goes up holds to the end", [DOWN, ON, OFF, (0xB0, 7, 9)], 3),
        ("other controllers are no pedal", [(0xB0, 66, 127), ON, OFF, UP], 2),
    ],
)
def test_sustain_pedal(what, events, last):
    data = midi(b"".join(event(BEAT, *one) for one in events))
    assert spans(data) == [(500 * (events.index(ON) + 1), 500 * (last + 1))], what


def test_sustain_can_be_left_out():
    track = event(0, *DOWN) + event(0, *ON) + event(BEAT, *OFF) + event(BEAT, *UP)
    assert spans(midi(track), sustain=True) == [(0, 1000)]
    assert spans(midi(track), sustain=False) == [(0, 500)]


def test_a_file_without_notes_is_an_empty_song():
    notes = read_midi(midi(tempo(0, 400_000)))
    assert len(notes) == 0
    assert notes.duration_ms == 0


def test_notes_are_ordered_by_onset_and_can_be_selected():
    notes = read_midi(midi(event(BEAT, 0x90, 50, 1) + event(9, 50, 0), NOTE))
    assert notes.pitch.tolist() == [60, 50]
    assert notes[notes.pitch < 60].start_ms.tolist() == [500]
    assert notes.duration_ms == notes.end_ms.max()


def test_events_beyond_one_window_of_the_reader():
    # Windows begin anywhere in an event's neighbourhood, so the text before shifts them.
    for text in range(12):
        notes = b"".join(
            event(i % 300, 0x90, i % 128, 100) + event(1, 0x80, i % 128, 0)
            for i in range(_WINDOW_BYTES // 3)
        )
        data = midi(meta(0, 1, bytes(text)), notes, notes)
        assert len(read_midi(data)) == 2 * (_WINDOW_BYTES // 3)


# What real files get wrong, and players get over


HEAD, BODY = header(1), NOTE + END_OF_TRACK


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("RIFF around the file", b"RIFF\x99\0\0\0RMIDdata\x99\0\0\0" + HEAD + chunk(BODY)),
        ("128 bytes of MacBinary in front", bytes(128) + HEAD + chunk(BODY)),
        ("no end of track", HEAD + chunk(NOTE)),
        ("a chunk longer than the file", HEAD + chunk(BODY, length=len(BODY) + 1000)),
        ("a chunk length of all ones", HEAD + chunk(BODY, length=0xFFFFFFFF)),
        ("a chunk length that is too short", HEAD + chunk(BODY, length=3)),
        ("a chunk length of 0", HEAD + chunk(BODY, length=0)),
        ("junk after the last chunk", HEAD + chunk(BODY) + b"\0\1\2junk, and more junk\xff\x90"),
        ("zeros after the last chunk", HEAD + chunk(BODY) + bytes(100)),
        ("events after the end of the track", HEAD + chunk(BODY + NOTE)),
        ("a header that announces no track", header(0) + chunk(BODY)),
        ("a header that announces 65,535 tracks", header(65_535) + chunk(BODY)),
        ("a format that does not exist", header(1, file_format=7) + chunk(BODY)),
        ("a longer header", HEAD[:7] + b"\x0a" + HEAD[8:] + b"more" + chunk(BODY)),
        ("a header length of all ones", HEAD[:4] + b"\xff" * 4 + HEAD[8:] + chunk(BODY)),
        ("a chunk of another kind", HEAD + chunk(b"xyz", b"XFIH") + chunk(BODY)),
        ("bytes between header and track", HEAD + b"\0\0\0" + chunk(BODY)),
        ("a key signature of 200 sharps", HEAD + chunk(meta(0, 0x59, b"\xc8\x09") + BODY)),
        ("a time signature without bytes", HEAD + chunk(meta(0, 0x58) + BODY)),
        ("a tempo of two bytes", HEAD + chunk(meta(0, 0x51, b"\1\1") + BODY)),
        ("a tempo of zero", HEAD + chunk(tempo(0, 0) + BODY)),
        ("a text in no known encoding", HEAD + chunk(meta(0, 3, b"\xff\xfe\x80\x90\x3c") + BODY)),
        ("a system exclusive event", HEAD + chunk(b"\0\xf0" + variable(3) + b"\1\2\xf7" + BODY)),
        ("an escaped event", HEAD + chunk(b"\0\xf7" + variable(200) + b"\x90" * 200 + BODY)),
        ("realtime bytes as events", HEAD + chunk(b"\0\xf8\0\xfe\0\xf6" + BODY)),
        ("song position and select", HEAD + chunk(b"\0\xf2\1\2\0\xf3\1\0\xf1\1" + BODY)),
        ("data bytes before any status", HEAD + chunk(b"\0\1\2\0\3\4" + BODY)),
    ],
)
def test_damage_that_loses_nothing(what, data):
    assert rows(data) == [(0, 500, 0, 60, 100)], what


@pytest.mark.parametrize("length", [0, 3, 1000, 0xFFFFFFFF])
def test_a_wrong_chunk_length_does_not_cost_the_next_track(length):
    data = header(2) + chunk(BODY, length=length) + chunk(BODY)
    assert len(read_midi(data)) == 2


def test_data_bytes_over_127_are_as_loud_and_high_as_it_goes():
    track = event(0, 0x90, 60, 200) + event(BEAT, 0x80, 60, 200)
    assert rows(midi(track)) == [(0, 500, 0, 60, 127)]
    track = event(0, 0x90, 200, 100) + event(BEAT, 0x80, 200, 0)
    assert rows(midi(track)) == [(0, 500, 0, 127, 100)]


@pytest.mark.parametrize(
    "between", [meta(0, 1, b"text"), b"\0\xf0\1\xf7", b"\0\xf8"], ids=["meta", "sysex", "realtime"]
)
def test_running_status_goes_on_behind_events_that_should_end_it(between):
    track = event(0, 0x90, 60, 100) + between + event(BEAT, 60, 0) + meta(BEAT, 1)
    assert spans(midi(track)) == [(0, 500)]
    programs = event(0, 0xC0, 5) + between + event(0, 6) + event(0, 7)
    assert rows(midi(programs + NOTE)) == [(0, 500, 7, 60, 100)]


def test_running_status_does_not_go_on_into_the_next_track():
    first = event(0, 0x90, 60, 100) + event(BEAT, 60, 0)
    assert spans(midi(first, event(0, 61, 100) + event(BEAT, 61, 0))) == [(0, 500)]


@pytest.mark.parametrize("cut", range(1, len(BODY)))
def test_a_file_cut_anywhere_keeps_the_events_before_the_cut(cut):
    data = (HEAD + chunk(BODY))[:-cut]
    is_on_there, is_off_there = cut <= len(BODY) - 4, cut <= len(END_OF_TRACK)
    assert spans(data) == ([(0, 500 if is_off_there else 0)] if is_on_there else [])


# What can't be read, and what no bytes can do


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        (b"", "the file is empty", 0),
        (b"PK\x03\x04 no music", "no MThd header", 0),
        (b"MThd\0\0\0\6\0\1", "the file ends inside its header", 10),
        (midi(NOTE, division=0), "a time division of 0 ticks per beat", 12),
        (midi(NOTE, division=b"\xe7\0"), "a time division of 0 ticks per frame", 12),
        (midi(event(0xFFFFFFF, 0x90, 1, 1), division=96), "the limit is 24", 0),
    ],
)
def test_what_is_no_midi_file_is_refused_with_reason_and_place(data, reason, offset, tmp_path):
    with pytest.raises(MidiError) as caught:
        read_midi(data)
    assert reason in caught.value.reason
    assert caught.value.offset == offset
    path = tmp_path / "song.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError, match=r"song\.mid"):
        read_midi(path)


def test_music_is_read_without_stray_events_days_after_it():
    days = b"\xff\xff\xff\x7f"  # a delta time of 78 hours
    stray = days + bytes([0x90, 40, 100]) + event(BEAT, 0x80, 40, 0)
    assert spans(midi(NOTE + NOTE + stray)) == [(0, 500), (500, 1000)]
    assert spans(midi(NOTE + days + bytes([0xFF, 1, 0]))) == [(0, 500)]
    # A note that is never released ends with the music, not with the stray events.
    held = event(0, 0x90, 64, 100)
    assert spans(midi(held + NOTE + stray)) == [(0, 500), (0, 500)]
    assert spans(midi(NOTE + held + days + bytes([0x80, 64, 0]))) == [(0, 500), (500, 500)]


@pytest.mark.parametrize("size", [3, 70_001])
def test_riff_chunks_before_the_music_are_skipped(size):
    other = b"LIST" + size.to_bytes(4, "little") + b"MThd" * (size // 4) + bytes(size % 4 + 1)
    music = HEAD + chunk(BODY)
    riff = b"RMID" + other + b"data" + len(music).to_bytes(4, "little") + music
    data = b"RIFF" + len(riff).to_bytes(4, "little") + riff
    assert rows(data) == [(0, 500, 0, 60, 100)]
    wrong_length = data.replace(other[:8], b"LIST\xff\xff\xff\xff")
    if size == 3:
        assert rows(wrong_length) == [(0, 500, 0, 60, 100)]


def test_a_file_too_large_for_music_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("midinet.midi.reader.MAX_BYTES", 1000)
    path = tmp_path / "large.mid"
    path.write_bytes(midi(NOTE) + bytes(2000))
    for source in (path, path.read_bytes()):
        with pytest.raises(MidiError, match="larger than"):
            read_midi(source)


def test_a_file_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_midi(tmp_path / "none.mid")


ONE_KEY = b"\x40\x40\x00"
HOSTILE = {
    "a meta event of 100 MB claimed": HEAD + chunk(b"\0\xff\1\xaf\xd7\xc2\0"),
    "a million notes that never end": HEAD + chunk(b"\0\x90" + ONE_KEY * 1_000_000),
    "programs in running status": HEAD + chunk(b"\0\xc0" + b"\x40\0" * 1_000_000),
    "delta times without end": HEAD + chunk(b"\x80" * 2_000_000),
    "nothing but FF": HEAD + chunk(b"\xff" * 2_000_000),
    "nothing but zeros": HEAD + chunk(bytes(2_000_000)),
    "a long text": HEAD + chunk(meta(0, 1, bytes(2_000_000)) + BODY),
    "a million realtime bytes": HEAD + chunk(b"\0\xf8" * 1_000_000),
    "many tracks": header(65_535) + chunk(BODY) * 10_000,
    "many patterns": header(65_535, file_format=2) + chunk(BODY) * 10_000,
    "tracks of wrong length": HEAD + b"MTrk\xff\xff\xff\xff\0" * 10_000,
    "chunks of unknown kinds": HEAD + chunk(b"", b"XXXX") * 20_000,
    "chunk names on end": HEAD + b"MTrk" * 100_000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_cost_memory_in_proportion_to_their_size(what):
    data = HOSTILE[what]
    tracemalloc.start()
    try:
        notes = read_midi(data)
        tokens = encode(notes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(data) + 4_000_000
    assert len(tokens) < len(data) + 100_000
    assert not faults(notes)


@pytest.mark.parametrize("file_format", [1, 2])
def test_the_most_tracks_a_file_can_have_are_read_and_no_more(file_format):
    data = header(65_535, 96, file_format) + chunk(event(0, 0x90, 60, 1) + event(1, 60, 0)) * 65_600
    assert len(read_midi(data)) == 65_535


@pytest.fixture(scope="module")
def songs() -> list[bytes]:
    """A few files that between them use most of MIDI."""
    melody = b"".join(
        event(0, 0x90 + i % 3, 40 + i % 40, 1 + i % 127)
        + (event(i % 200, 0xB0 + i % 3, 64, 127 * (i % 2)) if i % 5 == 0 else b"")
        + (event(0, 0xC0 + i % 3, i % 128) if i % 11 == 0 else b"")
        + event(i * 7 % 500, 0x80 + i % 3, 40 + i % 40, 0)
        for i in range(400)
    )
    strokes = (event(24, 36 + i % 9, 100 * (i % 2)) for i in range(999))
    conductor = tempo(0, 400_000) + tempo(5 * BEAT, 600_000) + meta(0, 3, b"conductor")
    sysex = b"\0\xf0" + variable(300) + bytes(299) + b"\xf7"
    tracks = conductor, melody, event(0, CHANNEL_10, 36, 100) + b"".join(strokes), sysex + NOTE
    plain = [saved(make_song(seed)) for seed in range(2)]
    return [midi(*tracks), midi(*tracks, file_format=2), midi(NOTE), *plain]


def test_mutants_raise_nothing_but_midi_error(songs):
    refused = 0
    for kind, data in mutants(songs, 2800, seed=1):
        try:
            notes = read_midi(data)
        except MidiError:
            refused += 1
        else:
            assert not faults(notes), (kind, data)
            encode(notes)
    assert 70 < refused < 1400  # most were damaged, and read all the same


@hypothesis.given(st.binary(max_size=400), st.integers(0, 2))
def test_no_bytes_in_a_track_break_the_reader(noise, file_format):
    for data in (noise, header(1, 96, file_format) + chunk(noise)):
        with contextlib.suppress(MidiError):
            assert not faults(read_midi(data))


# The independent judge


@st.composite
def multi_track_files(draw) -> mido.MidiFile:
    """Few channels, pitches and times, so that everything happens to everything."""
    file = mido.MidiFile(type=1, ticks_per_beat=draw(st.sampled_from([24, 96, 480])))
    channel, pitch = st.sampled_from([0, 1, 9]), st.sampled_from([60, 61])
    delta = st.sampled_from([0, 0, 1, 24, 200])
    controls = st.sampled_from(
        [
            *((64, 0), (64, 127), (121, 0), (120, 0), (123, 0)),
            *((7, 0), (7, 1), (7, 90), (11, 0), (11, 64), (11, 127)),
        ]
    )
    for _ in range(draw(st.integers(1, 4))):
        track = mido.MidiTrack()
        for _ in range(draw(st.integers(0, 30))):
            time, of = draw(delta), {"channel": draw(channel)}
            kind = draw(st.integers(0, 6))
            if kind <= 2:
                velocity = draw(st.sampled_from([0, 1, 100]))
                note = {"note": draw(pitch), "velocity": velocity}
                track.append(mido.Message("note_on", time=time, **note, **of))
            elif kind == 3:
                track.append(mido.Message("note_off", time=time, note=draw(pitch), **of))
            elif kind == 4:
                control, value = draw(controls)
                change = {"control": control, "value": value}
                track.append(mido.Message("control_change", time=time, **change, **of))
            elif kind == 5:
                program = draw(st.integers(0, 127))
                track.append(mido.Message("program_change", time=time, program=program, **of))
            else:
                us_per_beat = draw(st.sampled_from([1, 250_000, 1_234_567]))
                track.append(mido.MetaMessage("set_tempo", time=time, tempo=us_per_beat))
        file.tracks.append(track)
    return file


def assert_equal_notes(notes, expected):
    assert len(notes) == len(expected)
    for field in ("program", "pitch", "velocity", "is_drum"):
        np.testing.assert_array_equal(getattr(notes, field), getattr(expected, field), field)
    for field in ("start_ms", "end_ms"):
        np.testing.assert_allclose(getattr(notes, field), getattr(expected, field), atol=1e-6)


@hypothesis.given(multi_track_files(), st.booleans(), st.booleans())
@hypothesis.settings(max_examples=200)
def test_notes_are_those_that_mido_and_a_plain_loop_find(file, sustain, volume):
    data = saved(file)
    assert_equal_notes(read_midi(data, sustain, volume), notes_by_mido(data, sustain, volume))


def test_rich_files_read_the_same_by_mido(songs):
    for data in songs:
        if data[9] != 2:  # mido knows no patterns
            assert_equal_notes(read_midi(data), notes_by_mido(data))


REAL_FILES = os.environ.get("MIDINET_REAL_MIDI")


@pytest.mark.skipif(not REAL_FILES, reason="MIDINET_REAL_MIDI names no folder of MIDI files")
def test_real_files_read_the_same_by_mido():
    paths = sorted(Path(REAL_FILES).rglob("*.mid"))
    assert paths
    for path in paths:
        assert_equal_notes(read_midi(path), notes_by_mido(path))
