"""Opens the model released in 2021: a TensorFlow SavedModel, or a folder of its checkpoints.

Only the numbers in the checkpoint files are read; the graph and the code beside them
(saved_model.pb, keras_metadata.pb) are never looked at. Every hyperparameter follows from the
shapes of the weights.

Axes: V vocabulary, L sequence length, D embedding, d width of a head, F feed-forward.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from midinet.backend import tf
from midinet.codec.settings import CodecSettings
from midinet.errors import ModelError, ParametersError
from midinet.model.parameters import Parameters

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_TOP = "layer_with_weights-"
# What TensorFlow raises over damaged files depends on where the damage is.
_READ_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
# Its tokens were written without regard to percussion.
_CODEC = CodecSettings(drum_program=None)


def find_released(folder: Path) -> str | None:
    """The checkpoint in a folder of 2021, as a path without its endings, or None.

    A SavedModel keeps it in variables/; of a folder of checkpoints the newest counts.
    """
    if (folder / "variables" / "variables.index").is_file():
        return str(folder / "variables" / "variables")
    numbered = [
        (int(match[1]), str(path.with_suffix("")))
        for path in folder.glob("ckpt-*.index")
        if (match := re.fullmatch(r"ckpt-(\d+)", path.stem))
    ]
    return max(numbered)[1] if numbered else None


def read_released(checkpoint: str) -> tuple[Parameters, CodecSettings, dict[str, np.ndarray]]:
    """Reads a checkpoint of 2021.

    Args:
        checkpoint: its path without endings, as `find_released` gives it.

    Returns:
        The hyperparameters, the codec settings, and the weights by the names of
        `MusicTransformer.weights_by_name`.

    Raises:
        ModelError: the files are damaged, or a weight is missing or has the wrong shape.
    """
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        shapes = reader.get_variable_to_shape_map()
    except _READ_ERRORS as error:
        raise ModelError(f"{checkpoint}.index can't be read: {error}") from error
    prefix = "model/" if any(key.startswith(f"model/{_TOP}0/") for key in shapes) else ""
    tables = re.compile(rf"{prefix}{_TOP}\d+/emb{re.escape(_SUFFIX)}")
    num_blocks = sum(bool(tables.fullmatch(key)) for key in shapes)
    keys = {name: prefix + key + _SUFFIX for name, key in _keys(num_blocks, prefix).items()}

    def shape_of(name: str, num_axes: int) -> list[int]:
        shape = shapes.get(keys.get(name, ""))
        if shape is None or len(shape) != num_axes:
            found = "missing" if shape is None else f"of shape {list(shape)}"
            raise ModelError(
                f"{checkpoint}: the variable {keys.get(name, name)} is {found}; "
                "this is not the model released in 2021, or not all of it"
            )
        return list(shape)

    vocab_size, embedding_size = shape_of("token_embedding", 2)
    sequence_length, _ = shape_of("position_embedding", 2)
    _, head_dim = shape_of("block_0/relative_embedding", 2)
    _, feed_forward_dim = shape_of("block_0/feed_forward_1/kernel", 2)
    try:
        parameters = Parameters(
            vocab_size=vocab_size,
            embedding_size=embedding_size,
            sequence_length=sequence_length,
            num_blocks=num_blocks,
            num_heads=embedding_size // head_dim if head_dim else 0,
            feed_forward_dim=feed_forward_dim,
        )
    except ParametersError as error:
        raise ModelError(f"{checkpoint}: {error}") from error

    for name, expected in _shapes(parameters).items():
        found = shape_of(name, len(expected))
        if found != expected:
            raise ModelError(
                f"{checkpoint}: the variable {keys[name]} has the shape {found}, "
                f"{expected} is right with the others"
            )
    try:
        weights = {name: reader.get_tensor(key).astype(np.float32) for name, key in keys.items()}
    except _READ_ERRORS as error:
        raise ModelError(f"{checkpoint}.data-* can't be read: {error}") from error
    return parameters, _CODEC, weights


def _keys(num_blocks: int, prefix: str) -> dict[str, str]:
    """Where each weight lies in the file, by our names.

    A SavedModel numbers the variables inside composite layers through (`variables/N`); a
    checkpoint, which has the prefix, names the layers instead.
    """
    keys = {
        "token_embedding": f"{_TOP}0/embeddings",
        "position_embedding": f"{_TOP}1/embeddings",
    }
    for block in range(num_blocks):
        first, variable = 2 + 4 * block, 2 + 17 * block
        keys[f"block_{block}/relative_embedding"] = f"{_TOP}{first}/emb"
        dense = {
            "query": (f"{_TOP}{first}/query_dense", variable + 1),
            "key": (f"{_TOP}{first}/key_dense", variable + 3),
            "value": (f"{_TOP}{first}/value_dense", variable + 5),
            "output": (f"{_TOP}{first}/combine_heads", variable + 7),
            "feed_forward_1": (f"{_TOP}{first + 2}/{_TOP}0", variable + 11),
            "feed_forward_2": (f"{_TOP}{first + 2}/{_TOP}1", variable + 13),
        }
        for name, (layer, number) in dense.items():
            for offset, part in enumerate(("kernel", "bias")):
                key = f"{layer}/{part}" if prefix else f"variables/{number + offset}"
                keys[f"block_{block}/{name}/{part}"] = key
        for name, layer_number in (("norm_1", first + 1), ("norm_2", first + 3)):
            for part in ("gamma", "beta"):
                keys[f"block_{block}/{name}/{part}"] = f"{_TOP}{layer_number}/{part}"
    for part in ("kernel", "bias"):
        keys[f"logits/{part}"] = f"{_TOP}{2 + 4 * num_blocks}/{part}"
    return keys


def _shapes(parameters: Parameters) -> dict[str, list[int]]:
    """The shape of each weight, by our names."""
    V, D = parameters.vocab_size, parameters.embedding_size
    L, F = parameters.sequence_length, parameters.feed_forward_dim
    shapes = {"token_embedding": [V, D], "position_embedding": [L, D]}
    for block in range(parameters.num_blocks):
        shapes[f"block_{block}/relative_embedding"] = [L, parameters.head_dim]
        for name in ("query", "key", "value", "output"):
            shapes[f"block_{block}/{name}/kernel"] = [D, D]
            shapes[f"block_{block}/{name}/bias"] = [D]
        shapes[f"block_{block}/feed_forward_1/kernel"] = [D, F]
        shapes[f"block_{block}/feed_forward_1/bias"] = [F]
        shapes[f"block_{block}/feed_forward_2/kernel"] = [F, D]
        shapes[f"block_{block}/feed_forward_2/bias"] = [D]
        for name in ("norm_1", "norm_2"):
            shapes[f"block_{block}/{name}/gamma"] = [D]
            shapes[f"block_{block}/{name}/beta"] = [D]
    shapes["logits/kernel"], shapes["logits/bias"] = [D, V], [V]
    return shapes
