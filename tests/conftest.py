"""Music for the tests: small MIDI files made here, and a data set of them."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import hypothesis
import mido
import numpy as np
import pytest

import midinet

# The tests compile some fifty graphs of tiny models and run each for a moment, so XLA need not
# optimise them, which takes most of the time. Scripts that the tests start inherit this.
_XLA_FLAGS = ["--xla_backend_optimization_level=0"]
# XLA aborts at a flag that it does not know: this one has not always existed, nor need it stay.
if importlib.metadata.version("tensorflow").startswith("2.21."):
    _XLA_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_XLA_FLAGS))

# No deadline: a busy machine is no fault. A test run of a change must not depend on luck, while
# at a developer's desk new examples are welcome.
hypothesis.settings.register_profile(
    "midinet", deadline=None, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("midinet")


def make_song(seed: int, num_notes: int = 120) -> mido.MidiFile:
    """A song of three instruments and percussion; every seed gives another one."""
    random = np.random.default_rng(seed)
    song = mido.MidiFile(type=1, ticks_per_beat=96)
    song.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=450_000)]))
    for channel, program in ((0, 24), (1, 33), (2, 48), (9, 0)):
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        for _ in range(num_notes // 4):
            pitch = int(random.integers(36, 84))
            velocity = int(random.integers(40, 120))
            gap, length = (int(ticks) for ticks in random.choice([0, 24, 48, 96], 2))
            on = mido.Message("note_on", channel=channel, note=pitch, velocity=velocity, time=gap)
            track.extend([on, mido.Message("note_off", channel=channel, note=pitch, time=length)])
        song.tracks.append(track)
    return song


@pytest.fixture(scope="session")
def midi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve songs, some in subfolders; tests must not write to it."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "sub folder").mkdir()
    for seed in range(12):
        name = f"song {seed:02}.mid"
        make_song(seed).save(folder / ("sub folder" if seed % 3 == 0 else ".") / name)
    return folder


@pytest.fixture(scope="session")
def dataset(midi_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of those songs; tests must not write to it."""
    folder = tmp_path_factory.mktemp("sets") / "data"
    midinet.preprocess(midi_folder, folder, workers=1, quiet=True)
    return folder


def leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """Leaves out what training draws and composes after an epoch, longer work than few steps."""
    for name in ("_draw_training_curves", "_log_sample"):
        patch.setattr(f"midinet.training.loop.Trainer.{name}", lambda *_: None)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training draws and composes nothing after an epoch."""
    leave_out_pictures(monkeypatch)
