"""download.py as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.downloads.archive_makers import SONG, make_wad, make_zip, song

REPOSITORY = Path(__file__).parents[2]


def download(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "download.py", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "vizdoom.whl"
    wad = make_wad(("D_E1M1", song(1)), ("D_E1M2", song(2)), ("PLAYPAL", b"\0"))
    path.write_bytes(make_zip(("vizdoom/freedoom1.wad", wad), ("vizdoom/__init__.py", b"")))
    return path


@pytest.mark.parametrize(
    ("dataset_option", "output_option"), [("-d", "-o"), ("--dataset", "--output")]
)
def test_unpacks_a_file_on_the_disk(wheel, tmp_path, dataset_option, output_option):
    output = tmp_path / "new" / "free doom"
    result = download(dataset_option, "freedoom", output_option, output, "--archive", wheel)
    assert result.returncode == 0, result.stderr
    assert "2 files kept" in result.stdout
    assert {path.name for path in output.iterdir()} == {
        "freedoom1_D_E1M1.mid",
        "freedoom1_D_E1M2.mid",
    }
    assert wheel.exists()


def test_a_star_is_found_where_the_shell_leaves_it(wheel, tmp_path):
    pattern = tmp_path / "viz*.whl"
    result = download("-d", "freedoom", "-o", tmp_path / "raw", "--archive", pattern)
    assert result.returncode == 0, result.stderr
    (tmp_path / "vizdoom2.whl").touch()
    result = download("-d", "freedoom", "-o", tmp_path / "raw2", "--archive", pattern)
    assert f"{pattern} fits 2 files: --archive takes one" in result.stderr
    result = download("-d", "freedoom", "-o", tmp_path / "raw2", "--archive", tmp_path / "no*")
    assert "no* does not exist" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-d", "rsost"], "no data set is called 'rsost': did you mean rs_ost?"),
        (["-d", "rs_ost", "--archive", "nowhere.zip"], "nowhere.zip does not exist"),
        (["-d", "rs_ost", "--archive", "midinet"], "midinet is a folder"),
        (["-d", "rs_ost", "--archive", "pyproject.toml"], "is not a zip, whl, tar"),
        ([], "required: -d/--dataset"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, options, message):
    result = download(*options, "-o", tmp_path / "out")
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("midinet: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("in_the_way", ["a file", "a song in a folder"])
def test_what_is_in_the_way_stays(wheel, tmp_path, in_the_way):
    output = tmp_path / "out"
    mine = output
    if in_the_way == "a song in a folder":
        output.mkdir()
        mine = output / "mine.mid"
    mine.write_bytes(SONG)
    result = download("-d", "freedoom", "-o", output, "--archive", wheel)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "name a new folder with -o" in result.stderr
    assert mine.read_bytes() == SONG
    assert sorted(tmp_path.iterdir()) == [output, wheel]


def test_an_output_inside_a_file_is_named(wheel, tmp_path):
    output = tmp_path / "vizdoom.whl" / "music"
    result = download("-d", "freedoom", "-o", output, "--archive", wheel)
    assert result.returncode == 1
    assert result.stderr == f"midinet: {output} would be in a file: name a new folder with -o\n"


def test_help_names_the_data_sets_and_fits_one_screen():
    result = download("--help")
    assert result.returncode == 0
    assert result.stdout.count("\n") <= 24
    for name in ("rs_ost", "lahk", "lahk_full", "freedoom", "released_model"):
        assert f"{name}:" in result.stdout


def test_starts_without_tensorflow():
    code = "import sys, midinet, download; midinet.download; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
