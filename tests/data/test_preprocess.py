"""Making a data set: what goes in, what comes out, and that nothing half-written remains."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from midinet import CorpusError, OptionError, encode, open_corpus, preprocess
from tests.conftest import make_song

REPOSITORY = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_songs_come_out_as_they_went_in(midi_folder, dataset):
    corpus = open_corpus(dataset)
    names = sorted(file.relative_to(midi_folder).as_posix() for file in midi_folder.rglob("*.mid"))
    assert corpus.names == names
    for index, name in enumerate(names):
        np.testing.assert_array_equal(corpus.song(index), encode(midi_folder / name))


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_writes_the_same_bytes(midi_folder, dataset, tmp_path, workers):
    preprocess(midi_folder, tmp_path / "data", workers=workers, quiet=True)
    assert contents(tmp_path / "data") == contents(dataset)


def test_summary_counts_what_was_read(midi_folder, tmp_path):
    summary = preprocess(midi_folder, tmp_path / "data", workers=1, quiet=True)
    assert summary.songs == 12
    assert summary.notes == 12 * 120
    assert summary.onsets.sum() == summary.notes
    assert summary.onsets[128] == 12 * 30  # a quarter is percussion
    assert summary.tokens == len(open_corpus(tmp_path / "data").tokens)
    assert "Percussion 25%" in str(summary)


def test_bad_files_are_left_out_and_named(tmp_path):
    music = tmp_path / "müsic"
    music.mkdir()
    for seed in range(3):
        make_song(seed).save(music / f"{seed}.mid")
    shutil.copy(music / "1.mid", music / "9 copy.mid")
    (music / "corrupt.mid").write_bytes(b"no midi at all")
    (music / "empty.mid").write_bytes(b"")
    make_song(5, num_notes=0).save(music / "silent.mid")
    (music / "notes.txt").write_text("not music")
    summary = preprocess(music, tmp_path / "data", workers=1, quiet=True)
    assert summary.songs == 3
    assert summary.skipped == {
        "not readable as MIDI": 2,
        "with the same music as another": 1,
        "without notes": 1,
    }
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    skipped = {entry["file"]: entry["detail"] for entry in description["skipped_files"]}
    assert skipped["9 copy.mid"] == "1.mid"
    assert "no MThd header" in skipped["corrupt.mid"]
    assert set(skipped) == {"9 copy.mid", "corrupt.mid", "empty.mid", "silent.mid"}


def test_codec_settings_are_kept(midi_folder, tmp_path):
    preprocess(midi_folder, tmp_path / "d", drum_program=None, sustain=False, workers=1, quiet=True)
    corpus = open_corpus(tmp_path / "d")
    assert corpus.codec.drum_program is None
    assert corpus.codec.sustain is False
    assert corpus.fingerprint != ""


def test_an_existing_data_set_is_kept_unless_asked(midi_folder, dataset, tmp_path):
    target = tmp_path / "data"
    shutil.copytree(dataset, target)
    (tmp_path / "other").mkdir()
    make_song(99).save(tmp_path / "other" / "song.mid")
    with pytest.raises(CorpusError, match="--overwrite"):
        preprocess(tmp_path / "other", target, quiet=True, workers=1)
    assert contents(target) == contents(dataset)
    preprocess(tmp_path / "other", target, quiet=True, workers=1, overwrite=True)
    assert open_corpus(target).names == ["song.mid"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "other"]


def test_a_folder_of_something_else_is_never_replaced(midi_folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CorpusError, match="is no data set"):
        preprocess(midi_folder, tmp_path, overwrite=True, quiet=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no MIDI files"),
        (lambda folder: folder.write_text("x"), "is a file, not a folder"),
        (lambda folder: (folder.mkdir(), (folder / "a.mid").write_bytes(b"junk")), "can be used"),
    ],
)
def test_input_without_music_is_named_and_leaves_nothing(tmp_path, make, message):
    make(tmp_path / "raw")
    with pytest.raises(CorpusError, match=message):
        preprocess(tmp_path / "raw", tmp_path / "data", quiet=True, workers=1)
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.glob(".*"))


def test_workers_must_be_positive(midi_folder, tmp_path):
    with pytest.raises(OptionError, match="workers is 0"):
        preprocess(midi_folder, tmp_path / "data", workers=0)


def test_a_full_disk_is_said_and_leaves_nothing(midi_folder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "offsets.npy"))

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(CorpusError, match="No space left on device; no data set was written"):
        preprocess(midi_folder, tmp_path / "data", quiet=True, workers=1)
    assert not list(tmp_path.iterdir())


def test_killed_at_any_moment_there_is_no_half_data_set(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for seed in range(60):
        make_song(seed, num_notes=400).save(music / f"{seed:02}.mid")
    command = [sys.executable, "preprocess.py", "-i", music, "-o", tmp_path / "data"]
    killed = 0
    for delay_s in (0.15, 0.25, 0.35, 0.5):
        process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if (tmp_path / "data").exists():
            assert len(open_corpus(tmp_path / "data")) == 60
            shutil.rmtree(tmp_path / "data")
    assert killed
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    assert len(open_corpus(tmp_path / "data")) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "music"]
