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

import mido
import numpy as np
import pytest

from midinet import CorpusError, OptionError, encode, open_corpus, preprocess, read_midi
from midinet.codec.decoding import tokens_to_notes
from midinet.codec.settings import CodecSettings
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
    options = {"drum_program": None, "sustain": False, "volume": False}
    preprocess(midi_folder, tmp_path / "d", **options, workers=1, quiet=True)
    assert open_corpus(tmp_path / "d").codec == CodecSettings(**options)


def test_the_volume_of_channels_counts_unless_it_is_switched_off(tmp_path):
    song = make_song(1)
    song.tracks[1].insert(0, mido.Message("control_change", channel=0, control=7, value=50))
    (tmp_path / "music").mkdir()
    song.save(tmp_path / "music" / "song.mid")
    for volume in (True, False):
        folder = tmp_path / f"data {volume}"
        preprocess(tmp_path / "music", folder, volume=volume, workers=1, quiet=True)
        corpus = open_corpus(folder)
        expected = encode(song, volume=volume)
        np.testing.assert_array_equal(corpus.song(0), expected)
    assert expected.tolist() != encode(song).tolist()
    # Older folders have no setting for it: they stay what they are.
    description = json.loads((folder / "dataset.json").read_text())
    assert description["codec"] == {"drum_program": 117, "sustain": True}
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


def test_linked_folders_are_followed_without_loops(tmp_path):
    music, elsewhere = tmp_path / "music", tmp_path / "elsewhere"
    music.mkdir()
    elsewhere.mkdir()
    make_song(1).save(music / "1.mid")
    make_song(2).save(elsewhere / "2.mid")
    (music / "linked").symlink_to(elsewhere)
    (music / "again").symlink_to(elsewhere)
    (music / "loop").symlink_to(music)
    (elsewhere / "back").symlink_to(music)
    (music / "itself").symlink_to(music / "itself")
    summary = preprocess(music, tmp_path / "data", workers=1, quiet=True)
    assert summary.songs == 2
    assert summary.skipped == {}


def test_what_is_no_readable_file_is_named_and_hangs_nothing(tmp_path, monkeypatch):
    music = tmp_path / "music"
    (music / "locked").mkdir(parents=True)
    make_song(1).save(music / "1.mid")
    make_song(2).save(music / "locked" / "2.mid")
    os.mkfifo(music / "pipe.mid")
    (music / "broken.mid").symlink_to(music / "gone.mid")
    scandir = os.scandir

    def refuse(path):  # file modes do not stop an administrator, as whom tests may run
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    summary = preprocess(music, tmp_path / "data", workers=1, quiet=True)
    assert summary.songs == 1
    assert summary.skipped == {"could not be opened": 3}
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    skipped = {entry["file"]: entry["detail"] for entry in description["skipped_files"]}
    assert skipped == {
        "broken.mid": "No such file or directory",
        "locked": "Permission denied",
        "pipe.mid": "is not a regular file",
    }


def test_long_silences_are_shortened_and_counted(tmp_path):
    (tmp_path / "music").mkdir()
    for name, seconds in (("short", 4), ("long", 36_000)):
        song = make_song(1)
        ticks = int(mido.second2tick(seconds, song.ticks_per_beat, 450_000))
        total = max(sum(message.time for message in track) for track in song.tracks)
        late = [
            mido.Message("note_on", channel=3, note=60, time=total + ticks),
            mido.Message("note_off", channel=3, note=60, time=96),
        ]
        song.tracks.append(mido.MidiTrack(late))
        song.save(tmp_path / "music" / f"{name}.mid")
    summary = preprocess(tmp_path / "music", tmp_path / "data", workers=1, quiet=True)
    assert summary.shortened_silences == 1
    assert "shortened to 5 s: 1 silence" in str(summary)
    corpus = open_corpus(tmp_path / "data")
    for index in range(2):
        notes = tokens_to_notes(corpus.song(index))
        gap_ms = notes.start_ms[-1] - notes.end_ms[:-1].max()
        # Whole beats of 450 ms are cut out, so that a little less than 5 s may be left.
        shortest, longest = {"short.mid": (4000, 4000), "long.mid": (4550, 5000)}[
            corpus.names[index]
        ]
        assert shortest - 20 <= gap_ms <= longest + 20
        # The late note is on its beat in the song's tempo map, as it was in the file.
        late_beat = corpus.tempo_map(index).beats_at(notes.start_ms[-1:])[0]
        file_notes = read_midi(tmp_path / "music" / corpus.names[index])
        beat_in_file = file_notes.tempo_map.beats_at(file_notes.start_ms[-1:])[0]
        assert (late_beat - beat_in_file) % 1 == pytest.approx(0, abs=0.03) or (
            late_beat - beat_in_file
        ) % 1 == pytest.approx(1, abs=0.03)


def test_the_tempo_map_is_stored_in_the_time_of_the_tokens(tmp_path):
    (tmp_path / "music").mkdir()
    song = mido.MidiFile(ticks_per_beat=480)
    song.add_track().extend(
        [
            mido.MetaMessage("set_tempo", tempo=600_000),  # 100 beats per minute
            mido.MetaMessage("time_signature", numerator=3, denominator=4),
            mido.Message("note_on", note=60, velocity=64, time=960),  # on the third beat
            mido.Message("note_off", note=60, time=480),
            mido.MetaMessage("set_tempo", tempo=300_000),  # 200 from the fourth beat on
            mido.Message("note_on", note=62, velocity=64, time=960),
            mido.Message("note_off", note=62, time=480),
        ]
    )
    song.save(tmp_path / "music" / "waltz.mid")
    preprocess(tmp_path / "music", tmp_path / "data", workers=1, quiet=True)
    corpus = open_corpus(tmp_path / "data")
    tempo_map = corpus.tempo_map(0)
    onsets_ms = tokens_to_notes(corpus.song(0)).start_ms
    assert onsets_ms.tolist() == [0, 1200]
    assert tempo_map.beats_at(onsets_ms).tolist() == [2, 5]
    assert tempo_map.time_signatures == ((0.0, 3, 4),)
    assert corpus.grid_shares == [1.0]


def test_a_data_set_of_version_1_opens_without_tempo_maps(tmp_path, midi_folder):
    preprocess(midi_folder, tmp_path / "data", workers=1, quiet=True)
    (tmp_path / "data" / "tempo_maps.npy").unlink()
    with pytest.raises(CorpusError, match=r"tempo_maps\.npy is missing"):
        open_corpus(tmp_path / "data")
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    description["format_version"] = 1
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(description))
    corpus = open_corpus(tmp_path / "data")
    assert corpus.tempo_map(0) is None


def test_excluded_songs_and_their_near_copies_are_left_out(midi_folder, tmp_path):
    held_out = tmp_path / "held out"
    held_out.mkdir()
    make_song(1).save(held_out / "the same.mid")
    revision = make_song(2)
    for message in (message for track in revision.tracks for message in track):
        if message.type in ("note_on", "note_off") and message.channel != 9:
            message.note += 2
    revision.save(held_out / "another key.mid")
    make_song(50).save(held_out / "not there.mid")
    for workers in (1, 2):
        preprocess(
            midi_folder, tmp_path / f"{workers}", exclude=held_out, workers=workers, quiet=True
        )
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(open_corpus(tmp_path / "1")) == 10
    description = json.loads((tmp_path / "1" / "dataset.json").read_text())
    assert description["skipped"] == {"excluded or near copies of excluded songs": 2}
    left_out = {Path(entry["file"]).name: entry["detail"] for entry in description["skipped_files"]}
    assert left_out == {
        "song 01.mid": "the same.mid",
        "song 02.mid": "another key.mid",
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder: --exclude takes"),
        (lambda folder: folder.mkdir(), "no MIDI files"),
        (
            lambda folder: (folder.mkdir(), (folder / "a.mid").write_bytes(b"junk")),
            "a.mid: not readable as MIDI",
        ),
    ],
)
def test_an_excluded_song_that_is_not_readable_is_an_error(midi_folder, tmp_path, make, message):
    make(tmp_path / "held out")
    with pytest.raises(CorpusError, match=message):
        preprocess(
            midi_folder, tmp_path / "data", exclude=tmp_path / "held out", quiet=True, workers=1
        )
    assert not (tmp_path / "data").exists()
