"""How the demo model was made, and how near its music comes to real music; prints tables.

    python benchmarks/demo.py pack MODEL -d DATA   puts a trained model into midinet/demo
    python benchmarks/demo.py judge -d DATA        compares what it composes with held-out songs
    python benchmarks/demo.py judge MODEL -d DATA --settings 8,1,1 32,0.9,0.95
                                                   another model, other top-k, temperature, top-p

DATA is the data set that the model was trained on. `pack` halves the weights' precision and shows
what that does to the validation loss. `judge` composes pieces from nothing, with the settings that
generate.py has by default, by the demo model and by two that know less: one that was never
trained, and one that knows only how often each token comes. All are measured as midinet.report
does, against as many tokens from the beginnings of the songs that no model was trained on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.vocabulary import NOTE_ON, VOCAB_SIZE
from midinet.data.batches import Windows, dataset
from midinet.data.corpus import Corpus, open_corpus
from midinet.generation.generate import DEMO_MODEL
from midinet.generation.pieces import to_notes
from midinet.generation.sampling import compose
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.midi.notes import Notes
from midinet.model.music_transformer import (
    PARAMETERS_FILE,
    WEIGHTS_FILE,
    MusicTransformer,
    build_model,
    open_model,
)
from midinet.report import comparison
from midinet.report.quoting import PassageIndex
from midinet.training.devices import Sharing
from midinet.training.steps import Steps, Sums

LENGTH = 2500  # tokens of a piece: what generate.py composes
NUM_PIECES = 16


def validation(model: MusicTransformer, corpus: Corpus) -> tuple[float, float]:
    """The loss over the held-out songs: nats a token, and nats a note."""
    import tensorflow as tf

    songs, batch_size = corpus.split()[1], 4
    strategy = tf.distribute.get_strategy()
    steps = Steps(model, None, strategy, Sharing(strategy, batch_size), xla=False)
    sums = Sums()
    for batch in dataset(Windows(corpus, songs, model.parameters.sequence_length), batch_size):
        sums = sums.plus(steps.validate(batch))
    num_notes = sum(int(NOTE_ON.holds(corpus.song(song)).sum()) for song in songs)
    return sums.mean_loss, sums.loss / num_notes


def pack(folder: Path, corpus: Corpus) -> None:
    """Copies a model to midinet/demo with float16 weights."""
    before = validation(open_model(folder), corpus)
    DEMO_MODEL.mkdir(exist_ok=True)
    shutil.copy(folder / PARAMETERS_FILE, DEMO_MODEL)
    with (
        h5py.File(folder / WEIGHTS_FILE) as whole,
        h5py.File(DEMO_MODEL / WEIGHTS_FILE, "w") as half,
    ):

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                half.create_dataset(name, data=item[()].astype(np.float16), compression="gzip")
            else:
                half.require_group(name)
            half[name].attrs.update(item.attrs)

        whole.visititems(copy)
        half.attrs.update(whole.attrs)
    after = validation(open_model(DEMO_MODEL), corpus)
    size = (DEMO_MODEL / WEIGHTS_FILE).stat().st_size
    print(f"{DEMO_MODEL / WEIGHTS_FILE}: {size / 1e6:.1f} MB")
    for name, (a_token, a_note) in (("float32", before), ("float16", after)):
        print(f"{name}: validation loss {a_token:.4f} nats a token, {a_note:.3f} nats a note")


def unigram(corpus: Corpus, model: MusicTransformer) -> MusicTransformer:
    """A model that says of each token how often it comes in the training songs, whatever came."""
    counts = np.ones(VOCAB_SIZE)
    for song in corpus.split()[0]:
        counts += np.bincount(corpus.song(song), minlength=VOCAB_SIZE)
    weights = model.weights_by_name()
    weights["logits/kernel"].assign(np.zeros(weights["logits/kernel"].shape))
    weights["logits/bias"].assign(np.log(counts / counts.sum()))
    return model


def pieces_of(model: MusicTransformer, settings: SamplingSettings) -> list[Notes]:
    """Pieces composed from nothing."""
    nothing = np.empty(0, np.uint16)
    made = compose(model, [nothing] * NUM_PIECES, LENGTH, settings=settings)
    rules = settings.rules or GrammarRules()
    return [to_notes(nothing, tokens, model.codec, rules, False)[0] for tokens in made]


def beginnings(corpus: Corpus, songs: Sequence[int]) -> list[Notes]:
    """The songs' first tokens, as many as a piece has."""
    drum_program = corpus.codec.drum_program
    return [tokens_to_notes(corpus.song(song)[:LENGTH], drum_program) for song in songs]


def judge(folder: Path, corpus: Corpus, variants: dict[str, SamplingSettings]) -> None:
    """Prints how far each model's pieces are from the held-out songs, measure by measure.

    Args:
        folder: of the model.
        corpus: what it was trained on.
        variants: settings to compose with, by name.
    """
    training_songs, held_out = corpus.split()
    index = PassageIndex(
        [tokens_to_notes(corpus.song(song), corpus.codec.drum_program) for song in training_songs]
    )
    model = open_model(folder)
    sets = {"held-out songs": beginnings(corpus, held_out)}
    for name, settings in variants.items():
        sets[name] = pieces_of(model, settings)
    know_less = SamplingSettings(VOCAB_SIZE, temperature=1.0, top_p=1.0)
    sets["untrained"] = pieces_of(build_model(model.parameters, model.codec), know_less)
    sets["unigram"] = pieces_of(unigram(corpus, model), know_less)
    musics = [
        comparison.MusicSet.of(name, pieces, comparison.measure(pieces, index))
        for name, pieces in sets.items()
    ]
    print(comparison.compare(musics).render())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["pack", "judge"])
    parser.add_argument("model", nargs="?", default=DEMO_MODEL, type=Path, help="a model's folder")
    parser.add_argument("-d", "--dataset", required=True, help="the data set of its training")
    parser.add_argument("--settings", nargs="*", metavar="K,T,P", help="instead of the defaults")
    options = parser.parse_args()
    corpus = open_corpus(options.dataset)
    if options.what == "pack":
        pack(options.model, corpus)
    else:
        variants = {"model": SamplingSettings()}
        if options.settings:
            parts = {text: text.split(",") for text in options.settings}
            variants = {
                t: SamplingSettings(int(k), float(T), float(p)) for t, (k, T, p) in parts.items()
            }
        judge(options.model, corpus, variants)
    return 0


if __name__ == "__main__":
    sys.exit(main())
