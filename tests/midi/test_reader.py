"""The reader: what MIDI says of files, tracks, times and programs."""

from __future__ import annotations

import pytest

from midinet import read_midi
from midinet.midi.events import _WINDOW_BYTES
from tests.midi.midi_bytes import (
    event,
    meta,
    midi,
    tempo,
)
from tests.midi.rows import BEAT, NOTE, rows, spans


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
