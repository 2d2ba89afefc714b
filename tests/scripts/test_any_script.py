"""What all scripts have in common, as a newcomer gets it wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import midinet

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = ("download.py", "preprocess.py", "train.py", "generate.py", "midinet/report/__main__.py")
MODULES = {"midinet/report/__main__.py": "midinet.report"}


def run(script, *arguments, before="", environment=None, folder=REPOSITORY):
    """Runs a script as a user does, after some Python code."""
    name = MODULES.get(script)
    path = str(REPOSITORY / script)
    start = f"runpy.run_module({name!r}," if name else f"runpy.run_path({path!r},"
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(REPOSITORY)!r}); "
        f"sys.argv = [{script!r}, *sys.argv[1:]]\n{before}\n{start} run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        # Where tests run in the background of a shell they inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def assert_one_line(result, *parts, status=1):
    assert result.returncode == status, result.stderr
    assert result.stderr.startswith("midinet: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_older_python_is_named(script):
    before = "sys.version_info = (3, 10, 13, 'final', 0); sys.version = '3.10.13 (main)'"
    assert_one_line(run(script, before=before), "needs Python 3.11", "this is Python 3.10.13")


@pytest.mark.parametrize(
    ("script", "arguments", "package"),
    [
        ("download.py", ["-d", "freedoom", "-o", "new", "--archive", "none"], "requests"),
        ("download.py", ["-d", "freedoom", "-o", "new", "--archive", "none"], "tqdm"),
        ("preprocess.py", ["-i", "raw", "-o", "new"], "numpy"),
        ("train.py", ["-e", "1", "-d", "DATA"], "keras"),
        ("generate.py", ["-s", "model"], "tensorflow"),
        ("generate.py", ["-s", "model"], "mido"),
        ("generate.py", ["-s", "model", "--plot"], "matplotlib"),
        ("midinet/report/__main__.py", ["raw"], "numpy"),
        ("midinet/report/__main__.py", ["raw"], "tqdm"),
        ("midinet/report/__main__.py", ["raw"], "matplotlib"),
    ],
)
def test_a_missing_package_is_named_before_any_work(tmp_path, dataset, script, arguments, package):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.weights.h5").touch()
    arguments = [str(dataset) if word == "DATA" else word for word in arguments]
    result = run(script, *arguments, before=f"sys.modules[{package!r}] = None", folder=tmp_path)
    assert_one_line(result, f"the package '{package}' is not installed: pip install -r")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model", "model.weights.h5"]


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("download.py", ["--datset", "freedoom"], "no option --datset: did you mean --dataset?"),
        ("preprocess.py", ["-i", "raw", "--ouput", "x"], "--ouput: did you mean --output?"),
        ("preprocess.py", ["-i", "a", "-o", "b", "--over"], "--over: did you mean --overwrite?"),
        ("train.py", ["-epochs", "5"], "-epochs: it is written --epochs, with two dashes"),
        ("train.py", ["-e", "1", "-d", "x", "--frobnicate"], "there is no option --frobnicate;"),
        ("generate.py", ["--top-k", "8"], "no option --top-k: did you mean --top_k?"),
        ("generate.py", ["--lenght=100"], "no option --lenght: did you mean --length?"),
        ("midinet/report/__main__.py", ["a", "--trainig", "b"], "did you mean --training?"),
        ("download.py", ["-d", "freedoom", "-o", ""], "-o/--output: its value is empty"),
        ("preprocess.py", ["-i", "", "-o", "new"], "-i/--input: its value is empty"),
        ("train.py", ["-e", "1", "-d", "x", "--init_from="], "--init_from: its value is empty"),
        ("generate.py", ["--primer", ""], "--primer: its value is empty"),
        ("midinet/report/__main__.py", [""], "A: its value is empty"),
        ("generate.py", ["-n", "4"], "there is no option -n: did you mean --num?"),
        ("generate.py", ["-x"], "there is no option -x;"),
        ("generate.py", ["mine.mid"], "belongs to no option: did you mean --primer mine.mid?"),
        ("generate.py", ["what"], "what belongs to no option;"),
        ("preprocess.py", ["-d", "raw"], "no option -d: -i takes the folder of MIDI files, and -o"),
        ("preprocess.py", ["my raw", "data"], "did you mean -i 'my raw'?"),
        ("train.py", ["-e", "5", "data"], "data belongs to no option: did you mean -d data?"),
        ("train.py", ["-i", "data"], "there is no option -i: -d takes the data set"),
        ("download.py", ["freedoom"], "did you mean -d freedoom?"),
    ],
)
def test_a_slip_of_the_keyboard_is_named(tmp_path, script, arguments, message):
    assert_one_line(run(script, *arguments, folder=tmp_path), message, "--help shows the options")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_version_is_shown(script):
    result = run(script, "--version")
    assert (result.returncode, result.stdout) == (0, f"midinet {midinet.__version__}\n")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["-e", "0", "-d", "x"], "-e is 0: it must be at least 1"),
        ("train.py", ["--epochs=0", "-d", "x"], "--epochs is 0: it must"),
        ("train.py", ["-e", "1", "-d", "x", "--checkpoint_every", "-1"], "--checkpoint_every is"),
        ("generate.py", ["-l", "0"], "-l is 0: it must be at least 1 token"),
        ("generate.py", ["-l0"], "--length is 0: it must be at least 1 token"),
        ("generate.py", ["--seconds", "0"], "--seconds is 0: it must be above 0"),
        (
            "generate.py",
            ["-d", "x", "--primer", "y"],
            "--primer and -d: a piece can go on from",
        ),
        ("preprocess.py", ["-i", "x", "-o", "y", "--workers", "0"], "--workers is 0: it must"),
        ("midinet/report/__main__.py", ["x", "--seconds", "0"], "--seconds is 0: it must be"),
    ],
)
def test_a_message_names_an_option_as_it_was_typed(tmp_path, script, arguments, message):
    assert_one_line(run(script, *arguments, folder=tmp_path), f"midinet: {message}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_fits_one_screen(script):
    result = run(script, "--help", environment={"COLUMNS": "80"})
    assert result.returncode == 0
    assert result.stdout.count("\n") <= (45 if script == "generate.py" else 24)


@pytest.mark.parametrize("then", ["raise ImportError('initialization failed')", "pass"])
@pytest.mark.parametrize(
    ("script", "arguments"),
    [("train.py", ["-e", "1", "-d", "DATA"]), ("generate.py", ["-s", "model"])],
)
def test_ctrl_c_while_tensorflow_starts_is_one_line(tmp_path, dataset, script, arguments, then):
    arguments = [str(dataset) if word == "DATA" else word for word in arguments]
    # What native modules make of Ctrl-C, and after a notice of the kind TensorFlow shows.
    (tmp_path / "keras.py").write_text(
        "import os, signal, time\n"
        "os.write(2, b'I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\\n')\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(5)\n"
        "except KeyboardInterrupt:\n"
        f"    {then}\n"
    )
    (tmp_path / "tensorflow.py").write_text("class config:\n    list_physical_devices = list\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.weights.h5").touch()
    before = f"sys.path.insert(0, {str(tmp_path)!r})"
    result = run(script, *arguments, before=before, folder=tmp_path)
    assert_one_line(result, "interrupted", status=130)


def test_a_package_that_can_not_be_loaded_is_named(dataset, tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('DLL load failed\\n\\nlong story')\n")
    before = f"sys.path.insert(0, {str(tmp_path)!r})"
    result = run("train.py", "-e", "1", "-d", dataset, before=before, folder=tmp_path)
    assert result.stderr.splitlines()[-1].startswith("midinet: a package can't be loaded (DLL lo")
    assert "Traceback" not in result.stderr


def test_letters_the_terminal_lacks_are_no_trouble(midi_folder, tmp_path):
    output = tmp_path / "jeux vidéo 音楽"
    result = run(
        *("preprocess.py", "-i", midi_folder, "-o", output),
        environment={"PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0, result.stderr
    assert "12 songs" in result.stdout
    assert output.is_dir()


@pytest.mark.parametrize(
    ("png", "message"),
    [
        ("song.mid", "name a file that ends in .png"),
        ("no such folder/report.png", "there is no folder"),
    ],
)
def test_a_report_is_drawn_over_no_music_and_into_no_missing_folder(tmp_path, png, message):
    (tmp_path / "song.mid").write_bytes(b"MThd")
    result = run("midinet/report/__main__.py", "--png", png, "song.mid", folder=tmp_path)
    assert_one_line(result, f"png is {png}", message)
    assert (tmp_path / "song.mid").read_bytes() == b"MThd"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_report_that_finds_no_room_leaves_the_picture_before(midi_folder, tmp_path):
    png = tmp_path / "report.png"
    png.write_bytes(b"an older one")
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    song = next(midi_folder.glob("*.mid"))
    result = run("midinet/report/__main__.py", song, "--png", png, before=before)
    assert_one_line(result, f"{png}: File too large")
    assert png.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [png]


def test_a_report_leaves_out_what_can_not_be_opened(midi_folder, tmp_path):
    song = next(midi_folder.glob("*.mid"))
    (tmp_path / "good.mid").write_bytes(song.read_bytes())
    (tmp_path / "gone.mid").symlink_to(tmp_path / "nowhere.mid")
    result = run("midinet/report/__main__.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "(1 piece," in result.stdout
    assert "left out: " in result.stderr
    assert "gone.mid" in result.stderr
