"""Loss and accuracy, summed over tokens: as a whole, and by kind of token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import KINDS, VOCAB_SIZE

_KIND_OF_TOKEN = np.zeros(VOCAB_SIZE, np.int32)
for _index, _kind in enumerate(KINDS.values()):
    _KIND_OF_TOKEN[_kind.first : _kind.end] = _index


@dataclasses.dataclass(frozen=True)
class MetricSums:
    """Sums over the target tokens of some batches that count: those with weight 1.

    Attributes:
        correct: how many of them the model held most likely.
        losses: for each of KINDS the sum of the cross-entropies, in nats.
        counts: for each of KINDS the number of tokens.
    """

    correct: float = 0.0
    losses: tuple[float, ...] = (0.0,) * len(KINDS)
    counts: tuple[float, ...] = (0.0,) * len(KINDS)

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> MetricSums:
        """Reads what `loss_and_accuracy_sums` returns, or `to_numbers`."""
        correct, *others = numbers
        return cls(correct, tuple(others[: len(KINDS)]), tuple(others[len(KINDS) :]))

    def to_numbers(self) -> list[float]:
        """All sums in one list, as a checkpoint stores them."""
        return [self.correct, *self.losses, *self.counts]

    def __add__(self, other: MetricSums) -> MetricSums:
        sums = zip(self.to_numbers(), other.to_numbers(), strict=True)
        return MetricSums.from_numbers([a + b for a, b in sums])

    @property
    def tokens(self) -> float:
        """The number of tokens."""
        return sum(self.counts)

    @property
    def mean_loss(self) -> float:
        """Cross-entropy in nats per token."""
        return sum(self.losses) / max(self.tokens, 1.0)

    @property
    def loss_per_note(self) -> float:
        """Cross-entropy of all tokens in nats per NOTE_ON."""
        return sum(self.losses) / max(self.counts[0], 1.0)

    @property
    def accuracy(self) -> float:
        """Share of tokens that the model held most likely, 0 to 1."""
        return self.correct / max(self.tokens, 1.0)

    def loss_by_kind(self) -> dict[str, float]:
        """Cross-entropy in nats per token of each kind that occurs."""
        rows = zip(KINDS, self.losses, self.counts, strict=True)
        return {kind: loss / count for kind, loss, count in rows if count}


def loss_and_accuracy_sums(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sums over the targets of weight 1, in the order of `MetricSums.to_numbers`: float32.

    Args:
        logits: float32 `(B, T, V)`.
        targets: int32 `(B, T)`.
        weights: float32 `(B, T)`, 0 where a target does not count.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits) * weights
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), targets)
    is_kind = tf.one_hot(tf.gather(_KIND_OF_TOKEN, targets), len(KINDS))
    correct = tf.reduce_sum(tf.cast(hits, tf.float32) * weights)
    return tf.concat(
        [
            [correct],
            tf.einsum("bt,btk->k", losses, is_kind),
            tf.einsum("bt,btk->k", weights, is_kind),
        ],
        axis=0,
    )
