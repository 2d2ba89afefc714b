"""Which pitch classes fit kept notes: fits the weights of midinet/generation/harmony.py.

    python benchmarks/harmony.py -d DATA -t TEST

Of each training song of DATA two melodic instruments are kept in turn. A logistic regression learns
the pitch classes of the others' notes from those of the kept notes at that moment and in the key
around it. Prints the weights, and the loss on TEST in nats per note: by chance (log 12 = 2.485),
with these weights, and with those of the module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from midinet.codec.decoding import tokens_to_notes
from midinet.data.corpus import Corpus, open_corpus
from midinet.generation.harmony import (
    KEY_MS,
    KEY_WEIGHTS,
    MOMENT_MS,
    OCTAVE,
    SOUNDING_WEIGHTS,
    shares_of_pitch_classes,
)

NOTES_PER_PART = 150
MIN_NOTES = 20
STEPS = 800
RATE = 0.2
PENALTY = 1e-4
INTERVAL = (np.arange(OCTAVE) - np.arange(OCTAVE)[:, None]) % OCTAVE  # [kept, composed]


def examples(
    corpus: Corpus, songs: Iterable[int], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the kept pitch classes `(N, 2, 12)`, and the pitch classes to tell `(N,)`."""
    shares, pitch_classes = [], []
    for song in songs:
        notes = tokens_to_notes(corpus.song(song), corpus.codec.drum_program)
        notes = notes[~notes.is_drum]
        programs, counts = np.unique(notes.program, return_counts=True)
        for program in random.permutation(programs[counts >= MIN_NOTES])[:2]:
            kept, others = notes[notes.program == program], notes[notes.program != program]
            others = others[others.start_ms < kept.end_ms.max()]
            chosen = random.permutation(len(others))[:NOTES_PER_PART]
            if not len(chosen):
                continue
            others = others[np.sort(chosen)]
            moments_ms = others.start_ms + MOMENT_MS / 2
            shares.append(
                np.stack(
                    [
                        shares_of_pitch_classes(kept, moments_ms, radius_ms)
                        for radius_ms in (MOMENT_MS / 2, KEY_MS)
                    ],
                    axis=1,
                )
            )
            pitch_classes.append(others.pitch % OCTAVE)
    return np.concatenate(shares), np.concatenate(pitch_classes)


def probabilities(weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """`(N, 12)` of each pitch class, given weights `(2, 12)` and shares `(N, 2, 12)`."""
    logits = np.einsum("spq,nsp->nq", weights[:, INTERVAL], shares)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return result


def fit(shares: np.ndarray, pitch_classes: np.ndarray) -> np.ndarray:
    """The weights `(2, 12)` with the least loss, by Adam; each row's mean is 0."""
    weights, mean, square = np.zeros((3, 2, OCTAVE))
    hot = np.eye(OCTAVE)[pitch_classes]
    for step in range(1, STEPS + 1):
        error = (probabilities(weights, shares) - hot) / len(hot)
        by_pair = np.einsum("nq,nsp->spq", error, shares)
        gradient = np.stack(
            [by_pair[:, interval == INTERVAL].sum(axis=1) for interval in range(OCTAVE)], axis=1
        )
        gradient += PENALTY * weights
        mean += 0.1 * (gradient - mean)
        square += 0.01 * (gradient**2 - square)
        size = RATE * (1 - step / STEPS)
        weights -= size * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-9)
    return weights - weights.mean(axis=1, keepdims=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", "--dataset", required=True, help="a data set to learn from")
    parser.add_argument("-t", "--test", required=True, help="a data set of test songs")
    options = parser.parse_args()
    corpus, test = open_corpus(options.dataset), open_corpus(options.test)
    random = np.random.default_rng(0)
    weights = fit(*examples(corpus, corpus.split()[0].tolist(), random))
    for name, row in zip(("SOUNDING_WEIGHTS", "KEY_WEIGHTS"), weights, strict=True):
        print(f"{name} = ({', '.join(f'{weight:.2f}' for weight in row)})")
    shares, pitch_classes = examples(test, range(len(test)), random)
    variants = {
        "by chance": np.zeros((2, OCTAVE)),
        "with these weights": weights,
        "with those of the module": np.array([SOUNDING_WEIGHTS, KEY_WEIGHTS]),
    }
    for name, variant in variants.items():
        told = probabilities(variant, shares)[np.arange(len(shares)), pitch_classes]
        print(f"{name}: {-np.log(told).mean():.3f} nats per note of {len(told):,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
