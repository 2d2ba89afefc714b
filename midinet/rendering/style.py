"""What all pictures share: colours, resolution, the look of axes, and how a PNG is written.

Everything is drawn with Matplotlib's objects onto an Agg canvas, never through pyplot: that needs
no global state and no window, and is safe in threads.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

DPI = 110
INK, FAINT_INK, GRID = "#252b33", "#69727e", "#dfe3e8"

# Neighbours in this list are as unlike as possible; the first ones are the clearest.
COLOURS = (
    *("#3b66d6", "#f0a818", "#e8503a", "#2f9e4f", "#9a55ee", "#12b5b0", "#f472ac", "#8a5a3c"),
    *("#7fb0f7", "#a3b300", "#b0126a", "#0b6b7d", "#ff9770", "#4b2fa3", "#7fd08b", "#c9a0f5"),
    *("#7d1f1f", "#00a0e0", "#c2953d", "#566b1c"),
)


def nth_colour(index: int) -> tuple[float, float, float]:
    """Returns a colour for any index from 0: red, green and blue, 0 to 1.

    After the end of `COLOURS` the list is used again, darker and paler in turn. However large the
    index, the colour stays apart from black and white.
    """
    red, green, blue = to_rgb(COLOURS[index % len(COLOURS)])
    rounds = index // len(COLOURS)
    # With 0.8 and 0.7 the colours of many instruments differ most.
    shade = 0.8 ** ((rounds + 1) // 2) if rounds % 2 else 0.7 ** (rounds // 2)
    white = 0.0 if rounds % 2 else 1 - shade
    return red * shade + white, green * shade + white, blue * shade + white


def style_axes(axes: Axes) -> None:
    """Gives axes the look of all pictures of this project."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=FAINT_INK, labelsize=9)
    axes.set_axisbelow(True)


def drawable(text: str) -> str:
    """Replaces what no font can draw by "?": bytes in a file name that are not valid UTF-8."""
    return text.encode("utf-8", "replace").decode()


def write_png(figure: Figure, path: str | Path | None) -> bytes:
    """Draws a figure, and writes it to a file if there is a path.

    Returns:
        The bytes of the PNG.

    Raises:
        OSError: the file can't be written; an older picture of that name is left as it was.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes, which is good enough for a title.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        FigureCanvasAgg(figure).print_png(buffer)
    png = buffer.getvalue()
    if path is not None:
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.part")
        try:
            unfinished.write_bytes(png)
            unfinished.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error
    return png
