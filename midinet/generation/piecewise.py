"""Composing several pieces: on which device, and in which groups, each in a thread of its own.

Together, the weights are read from memory once for all pieces of a group, which pays for a large
model; but XLA leaves cores idle during much of a token's work, so there are as many groups as cores
if there are pieces enough. A small model lies in a processor's caches anyway, and XLA computes the
products of a single row fastest, so each of its pieces is a group.

A GPU composes all pieces as one group. XLA compiles for it for ten seconds and more, in which a CPU
composes many pieces of a small model.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from midinet.backend import tf
from midinet.codec.vocabulary import PAD
from midinet.generation import sampling
from midinet.generation.kept_events import KeptEvents
from midinet.generation.settings import SamplingSettings
from midinet.midi.tempo_map import TempoMap

_SMALL_BYTES = 8 << 20  # weights of a model that pieces share no better than the caches do
# A token is so much work as the model has weights. On the CPU this much takes about as long as XLA
# takes to compile for a GPU: half a minute on two cores.
_WORK_FOR_A_GPU = 3e10
_MIN_GROUP = 4  # pieces of a large model: smaller groups gain little, and read its weights as often


def stream_pieces(  # with the parameters of sampling.stream
    model: sampling.Decoder,
    prompts: Sequence[np.ndarray],
    length: int,
    *,
    settings: SamplingSettings,
    metronomes: Sequence[TempoMap | None],
    kept: KeptEvents | None = None,
    expected_tokens: int | None = None,
) -> Iterator[np.ndarray]:
    """Does what `sampling.stream` does, where and in the way that is fastest for the model.

    Args:
        expected_tokens: how long the pieces will be; None: `length`.
    """
    device = _device(model, len(prompts) * (expected_tokens or length))
    groups = _groups(model, len(prompts), device)

    def advance(stream: Iterator[np.ndarray]) -> np.ndarray | None:
        # The choice of a device holds for a thread, so the generators can't make it.
        with tf.device(device):
            return next(stream, None)

    streams = [
        sampling.stream(
            model,
            prompts[group.start : group.stop],
            length,
            settings=dataclasses.replace(settings, seed=settings.seed + group.start),
            metronomes=metronomes[group.start : group.stop],
            kept=kept,
        )
        for group in groups
    ]
    if len(streams) == 1:
        while (part := advance(streams[0])) is not None:
            yield part
        return
    with ThreadPoolExecutor(_num_cores()) as pool:
        while True:
            parts = list(pool.map(advance, streams))
            width = next((part.shape[1] for part in parts if part is not None), None)
            if width is None:
                return
            # A stream ends with its pieces, but all pieces have the same number of tokens.
            yield np.concatenate(
                [
                    np.full((len(group), width), PAD, np.uint16) if part is None else part
                    for group, part in zip(groups, parts, strict=True)
                ]
            )


def _device(model: sampling.Decoder, num_tokens: int) -> str:
    """Where to compose so many tokens, of all pieces together."""
    is_much = _num_weights(model) * num_tokens >= _WORK_FOR_A_GPU
    return "GPU:0" if is_much and tf.config.list_logical_devices("GPU") else "CPU:0"


def _groups(model: sampling.Decoder, num_pieces: int, device: str) -> list[range]:
    """Which pieces are composed together."""
    if device.startswith("GPU"):
        num_groups = 1
    elif 4 * _num_weights(model) <= _SMALL_BYTES:
        num_groups = num_pieces
    else:
        num_groups = max(1, min(_num_cores(), num_pieces // _MIN_GROUP))
    edges = [num_pieces * group // num_groups for group in range(num_groups + 1)]
    return [range(first, end) for first, end in itertools.pairwise(edges)]


def _num_weights(model: sampling.Decoder) -> int:
    return sum(math.prod(weight.shape) for weight in model.weights_by_name().values())


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
