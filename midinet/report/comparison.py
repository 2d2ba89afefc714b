"""Compares sets of music: what `python -m midinet.report A [B ...]` does.

Each set is a data set folder, a folder of MIDI files or one MIDI file. The table gives the mean
and the standard deviation of every metric over the pieces, and how far the values of each other
set are from those of A. With A real music and the others composed, the one closest to A wins. What
is measured, and how: metrics.py and quoting.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from tqdm import tqdm

from midinet.codec.decoding import tokens_to_notes
from midinet.data.corpus import open_corpus
from midinet.errors import CorpusError, MidiError, OptionError
from midinet.folders import DESCRIPTION_FILE, midi_files
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi
from midinet.rendering.piano_roll import COLOURS, DPI, GRID, INK, drawable, style_axes, write_png
from midinet.report.metrics import METRICS
from midinet.report.quoting import PassageIndex, repeated_share

LETTERS = string.ascii_uppercase
REPETITION = "repeated windows"
COPYING = "windows copied from training"


class MusicSet(NamedTuple):
    """A set of music and what was measured on it.

    Attributes:
        name: where it is, and which part of it.
        seconds: how long it is in all.
        values: for each metric `(P,)` one value a piece; NaN where it makes no sense.
    """

    name: str
    seconds: float
    values: Mapping[str, np.ndarray]


def load_music(path: str | Path) -> list[Notes]:
    """Reads the pieces of a data set folder, of a folder of MIDI files, or of one MIDI file.

    A MIDI file of a folder that can't be read, or has no notes, is left out.

    Raises:
        CorpusError: there is no music.
        MidiError: the one file is no MIDI file.
    """
    path = Path(path)
    if (path / DESCRIPTION_FILE).is_file():
        corpus = open_corpus(path)
        drum_program = corpus.codec.drum_program
        pieces = [tokens_to_notes(corpus.song(i), drum_program) for i in range(len(corpus))]
    elif path.is_dir():
        files = sorted(midi_files(path))
        pieces = [notes for file in files if (notes := _read_or_skip(file)) is not None]
    elif path.exists():
        pieces = [read_midi(path)]
    else:
        raise CorpusError(f"{path} is not there: name a data set, a folder or a MIDI file")
    pieces = [notes for notes in pieces if len(notes)]
    if not pieces:
        raise CorpusError(f"{path} holds no music: no data set, and no MIDI file with notes")
    return pieces


def _read_or_skip(file: Path) -> Notes | None:
    try:
        return read_midi(file)
    except MidiError as error:
        print(f"left out: {error}", file=sys.stderr)
    except OSError as error:
        print(f"left out: {file}: {error.strerror or error}", file=sys.stderr)
    return None


def measure(
    pieces: Sequence[Notes], training: PassageIndex | None = None, is_training: bool = False
) -> dict[str, np.ndarray]:
    """Measures every piece.

    Args:
        pieces: the music.
        training: the songs to look for copies in; None: copying is not measured.
        is_training: the pieces are those songs, in the same order: each is compared with the
            others, which tells how much real music quotes real music.

    Returns:
        For each metric `(P,)` one value a piece.
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
    """How far the values of two sets are apart: the average way from one set's to the other's.

    The Wasserstein distance of first order: unlike a difference of means it sees that values
    scatter too much or too little. NaN where a set has no value.
    """
    first, second = (np.sort(values[~np.isnan(values)]) for values in (first, second))
    if not len(first) or not len(second):
        return math.nan
    values = np.sort(np.concatenate([first, second]))
    shares = [np.searchsorted(s, values[:-1], "right") / len(s) for s in (first, second)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(values)).sum())


def table(sets: Sequence[MusicSet]) -> str:
    """The figures of the sets, and how far the others are from the first, as lines of text."""
    titles = list(sets[0].values)
    lines = []
    for letter, music in zip(LETTERS, sets, strict=False):
        count = len(music.values[titles[0]])
        clock = f"{int(music.seconds) // 60}:{int(music.seconds) % 60:02d}"
        lines.append(f"{letter}: {music.name} ({count} piece{'s' * (count != 1)}, {clock})")
    letters = LETTERS[: len(sets)]
    head = f"{'':28}" + "".join(f"{letter + ' mean':>9} {'± sd':<9}" for letter in letters)
    lines += ["", (head + "".join(f"{f'A to {other}':>8} " for other in letters[1:])).rstrip()]
    scaled, is_closest = _distances(sets)
    for row, title in enumerate(titles):
        line = f"{title:28}" + "".join(_mean_and_spread(music.values[title]) for music in sets)
        for apart, closest in zip(scaled[row], is_closest[row], strict=True):
            shown = f"{apart:.2f}" if math.isfinite(apart) else "-"
            line += f"{shown:>8}{'*' if closest else ' '}"
        lines.append(line.rstrip())
    if len(sets) > 1:
        lines += ["", *_summary(letters[1:], titles, scaled, is_closest)]
    return "\n".join(lines)


def _distances(sets: Sequence[MusicSet]) -> tuple[np.ndarray, np.ndarray]:
    """How far the other sets are from the first.

    Returns:
        `(metrics, sets - 1)` the distances in standard deviations of the first, NaN where there is
        none; and whether a set comes closest, all false where none is closer than another. In
        copying none is: there less is better.
    """
    apart = np.array(
        [
            [distance(values, other.values[title]) for other in sets[1:]]
            for title, values in sets[0].values.items()
        ]
    ).reshape(len(sets[0].values), len(sets) - 1)
    known = [values[~np.isnan(values)] for values in sets[0].values.values()]
    spread = np.array([values.std() if len(values) else math.nan for values in known])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(apart == 0, 0.0, apart / spread)
    scaled[~np.isfinite(scaled)] = math.nan
    apart[[title == COPYING for title in sets[0].values]] = math.nan
    far = np.where(np.isnan(apart), np.inf, apart)
    least = far.min(axis=1, keepdims=True, initial=np.inf)
    return scaled, (far == least) & (far > least).any(axis=1, keepdims=True)


def _summary(
    letters: str, titles: Sequence[str], scaled: np.ndarray, is_closest: np.ndarray
) -> list[str]:
    """Which set comes closest to the first. Copying does not count: there less is better."""
    counts = np.array([title != COPYING for title in titles])
    lines = ["distances are average ones, in standard deviations of A (Wasserstein); * the closest"]
    middle = [
        float(np.median(column[~np.isnan(column)])) if not np.isnan(column).all() else math.nan
        for column in scaled[counts].T
    ]
    said = ", ".join(f"{letter} {value:.2f}" for letter, value in zip(letters, middle, strict=True))
    lines.append(f"median distance from A: {said}")
    if len(letters) > 1:
        wins = is_closest[counts].sum(axis=0)
        said = ", ".join(f"{letter} {won}" for letter, won in zip(letters, wins, strict=True))
        lines.append(f"closest to A in so many of {counts.sum()} measures: {said}")
    if COPYING in titles:
        lines.append("copying is left out of this: there less is better")
    return lines


def _mean_and_spread(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return f"{'-':>9} {'':9}"
    return f"{known.mean():9.3f} {'± ' + format(known.std(), '.3f'):<9}"


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
        first: a data set folder, a folder of MIDI files or a MIDI file; real music, say.
        others: more of them; composed music, say.
        training: the music the model learned from, to look for copies. A set that is the same
            folder is not searched in itself: each of its songs is compared with the others.
        held_out: take of `first`, a data set, only the songs that train.py keeps for validation,
            and look for copies in those it trains on.
        seconds: measure only so much of the beginning of each piece: a long one repeats more, and
            has more instruments, than a short one.
        png: where to draw the distributions; an older picture there is replaced.

    Returns:
        The table.

    Raises:
        CorpusError: a path holds no music.
        MidiError: a path is a file, but no MIDI file.
        OptionError: too many sets, or an argument that makes no sense.
        OSError: the picture can't be written.
    """
    if len(others) >= len(LETTERS):
        raise OptionError(f"{1 + len(others)} sets of music: {len(LETTERS)} at most")
    if held_out and training is not None:
        raise OptionError("training and held_out: the second says itself what was trained on")
    if seconds is not None and not seconds > 0:
        raise OptionError(f"seconds is {seconds:g}: it must be above 0")
    if png is not None:
        _check_picture(Path(png))
    index = None
    music: list[tuple[str, list[Notes]]] = []
    if held_out:
        songs = load_music(first)
        trained_on, validation = open_corpus(first).split()
        index = PassageIndex([songs[i] for i in trained_on])
        music.append((f"{first}, held-out songs", [songs[i] for i in validation]))
    else:
        music.append((str(first), load_music(first)))
        index = PassageIndex(load_music(training)) if training is not None else None
    music += [(str(path), load_music(path)) for path in others]

    sets = []
    for name, pieces in music:
        if seconds is not None:
            pieces = [_beginning(notes, seconds) for notes in pieces]
        values = measure(pieces, index, is_training=_is_same(name, training))
        sets.append(MusicSet(name, sum(notes.duration_ms for notes in pieces) / 1000, values))
    if png is not None:
        draw(sets, png)
    return table(sets)


def _check_picture(path: Path) -> None:
    """Fails before the work, and where a slip would replace somebody's music by a picture."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"png is {path}: name a file that ends in .png")
    if not path.parent.is_dir():
        raise OptionError(f"png is {path}: there is no folder {path.parent}")


def _beginning(notes: Notes, seconds: float) -> Notes:
    """The first seconds of a piece, counted from its first note."""
    end_ms = notes.start_ms.min() + 1000 * seconds
    notes = notes[notes.start_ms < end_ms]
    return dataclasses.replace(notes, end_ms=np.minimum(notes.end_ms, end_ms))


def _is_same(path: str | Path, training: str | Path | None) -> bool:
    return training is not None and Path(path).resolve() == Path(training).resolve()


def draw(sets: Sequence[MusicSet], path: str | Path) -> None:
    """Draws a PNG with a panel a metric: a dot a piece, and a line at the mean of each set."""
    titles = list(sets[0].values)
    num_columns = 4
    num_rows = math.ceil(len(titles) / num_columns)
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    height = 0.5 + 0.2 * len(sets) + 2.6 * num_rows
    figure = Figure((13, height), DPI, facecolor="white", layout=spacing)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, title in zip(panels, titles, strict=False):
        style_axes(axes)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
        axes.grid(axis="y", color=GRID, linewidth=0.7)
        axes.set_xlim(-0.5, len(sets) - 0.5)
        axes.set_xticks(range(len(sets)), LETTERS[: len(sets)], fontweight="bold")
        for place, (music, colour) in enumerate(zip(sets, itertools.cycle(COLOURS), strict=False)):
            values = np.sort(music.values[title][~np.isnan(music.values[title])])
            # Spread sideways by rank with the golden ratio: neighbours never cover each other.
            sideways = place + 0.6 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
            axes.scatter(sideways, values, s=14, color=colour, alpha=0.55, linewidths=0)
            if len(values):
                axes.hlines(values.mean(), place - 0.36, place + 0.36, color=INK, linewidth=1.6)
        if axes.get_ylim()[0] < 0:  # no measure is: all values are nearly alike
            axes.set_ylim(0 - 0.04 * axes.get_ylim()[1], None)
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    names = [f"{letter}: {music.name}" for letter, music in zip(LETTERS, sets, strict=False)]
    heading = drawable("\n".join(names))
    figure.suptitle(heading, x=0.01, ha="left", color=INK, parse_math=False, fontsize=11)
    write_png(figure, path)
