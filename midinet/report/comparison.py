"""Compares sets of music: the work of `python -m midinet.report A [B ...]`.

A set is a data set folder, a folder of MIDI files or one MIDI file. The table gives the mean and
the standard deviation of every metric over the pieces of a set, and the distance between each
other set and A. If A is real music and the others are composed, the set closest to A is the best.
metrics.py and quoting.py define what is measured.
"""

from __future__ import annotations

import dataclasses
import math
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.vocabulary import STEP_MS
from midinet.data.corpus import open_corpus
from midinet.errors import CorpusError, MidiError, OptionError
from midinet.folders import DESCRIPTION_FILE, midi_files
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi
from midinet.report.drawing import LENGTHS, draw
from midinet.report.metrics import FAULTS, METRICS, melodic_lengths_s
from midinet.report.quoting import PassageIndex, repeated_share

LETTERS = string.ascii_uppercase
REPETITION = "repeated windows"
COPYING = "windows copied from training"
QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class MusicSet:
    """A set of music and what was measured on it.

    Attributes:
        name: its path, and which part of it was measured.
        duration_s: total duration of its pieces in seconds.
        values: for each metric `(P,)` one value per piece; NaN if it makes no sense for the piece.
        note_lengths_s: lengths in seconds of all melodic notes of all pieces.
    """

    name: str
    duration_s: float
    values: Mapping[str, np.ndarray]
    note_lengths_s: np.ndarray

    @classmethod
    def of(cls, name: str, pieces: Sequence[Notes], values: Mapping[str, np.ndarray]) -> MusicSet:
        """Makes the set of these pieces, whose metrics `measure` returned as `values`."""
        lengths_s = np.concatenate([melodic_lengths_s(notes) for notes in pieces])
        return cls(name, sum(notes.duration_ms for notes in pieces) / 1000, values, lengths_s)

    @property
    def num_pieces(self) -> int:
        return len(next(iter(self.values.values())))

    def known(self, title: str) -> np.ndarray:
        """Returns the values of a metric without the NaNs."""
        known: np.ndarray = self.values[title][~np.isnan(self.values[title])]
        return known


def load_music(path: str | Path) -> list[Notes]:
    """Reads the pieces of a data set folder, of a folder of MIDI files, or of one MIDI file.

    MIDI files in a folder that can't be read, or that have no notes, are skipped.

    Raises:
        CorpusError: if there is no music.
        MidiError: if `path` is a file, but not a MIDI file.
    """
    path = Path(path)
    if (path / DESCRIPTION_FILE).is_file():
        corpus = open_corpus(path)
        drum_program = corpus.codec.drum_program
        pieces = [tokens_to_notes(corpus.song(i), drum_program) for i in range(len(corpus))]
    elif path.is_dir():
        files = sorted(midi_files(path, _say_left_out))
        pieces = [notes for file in files if (notes := _read_or_skip(file)) is not None]
    elif path.exists():
        pieces = [read_midi(path)]
    else:
        raise CorpusError(f"{path} does not exist: name a data set, a folder or a MIDI file")
    pieces = [notes for notes in pieces if len(notes)]
    if not pieces:
        raise CorpusError(f"{path} holds no music: no data set, and no MIDI file with notes")
    return pieces


def _say_left_out(path: Path, reason: str) -> None:
    print(f"left out: {path}: {reason}", file=sys.stderr)


def _read_or_skip(file: Path) -> Notes | None:
    try:
        return read_midi(file)
    except MidiError as error:
        print(f"left out: {error}", file=sys.stderr)
    except OSError as error:
        _say_left_out(file, error.strerror or str(error))
    return None


def measure(
    pieces: Sequence[Notes], training: PassageIndex | None = None, is_training: bool = False
) -> dict[str, np.ndarray]:
    """Measures every piece.

    Args:
        pieces: the music.
        training: the songs to search for copies; None if copying is not to be measured.
        is_training: whether the pieces are those songs, in the same order. Each is then compared
            with the others, which shows how much real music quotes real music.

    Returns:
        For each metric `(P,)` one value per piece.
    """
    rows = []
    for i, notes in enumerate(tqdm(pieces, desc="Measuring", unit="piece", disable=None)):
        row = {metric.title: metric.measure(notes) for metric in METRICS}
        row[REPETITION] = repeated_share(notes)
        if training is not None:
            row[COPYING] = training.quoted_share(notes, left_out=i if is_training else None)
        rows.append(row)
    return {title: np.array([row[title] for row in rows]) for title in rows[0]}


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the Wasserstein distance of first order between the values of two sets.

    This is how far the values of one set have to be moved on average to become those of the other.
    Unlike a difference of means it also grows when values scatter too much or too little. It is
    NaN if a set has no value.
    """
    first, second = (np.sort(values[~np.isnan(values)]) for values in (first, second))
    if not len(first) or not len(second):
        return math.nan
    values = np.sort(np.concatenate([first, second]))
    shares = [np.searchsorted(s, values[:-1], "right") / len(s) for s in (first, second)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(values)).sum())


@dataclass(frozen=True)
class Comparison:
    """How far sets of music are from the first of them.

    Attributes:
        sets: the sets; the table and the picture call them A, B, C ...
        is_ranked: `(metrics,)` whether being close to A is good. In copying less is better.
        distances: `(metrics, sets - 1)` in standard deviations of A; NaN if there is none.
        is_closest: `(metrics, sets - 1)` whether this set is the closest to A. All are false where
            no set is closer than another, and where a metric is not ranked.
    """

    sets: Sequence[MusicSet]
    is_ranked: np.ndarray
    distances: np.ndarray
    is_closest: np.ndarray

    @property
    def titles(self) -> list[str]:
        return list(self.sets[0].values)

    @property
    def letters(self) -> str:
        return LETTERS[: len(self.sets)]

    def render(self) -> str:
        """Returns the table as lines of text."""
        lines = []
        for letter, music in zip(self.letters, self.sets, strict=True):
            count, (minutes, seconds) = music.num_pieces, divmod(int(music.duration_s), 60)
            pieces = f"{count} piece{'s' * (count != 1)}, {minutes}:{seconds:02d}"
            lines.append(f"{letter}: {music.name} ({pieces})")
        head = f"{'':28}" + "".join(f"{f'{letter} mean':>9} {'± sd':<9}" for letter in self.letters)
        head += "".join(f"{f'A to {other}':>8} " for other in self.letters[1:])
        lines += ["", head.rstrip()]
        for title, distances, is_closest in zip(
            self.titles, self.distances, self.is_closest, strict=True
        ):
            line = f"{title:28}" + "".join(_mean_and_deviation(s.known(title)) for s in self.sets)
            for value, closest in zip(distances, is_closest, strict=True):
                shown = "-" if math.isnan(value) else f"{value:.2f}"
                line += f"{shown:>8}{'*' if closest else ' '}"
            lines.append(line.rstrip())
        lines += ["", *self._note_lengths(), "", *self._faults()]
        if len(self.sets) > 1:
            lines += ["", *self._summary()]
        return "\n".join(lines)

    def _note_lengths(self) -> Iterator[str]:
        """Yields quantiles of the lengths of the melodic notes, and distances in octaves."""
        yield f"{LENGTHS:28}" + "".join(f"{f'{q:.0%}':>9}" for q in QUANTILES)
        first = _octaves(self.sets[0].note_lengths_s)
        for letter, music in zip(self.letters, self.sets, strict=True):
            lengths_s = music.note_lengths_s
            known = np.quantile(lengths_s, QUANTILES) if len(lengths_s) else []
            line = f"  {letter:26}" + "".join(f"{length_s:9.2f}" for length_s in known)
            apart = distance(first, _octaves(lengths_s))
            yield line.rstrip() + (f"   {apart:.2f} octaves from A" if letter != "A" else "")

    def _faults(self) -> Iterator[str]:
        """Yields how many pieces of each set have which fault."""
        for fault in FAULTS:
            values = [music.known(fault.metric) for music in self.sets]
            counts = zip(self.letters, values, self.sets, strict=True)
            yield f"pieces with {fault.title}: " + ", ".join(
                f"{letter} {fault.is_faulty(known).sum()} of {music.num_pieces}"
                for letter, known, music in counts
            )

    def _summary(self) -> Iterator[str]:
        """Yields the lines that say which set is closest to A."""
        yield "distances: Wasserstein, in standard deviations of A; * marks the closest set"
        known = [column[~np.isnan(column)] for column in self.distances[self.is_ranked].T]
        medians = [float(np.median(column)) if len(column) else math.nan for column in known]
        others = self.letters[1:]
        yield "median distance from A: " + ", ".join(
            f"{letter} {median:.2f}" for letter, median in zip(others, medians, strict=True)
        )
        if len(others) > 1:
            wins = self.is_closest.sum(axis=0)
            counts = ", ".join(f"{letter} {won}" for letter, won in zip(others, wins, strict=True))
            yield f"metrics, of {self.is_ranked.sum()}, in which a set is closest to A: {counts}"
        if not self.is_ranked.all():
            yield "copying does not count here, because less of it is better"


def compare(sets: Sequence[MusicSet]) -> Comparison:
    """Compares sets of music with the first of them, all of which have the same metrics."""
    titles = list(sets[0].values)
    distances = np.array(
        [[distance(sets[0].values[t], other.values[t]) for other in sets[1:]] for t in titles]
    ).reshape(len(titles), len(sets) - 1)
    deviations = [
        sets[0].known(title).std() if len(sets[0].known(title)) else 0 for title in titles
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(distances == 0, 0.0, distances / np.array(deviations)[:, None])
    scaled[~np.isfinite(scaled)] = math.nan
    is_ranked = np.array([title != COPYING for title in titles])
    distances = np.where(np.isnan(distances) | ~is_ranked[:, None], np.inf, distances)
    least = distances.min(axis=1, keepdims=True, initial=np.inf)
    is_closest = (distances == least) & (distances > least).any(axis=1, keepdims=True)
    return Comparison(sets, is_ranked, scaled, is_closest)


def _octaves(lengths_s: np.ndarray) -> np.ndarray:
    octaves: np.ndarray = np.log2(np.maximum(lengths_s, STEP_MS / 1000))
    return octaves


def _mean_and_deviation(known: np.ndarray) -> str:
    if not len(known):
        return f"{'-':>9} {'':9}"
    return f"{known.mean():9.3f} {f'± {known.std():.3f}':<9}"


def report(
    first: str | Path,
    *others: str | Path,
    training: str | Path | None = None,
    held_out: bool = False,
    seconds: float | None = None,
    png: str | Path | None = None,
) -> str:
    """Measures one set of music, or compares others with it.

    Args:
        first: a data set folder, a folder of MIDI files or a MIDI file; usually real music.
        others: more of them; usually composed music.
        training: the music that the model was trained on, to search for copies. If a set is this
            same folder, each of its songs is compared with its other songs.
        held_out: measure only those songs of `first`, a data set, that train.py keeps for
            validation, and search for copies of the songs that it trains on.
        seconds: measure only the first seconds of each piece. Long pieces repeat more and have
            more instruments than short ones.
        png: draw the distributions to this file, replacing an older one.

    Returns:
        The table.

    Raises:
        CorpusError: if a path holds no music.
        MidiError: if a path is a file, but not a MIDI file.
        OptionError: if there are too many sets or an argument makes no sense.
        OSError: if the picture can't be written.
    """
    if len(others) >= len(LETTERS):
        raise OptionError(f"{1 + len(others)} sets of music: at most {len(LETTERS)} are allowed")
    if held_out and training is not None:
        raise OptionError("training and held_out exclude each other: held_out knows the training")
    if seconds is not None and not seconds > 0:
        raise OptionError(f"seconds is {seconds:g}: it must be above 0")
    if png is not None:
        _check_picture(Path(png))
    pieces = load_music(first)
    if held_out:
        trained_on, validation = open_corpus(first).split()
        index: PassageIndex | None = PassageIndex([pieces[i] for i in trained_on])
        music = [(f"{first}, held-out songs", [pieces[i] for i in validation])]
    else:
        index = PassageIndex(load_music(training)) if training is not None else None
        music = [(str(first), pieces)]
    music += [(str(path), load_music(path)) for path in others]

    sets = []
    for name, pieces in music:
        if seconds is not None:
            pieces = [_beginning(notes, seconds) for notes in pieces]
        values = measure(pieces, index, is_training=_is_same(name, training))
        sets.append(MusicSet.of(name, pieces, values))
    comparison = compare(sets)
    if png is not None:
        draw(comparison, png)
    return comparison.render()


def _check_picture(path: Path) -> None:
    """Raises an error before any work is done, so that no typo replaces music by a picture."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"png is {path}: name a file that ends in .png")
    if not path.parent.is_dir():
        raise OptionError(f"png is {path}: there is no folder {path.parent}")


def _beginning(notes: Notes, seconds: float) -> Notes:
    """Returns the first seconds of a piece, counted from its first note."""
    end_ms = notes.start_ms.min() + 1000 * seconds
    notes = notes[notes.start_ms < end_ms]
    return dataclasses.replace(notes, end_ms=np.minimum(notes.end_ms, end_ms))


def _is_same(path: str | Path, training: str | Path | None) -> bool:
    return training is not None and Path(path).resolve() == Path(training).resolve()
