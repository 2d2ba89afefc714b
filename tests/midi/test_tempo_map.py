"""Where the beats of a song lie, and that a written file has them in the same places."""

from __future__ import annotations

import hypothesis
import mido
import numpy as np
import pytest
from hypothesis import strategies as st

from midinet import Notes, read_midi
from midinet.midi.tempo_map import TempoMap
from midinet.midi.writer import notes_to_midi
from tests.midi.midi_bytes import event, meta, midi, saved, tempo

BEAT = 480  # ticks
NOTE = event(0, 0x90, 60, 100) + event(BEAT, 0x80, 60, 0)


def time_signature(delta: int, numerator: int, power: int) -> bytes:
    return meta(delta, 0x58, bytes([numerator, power, 24, 8]))


def notes_at(start_ms: list[float], length_ms: float = 100) -> Notes:
    start = np.array(start_ms, np.float64)
    pitch = np.full(len(start), 60, np.uint8)
    return Notes(start, start + length_ms, pitch * 0, pitch, pitch, pitch == 0)


def test_beats_follow_every_tempo_change():
    track = tempo(0, 400_000) + tempo(2 * BEAT, 1_000_000) + tempo(BEAT, 250_000) + NOTE
    tempo_map = read_midi(midi(track)).tempo_map
    assert tempo_map.ms.tolist() == [0, 800, 1800]
    assert tempo_map.beats.tolist() == [0, 2, 3]
    assert tempo_map.us_per_beat.tolist() == [400_000, 1_000_000, 250_000]
    at = np.array([[0, 200, 800], [1300, 1800, 2300]], np.float64)
    assert tempo_map.beats_at(at).tolist() == [[0, 0.5, 2], [2.5, 3, 5]]


def test_a_file_without_tempos_has_120_beats_per_minute():
    tempo_map = read_midi(midi(NOTE)).tempo_map
    assert tempo_map.us_per_beat.tolist() == [500_000]
    assert tempo_map.beats_at(np.array(1250.0)) == 2.5
    assert tempo_map == TempoMap.constant(120)


def test_a_film_has_no_beats():
    assert read_midi(midi(NOTE, division=bytes([256 - 25, 40]))).tempo_map is None


def test_selected_notes_keep_the_map():
    notes = read_midi(midi(NOTE + NOTE))
    assert notes[:1].tempo_map is notes.tempo_map


def test_time_signatures_are_kept_and_impossible_ones_ignored():
    track = time_signature(0, 3, 2) + time_signature(6 * BEAT, 6, 3) + time_signature(0, 7, 3)
    track += time_signature(BEAT, 0, 2) + time_signature(0, 4, 200) + meta(0, 0x58) + NOTE
    assert read_midi(midi(track)).tempo_map.time_signatures == ((0, 3, 4), (6, 7, 8))


def test_patterns_of_format_2_follow_each_other_in_beats_too():
    tempo_map = read_midi(midi(tempo(0, 250_000) + NOTE, NOTE, file_format=2)).tempo_map
    assert tempo_map.beats_at(np.array([250.0, 750.0])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("what", "onsets_ms", "share"),
    [
        ("no notes", [], 0),
        ("sixteenths at 120 beats per minute", [0, 125, 250, 375, 500], 1),
        ("triplets", [0, 500 / 3, 1000 / 3, 500], 1),
        ("nearly in time", [11.9, 113.1, 261.9], 1),
        ("out of time", [0, 12.1, 60, 300, 437, 500], 1 / 3),
    ],
)
def test_the_share_of_onsets_on_the_grid(what, onsets_ms, share):
    assert TempoMap.constant(120).grid_share(np.array(onsets_ms)) == pytest.approx(share), what


def test_the_grid_follows_the_tempo():
    tempo_map = read_midi(midi(tempo(BEAT, 800_000) + NOTE)).tempo_map
    assert tempo_map.grid_share(np.array([500.0, 700, 900, 1300])) == 1
    assert TempoMap.constant(120).grid_share(np.array([500.0, 700, 900, 1300])) == 0.25


def test_time_can_begin_later_without_moving_the_beats():
    track = tempo(0, 400_000) + tempo(2 * BEAT, 1_000_000) + tempo(BEAT, 250_000) + NOTE
    whole = read_midi(midi(track)).tempo_map
    for start_ms in (0.0, 300.0, 800.0, 1000.0, 5000.0):
        later = whole.since(start_ms)
        assert later.ms[0] == 0
        at = np.array([0, 100.0, 900.0, 4000.0])
        np.testing.assert_allclose(later.beats_at(at), whole.beats_at(at + start_ms))


def test_a_written_map_comes_back():
    track = time_signature(0, 3, 2) + tempo(0, 400_000) + tempo(2 * BEAT, 1_000_000)
    track += time_signature(BEAT, 4, 2) + tempo(0, 250_000) + NOTE
    notes = read_midi(midi(track))
    back = read_midi(saved(notes_to_midi(notes, tempo_map=notes.tempo_map)))
    for field, expected in zip(back.tempo_map, notes.tempo_map, strict=True):
        np.testing.assert_array_equal(field, expected)
    assert back.start_ms.tolist() == notes.start_ms.tolist() == [1800]
    assert back.end_ms.tolist() == notes.end_ms.tolist() == [2050]


def test_bars_line_up_in_a_written_file():
    beats = [0, 1, 2, 3, 4, 4.25]
    file = notes_to_midi(notes_at([600 * beat for beat in beats]), tempo_map=TempoMap.constant(100))
    ticks, tick = [], 0
    for message in file.tracks[1]:
        tick += message.time
        ticks += [tick] if message.type == "note_on" else []
    assert [tick / file.ticks_per_beat for tick in ticks] == beats


@hypothesis.given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(1000, 20_000_000)), min_size=1, max_size=20),
    st.lists(st.floats(0, 3_600_000), max_size=20),
)
def test_every_time_stays_within_a_millisecond_whatever_the_tempos(changes, onsets_ms):
    first, *others = sorted(changes)
    us_per_beat = np.array([us for _, us in (first, *others)])
    beats = np.array([beat for beat, _ in (first, *others)])
    ms = np.append(0, np.cumsum(np.diff(beats) * us_per_beat[:-1] / 1000))
    notes = notes_at(sorted(onsets_ms))
    made = notes_to_midi(notes, tempo_map=TempoMap(ms, beats, us_per_beat))
    assert 0 < made.ticks_per_beat < 1 << 15
    back = read_midi(saved(made))
    np.testing.assert_allclose(back.start_ms, notes.start_ms, atol=1)


def test_the_first_track_is_read_by_other_programs():
    made = notes_to_midi(notes_at([0]), tempo_map=TempoMap.constant(90))
    tempos = [m.tempo for m in made.tracks[0] if m.type == "set_tempo"]
    assert [round(mido.tempo2bpm(us), 3) for us in tempos] == [90]


def test_time_that_is_cut_out_takes_its_beats_with_it():
    # 120 beats per minute, and 60 from beat 4 on.
    tempo_map = TempoMap(
        np.array([0.0, 2000.0]),
        np.array([0.0, 4.0]),
        np.array([500_000.0, 1_000_000.0]),
        ((0.0, 4, 4), (6.0, 3, 4)),
    )
    shorter = tempo_map.without(1000, 5000)  # from beat 2 to beat 7
    times_ms = np.array([0.0, 500, 1000, 2000, 3000])
    assert shorter.beats_at(times_ms).tolist() == [0, 1, 2, 3, 4]
    assert shorter.time_signatures == ((0.0, 4, 4), (2.0, 3, 4))
    assert (np.diff(shorter.ms) >= 0).all()
