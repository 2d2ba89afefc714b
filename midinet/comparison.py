"""Compares two sets of music: what `python -m midinet.report A [B]` does.

Each set is a data set folder, a folder of MIDI files or one MIDI file. The table gives the mean
and the standard deviation of every metric over the pieces, and how far B is from A in standard
deviations. With A real music and B composed music, the B closest to A wins. What is measured, and
how: metrics.py and quoting.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from tqdm import tqdm

from midinet.codec import tokens_to_notes
from midinet.corpus import open_corpus
from midinet.errors import CorpusError, MidiError, OptionError
from midinet.folders import DESCRIPTION_FILE, is_midi_name
from midinet.metrics import METRICS
from midinet.pictures import COLOURS, DPI, GRID, INK, style_axes, write_png
from midinet.quoting import PassageIndex, repeated_share
from midinet.smf import Notes, read_midi

REPETITION = "repeated windows"
COPYING = "windows copied from training"


class MusicSet(NamedTuple):
    """A set of music and what was measured on it.

    Attributes:
        path: where it is.
        seconds: how long it is in all.
        values: for each metric `(P,)` one value a piece; NaN where it makes no sense.
    """

    path: Path
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
        files = sorted(f for f in path.rglob("*") if is_midi_name(f.name))
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


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How far the means of two sets are apart, in their pooled standard deviation (Cohen's d).

    NaN where a set has no value, or nothing varies though the means differ.
    """
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    if not len(first) or not len(second):
        return math.nan
    apart = float(second.mean() - first.mean())
    spread = math.sqrt((first.var() + second.var()) / 2)
    if apart == 0:
        return 0.0
    return apart / spread if spread > 0 else math.nan


def table(sets: Sequence[MusicSet]) -> str:
    """The figures of one set, or of two and their difference, as lines of text."""
    titles = list(sets[0].values)
    lines = []
    for letter, music in zip("AB", sets, strict=False):
        count = len(music.values[titles[0]])
        clock = f"{int(music.seconds) // 60}:{int(music.seconds) % 60:02d}"
        lines.append(f"{letter}: {music.path} ({count} piece{'s' * (count != 1)}, {clock})")
    head = f"{'':30}" + "".join(
        f"{letter + ' mean':>11} {'± sd':<9}" for letter in "AB"[: len(sets)]
    )
    lines += ["", head + ("B - A in sd" if len(sets) > 1 else "")]
    differences = []
    for title in titles:
        line = f"{title:30}"
        for music in sets:
            line += _mean_and_spread(music.values[title])
        if len(sets) > 1:
            apart = difference(sets[0].values[title], sets[1].values[title])
            line += f"{apart:+11.2f}" if math.isfinite(apart) else f"{'-':>11}"
            if math.isfinite(apart) and title != COPYING:
                differences.append(abs(apart))
        lines.append(line)
    if differences:
        lines += ["", f"mean distance of B from A: {np.mean(differences):.2f} standard deviations"]
        if COPYING in titles:
            lines.append("(without copying, of which less is better)")
    return "\n".join(lines)


def _mean_and_spread(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return f"{'-':>11} {'':9}"
    return f"{known.mean():11.3f} {'± ' + format(known.std(), '.3f'):<9}"


def report(
    first: str | Path,
    second: str | Path | None = None,
    training: str | Path | None = None,
    png: str | Path | None = None,
) -> str:
    """Measures one set of music, or compares two.

    Args:
        first: a data set folder, a folder of MIDI files or a MIDI file; real music, say.
        second: another; composed music, say.
        training: the music the model learned from, to look for copies. Where it is `first` or
            `second` itself, each song is compared with the others.
        png: where to draw the distributions; an older picture there is replaced.

    Returns:
        The table.

    Raises:
        CorpusError: a path holds no music.
        MidiError: a path is a file, but no MIDI file.
        OptionError: png is no place for a picture.
        OSError: the picture can't be written.
    """
    if png is not None:
        _check_picture(Path(png))
    index = PassageIndex(load_music(training)) if training is not None else None
    sets = []
    for path in (first, second):
        if path is not None:
            pieces = load_music(path)
            values = measure(pieces, index, is_training=_is_same(path, training))
            seconds = sum(notes.duration_ms for notes in pieces) / 1000
            sets.append(MusicSet(Path(path), seconds, values))
    if png is not None:
        draw(sets, png)
    return table(sets)


def _check_picture(path: Path) -> None:
    """Fails before the work, and where a slip would replace somebody's music by a picture."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"png is {path}: name a file that ends in .png")
    if not path.parent.is_dir():
        raise OptionError(f"png is {path}: there is no folder {path.parent}")


def _is_same(path: str | Path, training: str | Path | None) -> bool:
    return training is not None and Path(path).resolve() == Path(training).resolve()


def draw(sets: Sequence[MusicSet], path: str | Path) -> None:
    """Draws a PNG with a panel a metric: a dot a piece, and a line at the mean of each set."""
    titles = list(sets[0].values)
    num_columns = 4
    num_rows = math.ceil(len(titles) / num_columns)
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure((13, 0.7 + 2.6 * num_rows), DPI, facecolor="white", layout=spacing)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, title in zip(panels, titles, strict=False):
        style_axes(axes)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
        axes.grid(axis="y", color=GRID, linewidth=0.7)
        axes.set_xlim(-0.5, len(sets) - 0.5)
        axes.set_xticks(range(len(sets)), list("AB")[: len(sets)], fontweight="bold")
        for place, (music, colour) in enumerate(zip(sets, COLOURS, strict=False)):
            values = np.sort(music.values[title][~np.isnan(music.values[title])])
            # Spread sideways by rank with the golden ratio: neighbours never cover each other.
            sideways = place + 0.6 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
            axes.scatter(sideways, values, s=14, color=colour, alpha=0.55, linewidths=0)
            if len(values):
                axes.hlines(values.mean(), place - 0.36, place + 0.36, color=INK, linewidth=1.6)
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    names = [f"{letter}: {music.path}" for letter, music in zip("AB", sets, strict=False)]
    figure.suptitle("      ".join(names), x=0.01, ha="left", color=INK, parse_math=False)
    write_png(figure, path)
