"""How the weights follow the gradients: learning rate, clipping, Adam."""

from __future__ import annotations

import math
from collections.abc import Sequence

from midinet.backend import tf

# The learning rate rises over this share of the run, or over this many steps if that is sooner.
WARM_UP_SHARE = 0.05
WARM_UP_STEPS = 2000
MAX_GRADIENT_NORM = 1.0


def learning_rate(peak: float, step: int, progress: float) -> float:
    """Warm-up in a straight line, then half a cosine down to zero.

    Args:
        peak: the highest rate.
        step: number of this step in the run, from 0.
        progress: share of the run that is done, 0 to 1; the rate follows this rather than a count
            of steps, because augmentation makes some epochs a step longer than others.
    """
    warm_up = min(1.0, max(progress / WARM_UP_SHARE, (step + 1) / WARM_UP_STEPS))
    return peak * warm_up * (1 + math.cos(math.pi * progress)) / 2


def clip(gradients: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Shrinks gradients whose common norm is over `MAX_GRADIENT_NORM`.

    Returns:
        The gradients and their norm before clipping; if it is not finite, neither are they.
    """
    norm = tf.linalg.global_norm(gradients)
    factor = MAX_GRADIENT_NORM / tf.maximum(norm, MAX_GRADIENT_NORM)
    return [gradient * factor for gradient in gradients], norm


class Adam:
    """Adam whose update may be skipped, for gradients that all devices have summed already.

    Keras' optimisers clip before they sum over devices, so several devices would take other steps
    than one; and they know no way to leave an update out.

    Args:
        variables: the model's trainable tf.Variables, made under the same strategy.

    Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization".
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.98, 1e-9

    def __init__(self, variables: Sequence[tf.Variable]):
        self._variables = list(variables)
        self.means, self.squares = (
            [tf.Variable(tf.zeros(v.shape), trainable=False) for v in self._variables]
            for _ in range(2)
        )

    def apply(
        self, gradients: Sequence[tf.Tensor], rate: tf.Tensor, step: tf.Tensor, keep: tf.Tensor
    ) -> None:
        """Moves every variable; called on each device with the same gradients.

        Args:
            gradients: one a variable.
            rate: the learning rate.
            step: number of this step, from 0.
            keep: False leaves everything as it was.
        """
        count = tf.cast(step + 1, tf.float32)
        correction = tf.sqrt(1 - self.BETA_2**count) / (1 - self.BETA_1**count)
        # No update is a step of length zero that mixes nothing into the averages.
        rate = tf.where(keep, rate * correction, 0.0)
        mix_1 = tf.where(keep, 1 - self.BETA_1, 0.0)
        mix_2 = tf.where(keep, 1 - self.BETA_2, 0.0)
        gradients = [tf.where(keep, gradient, 0.0) for gradient in gradients]

        def update(variable, gradient, mean, square):
            mean.assign_add(mix_1 * (gradient - mean))
            square.assign_add(mix_2 * (gradient * gradient - square))
            variable.assign_sub(rate * mean / (tf.sqrt(square) + self.EPSILON))

        def update_all(strategy, gradients):
            slots = zip(self._variables, gradients, self.means, self.squares, strict=True)
            for variable, *arguments in slots:
                strategy.extended.update(variable, update, args=tuple(arguments), group=False)

        tf.distribute.get_replica_context().merge_call(update_all, args=(gradients,))
