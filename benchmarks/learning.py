"""Loss after equal time: midinet's recipe against a straightforward one, or against variants.

    python benchmarks/learning.py -d DATA --epochs 20
    python benchmarks/learning.py -d DATA --trials -t TEST --steps 200 --seeds 0 1

The straightforward recipe has a constant learning rate of 1e-4, plain full-matrix attention, no
state of the music, and padding counted in its loss (but not in the measure). Both see the same
windows with the same augmentation at the small size: first midinet's for so many epochs, then the
other one for as long.

`--trials` trains by many variants of midinet's recipe, all with the same seeds, and prints the
losses on TEST, a data set of other songs. All have the same number of steps, but those whose steps
cost more CPU time have as many fewer.

Each runs in a process of its own. The clock is the process' CPU time, which
other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

if TYPE_CHECKING:
    from midinet.model.music_transformer import MusicTransformer
    from midinet.training.steps import Steps

SMALL = ROOT / "parameters_small.json"
STRAIGHTFORWARD_RATE = 1e-4
POINTS = 10  # of each curve
TIMED_STEPS = 12
AVERAGED_STEPS = 20  # over about so many of the last steps the weights are averaged


@dataclasses.dataclass
class Recipe:
    """How a model is trained; the defaults are midinet's.

    Attributes:
        parameters: hyperparameters that differ from the small size.
        is_straightforward: see the beginning of this file.
        augmentation: other values of the constants of data/augmentation.py.
        weight_decay: share of the weights that a step takes away, times its learning rate.
        label_smoothing: share of each target that is spread over all tokens.
        embedding_rate: factor of the learning rate of the embeddings.
    """

    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_straightforward: bool = False
    augmentation: dict[str, float] = dataclasses.field(default_factory=dict)
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    embedding_rate: float = 1.0


class Budget(NamedTuple):
    """How long to train: one of these.

    Attributes:
        epochs: over the training songs.
        seconds: CPU time.
        steps: batches.
    """

    epochs: float = 0
    seconds: float = 0
    steps: int = 0

    def share_done(self, epochs: float, seconds: float, steps: int) -> float:
        """The share of the budget that has been spent."""
        for spent, budget in zip((epochs, seconds, steps), self, strict=True):
            if budget:
                return spent / budget
        raise ValueError("nothing to spend")


RECIPES = {"midinet": Recipe(), "straightforward": Recipe(is_straightforward=True)}

USUAL = "as it is"
TRIALS = {
    USUAL: Recipe(),
    "without other keys": Recipe(augmentation={"MIN_SEMITONES": 0, "MAX_SEMITONES": 0}),
    "without other instruments": Recipe(augmentation={"EXCHANGE_SHARE": 0}),
    "without other loudness": Recipe(augmentation={"LOUDNESS_SHARE": 0}),
    "without mistakes": Recipe(augmentation={"DISTURBED_SHARE": 0}),
    "without other tempos": Recipe(augmentation={"MIN_TEMPO_FACTOR": 1, "MAX_TEMPO_FACTOR": 1}),
    "without dropout": Recipe({"dropout": 0.0}),
    "dropout 0.2": Recipe({"dropout": 0.2}),
    "dropout 0.3": Recipe({"dropout": 0.3}),
    "weight decay 0.1": Recipe(weight_decay=0.1),
    "label smoothing 0.1": Recipe(label_smoothing=0.1),
    "two blocks more": Recipe({"num_blocks": 5}),
    "wider by half": Recipe({"embedding_size": 192, "feed_forward_dim": 768}),
    "batches of 16, half as long": Recipe({"batch_size": 16, "sequence_length": 256}),
    "batches of 4, twice as long": Recipe({"batch_size": 4, "sequence_length": 1024}),
    "embeddings at half the rate": Recipe(embedding_rate=0.5),
}


def curve(
    recipe: Recipe,
    budget: Budget,
    dataset: str,
    test_set: str | None = None,
    seed: int = 0,
    points: int = POINTS,
) -> Iterator[dict[str, float]]:
    """Trains by one recipe and measures the loss now and then; the clock stops meanwhile.

    Args:
        recipe: how to train.
        budget: how long.
        dataset: data set folder.
        test_set: data set folder on whose songs the loss is measured; None: on the validation songs
            of `dataset`.
        seed: of everything random.
        points: how often to measure.
    """
    from midinet.backend import keras, tf
    from midinet.data import augmentation
    from midinet.data.batches import Windows, num_batches
    from midinet.data.corpus import open_corpus
    from midinet.model import layers
    from midinet.model.music_transformer import build_model
    from midinet.model.parameters import Parameters
    from midinet.training.devices import BatchSharding, compiles_by_xla
    from midinet.training.loop import batches_for
    from midinet.training.metrics import MetricSums
    from midinet.training.optimizer import learning_rate
    from tests.model.full_attention import full_attention

    for name, value in recipe.augmentation.items():
        getattr(augmentation, name)  # so that a name that is gone is an error
        setattr(augmentation, name, value)
    if recipe.is_straightforward:
        layers.relative_attention = full_attention
    parameters = Parameters(**json.loads(SMALL.read_text(encoding="utf-8")) | recipe.parameters)
    corpus = open_corpus(dataset)
    training_songs, validation_songs = corpus.split()
    measured_corpus, measured_songs = corpus, validation_songs
    if test_set is not None:
        measured_corpus = open_corpus(test_set)
        measured_songs = range(len(measured_corpus))
    strategy = tf.distribute.get_strategy()
    keras.utils.set_random_seed(seed)
    model = build_model(parameters, corpus.codec, hears_state=not recipe.is_straightforward)
    optimizer = _optimizer(recipe, model)
    sharing = BatchSharding(strategy, parameters.batch_size)
    steps = _steps(recipe)(model, optimizer, strategy, sharing, xla=compiles_by_xla())

    def loss() -> dict[str, float]:
        windows = Windows(measured_corpus, measured_songs, parameters.sequence_length)
        sums = sum((steps.validate(batch) for batch in batches_for(model, windows)), MetricSums())
        return {"loss": sums.mean_loss, "per_note": sums.loss_per_note}

    step, spent, next_point = 0, 0.0, 0.0
    for epoch in itertools.count():
        windows = Windows(
            corpus,
            training_songs,
            parameters.sequence_length,
            seed=seed,
            epoch=epoch,
            augment=True,
            shuffle=True,
        )
        count = num_batches(windows, parameters.batch_size)
        for number, batch in enumerate(batches_for(model, windows)):
            done = budget.share_done(epoch + number / count, spent, step)
            if done >= min(next_point, 1.0):
                yield {"step": step, "seconds": spent, **loss()}
                next_point += 1 / points
            if done >= 1:
                optimizer.take_averages()
                yield {"step": step, "seconds": spent, **loss()}
                return
            start = time.process_time()
            rate = learning_rate(parameters.learning_rate, step, done)
            if recipe.is_straightforward:
                rate = STRAIGHTFORWARD_RATE
                inputs, targets, weights = batch
                batch = (inputs, targets, tf.ones_like(weights))
            steps.train(batch, rate, step, seed, 1.0)
            spent += time.process_time() - start
            step += 1


def _optimizer(recipe: Recipe, model: MusicTransformer) -> Any:
    """midinet's Adam with what a recipe adds, and with averages of the weights."""
    from midinet.backend import tf
    from midinet.training.optimizer import Adam

    class TrialAdam(Adam):
        def __init__(self) -> None:
            trainable = model.trainable_variables
            super().__init__([variable.value for variable in trainable])
            self._is_embedding = ["embedding" in variable.path for variable in trainable]
            self._averages = [tf.Variable(v, trainable=False) for v in self._variables]

        def apply(
            self,
            gradients: list[tf.Tensor],
            learning_rate: tf.Tensor,
            step: tf.Tensor,
            apply_update: tf.Tensor,
        ) -> None:
            before = [tf.identity(variable) for variable in self._variables]
            super().apply(gradients, learning_rate, step, apply_update)
            for variable, old, is_embedding, average in zip(
                self._variables, before, self._is_embedding, self._averages, strict=True
            ):
                if is_embedding and recipe.embedding_rate != 1:
                    variable.assign(old + recipe.embedding_rate * (variable - old))
                if recipe.weight_decay and variable.shape.rank > 1:
                    variable.assign_sub(learning_rate * recipe.weight_decay * old)
                average.assign_add((variable - average) / AVERAGED_STEPS)

        def take_averages(self) -> None:
            for variable, average in zip(self._variables, self._averages, strict=True):
                variable.assign(average)

    return TrialAdam()


def _steps(recipe: Recipe) -> type[Steps]:
    """midinet's steps, whose training loss is smoothed if the recipe says so."""
    from midinet.backend import tf
    from midinet.training import steps

    smoothing = recipe.label_smoothing
    sharp = steps.loss_and_accuracy_sums

    def smooth(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        sums = sharp(logits, targets, weights)
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        first_loss = tf.one_hot(1, tf.size(sums))
        return sums + smoothing * (first_loss * tf.reduce_sum(uniform * weights) - sums)

    class SmoothSteps(steps.Steps):
        def _forward_and_backward(self, *arguments: Any) -> list[tf.Tensor]:
            steps.loss_and_accuracy_sums = smooth
            try:
                return super()._forward_and_backward(*arguments)
            finally:
                steps.loss_and_accuracy_sums = sharp

    return SmoothSteps if smoothing else steps.Steps


def measured(recipe: Recipe, budget: Budget, **settings: Any) -> Iterator[dict[str, float]]:
    """`curve` in a process of its own."""
    settings |= {"recipe": dataclasses.asdict(recipe), "budget": budget}
    command = [sys.executable, __file__, "--measure", json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout or ())
    if process.returncode:
        sys.exit(f"{recipe} failed")


def print_curves(dataset: str, epochs: float) -> None:
    print(f"{'recipe':17}{'step':>7}{'CPU s':>9}{'val_loss':>10}")
    budget = Budget(epochs=epochs)
    for name, recipe in RECIPES.items():
        # The last point is that of averaged weights.
        for point in list(measured(recipe, budget, dataset=dataset))[:-1]:
            line = f"{name:17}{point['step']:7}{point['seconds']:9.0f}{point['loss']:10.4f}"
            print(line, flush=True)
        budget = Budget(seconds=point["seconds"])


def cost(recipe: Recipe, dataset: str) -> float:
    """CPU time of a step by a recipe, of that of a step of the trials' usual recipe."""
    budget, settings = Budget(steps=TIMED_STEPS), {"dataset": dataset, "points": TIMED_STEPS}
    runs = [measured(timed, budget, **settings) for timed in (recipe, TRIALS[USUAL])]
    # Both at the same time, so that other work on the machine slows both.
    points = list(zip(*runs, strict=True))
    own, usual = (
        statistics.median(b["seconds"] - a["seconds"] for a, b in itertools.pairwise(column))
        for column in zip(*points[:-1], strict=True)
    )
    return own / usual


def print_trials(names: list[str], seeds: list[int], usual_steps: int, **settings: Any) -> None:
    print(f"{'variant':29}{'steps':>7}  loss per token, of each seed; per note; averaged weights")
    for name in names:
        recipe, steps = TRIALS[name], usual_steps
        if recipe.parameters.keys() - {"dropout"}:
            steps = round(usual_steps / cost(recipe, settings["dataset"]))
        runs = [
            list(measured(recipe, Budget(steps=steps), seed=seed, points=1, **settings))[-2:]
            for seed in seeds
        ]
        last, averaged = zip(*runs, strict=True)
        losses = " ".join(f"{point['loss']:.3f}" for point in last)
        per_note = statistics.mean(point["per_note"] for point in last)
        of_averages = " ".join(f"{point['loss']:.3f}" for point in averaged)
        print(f"{name:29}{steps:7.0f}  {losses}; {per_note:.3f}; {of_averages}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", "--dataset", help="data set folder")
    parser.add_argument("--epochs", type=float, default=20, help="of midinet's recipe")
    parser.add_argument("--trials", nargs="*", choices=TRIALS, help="these, or all of them")
    parser.add_argument("-t", "--test_set", help="data set folder of the trials' test songs")
    parser.add_argument("--steps", type=int, default=200, help="of each trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of each trial")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        settings = json.loads(options.measure)
        recipe, budget = Recipe(**settings.pop("recipe")), Budget(*settings.pop("budget"))
        for point in curve(recipe, budget, **settings):
            print(json.dumps(point), flush=True)
    elif options.trials is not None:
        settings = {"dataset": options.dataset, "test_set": options.test_set}
        print_trials(options.trials or list(TRIALS), options.seeds, options.steps, **settings)
    else:
        print_curves(options.dataset, options.epochs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
