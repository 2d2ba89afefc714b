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
    """Picks the machines of TF_CONFIG, else all GPUs, else the one device; a strategy in whose
    scope this is called goes first.

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


def worker_place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """This process' number among the workers, and how many there are."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return 0, 1
    return resolver.task_id, resolver.cluster_spec().num_tasks("worker")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    return worker_place(strategy)[0] == 0


def from_chief(strategy: tf.distribute.Strategy, array: np.ndarray) -> np.ndarray:
    """Gives every worker the chief's array; all call it with arrays of the same shape and type."""
    if worker_place(strategy)[1] == 1:
        return array
    nothing = np.zeros_like(array)

    def part(context: tf.distribute.distribute_lib.ValueContext) -> np.ndarray:
        return array if context.replica_id_in_sync_group == 0 else nothing

    parts = strategy.experimental_distribute_values_from_function(part)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()


def json_from_chief(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """Gives every worker the chief's JSON value; the others' is not looked at."""
    text = json.dumps(value).encode() if is_chief(strategy) else b""
    size = int(from_chief(strategy, np.array(len(text), np.int64)))
    # int32: the sums that carry it are not made for bytes.
    letters = np.zeros(size, np.int32)
    letters[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(from_chief(strategy, letters).astype(np.uint8).tobytes())


def choose_precision(precision: str) -> str:
    """Turns "auto" into what this machine gains by: half precision on GPUs that are fast at it.

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
    """Layers made inside compute in this precision; their weights are float32 in all."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Sharing:
    """How the rows of a global batch are shared out to this process and its devices.

    Each device gets the same number of rows; if they don't come out even, the last devices' rows
    are filled up with rows of weight 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy, batch_size: int):
        self._strategy = strategy
        self._rows_per_device = -(-batch_size // strategy.num_replicas_in_sync)
        worker, num_workers = worker_place(strategy)
        devices = strategy.num_replicas_in_sync // num_workers
        first = worker * devices * self._rows_per_device
        self.rows = slice(first, first + devices * self._rows_per_device)

    def share_out(self, batch: tuple[tf.Tensor, ...]) -> tuple[object, ...]:
        """Turns this process' rows `(rows, T)` into one value a device `(rows_per_device, T)`."""
        if self._strategy.num_replicas_in_sync == 1:
            return batch
        return tuple(self._one_a_device(array) for array in batch)

    def _one_a_device(self, array: tf.Tensor) -> object:
        size = self._rows_per_device

        def part(context: tf.distribute.distribute_lib.ValueContext) -> np.ndarray:
            start = context.replica_id_in_sync_group * size - self.rows.start
            rows = array.numpy()[start : start + size]
            # Inputs and targets may be anything where the weights are 0.
            return np.pad(rows, ((0, size - len(rows)), (0, 0)))

        return self._strategy.experimental_distribute_values_from_function(part)
