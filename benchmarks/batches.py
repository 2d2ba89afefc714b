"""Tokens per second of CPU time of the input pipeline, against what training consumes.

    python benchmarks/batches.py                music made up here, nearly two million tokens
    python benchmarks/batches.py -d FOLDER      a data set made by preprocess.py

Each line is the median of some epochs; tokens are those of whole batches, padding included, as a
training step consumes them. The aim is a million tokens per second of one core. "few songs in
memory" is what a data set costs of which a fifth fits in the memory for notes: each song is read
about once per epoch, as in any larger data set.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from midinet.data.batches import Windows, num_batches
from midinet.data.corpus import Corpus, open_corpus
from midinet.data.pipeline import dataset
from midinet.data.song_notes import BYTES_PER_TOKEN, NotesCache, read_notes
from midinet.midi.notes import Notes
from midinet.midi.writer import notes_to_midi

CONSUMED = 2 * 2048 / 3.2  # tokens a second: batch 2, sequence length 2048, 3.2 s a step on 2 cores
SIZES = [(2048, 2), (512, 8)]  # sequence length, batch size
VARIANTS = [  # name, augmented and shuffled, few songs in memory, through tf.data
    ("plain", False, False, False),
    ("shuffled, augmented", True, False, False),
    ("the same, few songs in memory", True, True, False),
    ("the same, by tf.data", True, False, True),
]
EPOCHS = 3
FEW = 1 / 5  # of the songs' notes, so much fits in memory


def made_up_corpus(folder: Path) -> Corpus:
    """A data set of 50 songs of four melodic instruments and percussion."""
    import midinet

    (folder / "music").mkdir()
    random = np.random.default_rng(0)
    for number in range(50):
        count = int(random.integers(500, 12_000))
        start_ms = np.cumsum(random.choice([0, 10, 125, 250, 500, 1500], size=count))
        notes = Notes(
            start_ms=start_ms.astype(float),
            end_ms=start_ms + random.choice([100.0, 240.0, 990.0], size=count),
            program=random.choice([0, 24, 33, 48], size=count).astype(np.uint8),
            pitch=random.integers(30, 96, size=count).astype(np.uint8),
            velocity=random.integers(40, 120, size=count).astype(np.uint8),
            is_drum=random.random(count) < 0.3,
        )
        notes_to_midi(notes).save(folder / "music" / f"{number:03}.mid")
    midinet.preprocess(folder / "music", folder / "set", quiet=True)
    return open_corpus(folder / "set")


def run_epoch(windows: Windows, batch_size: int, through_tf: bool) -> tuple[float, float]:
    """Makes all batches of an epoch: tokens per second, and the share of them that counts."""
    count = num_batches(windows, batch_size)
    began = time.process_time()
    if through_tf:
        batches = iter(dataset(windows, batch_size))
    else:
        batches = (windows.batch(number * batch_size, batch_size) for number in range(count))
    counted = sum(float(np.sum(weights)) for _, _, weights, *_ in batches)
    tokens = count * batch_size * windows.sequence_length
    return tokens / (time.process_time() - began), counted / tokens


def print_table(corpus: Corpus) -> None:
    print(f"{len(corpus)} songs, {len(corpus.tokens):,} tokens; training uses {CONSUMED:,.0f}/s")
    print(f"{'length':>6} {'batch':>5}  {'windows':30} {'tokens/s':>12} {'x training':>10} counted")
    all_notes = corpus.notes
    few_notes = NotesCache(
        lambda index: read_notes(corpus.song(index), corpus.codec.drum_program),
        int(FEW * BYTES_PER_TOKEN * len(corpus.tokens)),
    )
    for length, batch_size in SIZES:
        for name, augment, few, through_tf in VARIANTS:
            corpus.notes = few_notes if few else all_notes
            options = {"augment": augment, "shuffle": augment}
            # The first epoch warms up: TensorFlow is imported, the file is read.
            runs = [
                run_epoch(
                    Windows(corpus, range(len(corpus)), length, epoch=epoch, **options),
                    batch_size,
                    through_tf,
                )
                for epoch in range(EPOCHS + 1)
            ]
            speed, counted = (statistics.median(column) for column in zip(*runs[1:], strict=True))
            print(
                f"{length:6} {batch_size:5}  {name:30} {speed:12,.0f} {speed / CONSUMED:10,.0f}"
                f" {counted:7.1%}"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", "--dataset", type=Path, help="a data set folder")
    dataset_folder = parser.parse_args().dataset
    if dataset_folder:
        print_table(open_corpus(dataset_folder))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        print_table(made_up_corpus(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
