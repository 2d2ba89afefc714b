"""The training batches of an epoch as a tf.data.Dataset, made ahead in the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midinet.backend import tf
from midinet.data.batches import Batch, Windows, num_batches

_TOKENS_AT_ONCE = 1 << 14  # in the batches that are made at once


def dataset(
    windows: Windows,
    batch_size: int,
    first_batch: int = 0,
    rows: slice = slice(None),
    features: Callable[[Batch], Sequence[np.ndarray]] | None = None,
) -> tf.data.Dataset:
    """The batches of an epoch as a tf.data.Dataset, made ahead in the background.

    Args:
        windows: the epoch.
        batch_size: rows of the global batch.
        first_batch: the number of the batch to start with; those before it cost nothing.
        rows: the part of each global batch that this worker gets.
        features: computes further arrays, `(B, ...)` each, from a batch.

    Returns:
        A dataset of (inputs, targets, weights, *features).
    """
    num_rows = len(range(batch_size)[rows])
    end = num_batches(windows, batch_size)
    # Rows cost less when they are made together; see benchmarks/batches.py.
    group_size = max(1, _TOKENS_AT_ONCE // (num_rows * windows.sequence_length))

    def arrays_of(batch: Batch) -> tuple[np.ndarray, ...]:
        return (*batch[:3], *(features(batch) if features else ()))

    def make_group(first: np.int64) -> tuple[np.ndarray, ...]:
        """The arrays of several batches, with an axis for the batches in front."""
        numbers = range(int(first), min(int(first) + group_size, end))
        starts = (number * batch_size for number in numbers)
        made = windows.rows([row for s in starts for row in range(s, s + batch_size)[rows]])
        # TensorFlow never releases a function that it has called, nor what the function refers to:
        # without this a run would accumulate the plans of all its epochs.
        if numbers.stop == end:
            windows.forget()
        shape = (len(numbers), num_rows)
        return tuple(array.reshape(*shape, *array.shape[1:]) for array in arrays_of(made))

    padding = arrays_of(windows.rows([len(windows)]))
    types = [tf.as_dtype(array.dtype) for array in padding]

    def load_group(first: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(make_group, [first], types, stateful=False)
        return tuple(
            tf.ensure_shape(array, (None, num_rows, *example.shape[1:]))
            for array, example in zip(arrays, padding, strict=True)
        )

    groups = tf.data.Dataset.range(first_batch, end, group_size)
    batches = groups.map(load_group).unbatch()
    known_length = tf.data.experimental.assert_cardinality(max(0, end - first_batch))
    return batches.apply(known_length).prefetch(tf.data.AUTOTUNE)
