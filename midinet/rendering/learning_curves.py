"""Training as a picture: learning curves as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from midinet.rendering.style import COLOURS, DPI, FAINT_INK, GRID, INK, style_axes, write_png


def training_curves(
    history: Sequence[Mapping[str, float]], path: str | Path | None = None
) -> bytes:
    """Draws loss, accuracy and learning rate over the epochs.

    Args:
        history: one dictionary per epoch with `epoch`, `loss`, `accuracy`, `val_loss`,
            `val_accuracy` and `learning_rate`; missing values are left out.
        path: a file to write the PNG to; None writes no file.

    Returns:
        The bytes of the PNG.

    Raises:
        OSError: the file can't be written.
    """
    spacing = ConstrainedLayoutEngine(w_pad=0.15)
    figure = Figure(figsize=(13, 4.2), dpi=DPI, facecolor="white", layout=spacing)
    panels = (("loss", "val_loss"), ("accuracy", "val_accuracy"), ("learning_rate",))
    for axes, names in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, label, colour in zip(names, ("training", "validation"), COLOURS, strict=False):
            points = [(e["epoch"], e[name]) for e in history if e.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", color=colour, label=label)
        style_axes(axes)
        axes.set_title(names[0].replace("_", " "), loc="left", color=INK, fontweight="bold")
        axes.set_xlabel("epoch", color=FAINT_INK)
        axes.grid(color=GRID, linewidth=0.7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:g}")
        if len(names) > 1 and axes.lines:
            axes.legend(frameon=False, labelcolor=INK)
    best = _best_epoch(history)
    if best:
        axes = figure.axes[0]
        axes.plot(best["epoch"], best["val_loss"], "o", ms=11, mfc="none", mec=INK)
        note = f"best {best['val_loss']:.3f} in epoch {best['epoch']}"
        axes.set_title(note, loc="right", color=FAINT_INK, fontsize=9)
    return write_png(figure, path)


def _best_epoch(history: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """Returns the epoch of the lowest validation loss, whose weights go to the model folder."""
    validated = [e for e in history if math.isfinite(e.get("val_loss") or math.nan)]
    return min(validated, key=lambda entry: entry["val_loss"], default=None)
