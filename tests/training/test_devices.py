"""Many devices: the same losses as on one, whatever way the batch's rows are shared out."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from midinet.backend import keras
from midinet.errors import OptionError, TrainingError
from midinet.training.checkpoints import Checkpoints
from midinet.training.devices import choose_precision, choose_strategy, precision_policy
from midinet.training.train import train
from tests.conftest import leave_out_pictures
from tests.training.test_train import TINY

# No dropout, whose masks differ between devices; rows that don't come out even.
PARAMETERS = dataclasses.replace(TINY, dropout=0.0, batch_size=7)
EPOCHS = 1

TRAIN = """
import contextlib, json, os, sys
from midinet import Parameters, train
from midinet.backend import tf
from midinet.training import loop
for name in ("_draw_training_curves", "_log_sample"):  # as `without_pictures`
    setattr(loop.Trainer, name, lambda *_: None)
devices = int(os.environ.get("DEVICES", "1"))
scope = contextlib.nullcontext()
if devices > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * devices,
    )
    scope = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)]).scope()
folder, dataset, parameters, epochs = sys.argv[1:]
with scope:
    history = train(
        int(epochs), folder, dataset, restore=True, parameters=Parameters(**json.loads(parameters)),
        checkpoint_every_minutes=0,
    )
print(json.dumps(history))
"""


def start(folder, dataset, epochs=EPOCHS, **environment):
    arguments = [folder, dataset, json.dumps(PARAMETERS.to_dict()), epochs]
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def history_of(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def test_a_process_leaves_the_memory_of_a_gpu_that_it_does_not_need_to_others():
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.fixture(scope="module")
def on_one(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        return train(EPOCHS, folder, dataset, parameters=PARAMETERS)


def assert_same_curve(history, expected):
    assert len(history) == len(expected)
    for entry, wanted in zip(history, expected, strict=True):
        for name in ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate", "step"):
            assert entry[name] == pytest.approx(wanted[name], abs=1e-4)


def test_two_devices_learn_what_one_learns(on_one, dataset, tmp_path):
    assert_same_curve(history_of(start(tmp_path, dataset, DEVICES="2")), on_one)


def start_workers(folders, dataset, epochs):
    """One process per folder, of which only the first is used."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in folders]
    cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in with_ports]}
    for server in with_ports:
        server.close()
    configurations = (
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        for index in range(len(folders))
    )
    return [
        start(folder, dataset, epochs, TF_CONFIG=configuration)
        for folder, configuration in zip(folders, configurations, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_workers_learn_what_one_learns_and_survive_each_other(on_one, dataset, tmp_path, count):
    folders = [tmp_path / f"worker {index}" for index in range(count)]
    workers = start_workers(folders, dataset, EPOCHS)
    while len(Checkpoints(folders[0] / "checkpoints").paths()) < 3:
        assert all(worker.poll() is None for worker in workers), workers[0].communicate()
        time.sleep(0.05)
    workers[-1].kill()
    workers[-1].communicate()
    for worker in workers[:-1]:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode != 0
        assert "another worker stopped: start all of them again with --restore" in errors
    workers = start_workers(folders, dataset, EPOCHS)
    for worker in workers:
        assert_same_curve(history_of(worker), on_one)
    assert [folder.exists() for folder in folders] == [True] + [False] * (count - 1)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {}}'])
def test_a_tf_config_that_makes_no_sense_is_a_clear_error(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TrainingError, match="TF_CONFIG does not describe"):
        choose_strategy()


def test_precision():
    assert choose_precision("auto") == "float32"  # on a CPU
    with pytest.raises(OptionError, match="'half'"):
        choose_precision("half")
    with precision_policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.layers.Dense(1).compute_dtype == "float32"


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "options",
    [{"precision": "mixed_bfloat16"}, {"precision": "mixed_float16"}, {"save_memory": True}],
    ids=str,
)
def test_other_ways_to_compute_learn_the_same(dataset, on_one, tmp_path, options):
    history = train(EPOCHS, tmp_path, dataset, parameters=PARAMETERS, **options)
    exact = "save_memory" in options
    for entry, expected in zip(history, on_one, strict=True):
        assert entry["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5 if exact else 0.01)
