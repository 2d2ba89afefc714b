"""The nine hyperparameters, which fix a model's shape and training, and their JSON file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from midinet.codec.vocabulary import VOCAB_SIZE
from midinet.errors import ParametersError

# Beyond any machine's memory: a typing error should be reported before memory runs out.
MAX_VALUE = 1 << 24


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The hyperparameters; the defaults are those of the model released in 2021.

    Attributes:
        vocab_size: number of tokens V; always the vocabulary's.
        embedding_size: width of the model D.
        sequence_length: longest context L, in tokens.
        num_blocks: decoder blocks.
        num_heads: attention heads H; must divide embedding_size.
        feed_forward_dim: width of the feed-forward layer.
        dropout: share of activations dropped in training, 0 <= dropout < 1.
        learning_rate: peak of the learning-rate schedule.
        batch_size: sequences per training step, over all devices.

    Raises:
        ParametersError: a value has the wrong type or is impossible.
    """

    vocab_size: int = VOCAB_SIZE
    embedding_size: int = 512
    sequence_length: int = 2048
    num_blocks: int = 6
    num_heads: int = 8
    feed_forward_dim: int = 1024
    dropout: float = 0.1
    learning_rate: float = 0.0001
    batch_size: int = 2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float):
                self._require(
                    isinstance(value, (int, float))
                    and not isinstance(value, bool)
                    and math.isfinite(value),
                    field.name,
                    "a number",
                )
                object.__setattr__(self, field.name, float(value))
            else:
                self._require(
                    isinstance(value, int) and not isinstance(value, bool),
                    field.name,
                    "a whole number",
                )
                self._require(0 < value <= MAX_VALUE, field.name, f"from 1 to {MAX_VALUE}")
        self._require(self.vocab_size == VOCAB_SIZE, "vocab_size", f"{VOCAB_SIZE}, the vocabulary")
        self._require(self.sequence_length >= 2, "sequence_length", "at least 2")
        self._require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")
        self._require(0 < self.learning_rate <= 1, "learning_rate", "above 0 and at most 1")
        if self.embedding_size % self.num_heads:
            raise ParametersError(
                f"num_heads {self.num_heads} does not divide embedding_size {self.embedding_size}: "
                "choose a number of heads that does"
            )

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ParametersError(f"{name} is {getattr(self, name)!r}: it must be {rule}")

    @property
    def head_dim(self) -> int:
        """Width of one head d = D / H."""
        return self.embedding_size // self.num_heads

    def to_dict(self) -> dict[str, int | float]:
        """The hyperparameters by name, as parameters.json holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Parameters:
        """Makes hyperparameters from a dictionary; missing ones have their defaults.

        Raises:
            ParametersError: not a dictionary, an unknown name or an impossible value.
        """
        if not isinstance(values, dict):
            raise ParametersError("the hyperparameters must be a JSON object of names and values")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ParametersError(
                f"unknown hyperparameter {unknown[0]!r}: known are {', '.join(known)}"
            )
        return cls(**values)

    @classmethod
    def load(cls, path: str | Path) -> Parameters:
        """Reads parameters.json, or the hyperparameters in the parameters.json of a model.

        Raises:
            ParametersError: the file is missing, is not JSON or holds an impossible value.
        """
        try:
            # utf-8-sig: editors on Windows write a byte order mark at the beginning.
            values = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ParametersError(
                f"{path} can't be read: {error.strerror or error}: --parameters takes a file like "
                "the parameters.json of the project"
            ) from error
        except UnicodeDecodeError as error:
            raise ParametersError(f"{path} is not UTF-8 text: save it in that encoding") from error
        except (ValueError, RecursionError) as error:
            raise ParametersError(f"{path} is not JSON: {error}") from error
        if isinstance(values, dict) and "format_version" in values:  # of a model folder
            values = values.get("parameters")
        try:
            return cls.from_dict(values)
        except ParametersError as error:
            raise ParametersError(f"{path}: {error}") from error
