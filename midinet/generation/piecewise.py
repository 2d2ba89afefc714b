"""Composing several pieces: in groups, each in a thread of its own.

Together, the weights are read from memory once for all pieces of a group, which pays for a large
model; but XLA leaves cores idle during much of a token's work, so there are as many groups as cores
if there are pieces enough. A small model lies in a processor's caches anyway, and XLA computes the
products of a single row fastest, so each of its pieces is a group.
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
_MIN_GROUP = 4  # pieces of a large model: smaller groups gain little, and read its weights as often


def stream_pieces(  # with the parameters of sampling.stream
    model: sampling.Decoder,
    prompts: Sequence[np.ndarray],
    length: int,
    *,
    settings: SamplingSettings,
    metronomes: Sequence[TempoMap | None],
    kept: KeptEvents | None = None,
) -> Iterator[np.ndarray]:
    """Does what `sampling.stream` does, in the way that is faster for the model."""
    groups = _groups(model, len(prompts))
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
        yield from streams[0]
        return
    with ThreadPoolExecutor(_num_cores()) as pool:
        while True:
            parts = list(pool.map(lambda stream: next(stream, None), streams))
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


def _groups(model: sampling.Decoder, num_pieces: int) -> list[range]:
    """Which pieces are composed together."""
    num_weights = sum(math.prod(weight.shape) for weight in model.weights_by_name().values())
    if tf.config.list_physical_devices("GPU"):
        num_groups = 1
    elif 4 * num_weights <= _SMALL_BYTES:
        num_groups = num_pieces
    else:
        num_groups = max(1, min(_num_cores(), num_pieces // _MIN_GROUP))
    edges = [num_pieces * group // num_groups for group in range(num_groups + 1)]
    return [range(first, end) for first, end in itertools.pairwise(edges)]


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
