"""Pieces are the same whether they are composed together, in groups or each on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec.vocabulary import DRUM_PROGRAM, PAD
from midinet.generation import piecewise, sampling
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.midi.tempo_map import TempoMap
from tests.generation.test_sampling import NOTHING, make_model


@pytest.mark.parametrize("may_end", [False, True])
def test_pieces_are_the_same_together_in_groups_and_each_on_its_own(monkeypatch, may_end):
    model = make_model(48, hears_state=True)
    # Percussion alone may end at any time: here some pieces do so long before the others.
    bias = model.weights_by_name()["logits/bias"].numpy()
    bias[PAD] += 2
    model.weights_by_name()["logits/bias"].assign(bias)
    rules = GrammarRules(programs=(DRUM_PROGRAM,) if may_end else None, may_end=may_end)
    settings = SamplingSettings(8, seed=5, rules=rules)
    sizes, batches = [], []
    stream = sampling.stream

    def watched(model, prompts, *arguments, **options):
        batches.append(len(prompts))
        return stream(model, prompts, *arguments, **options)

    monkeypatch.setattr(sampling, "stream", watched)
    made = []
    monkeypatch.setattr(piecewise, "_MIN_GROUP", 1)
    for small_bytes, cores in ((1 << 30, 2), (0, 2), (0, 1)):
        monkeypatch.setattr(piecewise, "_SMALL_BYTES", small_bytes)
        monkeypatch.setattr(piecewise, "_num_cores", lambda cores=cores: cores)
        metronomes = [TempoMap.constant(120)] * 3
        parts = list(
            piecewise.stream_pieces(
                model, [NOTHING] * 3, 300, settings=settings, metronomes=metronomes
            )
        )
        sizes.append([part.shape for part in parts])
        made.append(np.concatenate(parts, axis=1))
    assert batches == [1, 1, 1, 1, 2, 3]
    assert sizes[0] == sizes[1] == sizes[2]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])
    lengths = [len(sampling.trim_at_pad(piece)) for piece in made[0]]
    if may_end:
        assert min(lengths) + 24 < max(lengths) < 300
    else:
        assert lengths == [300] * 3


@pytest.mark.parametrize(
    ("cores", "pieces", "expected"),
    [(1, 16, [16]), (2, 1, [1]), (2, 4, [4]), (2, 9, [4, 5]), (64, 10, [5, 5])],
)
def test_a_large_model_composes_in_as_many_groups_as_cores_but_in_none_of_few_pieces(
    monkeypatch, cores, pieces, expected
):
    monkeypatch.setattr(piecewise, "_SMALL_BYTES", 0)
    monkeypatch.setattr(piecewise, "_num_cores", lambda: cores)
    groups = piecewise._groups(make_model(), pieces, "CPU:0")
    assert [len(group) for group in groups] == expected
    assert [piece for group in groups for piece in group] == list(range(pieces))


def test_a_gpu_composes_all_pieces_together():
    assert piecewise._groups(make_model(), 5, "GPU:0") == [range(5)]


def test_a_gpu_composes_only_what_takes_the_cpu_longer_than_compiling(monkeypatch):
    model = make_model()
    enough = int(piecewise._WORK_FOR_A_GPU / piecewise._num_weights(model)) + 1
    assert piecewise._device(model, enough) == "CPU:0", "no GPU"
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    assert piecewise._device(model, enough) == "GPU:0"
    assert piecewise._device(model, enough - 2) == "CPU:0"


# A second device of the CPU takes the place of the GPU.
_ON_TWO_DEVICES = """
import numpy as np
from midinet.backend import tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from midinet.generation import piecewise
from midinet.generation.settings import SamplingSettings
from midinet.midi.tempo_map import TempoMap
from tests.generation.test_sampling import NOTHING, make_model

pieces = []
for device in ("CPU:0", "CPU:1"):
    with tf.device(device):
        model = make_model(48, hears_state=True)
    assert model.weights_by_name()["token_embedding"].value.device.endswith(device)
    parts = piecewise.stream_pieces(
        model, [NOTHING] * 2, 60, settings=SamplingSettings(8, seed=5),
        metronomes=[TempoMap.constant(120)] * 2,
    )
    pieces.append(np.concatenate(list(parts), axis=1))
assert pieces[0].shape == (2, 60)
np.testing.assert_array_equal(*pieces)
"""


@pytest.mark.slow
def test_a_model_on_one_device_composes_on_another():
    command = [sys.executable, "-c", _ON_TWO_DEVICES]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], timeout=240)
