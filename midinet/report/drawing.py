"""The picture of a comparison: how the values of each metric are distributed in each set."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from midinet.codec.vocabulary import STEP_MS
from midinet.rendering.style import COLOURS, DPI, GRID, INK, drawable, style_axes, write_png

if TYPE_CHECKING:
    from midinet.report.comparison import Comparison

LENGTHS = "lengths of melodic notes (s)"


def draw(comparison: Comparison, path: str | Path) -> None:
    """Draws a PNG with a panel per metric: a dot per piece and a line at the mean of each set.

    One more panel shows which share of the melodic notes is at most how long.
    """
    num_columns = 4
    num_rows = math.ceil((len(comparison.titles) + 1) / num_columns)
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    height = 0.5 + 0.2 * len(comparison.sets) + 2.6 * num_rows
    figure = Figure((13, height), DPI, facecolor="white", layout=spacing)
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes, title in zip(panels, comparison.titles, strict=False):
        _draw_metric(axes, comparison, title)
    _draw_note_lengths(panels[len(comparison.titles)], comparison)
    for axes in panels[len(comparison.titles) + 1 :]:
        axes.set_axis_off()
    names = zip(comparison.letters, comparison.sets, strict=True)
    heading = drawable("\n".join(f"{letter}: {music.name}" for letter, music in names))
    figure.suptitle(heading, x=0.01, ha="left", color=INK, parse_math=False, fontsize=11)
    write_png(figure, path)


def _draw_metric(axes: Axes, comparison: Comparison, title: str) -> None:
    style_axes(axes)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_xlim(-0.5, len(comparison.sets) - 0.5)
    axes.set_xticks(range(len(comparison.sets)), comparison.letters, fontweight="bold")
    colours = itertools.cycle(COLOURS)
    for column, (music, colour) in enumerate(zip(comparison.sets, colours, strict=False)):
        values = np.sort(music.known(title))
        # Spread sideways by rank with the golden ratio, so that neighbours never overlap.
        sideways = column + 0.6 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
        axes.scatter(sideways, values, s=14, color=colour, alpha=0.55, linewidths=0)
        if len(values):
            axes.hlines(values.mean(), column - 0.36, column + 0.36, color=INK, linewidth=1.6)
    # No metric is negative, but where all values are nearly equal the axis begins below 0.
    if axes.get_ylim()[0] < 0:
        axes.set_ylim(0 - 0.04 * axes.get_ylim()[1], None)


def _draw_note_lengths(axes: Axes, comparison: Comparison) -> None:
    style_axes(axes)
    axes.set_title(LENGTHS, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    for letter, music, colour in zip(
        comparison.letters, comparison.sets, itertools.cycle(COLOURS), strict=False
    ):
        if len(music.note_lengths_s):
            shares = np.linspace(0, 1, 201)
            lengths_s = np.quantile(music.note_lengths_s, shares).clip(STEP_MS / 1000)
            axes.plot(lengths_s, shares, color=colour, label=letter)
    if axes.lines:
        axes.legend(frameon=False, loc="lower right")
