"""What damaged files still say, and what no bytes can make the reader do."""

from __future__ import annotations

import contextlib
import os
import tracemalloc

import hypothesis
import pytest
from hypothesis import strategies as st

from midinet import MidiError, encode, read_midi
from tests.midi.midi_bytes import (
    END_OF_TRACK,
    chunk,
    event,
    header,
    meta,
    midi,
    tempo,
    variable,
)
from tests.midi.mutations import faults, mutants
from tests.midi.rows import BEAT, NOTE, rows, spans

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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    with pytest.raises(MidiError, match=r"pipe\.mid: .*not a regular file"):
        read_midi(tmp_path / "pipe.mid")


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
