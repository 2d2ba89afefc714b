"""How the gradients change the weights: learning rate, clipping, Adam."""

from __future__ import annotations

import math
from collections.abc import Sequence

from midinet.backend import tf

# The learning rate rises over this share of the run, or over this many steps if that is sooner.
WARM_UP_SHARE = 0.05
WARM_UP_STEPS = 2000
MAX_GRADIENT_NORM = 1.0


def learning_rate(peak: float, step: int, progress: float) -> float:
    """The learning rate of a step: a linear warm-up, then half a cosine down to zero.

    Args:
        peak: the highest rate.
        step: number of this step in the run, from 0.
        progress: share of the run that is done, 0 to 1. The rate follows this rather than a count
            of steps, because epochs may differ by a step.
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
    """Adam for gradients that have been summed over all devices already.

    An own one instead of Keras', which clips gradients before it sums them over devices, so that
    several devices would take other steps than one. This one also takes the learning rate as an
    argument, since it depends on the share of the run that is done, and restores bit by bit.

    Args:
        variables: the model's trainable tf.Variables, made under the same strategy.

    Attributes:
        first_moments, second_moments: running averages of each variable's gradients and of their
            squares.

    Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization".
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.98, 1e-9

    def __init__(self, variables: Sequence[tf.Variable]):
        self._variables = list(variables)
        self.first_moments, self.second_moments = (
            [tf.Variable(tf.zeros(v.shape), trainable=False) for v in self._variables]
            for _ in range(2)
        )

    def apply(
        self,
        gradients: Sequence[tf.Tensor],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        apply_update: tf.Tensor,
    ) -> None:
        """Updates every variable; called on each device with the same gradients.

        Args:
            gradients: one per variable.
            learning_rate: for this step.
            step: number of this step, from 0.
            apply_update: False leaves everything as it was.
        """
        count = tf.cast(step + 1, tf.float32)
        bias_correction = tf.sqrt(1 - self.BETA_2**count) / (1 - self.BETA_1**count)
        # To skip the update is to move by nothing and to mix nothing into the averages.
        rate = tf.where(apply_update, learning_rate * bias_correction, 0.0)
        mix_1 = tf.where(apply_update, 1 - self.BETA_1, 0.0)
        mix_2 = tf.where(apply_update, 1 - self.BETA_2, 0.0)
        gradients = [tf.where(apply_update, gradient, 0.0) for gradient in gradients]

        def update(
            variable: tf.Variable, gradient: tf.Tensor, first: tf.Variable, second: tf.Variable
        ) -> None:
            first.assign_add(mix_1 * (gradient - first))
            second.assign_add(mix_2 * (gradient * gradient - second))
            variable.assign_sub(rate * first / (tf.sqrt(second) + self.EPSILON))

        def update_all(strategy: tf.distribute.Strategy, gradients: Sequence[tf.Tensor]) -> None:
            slots = zip(
                self._variables, gradients, self.first_moments, self.second_moments, strict=True
            )
            for variable, *arguments in slots:
                strategy.extended.update(variable, update, args=tuple(arguments), group=False)

        tf.distribute.get_replica_context().merge_call(update_all, args=(gradients,))
