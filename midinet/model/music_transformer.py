"""The music model: build it, save it to a model folder, open a model folder.

A model folder holds parameters.json (hyperparameters, codec settings, how it was trained) and
model.weights.h5. Opening one builds the model in code and loads the weights: nothing in the folder
is ever executed.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from midinet.backend import keras, tf
from midinet.codec.settings import CodecSettings
from midinet.errors import ModelError, OptionError, ParametersError
from midinet.folders import WEIGHTS_FILE, no_model
from midinet.model import music_state
from midinet.model.layers import DecoderBlock, TokenAndPositionEmbedding, fold_in
from midinet.model.meter import MeterHead, Onsets, onsets_of
from midinet.model.parameters import Parameters
from midinet.model.released import ReleasedModel, find_released

FORMAT_VERSION = 1
PARAMETERS_FILE = "parameters.json"
FILE_OVERHEAD = 1 << 20  # bytes; more than HDF5 adds to the weights


class ModelDescription(TypedDict):
    """What parameters.json of a model folder holds.

    Attributes:
        format_version: FORMAT_VERSION.
        parameters: the hyperparameters by name.
        codec: the codec settings by name.
        hears_state, has_meter_head: see MusicTransformer; models made before these do not say.
        training: how it was trained.
    """

    format_version: int
    parameters: dict[str, int | float]
    codec: dict[str, object]
    hears_state: NotRequired[bool]
    has_meter_head: NotRequired[bool]
    training: dict[str, Any]


class MusicTransformer(keras.Model):
    """A decoder of token sequences: ids `(B, T)` -> float32 logits `(B, T, V)`, T at most L.

    Attributes:
        parameters: the hyperparameters it was built from.
        codec: what its tokens mean (drum program, sustain).
        hears_state: whether the state of the music is added to its embedding.
        has_meter_head: whether the meter adds to its logits.
        history_of_training: how it was trained, as JSON values; empty for a new model.

    Source: Huang et al. 2018, "Music Transformer".
    """

    def __init__(
        self,
        parameters: Parameters,
        codec: CodecSettings,
        history: dict[str, Any] | None = None,
        save_memory: bool = False,
        hears_state: bool = False,
        has_meter_head: bool = False,
    ) -> None:
        # The beat is a float32 that half precision would blur, so inputs are not cast.
        super().__init__(name="music_transformer", autocast=False)
        self.parameters = parameters
        self.codec = codec
        self.history_of_training = dict(history or {})
        self.hears_state = hears_state
        self.has_meter_head = has_meter_head
        self._save_memory = save_memory
        self.embedding = TokenAndPositionEmbedding(
            parameters.vocab_size,
            parameters.sequence_length,
            parameters.embedding_size,
            name="embedding",
        )
        if hears_state:
            self.state_embedding = music_state.MusicStateEmbedding(
                parameters.embedding_size, name="state_embedding"
            )
        self.blocks = [
            DecoderBlock(parameters, name=f"block_{index}")
            for index in range(parameters.num_blocks)
        ]
        # float32: the loss and the samplers need the logits' whole precision.
        self.logits = keras.layers.Dense(parameters.vocab_size, dtype="float32", name="logits")
        if has_meter_head:
            self.meter_head = MeterHead(parameters.embedding_size, name="meter_head")

    def build(self, input_shape: Any = None) -> None:
        shape = (None, None, self.parameters.embedding_size)
        for layer in (*self.blocks, self.logits):
            layer.build(shape)
        self.built = True

    def call(
        self,
        ids: tf.Tensor,
        state: music_state.Features | None = None,
        onsets: Onsets | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the logits of the next token after each token.

        Args:
            ids: `(B, T)` tokens.
            state: the state of the music after each of them. None: they begin a song and have no
                metronome, so that everything else follows from them. A model that does not hear
                the state ignores it.
            onsets: of the notes that began in the window and before it, for the meter. None: those
                of the tokens.
            dropout_seed: `(2,)` int32: drop activations as in training. None: drop nothing.

        Returns:
            `(B, T, V)` float32 logits.
        """
        ids = tf.cast(ids, tf.int32)  # tokens are mostly uint16, which can't index a table
        if ids.shape[1] > self.parameters.sequence_length:
            raise OptionError(
                f"{ids.shape[1]} tokens: the model takes at most {self.parameters.sequence_length}"
            )
        features = self._state_of(ids) if self.hears_state and state is None else state
        x = self.embedding(ids)
        if self.hears_state:
            x += self.state_embedding(features)
        for index, block in enumerate(self.blocks):
            seed = None if dropout_seed is None else fold_in(dropout_seed, 2 * index)
            run = functools.partial(block.__call__, seed=seed)
            x = tf.recompute_grad(run)(x) if self._save_memory else run(x)
        logits = self.logits(x)
        if self.has_meter_head and features is not None:
            logits += self.meter_head(x, features, onsets or onsets_of(ids, features))
        return logits

    def _state_of(self, ids: tf.Tensor) -> music_state.Features:
        """The state of the music after each token of songs that begin with `ids`."""
        drum_program = -1 if self.codec.drum_program is None else self.codec.drum_program
        features: music_state.Features = music_state.token_features(ids, tf.constant(drum_program))
        return features

    def weights_by_name(self) -> dict[str, Any]:
        """The variables by the names that the sampler and the released format use for them."""
        named = {
            "token_embedding": self.embedding.token_embedding,
            "position_embedding": self.embedding.position_embedding,
            "logits/kernel": self.logits.kernel,
            "logits/bias": self.logits.bias,
        }
        if self.hears_state:
            embedding = self.state_embedding
            named["program_embedding"] = embedding.program_embedding
            named["velocity_embedding"] = embedding.velocity_embedding
            named["state_kernel"] = embedding.state_kernel
        if self.has_meter_head:
            named["meter_kernel"] = self.meter_head.meter_kernel
            named["meter_bias"] = self.meter_head.meter_bias
        for index, block in enumerate(self.blocks):
            attention = block.attention
            named[f"block_{index}/relative_embedding"] = attention.relative_embedding
            dense = {
                "query": attention.query,
                "key": attention.key,
                "value": attention.value,
                "output": attention.output_projection,
                "feed_forward_1": block.feed_forward_1,
                "feed_forward_2": block.feed_forward_2,
            }
            for name, layer in dense.items():
                named[f"block_{index}/{name}/kernel"] = layer.kernel
                named[f"block_{index}/{name}/bias"] = layer.bias
            for name, layer in {"norm_1": block.norm_1, "norm_2": block.norm_2}.items():
                named[f"block_{index}/{name}/gamma"] = layer.gamma
                named[f"block_{index}/{name}/beta"] = layer.beta
        return named


def build_model(
    parameters: Parameters,
    codec: CodecSettings | None = None,
    history: dict[str, Any] | None = None,
    save_memory: bool = False,
    hears_state: bool = False,
    has_meter_head: bool | None = None,
) -> MusicTransformer:
    """Makes a model with fresh random weights, all of its variables created.

    With `save_memory` the gradient recomputes each block's activations instead of storing them.
    With `hears_state` the state of the music is added to the embedding, and the meter to the
    logits unless `has_meter_head` says otherwise.
    """
    codec = codec or CodecSettings()
    has_meter_head = hears_state if has_meter_head is None else has_meter_head
    model = MusicTransformer(parameters, codec, history, save_memory, hears_state, has_meter_head)
    model.build()
    return model


def save_model(model: MusicTransformer, folder: str | Path) -> None:
    """Writes a model folder; a reader never sees a half-written file.

    Raises:
        OSError: the folder can't be made.
        ModelError: it can't be written; a model that was there before is unchanged.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    description: ModelDescription = {
        "format_version": FORMAT_VERSION,
        "parameters": model.parameters.to_dict(),
        "codec": model.codec.to_dict(),
        "hears_state": model.hears_state,
        "has_meter_head": model.has_meter_head,
        "training": model.history_of_training,
    }
    # Keras insists on the ending .weights.h5
    new_weights = folder / "new.weights.h5"
    new_parameters = folder / (PARAMETERS_FILE + ".new")
    needed = FILE_OVERHEAD + sum(
        4 * math.prod(weight.shape) for weight in model.weights_by_name().values()
    )
    if shutil.disk_usage(folder).free < needed:
        # Checked in advance, because an HDF5 file can't even be closed on a full disk.
        raise ModelError(
            f"{folder} can't be written: {needed >> 20} MiB are not free on the disk: make room"
        )
    try:
        model.save_weights(new_weights)
        new_parameters.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        new_weights.unlink(missing_ok=True)
        new_parameters.unlink(missing_ok=True)
        raise ModelError(f"{folder} can't be written: {error}") from error
    os.replace(new_weights, folder / WEIGHTS_FILE)
    os.replace(new_parameters, folder / PARAMETERS_FILE)


def open_model(folder: str | Path) -> MusicTransformer:
    """Opens a model folder, one of this project or one of the model released in 2021.

    Returns:
        A model from ids `(B, T)` to logits `(B, T, V)`, with `.parameters`, `.codec` and
        `.history_of_training`.

    Raises:
        ModelError: the folder holds no model, or a damaged one.
        OSError: a file of it may not be read.
    """
    folder = Path(folder)
    if not (folder / PARAMETERS_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        released = find_released(folder)
        if released:
            return _open_released(released)
        raise no_model(folder)
    parameters, codec, history, senses = _read_description(folder / PARAMETERS_FILE)
    model = build_model(parameters, codec, history, **senses)
    with open(folder / WEIGHTS_FILE, "rb"):
        pass  # if there is no permission to read it, the system's message is clearer than HDF5's
    try:
        model.load_weights(folder / WEIGHTS_FILE)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder / WEIGHTS_FILE} is damaged or belongs to another {PARAMETERS_FILE}: {error}"
        ) from error
    return model


def _open_released(checkpoint: str) -> MusicTransformer:
    """Builds the model released in 2021 from the weights in its checkpoint."""
    released = ReleasedModel(checkpoint)
    history = {"origin": "the model released in 2021"}
    model = build_model(released.parameters, released.codec, history)
    released.copy_to(model.weights_by_name())
    return model


def _read_description(
    path: Path,
) -> tuple[Parameters, CodecSettings, dict[str, Any], dict[str, bool]]:
    """Reads a model folder's hyperparameters, codec settings, history, and what it hears."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
        if version != FORMAT_VERSION:
            raise ModelError(
                f"{path} has format version {version!r}, this midinet reads {FORMAT_VERSION}"
            )
        parameters = Parameters.from_dict(description["parameters"])
        codec = CodecSettings.from_dict(description["codec"])
        history = dict(description.get("training", {}))
        # Older folders do not say.
        senses = {name: description.get(name, False) for name in ("hears_state", "has_meter_head")}
        for name, value in senses.items():
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}")
        if senses["has_meter_head"] and not senses["hears_state"]:
            raise ValueError("has_meter_head needs hears_state")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{path} does not describe a model: {error!r}") from error
    except ParametersError as error:
        raise ModelError(f"{path}: {error}") from error
    return parameters, codec, history, senses
