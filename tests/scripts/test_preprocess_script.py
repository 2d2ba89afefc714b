"""preprocess.py as a user runs it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import preprocess as script

REPOSITORY = Path(__file__).parents[2]


def preprocess(*arguments: object, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "preprocess.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, **how
    )


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
        (["-i", r"C:\Users\me"], r"C:\Users\me: no such folder"),
        (
            ["-i", "x", "--drum_program", "-1"],
            "drum_program is -1: it must be a program from 0 to 127, or none",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path, options, message):
    result = preprocess(*options, "-o", tmp_path / "data")
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("midinet: ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("has_gpu", "command"),
    [
        (True, "python train.py -e 100 -d {}"),
        (False, "python train.py -e 10 -d {} --parameters parameters_small.json"),
    ],
)
def test_the_command_it_names_can_be_pasted_and_fits_the_machine(
    midi_folder, tmp_path, capsys, monkeypatch, has_gpu, command
):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(shutil, "which", lambda program: program if has_gpu else None)
    output = tmp_path / "my müsic"
    assert script.main(["-i", str(midi_folder), "-o", str(output), "--workers", "1"]) == 0
    said = f"{command.format(shlex.quote(str(output)))} learns from it"
    assert said in capsys.readouterr().out
    # So it is named to whoever takes the data set for a folder of MIDI files.
    assert script.main(["-i", str(output), "-o", str(tmp_path / "data")]) == 1
    assert f"midinet: {output} is a data set already: {said}" in capsys.readouterr().err


def test_overwriting_takes_nothing_else_along(dataset, midi_folder, tmp_path):
    # A model trained with -s in the data set's own folder, say.
    shutil.copytree(dataset, tmp_path / "data")
    (tmp_path / "data" / "model.weights.h5").write_bytes(b"days of work")
    result = preprocess("-i", midi_folder, "-o", tmp_path / "data", "--overwrite")
    assert result.returncode == 1
    assert "data holds more than a data set (model.weights.h5), which would be" in result.stderr
    assert (tmp_path / "data" / "model.weights.h5").read_bytes() == b"days of work"


def test_an_output_inside_a_file_is_named_as_the_user_named_it(midi_folder, tmp_path):
    (tmp_path / "notes.txt").touch()
    result = preprocess("-i", midi_folder, "-o", tmp_path / "notes.txt" / "data")
    assert result.returncode == 1
    assert f"midinet: {tmp_path / 'notes.txt'} is a file: -o takes" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_no_room_is_said_of_the_output_not_of_a_temporary_name(midi_folder, tmp_path):
    import resource

    result = preprocess(
        *("-i", midi_folder, "-o", tmp_path / "data", "--workers", "1"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == f"midinet: {tmp_path / 'data'}: File too large; no data set was written"
    assert not list(tmp_path.iterdir())


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
