"""How the demo model was made, and how near its music comes to real music; prints tables.

    python benchmarks/demo.py calm SONGS CALM_SONGS -d DATA
                                                   copies songs that are neither dense nor drones
    python benchmarks/demo.py pack MODEL -t TEST   puts a trained model into midinet/demo
    python benchmarks/demo.py judge -d DATA -t TEST
                                                   compares what it composes with the test songs
    python benchmarks/demo.py judge MODEL -d DATA -t TEST --settings 8,1,1,0,0,1,0
                                                   another model, other top-k, temperature, top-p,
                                                   variety, repetition, temperature of kinds, number
                                                   of instruments

DATA is the data set that the model was trained on, TEST one of songs that no model is trained or
chosen on. `pack` halves the weights' precision and shows what that does to the loss on TEST.
`judge` composes pieces from nothing, each to a tempo of a training song, with the settings that
generate.py has by default, by the demo model and by two that know less: one that was never trained,
and one that knows only how often each token occurs. All are measured as midinet.report does,
against as many tokens from the beginnings of the test songs.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.vocabulary import VOCAB_SIZE
from midinet.data.batches import Windows
from midinet.data.corpus import Corpus, open_corpus
from midinet.data.habits import Habits
from midinet.generation.generate import DEMO_MODEL
from midinet.generation.pieces import to_notes
from midinet.generation.sampling import compose
from midinet.generation.settings import STATE_FREEDOM, GrammarRules, SamplingSettings
from midinet.midi.notes import Notes
from midinet.midi.tempo_map import TempoMap
from midinet.model.music_transformer import (
    PARAMETERS_FILE,
    WEIGHTS_FILE,
    MusicTransformer,
    build_model,
    open_model,
)
from midinet.report import comparison
from midinet.report.metrics import hanging_share, notes_per_second
from midinet.report.quoting import PassageIndex
from midinet.training.devices import BatchSharding
from midinet.training.loop import batches_for
from midinet.training.metrics import MetricSums
from midinet.training.steps import Steps

LENGTH = 1500  # tokens per piece
PIECES_AT_ONCE = 8  # which share a tempo

# Of the songs in the last epochs of training.
MAX_NOTES_PER_SECOND = 20
MAX_HANGING_SHARE = 0.1  # of their melodic time lies in notes over 4 s


def copy_calm_songs(corpus: Corpus, songs: Path, target: Path) -> None:
    """Copies the files of a data set's songs that are calm, for the last epochs of training.

    Args:
        corpus: the data set.
        songs: the folder of its MIDI files.
        target: the folder to make.
    """
    count = 0
    for index, name in enumerate(corpus.names):
        notes = tokens_to_notes(corpus.song(index), corpus.codec.drum_program)
        hanging = hanging_share(notes)
        if notes_per_second(notes) <= MAX_NOTES_PER_SECOND and not hanging > MAX_HANGING_SHARE:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(songs / name, target / name)
            count += 1
    print(f"{count} of {len(corpus)} songs are in {target}")


def test_loss(model: MusicTransformer, corpus: Corpus) -> MetricSums:
    """The loss over all songs of a data set."""
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    sharding = BatchSharding(strategy, model.parameters.batch_size)
    steps = Steps(model, None, strategy, sharding, xla=False)
    windows = Windows(corpus, range(len(corpus)), model.parameters.sequence_length)
    return sum((steps.validate(batch) for batch in batches_for(model, windows)), MetricSums())


def pack(folder: Path, corpus: Corpus) -> None:
    """Copies a model to midinet/demo with float16 weights."""
    before = test_loss(open_model(folder), corpus)
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
    after = test_loss(open_model(DEMO_MODEL), corpus)
    size = (DEMO_MODEL / WEIGHTS_FILE).stat().st_size
    print(f"{DEMO_MODEL / WEIGHTS_FILE}: {size / 1e6:.1f} MB")
    for name, sums in (("float32", before), ("float16", after)):
        print(f"{name}: {describe(sums)}")


def describe(sums: MetricSums) -> str:
    """The loss in words."""
    kinds = ", ".join(f"{kind} {loss:.3f}" for kind, loss in sums.loss_by_kind().items())
    return (
        f"loss on {sums.tokens:,.0f} test tokens: {sums.mean_loss:.4f} nats per token, "
        f"{sums.loss_per_note:.3f} per note; {kinds}"
    )


def unigram(corpus: Corpus, model: MusicTransformer) -> MusicTransformer:
    """A model that says of each token how often it comes in the training songs, whatever came."""
    counts = np.ones(VOCAB_SIZE)
    for song in corpus.split()[0]:
        counts += np.bincount(corpus.song(song), minlength=VOCAB_SIZE)
    weights = model.weights_by_name()
    weights["logits/kernel"].assign(np.zeros(weights["logits/kernel"].shape))
    weights["logits/bias"].assign(np.log(counts / counts.sum()))
    return model


def pieces_of(
    model: MusicTransformer, settings: SamplingSettings, num_groups: int = 4
) -> list[Notes]:
    """Pieces composed from nothing, each with the tempo map of what it heard, in equal groups."""
    nothing = np.empty(0, np.uint16)
    rules = settings.rules or GrammarRules()
    rules = dataclasses.replace(rules, habits=Habits.of_history(model.history_of_training))
    tempos = model.history_of_training.get("tempi_bpm") or [None]
    pieces = []
    for group in range(num_groups):
        # Tempos evenly spread over those of the training songs.
        bpm = tempos[int((group + 0.5) / num_groups * len(tempos))]
        own = dataclasses.replace(settings, rules=rules, bpm=bpm, seed=group * PIECES_AT_ONCE)
        made = compose(model, [nothing] * PIECES_AT_ONCE, LENGTH, settings=own)
        for tokens in made:
            notes = to_notes(nothing, tokens, model.codec, rules, False)[0]
            tempo_map = TempoMap.constant(bpm) if bpm else None
            pieces.append(dataclasses.replace(notes, tempo_map=tempo_map))
    return pieces


def grid_share(pieces: Sequence[Notes]) -> float | None:
    """The mean share of onsets on the sixteenths and triplets of what the pieces heard."""
    heard = [(notes.tempo_map, notes.start_ms) for notes in pieces if notes.tempo_map is not None]
    return (
        float(np.mean([map_.grid_share(start_ms) for map_, start_ms in heard])) if heard else None
    )


def beginnings(corpus: Corpus, songs: Sequence[int]) -> list[Notes]:
    """The songs' first tokens, as many as a piece has."""
    drum_program = corpus.codec.drum_program
    return [
        dataclasses.replace(
            tokens_to_notes(corpus.song(song)[:LENGTH], drum_program),
            tempo_map=corpus.tempo_map(song),
        )
        for song in songs
    ]


def judge(
    folder: Path,
    corpus: Corpus,
    test: Corpus,
    variants: dict[str, SamplingSettings],
    num_groups: int,
) -> None:
    """Prints how far each model's pieces are from the test songs, measure by measure.

    Args:
        folder: of the model.
        corpus: what it was trained on.
        test: songs to compare with.
        variants: settings to compose with, by name.
        num_groups: how many groups of pieces to compose with each of them.
    """
    training_songs, _ = corpus.split()
    index = PassageIndex(
        [tokens_to_notes(corpus.song(song), corpus.codec.drum_program) for song in training_songs]
    )
    model = open_model(folder)
    print(describe(test_loss(model, test)))
    sets = {"test songs": beginnings(test, range(len(test)))}
    for name, settings in variants.items():
        sets[name] = pieces_of(model, settings, num_groups)
    know_less = SamplingSettings(VOCAB_SIZE, temperature=1.0, top_p=1.0)
    sets["untrained"] = pieces_of(build_model(model.parameters, model.codec), know_less, num_groups)
    sets["unigram"] = pieces_of(unigram(corpus, model), know_less, num_groups)
    musics = [
        comparison.MusicSet.of(name, pieces, comparison.measure(pieces, index))
        for name, pieces in sets.items()
    ]
    print(comparison.compare(musics).render())
    shares = {name: grid_share(pieces) for name, pieces in sets.items()}
    known = ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if share is not None)
    print(f"onsets on the sixteenths and triplets of the metronome: {known}")


def settings_of(
    top_k: float,
    temperature: float,
    top_p: float,
    variety: float,
    repetition: float,
    kind_temperature: float,
    max_programs: float,
) -> SamplingSettings:
    """The settings to compose with; `max_programs` 0: any number of instruments."""
    most = int(max_programs) or None
    return SamplingSettings.of(
        STATE_FREEDOM._replace(
            top_k=int(top_k),
            temperature=temperature,
            top_p=top_p,
            variety=variety,
            repetition=repetition,
            kind_temperature=kind_temperature,
            max_programs=most,
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["calm", "pack", "judge"])
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        help="a model (default: the demo); for calm the songs, and the folder to make",
    )
    parser.add_argument("-d", "--dataset", help="the data set of its training, to judge")
    parser.add_argument("-t", "--test", help="a data set of test songs")
    parser.add_argument(
        "--settings", nargs="*", metavar="K,T,P,V,R,C,N", help="instead of the defaults"
    )
    parser.add_argument(
        "--groups", type=int, default=4, help=f"of {PIECES_AT_ONCE} pieces each, to judge"
    )
    options = parser.parse_args()
    needed = {"calm": ["dataset"], "pack": ["test"], "judge": ["dataset", "test"]}
    if missing := [n for n in needed[options.what] if getattr(options, n) is None]:
        parser.error(f"{options.what} needs --{' and --'.join(missing)}")
    if options.what == "calm":
        copy_calm_songs(open_corpus(options.dataset), *options.folders)
        return 0
    model = options.folders[0] if options.folders else DEMO_MODEL
    test = open_corpus(options.test)
    if options.what == "pack":
        pack(model, test)
    else:
        variants = {"model": SamplingSettings.of(STATE_FREEDOM)}
        if options.settings:
            variants = {
                text: settings_of(*map(float, text.split(","))) for text in options.settings
            }
        judge(model, open_corpus(options.dataset), test, variants, options.groups)
    return 0


if __name__ == "__main__":
    sys.exit(main())
