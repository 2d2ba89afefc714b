"""The model released in 2021: opened from its numbers alone, with the logits it always gave."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from midinet.backend import tf
from midinet.errors import ModelError
from midinet.model.music_transformer import open_model
from midinet.training.train import train

V, D, L, H, F, BLOCKS = 517, 12, 20, 3, 10, 2
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def released_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under the keys of the released SavedModel."""
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "layer_with_weights-0/embeddings": weight(V, D),
        "layer_with_weights-1/embeddings": weight(L, D),
        f"layer_with_weights-{2 + 4 * BLOCKS}/kernel": weight(D, V),
        f"layer_with_weights-{2 + 4 * BLOCKS}/bias": weight(V),
    }
    for block in range(BLOCKS):
        layer, offset = 2 + 4 * block, 2 + 17 * block
        weights[f"layer_with_weights-{layer}/emb"] = weight(L, D // H)
        for number in (1, 3, 5, 7):
            weights[f"variables/{offset + number}"] = weight(D, D)
            weights[f"variables/{offset + number + 1}"] = weight(D)
        weights[f"variables/{offset + 11}"], weights[f"variables/{offset + 12}"] = (
            weight(D, F),
            weight(F),
        )
        weights[f"variables/{offset + 13}"], weights[f"variables/{offset + 14}"] = (
            weight(F, D),
            weight(D),
        )
        for norm in (1, 3):
            weights[f"layer_with_weights-{layer + norm}/gamma"] = 1 + weight(D)
            weights[f"layer_with_weights-{layer + norm}/beta"] = weight(D)
    return weights


def checkpoint_names(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights under the keys of a 2021 checkpoints folder."""
    names = {}
    for block in range(BLOCKS):
        layer, offset = 2 + 4 * block, 2 + 17 * block
        parts = ["query_dense", "key_dense", "value_dense", "combine_heads"]
        dense = {1 + 2 * i: f"layer_with_weights-{layer}/{name}" for i, name in enumerate(parts)}
        for i in range(2):
            name = f"layer_with_weights-{layer + 2}/layer_with_weights-{i}"
            dense[11 + 2 * i] = name
        for number, name in dense.items():
            names[f"variables/{offset + number}"] = f"{name}/kernel"
            names[f"variables/{offset + number + 1}"] = f"{name}/bias"
    return {"model/" + names.get(key, key): array for key, array in weights.items()}


def write_checkpoint(path: Path, weights: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    others = {"optimizer/iter": np.int64(7), "_CHECKPOINTABLE_OBJECT_GRAPH": b"\x00garbage"}
    slot = "layer_with_weights-0/embeddings/.OPTIMIZER_SLOT/optimizer/m"
    others[slot + SUFFIX] = np.zeros((V, D), np.float32)
    tensors = {key + SUFFIX: array for key, array in weights.items()} | others
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(array) for array in tensors.values()],
    )


def write_released(folder: Path, weights: dict[str, np.ndarray]) -> Path:
    write_checkpoint(folder / "variables" / "variables", weights)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


def logits_by_hand(w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """The model's equations, written out for one sequence in numpy."""
    T, d = len(ids), D // H

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return centred / scale * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def dense(x: np.ndarray, number: int) -> np.ndarray:
        return x @ w[f"variables/{number}"] + w[f"variables/{number + 1}"]

    x = w["layer_with_weights-0/embeddings"][ids] + w["layer_with_weights-1/embeddings"][:T]
    for block in range(BLOCKS):
        layer, offset = 2 + 4 * block, 2 + 17 * block
        q, k, v = (dense(x, offset + number) for number in (1, 3, 5))
        E = w[f"layer_with_weights-{layer}/emb"]
        heads = np.zeros((T, D))
        for head in range(H):
            part = slice(head * d, (head + 1) * d)
            for i in range(T):
                scores = [
                    (q[i, part] @ k[j, part] + q[i, part] @ E[L - 1 - (i - j)]) / np.sqrt(d)
                    for j in range(i + 1)
                ]
                weights = np.exp(scores - np.max(scores))
                heads[i, part] = weights @ v[: i + 1, part] / weights.sum()
        x = norm(x + dense(heads, offset + 7), f"layer_with_weights-{layer + 1}")
        hidden = np.maximum(dense(x, offset + 11), 0)
        x = norm(x + dense(hidden, offset + 13), f"layer_with_weights-{layer + 3}")
    top = f"layer_with_weights-{2 + 4 * BLOCKS}"
    return x @ w[f"{top}/kernel"] + w[f"{top}/bias"]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return write_released(tmp_path / "midinet model trained", released_weights())


def test_gives_the_logits_of_its_equations(released):
    model = open_model(released)
    ids = np.random.default_rng(1).integers(0, V, (2, L))
    expected = np.stack([logits_by_hand(released_weights(), row) for row in ids])
    np.testing.assert_allclose(model(ids), expected, atol=1e-4)


def test_hyperparameters_follow_from_the_shapes(released):
    model = open_model(released)
    parameters = model.parameters
    assert (parameters.embedding_size, parameters.sequence_length) == (D, L)
    assert (parameters.num_heads, parameters.feed_forward_dim) == (H, F)
    assert parameters.num_blocks == BLOCKS
    assert model.codec.drum_program is None


def test_nothing_but_the_numbers_is_read(released):
    before = open_model(released)(np.zeros((1, 4), int))
    (released / "saved_model.pb").write_bytes(os.urandom(1000))
    (released / "keras_metadata.pb").write_bytes(b"\x80\x04cos\nsystem\n")
    np.testing.assert_array_equal(open_model(released)(np.zeros((1, 4), int)), before)


def test_opens_the_newest_checkpoint_of_a_checkpoints_folder(tmp_path):
    for number, seed in ((9, 3), (10, 4)):
        weights = checkpoint_names(released_weights(seed))
        write_checkpoint(tmp_path / "checkpoints" / f"ckpt-{number}", weights)
    ids = np.arange(8)[None]
    logits = open_model(tmp_path / "checkpoints")(ids)
    np.testing.assert_allclose(logits[0], logits_by_hand(released_weights(4), ids[0]), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("variables/5"), r"variables/5/\S+ is missing"),
        (
            lambda w: w.pop("layer_with_weights-10/bias"),
            r"layer_with_weights-10/bias\S+ is missing",
        ),
        (lambda w: w.pop("layer_with_weights-0/embeddings"), r"-0/embeddings\S+ is missing"),
        (
            lambda w: w.update({"variables/13": np.zeros((D, F + 1), np.float32)}),
            rf"variables/14/\S+ has the shape \[{F}\], but the other variables require \[{F + 1}\]",
        ),
        (
            lambda w: w.update({"layer_with_weights-6/emb": np.zeros((L, 5), np.float32)}),
            r"layer_with_weights-6/emb\S+ has the shape",
        ),
        (
            lambda w: w.update({"layer_with_weights-0/embeddings": np.zeros((99, D), np.float32)}),
            "vocab_size is 99",
        ),
    ],
)
def test_the_first_wrong_variable_is_named(tmp_path, change, message):
    weights = released_weights()
    change(weights)
    with pytest.raises(ModelError, match=message):
        open_model(write_released(tmp_path / "model", weights))


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_damaged_files_are_a_clear_error(released, name):
    path = released / "variables" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(ModelError, match="can't be read"):
        open_model(released)


@pytest.mark.usefixtures("without_pictures")
def test_can_be_trained_further(released, dataset, tmp_path):
    parameters = open_model(released).parameters
    parameters = dataclasses.replace(parameters, learning_rate=1e-9, batch_size=64)
    train(1, tmp_path / "tuned", dataset, parameters=parameters, init_from=released)
    ids = np.arange(6)[None]
    tuned = open_model(tmp_path / "tuned")
    np.testing.assert_allclose(tuned(ids), open_model(released)(ids), atol=1e-4)
    assert tuned.codec.drum_program is not None  # that of the data set


SAMPLE = os.environ.get("MIDINET_RELEASED_SAMPLE", "")


@pytest.mark.skipif(not SAMPLE, reason="MIDINET_RELEASED_SAMPLE names no folder")
def test_a_model_written_by_tensorflow_2_15_gives_its_logits(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(SAMPLE, folder)
    logits = open_model(folder)(np.load(folder / "inputs.npy"))
    np.testing.assert_allclose(logits, np.load(folder / "logits.npy"), atol=1e-4)
