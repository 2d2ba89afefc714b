"""The compiled steps: one batch of training, one batch of validation, on all devices."""

from __future__ import annotations

from typing import NamedTuple

from midinet.backend import tf
from midinet.model.music_transformer import MusicTransformer
from midinet.training.devices import Sharing
from midinet.training.optimizer import Adam, clip

# float16's gradients are scaled up further after so many steps without overflow.
STEPS_A_LOSS_SCALE = 1000

# Far more than a model's dropouts, so that no two devices share a mask.
DEVICE_STRIDE = 1 << 16


class Sums(NamedTuple):
    """Sums over the tokens of some batches that count: those with weight 1."""

    loss: float = 0.0
    correct: float = 0.0
    tokens: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """The sums over both."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def mean_loss(self) -> float:
        """Cross-entropy in nats a token."""
        return self.loss / max(self.tokens, 1.0)

    @property
    def accuracy(self) -> float:
        """Share of tokens that the model holds most likely, 0 to 1."""
        return self.correct / max(self.tokens, 1.0)


class StepResult(NamedTuple):
    """What a training step reports: its sums, and the gradients' norm before clipping."""

    sums: Sums
    gradient_norm: float


def masked_sums(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Cross-entropy, hits and count over the targets of weight 1: float32 `(3,)`.

    Args:
        logits: float32 `(B, T, V)`.
        targets: int32 `(B, T)`.
        weights: float32 `(B, T)`, 0 in the padding.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), targets)
    hits = tf.cast(hits, tf.float32)
    return tf.stack([tf.reduce_sum(x * weights) for x in (losses, hits, tf.ones_like(losses))])


class Steps:
    """The training and the validation step of a model, compiled when first called.

    Args:
        model: made in the scope of `strategy`.
        optimizer: the same.
        strategy: the devices.
        sharing: how a batch is shared out to them.
        xla: compile by XLA.
    """

    def __init__(
        self,
        model: MusicTransformer,
        optimizer: Adam,
        strategy: tf.distribute.Strategy,
        sharing: Sharing,
        xla: bool,
    ):
        self._model = model
        self._variables = [variable.value for variable in model.trainable_variables]
        self._optimizer = optimizer
        self._strategy = strategy
        self._sharing = sharing
        # XLA takes what one device does alone: with one device the whole step, else each
        # device's own part of it.
        alone = strategy.num_replicas_in_sync == 1
        self._train_step = tf.function(
            self._train_on_all, jit_compile=xla and alone, autograph=False
        )
        self._validation_step = tf.function(
            self._validate_on_all, jit_compile=xla and alone, autograph=False
        )
        self._own_gradients = tf.function(
            self._gradients, jit_compile=xla and not alone, autograph=False
        )

    def train(
        self, batch: tuple[tf.Tensor, ...], rate: float, step: int, seed: int, loss_scale: float
    ) -> StepResult:
        """Trains on this process' rows of one batch; the result is over all rows.

        An update whose gradients are not finite is left out: the weights stay as they were.

        Args:
            batch: inputs, targets and weights as `batches.dataset` makes them.
            rate: the learning rate.
            step: number of this step in the run, from 0.
            seed: of the run; with the step it fixes the dropout.
            loss_scale: gradients are computed this much larger; for float16.
        """
        numbers = self._train_step(
            self._sharing.share_out(batch),
            tf.constant(rate, tf.float32),
            tf.constant(step, tf.int32),
            tf.constant(seed, tf.int32),
            tf.constant(loss_scale, tf.float32),
        )
        *sums, norm = numbers.numpy().tolist()
        return StepResult(Sums(*sums), norm)

    def validate(self, batch: tuple[tf.Tensor, ...]) -> Sums:
        """The sums over one batch without training."""
        return Sums(*self._validation_step(self._sharing.share_out(batch)).numpy().tolist())

    def _train_on_all(self, batch, rate, step, seed, loss_scale):
        per_device = self._strategy.run(self._train_on_one, (*batch, rate, step, seed, loss_scale))
        return self._strategy.experimental_local_results(per_device)[0]

    def _train_on_one(self, inputs, targets, weights, rate, step, seed, loss_scale):
        context = tf.distribute.get_replica_context()
        seed += DEVICE_STRIDE * tf.cast(context.replica_id_in_sync_group, tf.int32)
        dropout_seed = tf.stack([seed, step])
        *gradients, sums = context.all_reduce(
            tf.distribute.ReduceOp.SUM,
            self._own_gradients(inputs, targets, weights, dropout_seed, loss_scale),
        )
        # Divided only now: a device alone does not know how many tokens count in the whole batch.
        factor = tf.cast(tf.size(targets), tf.float32) / (sums[2] * loss_scale)
        gradients, norm = clip([gradient * factor for gradient in gradients])
        self._optimizer.apply(gradients, rate, step, keep=tf.math.is_finite(norm + sums[0]))
        return tf.concat([sums, [norm]], axis=0)

    def _gradients(self, inputs, targets, weights, dropout_seed, loss_scale):
        with tf.GradientTape() as tape:
            sums = masked_sums(self._model(inputs, dropout_seed=dropout_seed), targets, weights)
            # Not the plain sum: in float16 its gradients would overflow for long batches.
            loss = sums[0] * (loss_scale / tf.cast(tf.size(targets), tf.float32))
        gradients = tape.gradient(loss, self._variables)
        return [*(tf.convert_to_tensor(gradient) for gradient in gradients), sums]

    def _validate_on_all(self, batch):
        def on_one(inputs, targets, weights):
            return masked_sums(self._model(inputs), targets, weights)

        per_device = self._strategy.run(on_one, batch)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_device, axis=None)


def initial_loss_scale(precision: str) -> float:
    """float16 has no numbers under 6e-8, so gradients are scaled up into its range."""
    return 2.0**15 if precision == "mixed_float16" else 1.0


def loss_scale_after(scale: float, steps_since_overflow: int, is_finite: bool) -> tuple[float, int]:
    """The loss scale for the next step, and how many steps it has held.

    A scale of 1 is that of formats that need none; it stays.
    """
    if scale == 1:
        return scale, 0
    if not is_finite:
        return scale / 2, 0
    if steps_since_overflow + 1 >= STEPS_A_LOSS_SCALE:
        return scale * 2, 0
    return scale, steps_since_overflow + 1
