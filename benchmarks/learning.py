"""Validation loss after equal time: midinet's recipe against a straightforward one.

    python benchmarks/learning.py -d DATA --epochs 20

The straightforward recipe has a constant learning rate of 1e-4, plain full-matrix attention, no
state of the music, and padding counted in its loss (but not in the measure). Both see the same
windows with the same augmentation at the small size. Each runs in a process of its own, one after
the other: first midinet's for so many epochs, then the other one for as long. The clock is the
process' CPU time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SMALL = ROOT / "parameters_small.json"
STRAIGHTFORWARD_RATE = 1e-4
POINTS = 10  # of each curve


def curve(recipe: str, dataset: str, epochs: int, seconds: float) -> Iterator[dict[str, float]]:
    """Trains by one recipe and validates now and then; the clock stops while validating.

    Args:
        recipe: "midinet" or "straightforward".
        dataset: data set folder.
        epochs: how long midinet's recipe runs.
        seconds: CPU time the straightforward recipe runs.
    """
    from full_attention import full_attention

    from midinet.backend import keras, tf
    from midinet.data.batches import Windows, num_batches
    from midinet.data.corpus import open_corpus
    from midinet.model import layers
    from midinet.model.music_transformer import build_model
    from midinet.model.parameters import Parameters
    from midinet.training.devices import BatchSharding
    from midinet.training.loop import batches_for
    from midinet.training.metrics import MetricSums
    from midinet.training.optimizer import Adam, learning_rate
    from midinet.training.steps import Steps

    plain = recipe == "straightforward"
    if plain:
        layers.relative_attention = full_attention
    parameters = Parameters.load(SMALL)
    corpus = open_corpus(dataset)
    training_songs, validation_songs = corpus.split()
    strategy = tf.distribute.get_strategy()
    keras.utils.set_random_seed(0)
    model = build_model(parameters, corpus.codec, hears_state=not plain)
    optimizer = Adam([variable.value for variable in model.trainable_variables])
    sharing = BatchSharding(strategy, parameters.batch_size)
    steps = Steps(model, optimizer, strategy, sharing, xla=False)

    def validation_loss() -> float:
        windows = Windows(corpus, validation_songs, parameters.sequence_length)
        sums = (steps.validate(batch) for batch in batches_for(model, windows))
        return sum(sums, MetricSums()).mean_loss

    step, spent, next_point = 0, 0.0, 0.0
    for epoch in itertools.count():
        windows = Windows(
            corpus,
            training_songs,
            parameters.sequence_length,
            epoch=epoch,
            augment=True,
            shuffle=True,
        )
        count = num_batches(windows, parameters.batch_size)
        for number, batch in enumerate(batches_for(model, windows)):
            progress = (epoch + number / count) / epochs
            done = spent / seconds if plain else progress
            if done >= min(next_point, 1.0):
                yield {"step": step, "seconds": spent, "val_loss": validation_loss()}
                next_point += 1 / POINTS
            if done >= 1:
                return
            start = time.process_time()
            if plain:
                inputs, targets, weights = batch
                whole = (inputs, targets, tf.ones_like(weights))
                steps.train(whole, STRAIGHTFORWARD_RATE, step, 0, 1.0)
            else:
                rate = learning_rate(parameters.learning_rate, step, progress)
                steps.train(batch, rate, step, 0, 1.0)
            spent += time.process_time() - start
            step += 1


def measured(*arguments: object) -> list[dict[str, float]]:
    """`curve` in a process of its own."""
    command = [sys.executable, __file__, "--measure", json.dumps(arguments)]
    points = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            points.append(json.loads(line))
            print(
                f"{arguments[0]:17}{points[-1]['step']:7}{points[-1]['seconds']:9.0f}"
                f"{points[-1]['val_loss']:10.4f}",
                flush=True,
            )
    if process.returncode:
        sys.exit(f"{arguments[0]} failed")
    return points


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", "--dataset", help="data set folder")
    parser.add_argument("--epochs", type=int, default=20, help="of midinet's recipe")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        for point in curve(*json.loads(options.measure)):
            print(json.dumps(point), flush=True)
        return 0
    print(f"{'recipe':17}{'step':>7}{'CPU s':>9}{'val_loss':>10}")
    points = measured("midinet", options.dataset, options.epochs, 0)
    measured("straightforward", options.dataset, options.epochs, points[-1]["seconds"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
