"""Where training runs: one device, all GPUs, several machines; and in which precision."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from midinet.backend import keras, tf
from midinet.errors import OptionError, TrainingError
from midinet.training.options import PRECISIONS

# GPUs of these compute capabilities have fast units for the format.
BFLOAT16_CAPABILITY = (8, 0)
FLOAT16_CAPABILITY = (7, 0)


def choose_strategy() -> tf.distribute.Strategy:
    """Chooses the devices to train on.

    They are those of the strategy in whose scope this is called, if there is one; else the machines
    of TF_CONFIG, else all GPUs of this machine, else its one device.

    Raises:
        TrainingError: TF_CONFIG is not what TensorFlow understands.
    """
    if tf.distribute.has_strategy():
        return tf.distribute.get_strategy()
    if os.environ.get("TF_CONFIG"):
        try:
            workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
            if isinstance(workers, list) and len(workers) > 1:
                return tf.distribute.MultiWorkerMirroredStrategy()
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"TF_CONFIG does not describe a cluster of workers ({error!r}): it looks like "
                '{"cluster": {"worker": ["host:port", ...]}, '
                '"task": {"type": "worker", "index": 0}}'
            ) from error
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def worker_rank_and_count(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """The number of this process among the workers, from 0, and how many workers there are."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return 0, 1
    return resolver.task_id, resolver.cluster_spec().num_tasks("worker")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files and prints."""
    return worker_rank_and_count(strategy)[0] == 0


def broadcast_from_chief(strategy: tf.distribute.Strategy, array: np.ndarray) -> np.ndarray:
    """Gives every worker the chief's array; all call it with arrays of the same shape and type."""
    if worker_rank_and_count(strategy)[1] == 1:
        return array
    nothing = np.zeros_like(array)

    def part(context: tf.distribute.distribute_lib.ValueContext) -> np.ndarray:
        return array if context.replica_id_in_sync_group == 0 else nothing

    parts = strategy.experimental_distribute_values_from_function(part)
    total: np.ndarray = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()
    return total


def broadcast_json_from_chief(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """Gives every worker the chief's JSON value; the values of the others are ignored."""
    text = json.dumps(value).encode() if is_chief(strategy) else b""
    size = int(broadcast_from_chief(strategy, np.array(len(text), np.int64)))
    # int32: the sums that carry it are not made for bytes.
    letters = np.zeros(size, np.int32)
    letters[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(broadcast_from_chief(strategy, letters).astype(np.uint8).tobytes())


def compiles_by_xla() -> bool:
    """Whether XLA compiles the steps: as Keras does by default, for a GPU, and not for a CPU.

    With several GPUs the steps are compiled without it.
    """
    return len(tf.config.list_logical_devices("GPU")) == 1


def choose_precision(precision: str) -> str:
    """Replaces "auto" by the fastest precision: half precision on GPUs that are fast at it.

    Raises:
        OptionError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}: it must be one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min((d.get("compute_capability") or (0, 0) for d in details), default=(0, 0))
    if capability >= BFLOAT16_CAPABILITY:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= FLOAT16_CAPABILITY else "float32"


@contextlib.contextmanager
def precision_policy(precision: str) -> Iterator[None]:
    """Makes layers built in the block compute in a precision; weights are float32 in each."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class BatchSharding:
    """How the rows of a global batch are divided among the processes and their devices.

    Each device gets the same number of rows. If they can't be divided evenly, the last devices get
    padding rows, whose weights are 0.

    Attributes:
        rows: the rows of the global batch that this process gets.
    """

    def __init__(self, strategy: tf.distribute.Strategy, batch_size: int):
        self._strategy = strategy
        self._rows_per_device = -(-batch_size // strategy.num_replicas_in_sync)
        rank, num_workers = worker_rank_and_count(strategy)
        devices = strategy.num_replicas_in_sync // num_workers
        first = rank * devices * self._rows_per_device
        self.rows = slice(first, first + devices * self._rows_per_device)

    def shard(self, batch: tuple[tf.Tensor, ...]) -> tuple[object, ...]:
        """Divides this process' arrays `(rows, ...)` into `(rows_per_device, ...)` per device."""
        if self._strategy.num_replicas_in_sync == 1:
            return batch
        return tuple(self._per_device(array) for array in batch)

    def _per_device(self, array: tf.Tensor) -> object:
        size = self._rows_per_device

        def part(context: tf.distribute.distribute_lib.ValueContext) -> np.ndarray:
            start = context.replica_id_in_sync_group * size - self.rows.start
            rows = array.numpy()[start : start + size]
            # Where the weights are 0, everything else may be anything.
            return np.pad(rows, ((0, size - len(rows)), *((0, 0),) * (rows.ndim - 1)))

        return self._strategy.experimental_distribute_values_from_function(part)
