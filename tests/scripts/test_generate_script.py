"""generate.py as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import generate as script
from midinet.data.corpus import open_corpus
from midinet.midi.general_midi import PROGRAM_NAMES
from midinet.midi.reader import read_midi

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, str(REPOSITORY / "generate.py")]


def generate(folder, *arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    from midinet.backend import keras
    from midinet.model.music_transformer import build_model, save_model
    from midinet.model.parameters import Parameters

    folder = tmp_path_factory.mktemp("script") / "midinet_model"
    tiny = Parameters(
        embedding_size=16, sequence_length=64, num_blocks=1, num_heads=2, feed_forward_dim=16
    )
    keras.utils.set_random_seed(0)
    save_model(build_model(tiny), folder)
    return folder


def test_the_command_of_2021_goes_on_from_a_data_set(model_folder, dataset, tmp_path):
    options = ["-l", "100", "-k", "8", "-s", model_folder, "-d", dataset, "--inclusive"]
    result = generate(tmp_path, *options)
    assert result.returncode == 0, result.stderr
    (path,) = (tmp_path / "output").iterdir()
    assert path.suffix == ".mid"
    assert len(read_midi(path)) > 120
    assert f"output/{path.name}: " in result.stdout.replace(os.sep, "/")
    assert "tokens/s" in result.stderr
    assert "s of music" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_writes_what_there_is(model_folder, tmp_path):
    # Without -s: the model in midinet_model is found.
    command = [*COMMAND, "-l", "100000000", "--full_length", "-o", str(tmp_path / "cut.mid")]
    process = subprocess.Popen(
        command,
        cwd=model_folder.parent,
        stderr=subprocess.PIPE,
        # Where tests run in the background of a shell they inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    shown = b""
    deadline = time.monotonic() + 120
    while b" s of music" not in shown and time.monotonic() < deadline:
        shown += process.stderr.read1()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    assert b"interrupted" in rest
    assert b"Traceback" not in rest
    assert len(read_midi(tmp_path / "cut.mid")) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-k", "0"], "-k is 0"),
        (["-k", "9999"], "-k is 9999"),
        (["-l", "-1"], "-l is -1"),
        (["-l", "many"], "many"),
        (["--seed_length", "some"], "seed_length is some"),
        (["--instruments", "kazoo"], "kazoo"),
        ([], "train.py"),
        (["-s", "no such model"], "no such model holds no model (no such folder): train.py -e 100"),
        (["-s", r"C:\model"], "no such folder): train.py"),
        (["-s", "notes.txt"], "notes.txt holds no model (it is a file)"),
        (["-s", "raw"], "raw holds no model (it is a folder of MIDI files): name the folder"),
        (["-s", "data"], "data holds no model (it is a data set): name the folder"),
        (["-s", "m/model.weights.h5"], "(it is a file): name its folder, m"),
        (["-s", "m", "--max_silence", "nan"], "max_silence is nan: it must be a number"),
        (["-s", "m", "--max_note", "1e9"], "max_note is 1e+09 seconds: it must be"),
        (["-s", "m", "-o", "notes.txt"], "-o is notes.txt, and notes.txt is a file: it takes"),
        (["-s", "m", "-o", "notes.txt/a.mid"], "notes.txt is a file"),
        (["-s", "m", "-o", "song.wav"], "song.wav: it takes a folder, or a name that ends in .mid"),
        (["-s", "m", "-o", "song.mp3"], "-o is song.mp3: it takes a folder, or a name that ends"),
        (["-s", "m", "-o", "song.PDF"], "in .mid; --plot writes its file beside the music"),
        (["-s", "m", "--soundfont", "a.sf2"], "--soundfont a.sf2: it needs --wav"),
        (["-s", "m", "--temperature", "0"], "always take the likeliest token, choose -k 1"),
        (["-s", "m", "--inclusive"], "--inclusive: without -d or --primer there is nothing"),
        (
            ["-s", "m", "-d", "no set"],
            "preprocess.py -i <midi folder> -o 'no set' makes",
        ),
        (["-s", "m", "-d", "raw/a.mid"], "(it is a file): generate.py --primer continues a MIDI"),
        (["-s", "m", "--primer", "no.mid"], "no.mid: No such file or directory"),
        (["-s", "m", "--primer", "raw"], "raw is a folder: a primer is one MIDI file"),
        (["-s", "m", "--primer", "raw/a.mid"], "raw/a.mid: not a readable MIDI file"),
        (["-s", "run"], "run holds no model (no epoch of its training has ended yet): train.py"),
        (
            ["-s", "midinet_model_trained"],
            "python download.py -d released_model -o midinet_m",
        ),
        (["--list", "chords"], "--list is chords: it must be instruments or songs"),
        (["--list", "songs"], "--list is songs: it needs a data set, named with -d"),
        (["-s", "m", "--wav", "--soundfont", "notes.txt"], "notes.txt is not a SoundFont"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("midinet.generation.generate.DEMO_MODEL", tmp_path / "no demo")
    monkeypatch.setattr("shutil.which", lambda program: program)
    before = ["data/dataset.json", "m/model.weights.h5", "notes.txt", "raw/a.mid"]
    before += ["run/checkpoints/step-1.npz"]
    for name in before:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    try:
        status = script.main(arguments)
    except SystemExit as exit:  # argparse leaves by itself
        status = exit.code
    assert status == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("midinet: ")
    assert not printed.out
    assert sorted(str(path) for path in Path().rglob("*") if path.is_file()) == before
    assert not Path("output").exists()


@pytest.mark.parametrize(
    "mistake",
    [["-k", "0"], ["-d", "no set"], ["--primer", "no.mid"], ["-d", "DATA", "--song", "nobody"]],
)
def test_options_are_checked_without_tensorflow(dataset, tmp_path, mistake):
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import generate; "
        "status = generate.main(); print(status, 'tensorflow' in sys.modules)"
    )
    arguments = [str(dataset) if word == "DATA" else word for word in mistake]
    result = subprocess.run(
        [sys.executable, "-c", code, str(REPOSITORY), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "1 False"


def test_a_run_without_a_model_yet_is_not_passed_over_for_the_demo(tmp_path):
    (tmp_path / "midinet_model" / "checkpoints").mkdir(parents=True)
    (tmp_path / "midinet_model" / "checkpoints" / "step-1.npz").touch()
    result = generate(tmp_path, "-l", "10")
    assert result.returncode == 1
    assert "midinet_model holds no model (no epoch of its training has ended" in result.stderr
    assert "takes the demo model" in result.stderr
    assert not (tmp_path / "output").exists()


def test_lists_show_what_other_options_take(dataset, tmp_path, capsys):
    assert script.main(["--list", "instruments"]) == 0
    shown = capsys.readouterr().out
    for index, name in enumerate(PROGRAM_NAMES):
        assert f"  {index:3}  {name}\n" in shown
    assert "Percussion (drums)\n" in shown
    assert script.main(["--list", "songs", "-d", str(dataset)]) == 0
    corpus = open_corpus(dataset)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit("  (")[0] for line in lines] == list(corpus.names)
    assert lines[0].endswith(f"  ({len(corpus.song(0))} tokens)")


def test_help_fits_one_screen(tmp_path):
    result = generate(tmp_path, "--help")
    assert result.returncode == 0
    assert result.stdout.count("\n") <= 46
    assert "(default: 2500)" in result.stdout
