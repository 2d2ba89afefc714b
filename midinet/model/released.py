"""Opens the model released in 2021: a TensorFlow SavedModel, or a folder of its checkpoints.

Only the weights in the checkpoint files are read; the graph and the code beside them
(saved_model.pb, keras_metadata.pb) are ignored. Every hyperparameter follows from the shapes of
the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from midinet.backend import tf
from midinet.codec.settings import CodecSettings
from midinet.errors import ModelError, ParametersError
from midinet.model.parameters import Parameters

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_TOP = "layer_with_weights-"
# TensorFlow raises different errors for damaged files, depending on where the damage is.
_READ_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
# Its training data did not distinguish percussion from melodic notes, nor knew volumes.
_CODEC = CodecSettings(drum_program=None, volume=False)


def find_released(folder: Path) -> str | None:
    """Finds the checkpoint in a folder of 2021: its path without endings, or None.

    A SavedModel keeps it in variables/; in a folder of several checkpoints it is the newest.
    """
    if (folder / "variables" / "variables.index").is_file():
        return str(folder / "variables" / "variables")
    numbered = [
        (int(match[1]), str(path.with_suffix("")))
        for path in folder.glob("ckpt-*.index")
        if (match := re.fullmatch(r"ckpt-(\d+)", path.stem))
    ]
    return max(numbered)[1] if numbered else None


class ReleasedModel:
    """A checkpoint of 2021: its hyperparameters and codec settings, and its weights to copy.

    Attributes:
        parameters: the hyperparameters, which follow from the shapes of the weights.
        codec: what its tokens mean.

    Raises:
        ModelError: the files are damaged, or a weight is missing or has the wrong shape.
    """

    def __init__(self, checkpoint: str) -> None:
        """Opens a checkpoint, given its path without endings, as `find_released` returns it."""
        self._checkpoint = checkpoint
        try:
            self._reader = tf.train.load_checkpoint(checkpoint)
            self._shapes = self._reader.get_variable_to_shape_map()
        except _READ_ERRORS as error:
            raise ModelError(f"{checkpoint}.index can't be read: {error}") from error
        is_prefixed = any(key.startswith(f"model/{_TOP}0/") for key in self._shapes)
        prefix = "model/" if is_prefixed else ""
        tables = re.compile(rf"{prefix}{_TOP}\d+/emb{re.escape(_SUFFIX)}")
        num_blocks = sum(bool(tables.fullmatch(key)) for key in self._shapes)
        keys = _keys(num_blocks, prefix)
        self._keys = {name: prefix + key + _SUFFIX for name, key in keys.items()}
        self.codec = _CODEC
        self.parameters = self._read_parameters(num_blocks)

    def _read_parameters(self, num_blocks: int) -> Parameters:
        vocab_size, embedding_size = self._shape("token_embedding", 2)
        sequence_length, _ = self._shape("position_embedding", 2)
        _, head_dim = self._shape("block_0/relative_embedding", 2)
        _, feed_forward_dim = self._shape("block_0/feed_forward_1/kernel", 2)
        try:
            return Parameters(
                vocab_size=vocab_size,
                embedding_size=embedding_size,
                sequence_length=sequence_length,
                num_blocks=num_blocks,
                num_heads=embedding_size // head_dim if head_dim else 0,
                feed_forward_dim=feed_forward_dim,
            )
        except ParametersError as error:
            raise ModelError(f"{self._checkpoint}: {error}") from error

    def _shape(self, name: str, num_axes: int) -> list[int]:
        shape = self._shapes.get(self._keys.get(name, ""))
        if shape is None or len(shape) != num_axes:
            found = "missing" if shape is None else f"of shape {list(shape)}"
            raise ModelError(
                f"{self._checkpoint}: the variable {self._keys.get(name, name)} is {found}; "
                "this is not the model released in 2021, or not all of it"
            )
        return list(shape)

    def copy_to(self, variables: Mapping[str, Any]) -> None:
        """Assigns the weights to a model's variables, by `MusicTransformer.weights_by_name`."""
        for name, variable in variables.items():
            expected = list(variable.shape)
            found = self._shape(name, len(expected))
            if found != expected:
                raise ModelError(
                    f"{self._checkpoint}: the variable {self._keys[name]} has the shape {found}, "
                    f"but the other variables require {expected}"
                )
        try:
            for name, variable in variables.items():
                variable.assign(self._reader.get_tensor(self._keys[name]).astype(np.float32))
        except _READ_ERRORS as error:
            raise ModelError(f"{self._checkpoint}.data-* can't be read: {error}") from error


def _keys(num_blocks: int, prefix: str) -> dict[str, str]:
    """The key of each weight in the file, by its name in `MusicTransformer.weights_by_name`.

    A SavedModel numbers the variables of composite layers consecutively (`variables/N`); a
    training checkpoint, whose keys have the prefix, names the layers instead.
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
