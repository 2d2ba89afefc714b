"""Opening a data set: what a damaged one says, and how songs are split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mido
import numpy as np
import pytest

from midinet import CorpusError, open_corpus, preprocess
from midinet.codec.vocabulary import VOCAB_SIZE
from midinet.data.corpus import TEMPO_TYPE
from tests.conftest import make_song


def test_split_is_stable_and_does_not_leak(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for seed in range(40):
        make_song(seed, num_notes=8).save(music / f"{seed:02}.mid")
    sides = []
    for _ in range(2):
        preprocess(music, tmp_path / "data", workers=1, quiet=True, overwrite=True)
        corpus = open_corpus(tmp_path / "data")
        training, validation = corpus.split()
        assert sorted([*training, *validation]) == list(range(len(corpus)))
        sides.append({corpus.hashes[song]: "validation" for song in validation})
        sides[-1].update({corpus.hashes[song]: "training" for song in training})
        for seed in range(40, 80):  # now add files, and copies of those there under other names
            make_song(seed, num_notes=8).save(music / f"{seed:02}.mid")
            shutil.copy(music / f"{seed - 40:02}.mid", music / f"copy of {seed - 40:02}.mid")
    before, after = sides
    assert len(after) == 80
    assert "validation" in before.values()
    assert all(after[content] == side for content, side in before.items())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_songs_trains_and_validates(tmp_path, count):
    (tmp_path / "music").mkdir()
    for seed in range(count):
        make_song(seed).save(tmp_path / "music" / f"{seed}.mid")
    preprocess(tmp_path / "music", tmp_path / "data", quiet=True, workers=1)
    training, validation = open_corpus(tmp_path / "data").split()
    assert len(training)
    assert len(validation)
    assert count == 1 or not set(training) & set(validation)


def make_revision(seed: int, kind: str) -> mido.MidiFile:
    """The song of a seed in another key and tempo, or with another last note."""
    song = make_song(seed)
    if kind == "other end":
        song.tracks[1][-1].time += 96
    else:
        song.tracks[0][0] = mido.MetaMessage("set_tempo", tempo=600_000)
        for message in (message for track in song.tracks for message in track):
            if message.type in ("note_on", "note_off") and message.channel != 9:
                message.note += 3
    return song


def make_revisions(folder: Path, songs: int) -> None:
    folder.mkdir(exist_ok=True)
    for seed in range(songs):
        make_song(seed).save(folder / f"Song {seed}.mid")
        make_revision(seed, "other end").save(folder / f"Song {seed}.1.mid")
        make_revision(seed, "other key").save(folder / f"Other name {seed}.mid")


def test_near_copies_are_on_one_side(tmp_path):
    make_revisions(tmp_path / "music", 40)
    summary = preprocess(tmp_path / "music", tmp_path / "data", workers=1, quiet=True)
    assert summary.families == 40
    assert "40 families of near copies" in str(summary)
    corpus = open_corpus(tmp_path / "data")
    number = [name.rstrip(".mid").removesuffix(".1").split()[-1] for name in corpus.names]
    training, validation = corpus.split()
    assert len(training) + len(validation) == 120
    assert not {number[song] for song in training} & {number[song] for song in validation}
    assert 1 <= len({number[song] for song in validation}) <= 10  # a tenth of 40 families


def test_families_depend_on_the_songs_alone(tmp_path):
    make_revisions(tmp_path / "music", 6)
    preprocess(tmp_path / "music", tmp_path / "before", workers=1, quiet=True)
    for number, file in enumerate(sorted((tmp_path / "music").iterdir(), reverse=True)):
        file.rename(file.with_name(f"{number:02}.mid"))
    preprocess(tmp_path / "music", tmp_path / "after", workers=2, quiet=True)
    before, after = (open_corpus(tmp_path / name) for name in ("before", "after"))
    family = dict(zip(before.hashes, before.families, strict=True))
    assert family == dict(zip(after.hashes, after.families, strict=True))
    assert len(set(family.values())) == 6


def test_songs_of_one_family_still_train_and_validate(tmp_path):
    make_revisions(tmp_path / "music", 1)
    preprocess(tmp_path / "music", tmp_path / "data", workers=1, quiet=True)
    corpus = open_corpus(tmp_path / "data")
    assert len(set(corpus.families)) == 1
    training, validation = corpus.split()
    assert len(training)
    assert len(validation)
    assert not set(training) & set(validation)


def test_a_data_set_of_format_version_1_keeps_its_split(tmp_path):
    """Version 1 knew no families, and split by the hashes of the songs."""
    make_revisions(tmp_path / "music", 20)
    preprocess(tmp_path / "music", tmp_path / "data", workers=1, quiet=True)
    file = tmp_path / "data" / "dataset.json"
    description = json.loads(file.read_text())
    description["format_version"] = 1
    del description["families"], description["shortened_silences"]
    for song in description["songs"]:
        song.pop("family", None)
    file.write_text(json.dumps(description))
    corpus = open_corpus(tmp_path / "data")
    is_validation = [int(digest[:8], 16) < 0.1 * 16**8 for digest in corpus.hashes]
    np.testing.assert_array_equal(corpus.split()[1], np.flatnonzero(is_validation))


def damage_family(folder: Path) -> None:
    file = folder / "dataset.json"
    description = json.loads(file.read_text())
    description["songs"][0]["family"] = "12ab"
    file.write_text(json.dumps(description))


def damage_tokens(folder: Path) -> None:
    tokens = np.load(folder / "tokens.npy")
    tokens[5] = VOCAB_SIZE
    np.save(folder / "tokens.npy", tokens)


def damage_offsets(folder: Path) -> None:
    offsets = np.load(folder / "offsets.npy")
    offsets[3] += 1 << 40
    np.save(folder / "offsets.npy", offsets)


def save(name: str, array: np.ndarray):
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


def edit(name: str, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit("tokens.npy", lambda data: data[:-100]), "tokens.npy is damaged"),
        (edit("tokens.npy", lambda data: data[:50]), "tokens.npy is damaged"),
        (edit("tokens.npy", lambda data: b""), "tokens.npy is damaged"),
        (edit("offsets.npy", lambda data: data[:-8]), "offsets.npy is damaged"),
        (edit("dataset.json", lambda data: data[:-20]), "dataset.json is damaged"),
        (edit("dataset.json", lambda data: b"[]"), "dataset.json is damaged"),
        (edit("dataset.json", lambda data: data.replace(b"117", b"700")), "drum_program is 700"),
        (
            edit("dataset.json", lambda data: data.replace(b'version": 2', b'version": 9')),
            "format version 9",
        ),
        (lambda folder: (folder / "tokens.npy").unlink(), "tokens.npy is missing"),
        (lambda folder: (folder / "dataset.json").unlink(), "holds no data set"),
        (save("tokens.npy", np.zeros(9, np.float32)), "float32"),
        (edit("tempo_maps.npy", lambda data: data[:-9]), "tempo_maps.npy is damaged"),
        (save("tempo_maps.npy", np.array([(0, 0, 0, -1)], TEMPO_TYPE)), "not a list of tempos"),
        (save("tempo_maps.npy", np.array([(9999, 0, 0, 1)], TEMPO_TYPE)), "not a list of tempos"),
        (save("tokens.npy", np.array([{}], object)), "tokens.npy is damaged"),
        (save("offsets.npy", np.arange(4)), "4 offsets for 12 songs"),
        (damage_family, "families of songs that are not there"),
        (damage_tokens, f"token {VOCAB_SIZE}"),
        (damage_offsets, "offsets that do not fit"),
    ],
)
def test_a_damaged_data_set_is_refused(dataset, tmp_path, damage, message):
    shutil.copytree(dataset, tmp_path / "data")
    damage(tmp_path / "data")
    with pytest.raises(CorpusError, match=message):
        open_corpus(tmp_path / "data")


def test_tokens_can_not_be_changed_by_accident(dataset):
    with pytest.raises(ValueError, match="read-only"):
        open_corpus(dataset).song(0)[0] = 1
