"""From a model and a seed to files of music."""

import base64
import json
import os
import re
import shlex

import mido
import numpy as np
import pytest

import generate as generate_script
import midinet
from midinet.backend import keras, tf
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import PAD, TIME_SHIFT
from midinet.errors import (
    AudioError,
    CorpusError,
    MidiError,
    MidinetError,
    ModelError,
    OptionError,
)
from midinet.generation import generate as generation
from midinet.generation import piecewise, sampling
from midinet.generation.generate import generate
from midinet.generation.prompts import SeedLength
from midinet.midi.reader import read_midi
from midinet.model.music_transformer import build_model, save_model
from midinet.model.parameters import Parameters

LONG = 400  # tokens
TINY = Parameters(
    embedding_size=16, sequence_length=64, num_blocks=1, num_heads=2, feed_forward_dim=16
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A model that knows nothing."""
    folder = tmp_path_factory.mktemp("models") / "model"
    keras.utils.set_random_seed(0)
    save_model(build_model(TINY, CodecSettings()), folder)
    return folder


@pytest.fixture
def compose(model_folder, tmp_path):
    """Calls `generate` with the tiny model, quietly, into a folder of the test."""

    def call(length=LONG, **options):
        options = {"output": tmp_path / "out", "progress": False, "seed": 7, **options}
        return generate(length, save_directory=model_folder, **options)

    return call


def text_of(path):
    file = mido.MidiFile(path, charset="utf-8")
    return next(message.text for message in file.tracks[0] if message.type == "text")


def composed_by_its_text(path, output):
    """What comes of running the command that a piece carries."""
    python, script, *options = shlex.split(text_of(path))
    assert (python, script) == ("python", "generate.py")
    assert generate_script.main([*options, "-o", str(output)]) == 0
    return output.read_bytes()


def test_composing_from_nothing_writes_music_and_says_how(compose, tmp_path, model_folder):
    (path,) = compose(full_length=True)
    assert path.parent == tmp_path / "out"
    assert len(read_midi(path)) > LONG / 4
    text = text_of(path)
    for part in (str(model_folder), "--seed 7", "-k 8", f"-l {LONG}", "--full_length"):
        assert part in text


def test_a_seed_makes_the_same_file_and_another_seed_another(compose):
    first, again, other = (compose(seed=seed)[0].read_bytes() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_several_pieces_are_those_that_their_seeds_make_alone(compose):
    paths = compose(num=2, seed=20)
    assert len(set(paths)) == 2
    for index, path in enumerate(paths):
        assert f"--seed {20 + index}" in text_of(path)
    (alone,) = compose(seed=21)
    assert alone.read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.123456789, "top_p": 0.87654321, "max_note": 1234.567},
        {"seconds": 5.4321098, "full_length": True, "instruments": "piano, 117, drums"},
        {"seed_length": "2.5 s", "inclusive": True, "primer": "Für Elise, “I” & 山.mid"},
        {"seed_length": 50, "dataset": True, "num": 2},
    ],
    ids=lambda options: next(iter(options)),
)
def test_the_command_in_a_piece_makes_the_same_file(
    compose, midi_folder, dataset, tmp_path, options
):
    if "primer" in options:
        options = options | {"primer": tmp_path / options["primer"]}
        options["primer"].write_bytes((midi_folder / "song 01.mid").read_bytes())
    if "dataset" in options:
        options = options | {"dataset": dataset}
    path = compose(**options)[-1]
    assert composed_by_its_text(path, tmp_path / "again.mid") == path.read_bytes()


def test_a_piece_does_not_tell_where_the_home_of_its_maker_is(
    model_folder, compose, tmp_path, monkeypatch
):
    monkeypatch.chdir(model_folder.parent)
    assert "-s model " in text_of(compose(20)[0])


@pytest.mark.parametrize("suffix", [".mid", ".png", ".wav"])
def test_nothing_is_overwritten(compose, tmp_path, monkeypatch, suffix):
    mine = tmp_path / f"mine{suffix}"
    mine.write_bytes(b"precious")
    monkeypatch.setattr(
        "midinet.rendering.audio.write_audio", lambda midi, wav, font: wav.write_bytes(b"sound")
    )
    monkeypatch.setattr("midinet.rendering.audio.find_player", lambda *_: None)
    (path,) = compose(50, output=tmp_path / "mine.mid", plot=True, wav=True)
    assert mine.read_bytes() == b"precious"
    assert path == tmp_path / "mine_1.mid"


def test_pieces_of_one_second_have_names_of_their_own(compose):
    assert len({*compose(50), *compose(50), *compose(50)}) == 3


def test_a_piece_goes_on_from_a_song_and_may_include_it(compose, dataset):
    song = midinet.open_corpus(dataset).song(3)
    name = midinet.open_corpus(dataset).names[3]
    options = {"dataset": dataset, "song": name, "seed_length": 100}
    (whole,), (rest,) = compose(inclusive=True, **options), compose(**options)
    seed = SeedLength.parse(100).cut(song)
    np.testing.assert_array_equal(encode(whole)[: len(seed)], seed)
    assert f"--song {name}" in text_of(rest) or f"--song '{name}'" in text_of(rest)

    # The rest is what follows the seed in the whole, moved to the beginning.
    seed_ms = 10 * int(TIME_SHIFT.holds(seed) @ (seed.astype(int) - TIME_SHIFT.first + 1))
    after, alone = read_midi(whole), read_midi(rest)
    after = after[(after.start_ms >= seed_ms) & (after.end_ms > seed_ms)]
    later = alone[alone.start_ms > 0]
    # The whole is written with the tempo of the song, whose ticks are not whole milliseconds.
    np.testing.assert_allclose(
        np.unique(later.start_ms),
        np.unique(after.start_ms[after.start_ms > seed_ms]) - seed_ms,
        atol=0.5,
    )


def test_a_continuation_has_as_many_instruments_as_its_song(compose, dataset):
    options = {"dataset": dataset, "song": "song 03", "seed_length": 20, "inclusive": True}
    for more, most in (({}, 4), ({"max_instruments": 6}, 6)):
        notes = read_midi(compose(600, full_length=True, **options, **more)[0])
        players = len(np.unique(notes.program[~notes.is_drum])) + notes.is_drum.any()
        assert players == most, "a model that knows nothing would take all"


def test_a_part_of_a_songs_name_will_do_and_a_wrong_one_is_explained(compose, dataset):
    (path,) = compose(20, dataset=dataset, song="SONG 05")
    assert "song 05.mid" in text_of(path)
    with pytest.raises(OptionError, match=r"12 songs of .* did you mean"):
        compose(dataset=dataset, song="song")
    with pytest.raises(OptionError, match=r"no song .* 'xyzzy'"):
        compose(dataset=dataset, song="xyzzy")


def test_the_random_song_is_the_seeds_choice(compose, dataset):
    songs = [text_of(compose(20, dataset=dataset, seed=n)[0]) for n in (0, 0, 1, 2, 3)]
    songs = [text.split("--song")[1].split("--seed_length")[0] for text in songs]
    assert songs[0] == songs[1]
    assert len(set(songs)) > 1


def test_any_midi_file_can_be_gone_on_from(compose, midi_folder):
    primer = midi_folder / "song 01.mid"
    (path,) = compose(primer=primer, seed_length="3s", inclusive=True)
    seed = SeedLength.parse("3s").cut(encode(primer))
    assert len(seed) < len(encode(primer)) / 2
    np.testing.assert_array_equal(encode(path)[: len(seed)], seed)


@pytest.mark.parametrize("seconds", [3, 8.5])
def test_music_lasts_as_long_as_asked(compose, seconds):
    (path,) = compose(seconds=seconds, full_length=True, max_silence=0.2)
    # A pause at the end is left out, and the last notes ring on.
    assert seconds - 0.5 <= mido.MidiFile(path).length <= seconds + 0.6
    assert f"--seconds {seconds:g}" in text_of(path)


def test_only_the_chosen_instruments_play(compose):
    for names, programs, drums in (
        ("drums, 40", {40}, True),
        ("117", {118}, False),  # 117 stands for percussion: its neighbour plays
    ):
        notes = read_midi(compose(instruments=names, full_length=True)[0])
        assert len(notes)
        assert set(notes.program[~notes.is_drum].tolist()) <= programs
        assert drums or not notes.is_drum.any()


def test_percussion_alone_is_refused_for_a_model_that_knows_none(tmp_path):
    save_model(build_model(TINY, CodecSettings(None)), tmp_path / "model")
    with pytest.raises(OptionError, match="knows no percussion"):
        generate(save_directory=tmp_path / "model", output=tmp_path, instruments="drums")


def test_interrupting_writes_what_there_is(compose, monkeypatch, capsys, tmp_path):
    def interrupted(*arguments, **options):
        yield next(stream(*arguments, **options))
        raise KeyboardInterrupt

    stream = sampling.stream
    monkeypatch.setattr(sampling, "stream", interrupted)
    (path,) = compose(5000, full_length=True)
    assert len(read_midi(path)) > 10
    assert "interrupted" in capsys.readouterr().err
    monkeypatch.setattr(sampling, "stream", stream)
    assert composed_by_its_text(path, tmp_path / "again.mid") == path.read_bytes()


def test_interrupting_before_there_is_anything_writes_nothing(compose, monkeypatch, tmp_path):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(sampling, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compose()
    assert not any((tmp_path / "out").iterdir())


def test_more_pieces_than_memory_holds_are_refused_in_a_line(compose, monkeypatch):
    def greedy(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        yield

    monkeypatch.setattr(sampling, "stream", greedy)
    with pytest.raises(OptionError, match=r"out of memory composing 4 at once.*num"):
        compose(num=4)


def test_a_piece_that_has_ended_is_not_waited_for(compose, monkeypatch):
    """One piece of two ends at once, the other never: it must still stop at its seconds."""

    def two(*arguments, **options):
        for part in range(9):
            made = np.full((2, 100), PAD, np.uint16)
            made[1] = np.tile([276 + part % 2, 60, TIME_SHIFT.first + 9, 188], 25)
            if part == 0:
                made[0, :4] = [276, 60, TIME_SHIFT.first, 188]
            parts.append(part)
            yield made

    parts = []
    monkeypatch.setattr(piecewise, "_SMALL_BYTES", 0)  # so that both come from one stream
    monkeypatch.setattr(sampling, "stream", two)
    compose(num=2, seconds=5)
    assert len(parts) == 2  # 2.5 seconds each


def test_pictures_and_sound_lie_beside_the_music(compose, monkeypatch):
    played = []
    monkeypatch.setattr("midinet.rendering.audio.find_player", lambda *what: played.append(what))
    monkeypatch.setattr("midinet.rendering.audio.write_audio", lambda *paths: played.append(paths))
    (path,) = compose(100, plot=True, wav=True, mp3=True, soundfont="my.sf2")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    suffixes = (".wav", ".mp3")
    assert played == [("my.sf2", suffix) for suffix in suffixes] + [
        (path, path.with_suffix(suffix), "my.sf2") for suffix in suffixes
    ]


def test_one_page_plays_all_pieces(compose, tmp_path):
    first, second = compose(100, num=2, html=True)
    page = first.with_suffix(".html").read_text(encoding="utf-8")
    assert not second.with_suffix(".html").exists()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    for path, piece, seed in zip((first, second), data["pieces"], ("7", "8"), strict=True):
        assert base64.b64decode(piece["midi"]) == path.read_bytes()
        assert piece["command"] == text_of(path)
        assert ["Random seed", seed] in piece["facts"]
        assert len(piece["notes"]["pitch"]) == len(read_midi(path))
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".html", ".mid", ".mid"]


def test_a_page_without_its_font_is_said_before_composing(compose, tmp_path):
    with pytest.raises(AudioError, match=r"none\.sf2"):
        compose(html=True, soundfont=tmp_path / "none.sf2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "add --html for a page that plays in your browser"),
        ({"html": True}, "open {}.html in a browser"),
    ],
)
def test_says_who_composed_and_how_to_listen(compose, capsys, model_folder, options, hint):
    (path,) = compose(50, progress=True, **options)
    model, file, listen = capsys.readouterr().out.splitlines()
    assert model == f"Composed by {model_folder}:"
    assert file.startswith(f"{path}: ")
    assert hint.format(path.with_suffix("")) in listen


def test_trouble_with_a_picture_costs_no_music(compose, monkeypatch, tmp_path):
    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("midinet.rendering.piano_roll.piano_roll", full_disk)
    with pytest.raises(OSError, match="No space"):
        compose(50, num=2, plot=True)
    assert len(list((tmp_path / "out").glob("*.mid"))) == 2


@pytest.mark.parametrize(
    ("missing", "message"), [("PATH", r"none\.sf2"), ("SOUNDFONT", r"none\.sf2")]
)
def test_sound_that_cannot_be_made_is_said_before_composing(
    compose, monkeypatch, tmp_path, missing, message
):
    monkeypatch.setattr(
        "midinet.rendering.audio.shutil.which", lambda program: os.environ.get("PATH")
    )
    monkeypatch.setenv("SOUNDFONT", str(tmp_path / "none.sf2"))
    if missing == "PATH":
        monkeypatch.delenv("PATH")
    with pytest.raises(AudioError, match=message):
        compose(wav=True)
    assert not list(tmp_path.rglob("*.mid"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": -1}, "length is -1"),
        ({"top_k": 0}, "top_k is 0.*517"),
        ({"top_k": 9999}, "top_k is 9999.*517"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"num": 0}, "num is 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"max_silence": 0}, "max_silence"),
        ({"max_note": float("inf")}, "max_note"),
        ({"max_note": float("nan")}, "max_note"),
        ({"instruments": "kazoo"}, "kazoo"),
        ({"instruments": "200"}, "200"),
        ({"song": "a"}, "song 'a': name the data set"),
        ({"primer": "a.mid", "dataset": "b"}, "one of them only"),
    ],
)
def test_impossible_options_are_named_before_anything_is_opened(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        generate(**{"save_directory": tmp_path / "none", "output": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_without_room_there_is_no_half_a_song_and_a_way_to_it(compose, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    write_midi, limits = generation.write_midi, resource.getrlimit(resource.RLIMIT_FSIZE)

    def with_little_room(*arguments):
        # What a full disk does in the middle of a write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            write_midi(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(generation, "write_midi", with_little_room)
    with pytest.raises(MidinetError, match=r"\.mid can't be written .*--seed 7 composes it again"):
        compose(100, seed=7, num=2)
    assert not any((tmp_path / "out").iterdir())


def test_what_cannot_be_opened_is_named(compose, tmp_path):
    (tmp_path / "notes.txt").write_text("la la la")
    with pytest.raises(MidiError, match=r"notes\.txt"):
        compose(primer=tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError):
        compose(primer=tmp_path / "missing.mid")
    with pytest.raises(OptionError, match="is a folder: a primer is one MIDI file"):
        compose(primer=tmp_path)
    with pytest.raises(CorpusError, match="holds no data set"):
        compose(dataset=tmp_path)
    with pytest.raises(ModelError, match=str(tmp_path)):
        generate(save_directory=tmp_path, output=tmp_path)
    with pytest.raises(OptionError, match=r"notes\.txt is a file"):
        compose(output=tmp_path / "notes.txt" / "below")


def test_a_midi_file_without_notes_is_nothing_to_go_on_from(compose, tmp_path):
    mido.MidiFile().save(tmp_path / "empty.mid")
    with pytest.raises(OptionError, match=r"empty\.mid has no notes"):
        compose(primer=tmp_path / "empty.mid")


def test_the_model_is_the_one_named_or_the_one_here_or_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "the demo"
    monkeypatch.setattr(generation, "DEMO_MODEL", demo)
    with pytest.raises(ModelError, match=r"train\.py"):
        generation.find_model(None)
    for folder in (demo, tmp_path / "midinet_model"):
        folder.mkdir()
        (folder / "model.weights.h5").touch()
        assert generation.find_model(None).resolve() == folder
    assert generation.find_model(demo) == demo
    with pytest.raises(ModelError, match="named holds no model"):
        generation.find_model("named")
