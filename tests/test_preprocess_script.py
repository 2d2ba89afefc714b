"""preprocess.py as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


def preprocess(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "preprocess.py", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_makes_a_data_set_and_says_what_is_in_it(midi_folder, tmp_path):
    result = preprocess("-i", midi_folder, "-o", tmp_path / "my data")
    assert result.returncode == 0, result.stderr
    assert "12 songs" in result.stdout
    assert (tmp_path / "my data" / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-i", "no such folder"], "no such folder: no such folder"),
        (["-i", "midinet"], "no MIDI files"),
        (["-i", "x", "--drum_program", "200"], "drum_program is 200"),
        (["-i", "x", "--drum_program", "kazoo"], "'kazoo' is neither a program nor none"),
        ([], "required: -i/--input"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, options, message):
    result = preprocess(*options, "-o", tmp_path / "data")
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("midinet: ")
    assert not (tmp_path / "data").exists()


def test_starts_without_tensorflow():
    code = (
        "import sys, midinet, preprocess; midinet.open_corpus; print('tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_help_fits_one_screen():
    result = preprocess("--help")
    assert result.returncode == 0
    assert result.stdout.count("\n") <= 24
    assert "(default: 117)" in result.stdout
