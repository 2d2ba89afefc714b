"""The drawing of docs/how_it_works.md: its letters stay in their boxes, whatever font is there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

SVG = Path(__file__).parents[1] / "docs" / "how_it_works.svg"
NAMESPACE = "{http://www.w3.org/2000/svg}"
MARGIN = 4


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x <= self.right and self.top <= y <= self.bottom


class Text(NamedTuple):
    words: str
    x: float
    y: float
    anchor: str
    is_bold: bool

    def extent(self, size: float) -> tuple[float, float]:
        """Left and right end in DejaVu Sans, one of the widest fonts that a browser may take."""
        font = FontProperties(family="DejaVu Sans", weight="bold" if self.is_bold else "normal")
        width = TextPath((0, 0), self.words, size=size, prop=font).get_extents().width
        left = self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]
        return left, left + width


def drawing() -> tuple[list[Text], list[Box], float]:
    root = ElementTree.parse(SVG).getroot()
    parents = {child: parent for parent in root.iter() for child in parent}
    texts = []
    for element in root.iter(f"{NAMESPACE}text"):
        assert not list(element), "one text, one style"
        anchor = element.get("text-anchor") or parents[element].get("text-anchor") or "start"
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        is_bold = element.get("font-weight") == "bold"
        texts.append(Text(str(element.text), x, y, anchor, is_bold))
    boxes = []
    for element in root.iter(f"{NAMESPACE}rect"):
        x, y, width, height = (float(element.get(k, 0)) for k in ("x", "y", "width", "height"))
        boxes.append(Box(x, y, x + width, y + height))
    return texts, boxes, float(root.attrib["font-size"])


TEXTS, BOXES, SIZE = drawing()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.words)
def test_a_text_stays_in_its_box(text):
    around = [box for box in BOXES if box.holds(text.x, text.y)]
    box = min(around, key=lambda box: box.right - box.left)
    left, right = text.extent(SIZE)
    assert box.left + MARGIN <= left
    assert right <= box.right - MARGIN
    # Nor does it run into a box beside it.
    others = [other for other in BOXES if other not in around]
    assert not any(other.holds(x, text.y) for other in others for x in (left, right))


def test_the_drawing_names_what_there_is():
    package = Path(__file__).parents[1] / "midinet"
    for text in TEXTS:
        for word in text.words.replace(",", "").split():
            if "/" in word:
                assert (package / word).exists(), word
