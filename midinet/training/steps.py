"""The heart of training: one batch forward and backward, summed over devices, clipped, applied.

Keras' `fit` is not used, because it can neither resume exactly in the middle of an epoch nor train
on several machines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from midinet.backend import tf, warn_if_xla_lacks_tools
from midinet.model.meter import Onsets
from midinet.model.music_state import Features
from midinet.model.music_transformer import MusicTransformer
from midinet.training.devices import BatchSharding
from midinet.training.metrics import MetricSums, loss_and_accuracy_sums
from midinet.training.optimizer import Adam, clip

# After so many steps without overflow, float16's gradients are scaled up further.
STEPS_PER_LOSS_SCALE = 1000

# Far more than a model's dropouts, so that no two devices share a mask.
DEVICE_STRIDE = 1 << 16

# Inputs, targets and weights; for a model that hears the state, the fields of Features and Onsets.
Batch = tuple[tf.Tensor, ...]


class StepResult(NamedTuple):
    """What a training step reports: its sums, and the gradients' norm before clipping."""

    sums: MetricSums
    gradient_norm: float


class Steps:
    """The training step and the validation step of a model, compiled when they are first called.

    Args:
        model: made in the scope of `strategy`.
        optimizer: made in the same scope.
        strategy: the devices.
        sharding: how a batch is divided among them.
        xla: whether to compile by XLA. If it can't, a warning says so, and the steps are compiled
            without it.
    """

    def __init__(
        self,
        model: MusicTransformer,
        optimizer: Adam,
        strategy: tf.distribute.Strategy,
        sharding: BatchSharding,
        xla: bool,
    ):
        self._model = model
        self._variables = [variable.value for variable in model.trainable_variables]
        self._optimizer = optimizer
        self._strategy = strategy
        self._sharding = sharding
        self._compile(xla)

    def train(
        self, batch: Batch, learning_rate: float, step: int, seed: int, loss_scale: float
    ) -> StepResult:
        """Trains on this process' rows of one batch; the result is over all rows.

        An update whose gradients are not finite is skipped: the weights stay as they were.

        Args:
            batch: this process' rows, as `pipeline.dataset` makes them.
            learning_rate: for this step.
            step: number of this step in the run, from 0.
            seed: of the run; with the step it fixes the dropout.
            loss_scale: gradients are computed this much larger; for float16.
        """
        numbers = self._call(
            lambda: self._train_step,
            self._sharding.shard(batch),
            tf.constant(learning_rate, tf.float32),
            tf.constant(step, tf.int32),
            tf.constant(seed, tf.int32),
            tf.constant(loss_scale, tf.float32),
        )
        *sums, norm = numbers.numpy().tolist()
        return StepResult(MetricSums.from_numbers(sums), norm)

    def validate(self, batch: Batch) -> MetricSums:
        """The sums over one batch, without training."""
        numbers = self._call(lambda: self._validation_step, self._sharding.shard(batch))
        return MetricSums.from_numbers(numbers.numpy().tolist())

    def _train_on_device(
        self,
        batch: Batch,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        seed: tf.Tensor,
        loss_scale: tf.Tensor,
    ) -> tf.Tensor:
        """One training step on one device, which all devices run at the same time."""
        replica = tf.distribute.get_replica_context()
        device_seed = seed + DEVICE_STRIDE * tf.cast(replica.replica_id_in_sync_group, tf.int32)

        # Forward and backward, on this device's rows.
        own = self._gradients_and_sums(batch, tf.stack([device_seed, step]), loss_scale)
        # All-reduce: the same sums on every device.
        *gradients, sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, own)
        # The mean over the tokens of the whole batch, whose number no device knew before.
        num_tokens = tf.reduce_sum(sums[-len(MetricSums().counts) :])
        scale = tf.cast(tf.size(batch[1]), tf.float32) / (num_tokens * loss_scale)
        # Clip.
        gradients, norm = clip([gradient * scale for gradient in gradients])
        # Update, unless something overflowed.
        is_finite = tf.math.is_finite(norm + tf.reduce_sum(sums))
        self._optimizer.apply(gradients, learning_rate, step, apply_update=is_finite)
        return tf.concat([sums, [norm]], axis=0)

    def _forward_and_backward(
        self, batch: Batch, dropout_seed: tf.Tensor, loss_scale: tf.Tensor
    ) -> list[tf.Tensor]:
        """The gradients of this device's rows, one per variable, and the sums of the metrics."""
        inputs, targets, weights, heard = _parts(batch)
        with tf.GradientTape() as tape:
            logits = self._model(inputs, *heard, dropout_seed=dropout_seed)
            sums = loss_and_accuracy_sums(logits, targets, weights)
            total_loss = tf.reduce_sum(sums[1 : 1 + len(MetricSums().losses)])
            # Not the plain sum: in float16 its gradients would overflow for long batches.
            loss = total_loss * (loss_scale / tf.cast(tf.size(targets), tf.float32))
        gradients = tape.gradient(loss, self._variables)
        return [*(tf.convert_to_tensor(gradient) for gradient in gradients), sums]

    def _compile(self, xla: bool) -> None:
        # XLA compiles what one device does alone: with one device the whole step, else each
        # device's forward and backward pass.
        is_alone = self._strategy.num_replicas_in_sync == 1
        self._uses_xla = xla

        def compiled(function: Callable[..., Any], by_xla: bool) -> Callable[..., Any]:
            wrapped: Callable[..., Any] = tf.function(function, jit_compile=by_xla, autograph=False)
            return wrapped

        self._gradients_and_sums = compiled(self._forward_and_backward, xla and not is_alone)
        self._train_step = compiled(self._train_on_all_devices, xla and is_alone)
        self._validation_step = compiled(self._validate_on_all_devices, xla and is_alone)

    def _call(self, step: Callable[[], Callable[..., tf.Tensor]], *arguments: object) -> tf.Tensor:
        """Calls a compiled step; without XLA from now on if XLA can't compile here."""
        try:
            return step()(*arguments)
        except tf.errors.OpError as error:
            consequence = "training continues without it"
            if not self._uses_xla or not warn_if_xla_lacks_tools(error, consequence):
                raise
            self._compile(xla=False)
            return step()(*arguments)

    def _train_on_all_devices(self, batch: Batch, *numbers: tf.Tensor) -> tf.Tensor:
        per_device = self._strategy.run(self._train_on_device, (batch, *numbers))
        return self._strategy.experimental_local_results(per_device)[0]

    def _validate_on_all_devices(self, batch: Batch) -> tf.Tensor:
        def on_device(batch: Batch) -> tf.Tensor:
            inputs, targets, weights, heard = _parts(batch)
            return loss_and_accuracy_sums(self._model(inputs, *heard), targets, weights)

        per_device = self._strategy.run(on_device, (batch,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_device, axis=None)


def _parts(
    batch: Batch,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tuple[Features, Onsets] | tuple[()]]:
    inputs, targets, weights, *heard = batch
    if not heard:
        return inputs, targets, weights, ()
    size = len(Features._fields)
    return inputs, targets, weights, (Features(*heard[:size]), Onsets(*heard[size:]))


def initial_loss_scale(precision: str) -> float:
    """float16 has no numbers under 6e-8, so gradients are scaled up into its range."""
    return 2.0**15 if precision == "mixed_float16" else 1.0


def next_loss_scale(scale: float, steps_since_overflow: int, is_finite: bool) -> tuple[float, int]:
    """The loss scale for the next step, and for how many steps it has been kept.

    A scale of 1 belongs to formats that need none; it stays.
    """
    if scale == 1:
        return scale, 0
    if not is_finite:
        return scale / 2, 0
    if steps_since_overflow + 1 >= STEPS_PER_LOSS_SCALE:
        return scale * 2, 0
    return scale, steps_since_overflow + 1
