"""How close generation comes to the speed of this machine's memory; prints tables.

    python benchmarks/generation.py            all of it, some minutes
    python benchmarks/generation.py steps      a token's time at several batches and contexts
    python benchmarks/generation.py rules      what the grammar costs, and what --accompany adds
    python benchmarks/generation.py state      what the state of the music and the meter cost
    python benchmarks/generation.py pieces     several pieces at once, as generate.py makes them
    python benchmarks/generation.py long       2,500 tokens behind a seed of 512
    python benchmarks/generation.py process    generate.py as a whole, cold

A step must read every weight, the filled part of the caches and the relative rows once. That many
bytes over the bandwidth at which all cores together read memory is the bound. The bandwidth is
measured around each timing, as machines drift; figures are medians.
"""

from __future__ import annotations

import concurrent.futures
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from midinet.backend import tf  # noqa: E402
from midinet.codec.vocabulary import DRUM_PROGRAM  # noqa: E402
from midinet.generation import cached_decoder as decoder  # noqa: E402
from midinet.generation import sampling  # noqa: E402
from midinet.generation.grammar import initial_state  # noqa: E402
from midinet.generation.kept_events import KeptEvents, to_kept_events  # noqa: E402
from midinet.generation.onset_ring import ring_of  # noqa: E402
from midinet.generation.piecewise import stream_pieces  # noqa: E402
from midinet.generation.rule_tensors import to_tensors  # noqa: E402
from midinet.generation.settings import GrammarRules, SamplingSettings  # noqa: E402
from midinet.midi.notes import Notes  # noqa: E402
from midinet.midi.tempo_map import TempoMap  # noqa: E402
from midinet.model.meter import Onsets  # noqa: E402
from midinet.model.music_state import NO_TICK  # noqa: E402
from midinet.model.music_transformer import MusicTransformer, build_model, save_model  # noqa: E402
from midinet.model.parameters import Parameters  # noqa: E402

RUNS = 7
TOKENS = 128  # in one timing
STEPS = ((1, 512), (1, 1024), (1, 2048), (4, 1024), (16, 1024))  # pieces, context

_MEMORY = np.ones(64 << 20, np.float32)
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bandwidth() -> float:
    """Bytes a second that all cores together read, the best of three."""
    parts = np.array_split(_MEMORY, _CORES)
    best = 0.0
    with concurrent.futures.ThreadPoolExecutor(_CORES) as pool:
        for _ in range(3):
            start = time.perf_counter()
            list(pool.map(np.add.reduce, parts))
            best = max(best, _MEMORY.nbytes / (time.perf_counter() - start))
    return best


def bytes_of_step(parameters: Parameters, B: int, context: float) -> float:
    """What a step must read: weights, the filled part of the caches, relative rows."""
    p = parameters
    block = 4 * p.embedding_size**2 + 2 * p.embedding_size * p.feed_forward_dim
    weights = p.num_blocks * block + p.embedding_size * p.vocab_size
    caches = p.num_blocks * 2 * B * p.embedding_size * context
    rows = p.num_blocks * p.head_dim * context
    return 4 * (weights + caches + rows)


def time_steps(
    model: MusicTransformer,
    B: int,
    context: int,
    *,
    has_rules: bool = True,
    kept: KeptEvents | None = None,
) -> Callable[[], float]:
    """A function that measures the seconds of a step, among the last before `context`."""
    weights = decoder.pack_weights(model.weights_by_name())
    D, d = weights.tokens.shape[1], weights.blocks[0].rows.shape[0]
    blocks = tuple(
        (tf.random.normal((B * D // d, d, context)), tf.random.normal((B * D // d, context, d)))
        for _ in weights.blocks
    )
    nothing = np.full((B, 1), NO_TICK)
    onsets = ring_of(Onsets(nothing, nothing, nothing)) if weights.meter else ()
    loop = sampling._compiled_loop(B, context, 8, has_rules)
    uniform = np.random.default_rng(0).random((sampling.CALL_TOKENS, B), np.float32)

    def call(count: int) -> None:
        made = loop(
            weights,
            decoder.Caches(blocks, onsets),
            tf.zeros((B,), tf.int32),
            initial_state(B),
            to_tensors(GrammarRules(may_end=False), DRUM_PROGRAM, kept),
            tf.constant(context - TOKENS),
            tf.constant(count),
            tf.constant(uniform),
            tf.constant(sampling._numbers(SamplingSettings()), tf.float32),
            tf.zeros((3, B, 1), tf.float64),
        )[0]
        made.numpy()

    call(1)

    def step() -> float:
        # Two counts, so that what a call costs however short it is falls out.
        return (timed(lambda: call(TOKENS)) - timed(lambda: call(1))) / (TOKENS - 1)

    return step


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def show_steps() -> None:
    """A table of batches and contexts against the bound."""
    parameters = Parameters()
    model = build_model(parameters)
    print("| pieces | context | ms a step | tokens/s | GB/s read | bound ms | of the bound |")
    print("|---|---|---|---|---|---|---|")
    for B, context in STEPS:
        step = time_steps(model, B, context)
        size = bytes_of_step(parameters, B, context - TOKENS / 2)
        times, speeds = [], []
        for _ in range(RUNS):
            before = bandwidth()
            times.append(step())
            speeds.append((before + bandwidth()) / 2)
        bounds = [size / speed for speed in speeds]
        share = statistics.median(b / t for b, t in zip(bounds, times, strict=True))
        t, speed = statistics.median(times), statistics.median(speeds)
        print(
            f"| {B} | {context} | {t * 1e3:.2f} | {B / t:.0f} | {speed / 1e9:.1f} "
            f"| {statistics.median(bounds) * 1e3:.2f} | {share:.2f} |",
            flush=True,
        )


def show_rules() -> None:
    """What the grammar and kept notes add to a step: steps with them and without, in turns."""
    model = build_model(Parameters(), hears_state=True)
    kept = to_kept_events(kept_part(), DRUM_PROGRAM)
    print("| pieces | ms a step | without the grammar | its share | with kept notes | they add |")
    print("|---|---|---|---|---|---|")
    for B in (1, 4, 16):
        steps = [time_steps(model, B, 512, has_rules=has_rules) for has_rules in (True, False)]
        steps.append(time_steps(model, B, 512, kept=kept))
        times = np.array([[step() for step in steps] for _ in range(3 * RUNS)])
        ms = 1e3 * np.median(times, axis=0)
        share = 1 - np.median(times[:, 1] / times[:, 0])
        added = np.median(times[:, 2] / times[:, 0]) - 1
        print(
            f"| {B} | {ms[0]:.2f} | {ms[1]:.2f} | {share:.1%} | {ms[2]:.2f} | {added:.1%} |",
            flush=True,
        )


def show_state() -> None:
    """What the state of the music and the meter add to a step: with them and without, in turns."""
    small = Parameters.load(ROOT / "parameters_small.json")
    print("| model | pieces | ms a step | the meter's share | with the state |")
    print("|---|---|---|---|---|")
    for name, parameters in (("small", small), ("default", Parameters())):
        models = [
            build_model(parameters, hears_state=hears_state, has_meter_head=has_meter_head)
            for hears_state, has_meter_head in ((True, True), (True, False), (False, False))
        ]
        for B in (1, 4):
            steps = [time_steps(model, B, 512) for model in models]
            times = np.array([[step() for step in steps] for _ in range(3 * RUNS)])
            of_meter, of_both = 1 - np.median(times[:, 1:] / times[:, :1], axis=0)
            ms = 1e3 * np.median(times[:, 0])
            print(f"| {name} | {B} | {ms:.2f} | {of_meter:.1%} | {of_both:.1%} |", flush=True)


def kept_part() -> Notes:
    """A flute of 2,000 notes, four per second."""
    start = 250.0 * np.arange(2000)
    program, pitch, velocity = (np.full(len(start), n, np.uint8) for n in (73, 72, 80))
    return Notes(start, start + 200, program, pitch, velocity, np.zeros(len(start), bool))


def show_pieces() -> None:
    """Tokens per second of several pieces, with the small model of the demo and at full size."""
    small = Parameters.load(ROOT / "parameters_small.json")
    print("| model | pieces | tokens/s | times those of one |")
    print("|---|---|---|---|")
    settings = SamplingSettings(rules=GrammarRules(may_end=False))
    for name, parameters in (("small", small), ("default", Parameters())):
        model = build_model(parameters, hears_state=True)

        def speed(B: int, model: MusicTransformer = model) -> float:
            metronomes = [TempoMap.constant(120)] * B
            nothing = [np.empty(0, np.uint16)] * B
            # The first part compiles; the second does not.
            parts = stream_pieces(model, nothing, 512, settings=settings, metronomes=metronomes)
            next(parts)
            return B * sampling.CALL_TOKENS / timed(lambda: next(parts))

        speeds = np.array([[speed(B) for B in (1, 4, 16)] for _ in range(3)])
        for B, column in zip((1, 4, 16), speeds.T, strict=True):
            times = np.median(column / speeds[:, 0])
            print(f"| {name} | {B} | {np.median(column):.0f} | {times:.2f} |", flush=True)


def show_long() -> None:
    """A whole long piece, with compiling and refills."""
    model = build_model(Parameters())
    seed = np.random.default_rng(0).integers(0, 128, 512).astype(np.uint16)
    settings = SamplingSettings(rules=GrammarRules(may_end=False))

    def compose() -> None:
        sampling.compose(model, [seed], 2500, settings=settings)

    first, again = timed(compose), timed(compose)
    print(f"2,500 tokens behind a seed of 512: {first:.1f} s, {again:.1f} s of it composing")


def show_process() -> None:
    """generate.py -l 1000 with a model of 4 million numbers, in a process of its own."""
    parameters = Parameters(
        embedding_size=256, num_blocks=6, feed_forward_dim=768, sequence_length=1024
    )
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(parameters)
        save_model(model, Path(folder) / "model")
        command = [sys.executable, str(ROOT / "generate.py"), "-l", "1000", "--full_length"]
        command += ["-s", "model", "--seed", "1"]

        def run() -> None:
            subprocess.run(command, cwd=folder, check=True, capture_output=True)

        code = (
            "import time; t = [time.perf_counter()]\n"
            "def lap(name): t.append(time.perf_counter()); print(f'{name} {t[-1] - t[-2]:.2f}')\n"
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from midinet.generation import generate as generation, sampling\n"
            "from midinet.model.music_transformer import open_model\n"
            "from midinet.generation.settings import SamplingSettings, GrammarRules\n"
            "import numpy as np; lap('import')\n"
            "m = open_model('model'); lap('load')\n"
            "s = SamplingSettings(rules=GrammarRules(may_end=False))\n"
            "nothing = [np.empty(0, int)]\n"
            "sampling._cache_sizes = lambda *_: [1024]\n"
            "sampling.compose(m, nothing, 1, settings=s); lap('compile')\n"
            "sampling.compose(m, nothing, 1000, settings=s); lap('compose')\n"
        )
        laps = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
        )
        whole = statistics.median(timed(run) for _ in range(3))
        size = sum(np.prod(v.shape) for v in model.weights_by_name().values()) / 1e6
        print(f"generate.py -l 1000, {size:.1f} M numbers: {whole:.1f} s")
        print("of which about: " + ", ".join(laps.stdout.split("\n")[:-1]) + " (seconds)")


if __name__ == "__main__":
    parts = {
        "steps": show_steps,
        "rules": show_rules,
        "state": show_state,
        "pieces": show_pieces,
        "long": show_long,
        "process": show_process,
    }
    for name in sys.argv[1:] or parts:
        parts[name]()
        print(flush=True)
