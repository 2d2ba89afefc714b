"""Time of a training step and peak memory, against the plain full-matrix attention.

    python benchmarks/training.py               the two sizes, a table
    python benchmarks/training.py --lengths     growth with the sequence length and the batch
    python benchmarks/training.py --input DATA  what a step waits for the data set folder's batches

Every line is measured in a process of its own: forward, backward, clipping and Adam on one batch
again and again; median of the steps after the first, in wall-clock and in CPU time (which other
work on the machine disturbs least), and the process' peak resident memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

SIZES = {
    "default": {},
    "medium": {
        "embedding_size": 256,
        "sequence_length": 512,
        "num_blocks": 4,
        "num_heads": 4,
        "feed_forward_dim": 512,
        "batch_size": 8,
    },
    "small": json.loads((ROOT / "parameters_small.json").read_text(encoding="utf-8")),
}
VARIANTS = {
    "full matrix": {"attention": "full"},
    "full matrix, XLA": {"attention": "full", "xla": True},
    "blocks": {},
    "blocks, without the meter": {"has_meter_head": False},
    "blocks, without the state": {"hears_state": False},
    "blocks, XLA": {"xla": True},
    "blocks, save memory": {"save_memory": True},
    "blocks, save memory, XLA": {"save_memory": True, "xla": True},
}


def make_steps(settings: dict) -> Any:
    """The compiled steps of one variant, and its model."""
    from midinet.backend import tf
    from midinet.model import layers
    from midinet.model.music_transformer import build_model
    from midinet.model.parameters import Parameters
    from midinet.training.devices import BatchSharding, precision_policy
    from midinet.training.optimizer import Adam
    from midinet.training.steps import Steps
    from tests.model.full_attention import full_attention

    if settings.get("attention") == "full":
        layers.relative_attention = full_attention
    parameters = Parameters(**settings["parameters"])
    strategy = tf.distribute.get_strategy()
    with precision_policy(settings.get("precision", "float32")):
        model = build_model(
            parameters,
            save_memory=settings.get("save_memory", False),
            hears_state=settings.get("hears_state", True),
            has_meter_head=settings.get("has_meter_head"),
        )
    optimizer = Adam([variable.value for variable in model.trainable_variables])
    sharing = BatchSharding(strategy, parameters.batch_size)
    steps = Steps(model, optimizer, strategy, sharing, xla=settings.get("xla", False))
    return steps, model


def measure(settings: dict) -> dict[str, float]:
    """Runs the steps of one variant; called in a process of its own."""
    import numpy as np

    from midinet.backend import tf
    from midinet.model.meter import window_onsets
    from midinet.model.music_state import Pulse, window_features
    from midinet.model.parameters import Parameters

    (steps, model), parameters = make_steps(settings), Parameters(**settings["parameters"])
    shape = (parameters.batch_size, parameters.sequence_length)
    tokens = np.random.default_rng(0).integers(0, parameters.vocab_size, (2, *shape), np.int32)
    heard: tuple[np.ndarray, ...] = ()
    if model.hears_state:
        state = window_features(tokens[0], 117)
        pulse = Pulse.of(state.now_steps / 50, np.full(shape, 1 / 50))  # 120 beats per minute
        past = np.full((shape[0], shape[1] // 2), np.nan)
        is_new, slots = np.ones(shape, bool), np.zeros(past.shape, np.int32)
        state = state._replace(**pulse._asdict())
        heard = (*state, *window_onsets(tokens[0], state, is_new, past, slots))
    batch = tuple(tf.constant(array) for array in (*tokens, np.ones(shape, np.float32), *heard))
    times = []
    for step in range(settings["steps"] + 1):
        start = np.array([time.perf_counter(), time.process_time()])
        steps.train(batch, 1e-4, step, 0, 1.0)
        times.append(np.array([time.perf_counter(), time.process_time()]) - start)
    step, cpu = np.median(times[1:], axis=0).tolist()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"first": float(times[0][0]), "step": step, "cpu": cpu, "gib": peak_kib / 2**20}


def measured(settings: dict) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", json.dumps(settings)]
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


def print_input(dataset_folder: str, sizes: list[str], num_steps: int) -> None:
    """Steps on the real batches of an epoch against as many on one batch, turn by turn."""
    from midinet.data.batches import Windows
    from midinet.data.corpus import open_corpus
    from midinet.model.parameters import Parameters
    from midinet.training.loop import batches_for

    corpus = open_corpus(dataset_folder)
    print(f"{'size':9}{'one batch s':>13}{'real s':>9}{'ratio':>9}")
    for size in sizes:
        parameters = Parameters(**SIZES[size])
        steps, model = make_steps({"parameters": SIZES[size]})
        windows = Windows(
            corpus, range(len(corpus)), parameters.sequence_length, augment=True, shuffle=True
        )
        batches = iter(batches_for(model, windows))
        one = next(batches)
        steps.train(one, 1e-4, 0, 0, 1.0)
        times: dict[str, list[float]] = {"one": [], "real": []}
        for step in range(1, num_steps + 1):
            for name, source in (("one", itertools.repeat(one)), ("real", batches)):
                start = time.perf_counter()
                steps.train(next(source), 1e-4, step, 0, 1.0)
                times[name].append(time.perf_counter() - start)
        one_s, real_s = (statistics.median(times[name]) for name in ("one", "real"))
        print(f"{size:9}{one_s:13.3f}{real_s:9.3f}{real_s / one_s:9.3f}", flush=True)


def print_sizes(sizes: list[str], variants: list[str], steps: int) -> None:
    print(
        f"{'size':9}{'variant':26}{'first s':>9}{'step s':>9}{'of full':>9}"
        f"{'CPU s':>9}{'of full':>9}{'GiB':>7}{'of full':>9}"
    )
    for size in sizes:
        full = None
        for variant in variants:
            now = measured({**VARIANTS[variant], "parameters": SIZES[size], "steps": steps})
            full = full or now
            print(
                f"{size:9}{variant:26}{now['first']:9.1f}{now['step']:9.3f}"
                f"{now['step'] / full['step']:9.2f}"
                f"{now['cpu']:9.3f}{now['cpu'] / full['cpu']:9.2f}"
                f"{now['gib']:7.2f}{now['gib'] / full['gib']:9.2f}",
                flush=True,
            )


def print_growth(steps: int) -> None:
    print(f"{'T':>6}{'batch':>7}{'step s':>9}{'us a token':>12}{'GiB':>7}")
    cases = [(length, 2) for length in (256, 512, 1024, 2048, 4096)]
    cases += [(512, batch) for batch in (1, 4, 8)]
    for length, batch in cases:
        parameters = {"sequence_length": length, "batch_size": batch}
        now = measured({"parameters": parameters, "steps": steps})
        per_token = now["step"] / (length * batch) * 1e6
        print(
            f"{length:6}{batch:7}{now['step']:9.3f}{per_token:12.0f}{now['gib']:7.2f}", flush=True
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", default=["default", "small"], choices=SIZES)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=5, help="measured steps")
    parser.add_argument("--lengths", action="store_true", help="growth instead of the table")
    parser.add_argument("--input", metavar="DATA", help="waiting for batches instead of the table")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure))))
    elif options.input:
        print_input(options.input, options.sizes, options.steps)
    elif options.lengths:
        print_growth(options.steps)
    else:
        print_sizes(options.sizes, options.variants, options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
