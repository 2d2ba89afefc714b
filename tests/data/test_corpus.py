"""Opening a data set: what a damaged one says, and how songs are split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from midinet import CorpusError, open_corpus, preprocess
from midinet.codec.vocabulary import VOCAB_SIZE
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
            edit("dataset.json", lambda data: data.replace(b'version": 1', b'version": 9')),
            "format version 9",
        ),
        (lambda folder: (folder / "tokens.npy").unlink(), "tokens.npy is missing"),
        (lambda folder: (folder / "dataset.json").unlink(), "holds no data set"),
        (save("tokens.npy", np.zeros(9, np.float32)), "float32"),
        (save("tokens.npy", np.array([{}], object)), "tokens.npy is damaged"),
        (save("offsets.npy", np.arange(4)), "4 offsets for 12 songs"),
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
