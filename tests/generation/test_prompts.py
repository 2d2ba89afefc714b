"""What a piece goes on from: songs and primers, cut to their length."""

import mido
import numpy as np
import pytest

import midinet
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, PROGRAM
from midinet.errors import OptionError
from midinet.generation.prompts import SeedLength, open_song


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (512, (512, None)),
        ("0012", (12, None)),
        ("10s", (None, 10_000)),
        ("2.5 s", (None, 2500)),
    ],
)
def test_a_seeds_length_is_tokens_or_seconds(text, expected):
    assert SeedLength.parse(text) == expected


@pytest.mark.parametrize("text", ["0", "-3", "", "s", "0s", "ten", "1e3", "3 m", "5.5"])
def test_other_lengths_are_refused(text):
    with pytest.raises(OptionError, match=r"seed_length is .*tokens.*seconds"):
        SeedLength.parse(text)


def test_a_seed_is_cut_behind_an_event_and_within_its_time():
    song = np.array([PROGRAM.first + 3, 276, 60, 297, 60 + 128, 387, 266, 62, 297, 190], np.uint16)
    for tokens, expected in ((2, 0), (3, 3), (4, 3), (5, 5), (7, 5), (8, 8), (99, 10)):
        assert len(SeedLength(tokens, None).cut(song)) == expected
    for ms, expected in ((50, 3), (100, 3), (110, 5), (1100, 5), (1101, 8), (9999, 10)):
        assert len(SeedLength(None, ms).cut(song)) == expected


@pytest.mark.parametrize(("of_set", "of_model"), [(None, DRUM_PROGRAM), (DRUM_PROGRAM, None)])
def test_a_song_is_written_again_in_the_tokens_of_the_model(
    midi_folder, tmp_path, of_set, of_model
):
    midinet.preprocess(midi_folder, tmp_path / "set", drum_program=of_set, workers=1, quiet=True)
    song = open_song(tmp_path / "set", "song 01", CodecSettings(of_model), seed=0)
    notes = midinet.read_midi(midi_folder / song.name)
    if of_set is None:
        notes = notes[~notes.is_drum]
    np.testing.assert_array_equal(song.tokens, midinet.encode(notes, of_model))


def test_a_song_of_percussion_gives_a_model_without_it_nothing_to_go_on_from(tmp_path):
    drums = mido.MidiTrack([mido.Message("note_on", channel=9, note=38, velocity=90)])
    (tmp_path / "midi").mkdir()
    mido.MidiFile(tracks=[drums]).save(tmp_path / "midi" / "solo.mid")
    midinet.preprocess(tmp_path / "midi", tmp_path / "set", workers=1, quiet=True)
    with pytest.raises(OptionError, match=r"solo\.mid has nothing but percussion"):
        open_song(tmp_path / "set", None, CodecSettings(None), seed=0)
