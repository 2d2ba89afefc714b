"""Training as a picture: learning curves as PNG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from midinet.rendering.style import COLOURS, DPI, FAINT_INK, GRID, INK, style_axes, write_png


def training_curves(history: Sequence[Mapping[str, Any]], path: str | Path | None = None) -> bytes:
    """Draws loss, accuracy, loss by kind of token and learning rate over the epochs.

    Args:
        history: one dictionary per epoch with `epoch`, `loss`, `accuracy`, `val_loss`,
            `val_accuracy`, `val_loss_by_kind` (a dictionary) and `learning_rate`; missing values
            are left out.
        path: a file to write the PNG to; None writes no file.

    Returns:
        The bytes of the PNG.

    Raises:
        OSError: the file can't be written.
    """
    spacing = ConstrainedLayoutEngine(w_pad=0.15)
    figure = Figure(figsize=(16.5, 4.2), dpi=DPI, facecolor="white", layout=spacing)
    by_kind = _losses_by_kind(history)
    kinds = dict.fromkeys(kind for entry in by_kind for kind in entry if kind != "epoch")
    panels = (
        ("loss (nats per token)", history, {"loss": "training", "val_loss": "validation"}),
        ("accuracy", history, {"accuracy": "training", "val_accuracy": "validation"}),
        ("validation loss by kind of token", by_kind, {kind: kind for kind in kinds}),
        ("learning rate", history, {"learning_rate": ""}),
    )
    for axes, (title, entries, labels) in zip(figure.subplots(1, 4), panels, strict=True):
        for (name, label), colour in zip(labels.items(), itertools.cycle(COLOURS), strict=False):
            points = [(e["epoch"], e[name]) for e in entries if e.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", color=colour, label=label)
        style_axes(axes)
        axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=10)
        axes.set_xlabel("epoch", color=FAINT_INK)
        axes.grid(color=GRID, linewidth=0.7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:g}")
        if len(labels) > 1 and axes.lines:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    best = _best_epoch(history)
    if best:
        axes = figure.axes[0]
        axes.plot(best["epoch"], best["val_loss"], "o", ms=11, mfc="none", mec=INK)
        note = f"best {best['val_loss']:.3f} in epoch {best['epoch']}"
        axes.set_title(note, loc="right", color=FAINT_INK, fontsize=9)
    return write_png(figure, path)


def _losses_by_kind(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The validation losses by kind of token, one dictionary per epoch; PAD is too rare to draw."""
    return [
        {kind: loss for kind, loss in entry["val_loss_by_kind"].items() if kind != "PAD"}
        | {"epoch": entry["epoch"]}
        for entry in history
        if entry.get("val_loss_by_kind")
    ]


def _best_epoch(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the epoch of the lowest validation loss, whose weights go to the model folder."""
    validated = [e for e in history if math.isfinite(e.get("val_loss") or math.nan)]
    return min(validated, key=lambda entry: entry["val_loss"], default=None)
