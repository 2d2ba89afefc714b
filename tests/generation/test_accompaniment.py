"""Playing along: what is kept of a song is in the piece, and others join it."""

import shlex

import mido
import numpy as np
import pytest

import generate as generate_script
from midinet.backend import keras
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM
from midinet.errors import OptionError
from midinet.generation import sampling
from midinet.generation.accompaniment import open_kept_part
from midinet.generation.generate import generate
from midinet.generation.prompts import Prompt
from midinet.generation.tempo import choose_metronome
from midinet.midi.reader import read_midi
from midinet.model.music_transformer import build_model, save_model
from midinet.model.parameters import Parameters

FLUTE, PIANO, TOM = 73, 0, 117
LEAD_MS, BEAT_MS = 400, 100


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """A piano and percussion from 400 ms on, and a flute from 700 ms on."""
    file = mido.MidiFile(ticks_per_beat=100)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=BEAT_MS * 1000)]))
    for channel, program, first, pitches in (
        (0, PIANO, 400, (48, 52, 55)),
        (1, FLUTE, 700, (72, 74, 74, 71)),
        (9, 0, 400, (36, 38, 36, 38)),
    ):
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        gap = first
        for pitch in pitches:
            note = {"channel": channel, "note": pitch}
            track.append(mido.Message("note_on", velocity=81, time=gap, **note))
            track.append(mido.Message("note_off", time=80, **note))
            gap = 20
        file.tracks.append(track)
    path = tmp_path_factory.mktemp("songs") / "my song.mid"
    file.save(path)
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accompanists") / "model"
    keras.utils.set_random_seed(0)
    parameters = Parameters(
        embedding_size=16, sequence_length=64, num_blocks=1, num_heads=2, feed_forward_dim=16
    )
    save_model(build_model(parameters, hears_state=True), folder)
    return folder


@pytest.fixture
def play_along(model_folder, song, tmp_path):
    def call(keep=None, **options):
        options = {"seed": 3, "progress": False, "output": tmp_path / "out", **options}
        return generate(save_directory=model_folder, accompany=song, keep=keep, **options)

    return call


def rows(notes, is_wanted):
    notes = notes[is_wanted]
    times = (np.round(ms).astype(int).tolist() for ms in (notes.start_ms, notes.end_ms))
    return sorted(zip(*times, notes.program, notes.pitch, notes.velocity, strict=True))


def command_of(path):
    text = next(m.text for m in mido.MidiFile(path).tracks[0] if m.type == "text")
    return shlex.split(text)


def test_kept_notes_are_where_they_were_and_others_join_them(play_along, song):
    # Freely, so that an untrained model lets others play.
    options = {"top_k": 100, "temperature": 1.5, "instruments": "piano, strings"}
    paths = play_along("flute, drums", num=2, plot=True, html=True, **options)
    original = read_midi(song)
    pieces = [read_midi(path) for path in paths]
    for notes, path in zip(pieces, paths, strict=True):
        is_flute = (notes.program == FLUTE) & ~notes.is_drum
        expected = rows(original, (original.program == FLUTE) & ~original.is_drum)
        assert rows(notes, is_flute) == [(*row[:4], 80) for row in expected]  # level of 81
        drums, hits = notes[notes.is_drum], original[original.is_drum]
        assert drums.pitch.tolist() == hits.pitch.tolist()
        np.testing.assert_allclose(drums.start_ms, hits.start_ms)
        others = notes[~is_flute & ~notes.is_drum]
        assert set(others.program.tolist()) <= {*range(8), *range(40, 56)}
        assert others.start_ms.min() >= LEAD_MS, "from the first beat"
        assert others.end_ms.max() <= original.end_ms.max(), "to the last"
        np.testing.assert_allclose(notes.tempo_map.us_per_beat, BEAT_MS * 1000)
        assert path.with_suffix(".png").is_file()
    assert not np.array_equal(pieces[0].pitch, pieces[1].pitch)
    page = paths[0].with_suffix(".html").read_text(encoding="utf-8")
    assert "my song: Flute, Percussion" in page


def test_the_command_in_a_piece_makes_it_again(play_along, tmp_path):
    path = play_along("flute", seconds=0.8, num=2)[1]
    again = tmp_path / "again.mid"
    assert generate_script.main([*command_of(path)[2:], "-o", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"seconds": 0.9}])
def test_after_ctrl_c_the_command_stops_there_too(play_along, tmp_path, monkeypatch, options):
    stream = sampling.stream

    def interrupted(*arguments, **more):
        yield next(stream(*arguments, **more))[:, :10]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "stream", interrupted)
        (path,) = play_along("flute", **options)
    assert command_of(path)[-4:-2] == ["-l", "10"]
    again = tmp_path / "again.mid"
    assert generate_script.main([*command_of(path)[2:], "-o", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()
    (whole,) = play_along("flute", **options)
    assert whole.read_bytes() != path.read_bytes()


def test_without_a_choice_the_whole_song_is_kept(play_along, song):
    (path,) = play_along()
    notes, original = read_midi(path), read_midi(song)
    is_original = np.isin(notes.program, (PIANO, FLUTE)) | notes.is_drum
    assert is_original.sum() == len(original)
    assert len(notes) > len(original)


def test_as_many_instruments_join_as_were_left_out_but_up_to_four_in_any_case(
    play_along, song, tmp_path
):
    band = [(0, program, (60, 0)) for program in range(8)]
    save(tmp_path / "band.mid", *band, (9, 0, (36, 0)))
    for path, left_out, most in ((song, 2, 4), (tmp_path / "band.mid", 8, 8)):
        kept = open_kept_part(path, "0", None, CodecSettings())
        assert kept.num_left_out == left_out
        assert Prompt(np.empty(0, np.uint16), str(path), kept=kept).max_instruments == most
    one, (path,) = play_along("flute", max_instruments=1)[0], play_along("flute")
    notes = read_midi(one)
    assert len(np.unique(notes.program[(notes.program != FLUTE) | notes.is_drum])) == 1
    assert "--max_instruments 4" in shlex.join(command_of(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "violin"}, r"keep 'violin': .*my song\.mid has no such instrument; "),
        ({"keep": "violin"}, "; it has Acoustic Grand Piano, Flute, Percussion"),
        ({"keep": "flute, kazoo"}, "no General MIDI instrument is called 'kazoo'"),
        ({"keep": "flute", "seconds": 0.2}, "nothing to keep in its first 0.2 seconds"),
        ({"keep": "flute", "instruments": "flute"}, "instruments: flute is kept already"),
        ({"max_instruments": 0}, "max_instruments is 0: it must be at least 1"),
        ({"primer": "a.mid"}, "accompany: it can't be combined with -d or --primer"),
        ({"dataset": "data"}, "accompany: it can't be combined with -d or --primer"),
        ({"accompany": None, "keep": "flute"}, "keep 'flute': name the song with --accompany"),
        ({"accompany": "."}, "is a folder: accompany takes one MIDI file"),
    ],
)
def test_impossible_wishes_are_one_clear_line(model_folder, song, tmp_path, options, message):
    options = {"accompany": song, "progress": False, "output": tmp_path / "out", **options}
    with pytest.raises(OptionError, match=message):
        generate(save_directory=model_folder, **options)
    assert not (tmp_path / "out").exists()


def test_a_file_without_notes_is_nothing_to_accompany(tmp_path):
    mido.MidiFile().save(tmp_path / "empty.mid")
    with pytest.raises(OptionError, match=r"empty\.mid has no notes to accompany"):
        open_kept_part(tmp_path / "empty.mid", None, None, CodecSettings())


def save(path, *tracks):
    """Writes a file of tracks: a channel, its program, and for each note pitch and ticks before."""
    file = mido.MidiFile(ticks_per_beat=500)  # so that a tick is a millisecond
    for channel, program, *notes in tracks:
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        for pitch, gap in notes:
            track.append(mido.Message("note_on", channel=channel, note=pitch, time=gap))
            track.append(mido.Message("note_off", channel=channel, note=pitch, time=100))
        file.tracks.append(track)
    file.save(path)


def test_notes_that_tokens_can_hold_only_once_are_counted_and_said(model_folder, tmp_path, capsys):
    # Two flutes in unison, but for one note.
    save(tmp_path / "duo.mid", (0, FLUTE, (60, 0), (62, 0)), (1, FLUTE, (60, 0), (64, 0)))
    kept = open_kept_part(tmp_path / "duo.mid", None, None, CodecSettings())
    assert (len(kept.notes), kept.num_merged) == (3, 1)
    generate(accompany=tmp_path / "duo.mid", save_directory=model_folder, output=tmp_path / "out")
    assert "1 of the 4 kept notes begin together with another one" in capsys.readouterr().err


def test_a_song_of_all_instruments_leaves_none_to_join(model_folder, tmp_path):
    everybody = [(0, program, (60, 0)) for program in range(128) if program != DRUM_PROGRAM]
    save(tmp_path / "all.mid", *everybody, (9, 0, (36, 0)))
    with pytest.raises(OptionError, match="keep: all instruments are kept, so that none is left"):
        generate(
            accompany=tmp_path / "all.mid", save_directory=model_folder, output=tmp_path / "out"
        )


def test_only_the_beginning_of_a_song_can_be_kept(song):
    kept = open_kept_part(song, "piano", 0.15, CodecSettings())
    assert kept.notes.start_ms.tolist() == [400, 500]
    assert kept.notes.end_ms.tolist() == [480, 550]
    assert kept.heard.start_ms.tolist() == [0, 100]
    assert kept.begin_ms == LEAD_MS


def test_a_model_without_percussion_accompanies_what_it_can_hear(song):
    codec = CodecSettings(None)
    kept = open_kept_part(song, None, None, codec)
    assert not kept.heard.is_drum.any()
    assert kept.notes.is_drum.sum() == 4, "it is kept all the same"
    assert kept.token_programs(codec) == {PIANO, FLUTE}
    with pytest.raises(OptionError, match="knows no percussion, so keep other instruments"):
        open_kept_part(song, "drums", None, codec)


def test_the_program_that_stands_for_percussion_comes_back(tmp_path):
    track = mido.MidiTrack([mido.Message("program_change", program=TOM)])
    track.append(mido.Message("note_on", note=50, velocity=80))
    track.append(mido.Message("note_off", note=50, time=96))
    mido.MidiFile(ticks_per_beat=96, tracks=[track]).save(tmp_path / "tom.mid")
    codec = CodecSettings(DRUM_PROGRAM)
    kept = open_kept_part(tmp_path / "tom.mid", "117", None, codec)
    assert kept.token_programs(codec) == {TOM + 1}
    assert kept.notes.program.tolist() == [TOM]


def test_the_metronome_of_an_accompaniment_is_the_songs(song):
    kept = open_kept_part(song, "flute", None, CodecSettings())
    prompt = Prompt(
        np.empty(0, np.uint16), str(song), kept.tempo_map.since(LEAD_MS), kept.grid_share, kept
    )
    beats = choose_metronome(None, prompt, [80.0], 1).beats_at(np.array([0.0, 250.0]))
    assert beats.tolist() == [4.0, 6.5]
    slower = choose_metronome(150.0, prompt, [80.0], 1).beats_at(np.array([0.0, 400.0]))
    assert slower.tolist() == [1.0, 2.0]
    assert choose_metronome("none", prompt, [80.0], 1) is None
    assert choose_metronome(None, prompt._replace(grid_share=0.5), [80.0], 1) is None
