"""Music as pictures: piano rolls as PNG."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from midinet.midi.general_midi import PERCUSSION, PROGRAM_NAMES, program_name
from midinet.midi.notes import Notes
from midinet.rendering.style import (
    DPI,
    FAINT_INK,
    GRID,
    INK,
    drawable,
    nth_colour,
    style_axes,
    write_png,
)

_DRUM_COLOUR = "#39414d"
_OUTLINE = 0.8  # points: how thick that of kept notes is
_BLACK_KEY_ROW, _SEED_SHADE, _SEED_LINE = "#f3f5f8", "#fff3d6", "#c98a00"

# General MIDI's percussion key map in the rows of a drum score, from the bottom up. Source: MIDI
# Association, General MIDI System Level 1, table 3. Keys in no other row go to "other".
DRUM_ROWS: tuple[tuple[str, frozenset[int]], ...] = (
    ("kick", frozenset({35, 36})),
    ("snare", frozenset({37, 38, 39, 40})),
    ("toms", frozenset({41, 43, 45, 47, 48, 50})),
    ("hi-hat", frozenset({42, 44, 46})),
    ("cymbals", frozenset({49, 51, 52, 53, 55, 57, 59})),
    ("other", frozenset()),
)
_DRUM_HIT_S = 0.06
_SEMITONES = 12
_BLACK_KEYS = (1, 3, 6, 8, 10)
_MIN_PITCHES = 30  # so that a melody of few pitches still shows how high it is

# Sizes in inches.
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.8, 0.3, 0.48, 0.6
_PITCH_HEIGHT, _DRUM_ROW_HEIGHT, _LANE_GAP = 0.085, 0.2, 0.12
_TITLE_LINE, _SEED_LABEL, _LEGEND_LINE, _LEGEND_COLUMN = 0.26, 0.18, 0.195, 2.15
_TITLE_CHARACTERS_PER_INCH = 7.8


def piano_roll(
    notes: Notes,
    path: str | Path | None = None,
    *,
    title: str = "",
    seed_end_ms: float | None = None,
    kept: Collection[str] = (),
) -> bytes:
    """Draws notes as a piano roll: one colour per instrument, percussion in a lane of its own.

    Example:
        piano_roll(read_midi("song.mid"), "song.png", title="My song")

    Args:
        notes: the music; loud notes are drawn more opaque than soft ones.
        path: a file to write the PNG to; None writes no file.
        title: a heading; a long one is wrapped.
        seed_end_ms: when the seed ends and the continuation begins, in milliseconds.
        kept: names of the instruments that were not composed; their notes have an outline.

    Returns:
        The bytes of the PNG.

    Raises:
        OSError: the file can't be written.
    """
    return write_png(_draw_roll(notes, title, seed_end_ms, kept), path)


def piano_roll_image(
    notes: Notes,
    *,
    title: str = "",
    seed_end_ms: float | None = None,
    kept: Collection[str] = (),
) -> np.ndarray:
    """Returns the picture of `piano_roll` as `(height, width, 3)` uint8: red, green and blue."""
    canvas = FigureCanvasAgg(_draw_roll(notes, title, seed_end_ms, kept))
    canvas.draw()
    return np.array(canvas.buffer_rgba())[:, :, :3].copy()


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The sizes of a piano roll, in inches.

    From the bottom up there are the legend, the percussion lane, the pitches and the heading.
    """

    seconds: float  # of music
    width: float
    legend_height: float
    drum_height: float
    roll_height: float
    heading_height: float

    @property
    def height(self) -> float:
        gap = _LANE_GAP if self.drum_height and self.roll_height else 0.0
        lanes = self.drum_height + gap + self.roll_height
        return _BOTTOM + self.legend_height + lanes + self.heading_height + _TOP

    @property
    def seconds_per_pixel(self) -> float:
        return self.seconds / ((self.width - _LEFT - _RIGHT) * DPI)

    def add_lane(self, figure: Figure, bottom: float, height: float) -> Axes:
        lane_width = self.width - _LEFT - _RIGHT
        shares = np.array([_LEFT, bottom, lane_width, height])
        shares /= [self.width, self.height, self.width, self.height]
        axes = figure.add_axes(tuple(shares))
        axes.set_xlim(0, self.seconds)
        style_axes(axes)
        return axes


def _draw_roll(
    notes: Notes, title: str, seed_end_ms: float | None, kept: Collection[str] = ()
) -> Figure:
    seconds = max(notes.duration_ms, seed_end_ms or 0.0, 1000.0) / 1000
    width = float(np.clip(10 + seconds / 25, 11, 22))
    lane_width = width - _LEFT - _RIGHT
    melodic, drums = notes[~notes.is_drum], notes[notes.is_drum]
    low, high = _pitch_range(melodic)

    colours = {int(p): nth_colour(i) for i, p in enumerate(np.unique(melodic.program))}
    legend = [_legend_entry(program_name(p), colour, kept) for p, colour in colours.items()]
    if len(drums):
        legend.append(_legend_entry(PERCUSSION, to_rgb(_DRUM_COLOUR), kept))
    outlined = np.array([name in kept for name in PROGRAM_NAMES])
    columns = int(lane_width / _LEGEND_COLUMN)
    heading = textwrap.wrap(drawable(title), int(lane_width * _TITLE_CHARACTERS_PER_INCH))
    layout = _Layout(
        seconds=seconds,
        width=width,
        legend_height=_LEGEND_LINE * math.ceil(len(legend) / columns),
        drum_height=_DRUM_ROW_HEIGHT * len(DRUM_ROWS) if len(drums) else 0.0,
        roll_height=_PITCH_HEIGHT * (high - low + 1) if len(melodic) or not len(drums) else 0.0,
        heading_height=_TITLE_LINE * len(heading) + (_SEED_LABEL if seed_end_ms else 0.0),
    )

    figure = Figure(figsize=(width, layout.height), dpi=DPI, facecolor="white")
    lanes_bottom = _BOTTOM + layout.legend_height
    if layout.drum_height:
        lane = layout.add_lane(figure, lanes_bottom, layout.drum_height)
        _draw_drums(lane, drums, layout.seconds_per_pixel, PERCUSSION in kept)
    if layout.roll_height:
        roll_bottom = layout.height - _TOP - layout.heading_height - layout.roll_height
        lane = layout.add_lane(figure, roll_bottom, layout.roll_height)
        lane.set_ylim(low - 0.5, high + 0.5)
        _draw_melodic(lane, melodic, colours, layout.seconds_per_pixel, outlined)
    for lane in figure.axes:
        _mark_time(lane, layout, is_lowest=lane is figure.axes[0])
        if seed_end_ms:
            _mark_seed(lane, seed_end_ms / 1000, layout, is_highest=lane is figure.axes[-1])
    _write_heading(figure, heading, summarize(notes, len(legend)))
    if legend:
        _draw_legend(figure, legend, columns)
    return figure


def _legend_entry(name: str, colour: tuple[float, float, float], kept: Collection[str]) -> Patch:
    if name not in kept:
        return Patch(color=colour, label=name)
    return Patch(facecolor=colour, edgecolor=INK, lw=_OUTLINE, label=f"{name} (kept)")


def _pitch_range(notes: Notes) -> tuple[int, int]:
    """Returns the lowest and highest pitch to draw, with a margin around the music."""
    if not len(notes):
        return 48, 48 + _MIN_PITCHES
    low, high = int(notes.pitch.min()), int(notes.pitch.max())
    margin = max(4, _MIN_PITCHES - (high - low)) // 2
    return max(0, low - margin), min(127, high + margin)


def _draw_melodic(
    axes: Axes,
    notes: Notes,
    colour_of: dict[int, tuple[float, float, float]],
    seconds_per_pixel: float,
    outlined: np.ndarray,
) -> None:
    """Draws notes; `outlined` (128,) says whose of them have an outline."""
    low, high = (round(limit) for limit in axes.get_ylim())
    pitches = np.arange(low, high + 1)
    for pitch in pitches[np.isin(pitches % _SEMITONES, _BLACK_KEYS)]:
        axes.axhspan(pitch - 0.5, pitch + 0.5, color=_BLACK_KEY_ROW, lw=0, zorder=0)
    octaves = pitches[pitches % _SEMITONES == 0]
    axes.set_yticks(octaves, [f"C{pitch // _SEMITONES - 1}" for pitch in octaves])
    for pitch in octaves:
        axes.axhline(pitch - 0.5, color=GRID, lw=0.8, zorder=0.5)
    axes.set_ylabel("pitch", color=FAINT_INK)

    # The instrument that sounds longest is drawn first, so that pads don't hide melodies.
    sounding_ms = np.bincount(notes.program, notes.end_ms - notes.start_ms, minlength=128)
    order = np.lexsort((notes.start_ms, -sounding_ms[notes.program]))
    paint = np.zeros((128, 3))
    for program, colour in colour_of.items():
        paint[program] = colour
    colours = np.column_stack([paint[notes.program], _opacity(notes.velocity)])
    # Each note is a pixel short, so that repeated notes stay apart, and at least a pixel long.
    length_s = (notes.end_ms - notes.start_ms) / 1000 - seconds_per_pixel
    length_s = np.maximum(length_s, seconds_per_pixel)
    bars = _bars(notes.start_ms / 1000, length_s, notes.pitch, thickness=0.84)
    _add_bars(axes, bars[order], colours[order], outlined[notes.program[order]])


def _draw_drums(axes: Axes, notes: Notes, seconds_per_pixel: float, are_outlined: bool) -> None:
    row_of_key = np.full(128, len(DRUM_ROWS) - 1)
    for row, (_, keys) in enumerate(DRUM_ROWS):
        row_of_key[list(keys)] = row
    axes.set_ylim(-0.5, len(DRUM_ROWS) - 0.5)
    axes.set_yticks(range(len(DRUM_ROWS)), [name for name, _ in DRUM_ROWS], fontsize=8)
    axes.tick_params(axis="y", length=0)
    for row in range(0, len(DRUM_ROWS), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=_BLACK_KEY_ROW, lw=0, zorder=0)
    length_s = np.clip(_DRUM_HIT_S, seconds_per_pixel, 4 * seconds_per_pixel)
    rows = row_of_key[notes.pitch]
    bars = _bars(notes.start_ms / 1000, np.full(len(notes), length_s), rows, thickness=0.72)
    colours = np.tile((*to_rgb(_DRUM_COLOUR), 1.0), (len(notes), 1))
    colours[:, 3] = _opacity(notes.velocity)
    _add_bars(axes, bars, colours, np.full(len(notes), are_outlined))


def _bars(
    start_s: np.ndarray, length_s: np.ndarray, rows: np.ndarray, thickness: float
) -> np.ndarray:
    """Returns the corners of one rectangle per note, `(N, 4, 2)`."""
    left, right = start_s, start_s + length_s
    below, above = rows - thickness / 2, rows + thickness / 2
    x = np.stack([left, right, right, left], axis=1)
    y = np.stack([below, below, above, above], axis=1)
    return np.stack([x, y], axis=2)


def _add_bars(axes: Axes, bars: np.ndarray, colours: np.ndarray, outlined: np.ndarray) -> None:
    # One collection for all notes: one patch object per note would take seconds.
    corners: Any = bars  # Matplotlib's type stubs allow only lists, which are slower
    widths = np.where(outlined, _OUTLINE, 0.0)
    axes.add_collection(
        PolyCollection(corners, facecolors=colours, edgecolors=INK, linewidths=widths, zorder=2)
    )


def _opacity(velocity: np.ndarray) -> np.ndarray:
    """Returns how opaque notes are, 0 to 1; the softest ones stay visible."""
    return 0.35 + 0.65 * velocity / 127


def _mark_time(axes: Axes, layout: _Layout, is_lowest: bool) -> None:
    max_marks = (layout.width - _LEFT - _RIGHT) * 1.5
    intervals_s = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)
    whole_hours = 3600 * math.ceil(layout.seconds / 3600 / max_marks)
    fitting = (interval for interval in intervals_s if layout.seconds / interval <= max_marks)
    interval_s = next(fitting, whole_hours)
    axes.xaxis.set_major_locator(MultipleLocator(interval_s))
    axes.grid(axis="x", color=GRID, lw=0.7)
    if not is_lowest:
        axes.tick_params(axis="x", labelbottom=False, length=0)
    elif layout.seconds < 120:
        axes.set_xlabel("seconds", color=FAINT_INK)
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: _clock(s)))
        axes.set_xlabel("minutes:seconds", color=FAINT_INK)


def _mark_seed(axes: Axes, seed_end_s: float, layout: _Layout, is_highest: bool) -> None:
    axes.axvspan(0, seed_end_s, color=_SEED_SHADE, lw=0, zorder=0.2, alpha=0.75)
    axes.axvline(seed_end_s, color=_SEED_LINE, lw=1.4, zorder=3)
    if not is_highest:
        return
    labels = (
        ("seed", "right", -5, seed_end_s),
        ("continuation", "left", 5, layout.seconds - seed_end_s),
    )
    for label, side, offset, available_s in labels:
        if available_s / layout.seconds_per_pixel > 8 * len(label):
            axes.annotate(
                label,
                (seed_end_s, 1),
                xycoords=("data", "axes fraction"),
                xytext=(offset, 3),
                textcoords="offset points",
                ha=side,
                color=_SEED_LINE,
                fontstyle="italic",
            )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def summarize(notes: Notes, instruments: int) -> str:
    """Says in one line how long a piece is and how many notes and instruments it has."""
    if not len(notes):
        return "no notes"
    amounts = ((len(notes), "note"), (instruments, "instrument"))
    counts = [f"{count:,} {what}{'s' * (count != 1)}" for count, what in amounts]
    return "  ·  ".join([_clock(notes.duration_ms / 1000), *counts])


def _write_heading(figure: Figure, heading: list[str], subtitle: str) -> None:
    width, height = figure.get_size_inches()
    top = height - 0.12
    at_top_left: dict[str, Any] = {"x": _LEFT / width, "ha": "left", "va": "top"}
    # parse_math=False: a dollar sign in a song's name is a dollar sign.
    bold: dict[str, Any] = {
        "fontsize": 13,
        "fontweight": "bold",
        "color": INK,
        "parse_math": False,
    }
    figure.text(y=top / height, s="\n".join(heading), **at_top_left, **bold)
    subtitle_top = top - _TITLE_LINE * len(heading)
    figure.text(y=subtitle_top / height, s=subtitle, fontsize=9.5, color=FAINT_INK, **at_top_left)


def _draw_legend(figure: Figure, entries: list[Patch], columns: int) -> None:
    width, height = figure.get_size_inches()
    figure.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=(_LEFT / width, 0.05 / height),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0,
        borderpad=0,
        handlelength=1.2,
        handleheight=0.9,
    )
