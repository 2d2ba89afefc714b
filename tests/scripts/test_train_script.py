"""train.py as a user runs it: one line for bad input, and a run that survives being killed."""

import json
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import train as script
from midinet.backend import tf
from midinet.errors import ParametersError
from midinet.model.music_transformer import open_model
from midinet.model.parameters import Parameters
from midinet.training.checkpoints import Checkpoints
from midinet.training.train import TrainingInterrupted, train
from tests.training.test_train import TINY, scalars

SCRIPT = Path(script.__file__)
EPOCHS = 3


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "parameters.json"
    path.write_text(json.dumps(TINY.to_dict()))
    return path


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(EPOCHS, folder, dataset, parameters=TINY, seed=3)
    return folder


def command(folder, dataset, parameters, *more):
    options = ["-e", EPOCHS, "-s", folder, "-d", dataset, "--parameters", parameters, "--seed", 3]
    options += ["--checkpoint_every", 0, *more]
    return [sys.executable, str(SCRIPT), *map(str, options)]


def start(*arguments):
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_progress(process, folder):
    """Waits until a checkpoint is written that was not there before."""
    before = Checkpoints(folder / "checkpoints").paths()
    deadline = time.monotonic() + 120
    while Checkpoints(folder / "checkpoints").paths() in (before, []):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_run(folder, expected):
    for name, array in Checkpoints(expected / "checkpoints").load()[1].items():
        np.testing.assert_array_equal(Checkpoints(folder / "checkpoints").load()[1][name], array)
    losses = scalars(folder / "logs" / "train", "batch_loss")
    assert losses == pytest.approx(scalars(expected / "logs" / "train", "batch_loss"), abs=1e-6)
    for name, variable in open_model(expected).weights_by_name().items():
        np.testing.assert_array_equal(open_model(folder).weights_by_name()[name], variable)


def test_interrupted_and_resumed_it_ends_as_if_undisturbed(
    dataset, parameters, undisturbed, tmp_path
):
    first = start(tmp_path, dataset, parameters, "--patience", "9")
    wait_for_progress(first, tmp_path)
    first.send_signal(signal.SIGINT)
    output, errors = first.communicate(timeout=60)
    assert first.returncode == 130, errors
    assert f"Epoch 1/{EPOCHS}" in output
    assert errors.count("\n") == 1
    assert errors.startswith("midinet: stopped in epoch 1")
    program, script, *way_on = shlex.split(errors.split("resume with: ")[1])
    assert (program, script) == ("python", "train.py")
    # What a user would paste: it must be enough, whatever the run was begun with.
    expected = ["-e", EPOCHS, "-s", tmp_path, "-d", dataset, "--restore"]
    expected += ["--parameters", parameters, "--patience", 9, "--checkpoint_every", 0.0]
    assert way_on == [str(word) for word in expected]

    second = start(tmp_path, dataset, parameters, "--restore")
    output, errors = second.communicate(timeout=120)
    assert (second.returncode, errors) == (0, "")
    assert f"Epoch {EPOCHS}/{EPOCHS}" in output
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_killed_five_times_at_random_it_ends_as_if_undisturbed(
    dataset, parameters, undisturbed, tmp_path
):
    # It writes a checkpoint after every step, so some of the kills fall into a write.
    chance = random.Random(0)
    for _ in range(5):
        process = start(tmp_path, dataset, parameters, "--restore")
        if Checkpoints(tmp_path / "checkpoints").paths():
            wait_for_progress(process, tmp_path)
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(tmp_path, dataset, parameters, "--restore")
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert_same_run(tmp_path, undisturbed)


def test_a_signal_becomes_its_exit_status(dataset, monkeypatch, capsys):
    def stopped(**_):
        raise TrainingInterrupted("stopped, saved", signal.SIGTERM)

    monkeypatch.setattr("midinet.training.train.train", stopped)
    with pytest.raises(SystemExit) as stop:
        script.main(["-e", "1", "-d", str(dataset)])
    assert stop.value.code == 143
    assert capsys.readouterr().err == "midinet: stopped, saved\n"


def test_the_command_line_of_2021_still_works(monkeypatch):
    seen = {}
    monkeypatch.setattr("midinet.training.options.check_options", lambda **_: None)
    monkeypatch.setattr("midinet.training.train.train", lambda **options: seen.update(options))
    assert script.main(["-e", "250", "-s", "midinet_model", "-d", "rs_ost", "--restore"]) == 0
    assert (seen["epochs"], seen["save_directory"], seen["dataset"]) == (
        250,
        "midinet_model",
        "rs_ost",
    )
    assert seen["restore"] is True
    assert script.main(["--epochs", "2", "--save_directory", "m", "--dataset", "d"]) == 0
    assert (seen["epochs"], seen["save_directory"], seen["restore"]) == (2, "m", False)
    assert script.main(["-e", "1", "-d", "d"]) == 0
    assert seen["save_directory"] == "midinet_model"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-e", "0"], "-e is 0"),
        (["-d", "nowhere"], "nowhere"),
        (["--parameters", "none.json"], "none.json"),
        (["--init_from", "nowhere"], "nowhere holds no model (no such folder): train.py -e 100"),
        (["--init_from", "DATASET"], "holds no model (it is a data set): name the folder"),
        (["-d", "no where"], "(no such folder): preprocess.py -i <midi folder> -o 'no where'"),
        (["-d", r"..\data"], "folders are divided by /, not "),
        (["-d", "MUSIC"], "(it is a folder of MIDI files): preprocess.py -i "),
        (["-d", "DATASET/dataset.json"], "(it is a file): name its folder, "),
        (["-s", "DATASET/tokens.npy/model"], "tokens.npy is a file: -s takes"),
        (["-s", "DATASET"], "is a data set: -s takes a folder of its own for the model"),
        (["-s", "MUSIC"], "is a folder of MIDI files: -s takes a folder of its own"),
        (["-d", "song.mid"], "(no such folder): preprocess.py -i <midi folder> -o song.mid"),
        (["--precision", "half"], "--precision is 'half': it must be one of auto, float32, "),
        (["--patience", "0"], "--patience is 0: it must be at least 1"),
        (["--parameters", "DATASET/dataset.json"], "must be a JSON object"),
        (["--parameters", "none.json"], "No such file or directory: --parameters takes a file"),
        (["--parameters", "DATASET/tokens.npy"], "tokens.npy is not UTF-8 text"),
    ],
)
def test_bad_input_is_one_line(dataset, midi_folder, parameters, tmp_path, capsys, options, said):
    places = {"DATASET": str(dataset), "MUSIC": str(midi_folder)}
    options = [re.sub("DATASET|MUSIC", lambda name: places[name[0]], text) for text in options]
    arguments = ["-e", "1", "-s", str(tmp_path / "new"), "-d", str(dataset)]
    arguments += ["--parameters", str(parameters), *options]
    assert script.main(arguments) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("midinet: ")
    assert errors.count("\n") == 1
    assert said in errors
    assert not (tmp_path / "new").exists()


def test_options_are_checked_without_tensorflow(dataset, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import train; "
        "train.main(); print('tensorflow' in sys.modules)"
    )
    for mistake in (["-d", "nowhere"], ["--parameters", "nowhere"], ["--init_from", "nowhere"]):
        command = [sys.executable, "-c", code, str(SCRIPT.parent), "-e", "1", "-d", str(dataset)]
        result = subprocess.run(
            [*command, *mistake], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "nowhere" in result.stderr
        assert result.stdout.strip() == "False"


def test_a_full_disk_is_not_taken_for_full_memory(
    dataset, parameters, tmp_path, monkeypatch, capsys
):
    def run(*_):
        # What TensorFlow says when its log does not fit.
        raise tf.errors.ResourceExhaustedError(None, None, "logs/train; No space left on device")

    monkeypatch.setattr("midinet.training.train.Trainer.run", run)
    arguments = ["-e", "1", "-s", str(tmp_path), "-d", str(dataset)]
    assert script.main([*arguments, "--parameters", str(parameters)]) == 1
    errors = capsys.readouterr().err
    assert f"{tmp_path} can't be written: the disk is full: make room; then resume with: " in errors
    assert "--restore" in errors


@pytest.mark.usefixtures("without_pictures")
def test_the_parameters_of_a_model_serve_as_they_are(dataset, undisturbed, tmp_path, capsys):
    options = ["-d", str(dataset), "--parameters", str(undisturbed / "parameters.json")]
    options += ["--init_from", str(undisturbed), "-s", str(tmp_path / "finer")]
    assert script.main(["-e", "1", *options]) == 0
    assert open_model(tmp_path / "finer").parameters == TINY


def test_parameters_saved_by_an_editor_of_windows_are_read(tmp_path):
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(TINY.to_dict(), indent=2), encoding="utf-8-sig", newline="\r\n")
    assert Parameters.load(path) == TINY


@pytest.mark.parametrize("text", ["", "{'batch_size': 2}", '{"batch_size": 2,}', "[" * 100_000])
def test_what_is_not_json_is_said(tmp_path, text):
    (tmp_path / "parameters.json").write_text(text)
    with pytest.raises(ParametersError, match=r"parameters\.json is not JSON: "):
        Parameters.load(tmp_path / "parameters.json")


def test_a_folder_that_can_not_be_written_is_one_line(dataset, parameters, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    arguments = ["-e", "1", "-s", str(tmp_path / "file" / "model"), "-d", str(dataset)]
    assert script.main([*arguments, "--parameters", str(parameters)]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert str(tmp_path / "file") in errors
