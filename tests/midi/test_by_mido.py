"""The reader finds what mido and a plain loop find: the independent judge."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import mido
import numpy as np
import pytest
from hypothesis import strategies as st

from midinet import read_midi
from tests.midi.by_mido import notes_by_mido
from tests.midi.midi_bytes import (
    saved,
)

# What system exclusive messages say, without F0 and F7.
DECLARATIONS = {
    "GM on": "7E 7F 09 01",
    "GM2 on": "7E 7F 09 03",
    "GS reset": "41 10 42 12 40 00 7F 00 41",
    "SC-88 mode": "41 10 42 12 00 00 7F 01 00",
    "XG on": "43 10 4C 00 00 7E 00",
    "GS part 1 is drums": "41 10 42 12 40 11 15 01 19",
    "GS part 1 is not": "41 7F 42 12 40 11 15 00 1A",
    "GS part 10 is not": "41 10 42 12 40 10 15 00 1B",
    "GS part 11 is drums 2": "41 10 42 12 40 1A 15 02 0F",
    "XG part 2 is drums": "43 10 4C 08 01 07 01",
    "XG part 10 is not": "43 1F 4C 08 09 07 00",
    "something of Roland's": "41 10 42 12 40 11 16 01 18",
    "cut short": "41 10 42 12 40 11",
    "of XG, cut short": "43 10 4C 08 01",
    "nothing": "",
}


@st.composite
def multi_track_files(draw) -> mido.MidiFile:
    """Few channels, pitches and times, so that everything happens to everything."""
    file = mido.MidiFile(type=1, ticks_per_beat=draw(st.sampled_from([24, 96, 480])))
    channel, pitch = st.sampled_from([0, 1, 9, 10]), st.sampled_from([60, 61])
    delta = st.sampled_from([0, 0, 1, 24, 200])
    controls = st.sampled_from(
        [
            *((64, 0), (64, 127), (66, 0), (66, 64), (121, 0)),
            *((120, 0), (123, 0), (124, 0), (127, 0)),
            *((7, 0), (7, 1), (7, 90), (11, 0), (11, 64), (11, 127)),
            *((0, 0), (0, 120), (0, 126), (0, 127), (32, 127)),
        ]
    )
    for _ in range(draw(st.integers(1, 4))):
        track = mido.MidiTrack()
        for _ in range(draw(st.integers(0, 30))):
            time, of = draw(delta), {"channel": draw(channel)}
            kind = draw(st.integers(0, 8))
            if kind <= 2:
                velocity = draw(st.sampled_from([0, 1, 100]))
                note = {"note": draw(pitch), "velocity": velocity}
                message = mido.Message("note_on", **note, **of)
            elif kind == 3:
                message = mido.Message("note_off", note=draw(pitch), **of)
            elif kind == 4:
                control, value = draw(controls)
                message = mido.Message("control_change", control=control, value=value, **of)
            elif kind == 5:
                message = mido.Message("program_change", program=draw(st.integers(0, 127)), **of)
            elif kind == 6:
                us_per_beat = draw(st.sampled_from([1, 250_000, 1_234_567]))
                message = mido.MetaMessage("set_tempo", tempo=us_per_beat)
            elif kind == 7:
                message = mido.MetaMessage("midi_port", port=draw(st.sampled_from([0, 1, 5])))
            else:
                data = bytes.fromhex(draw(st.sampled_from(list(DECLARATIONS.values()))))
                message = mido.Message("sysex", data=data)
            track.append(message.copy(time=time))
        file.tracks.append(track)
    return file


def assert_equal_notes(notes, expected):
    assert len(notes) == len(expected)
    for field in ("program", "pitch", "velocity", "is_drum"):
        np.testing.assert_array_equal(getattr(notes, field), getattr(expected, field), field)
    for field in ("start_ms", "end_ms"):
        np.testing.assert_allclose(getattr(notes, field), getattr(expected, field), atol=1e-6)


@hypothesis.given(multi_track_files(), st.booleans(), st.booleans())
@hypothesis.settings(max_examples=300)
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
