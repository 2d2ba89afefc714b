import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from midinet.rendering.style import drawable, nth_colour, write_png


def test_every_instrument_has_a_colour_of_its_own_that_can_be_seen():
    colours = np.array([nth_colour(i) for i in range(128)])
    apart = np.linalg.norm(colours[:, None] - colours, axis=2)
    np.fill_diagonal(apart, 1)
    assert apart[:30, :30].min() > 0.1
    assert apart.min() > 0.03
    assert ((colours.max(axis=1) > 0.15) & (colours.min(axis=1) < 0.93)).all()


def test_bytes_that_are_not_text_become_question_marks():
    assert drawable("l\udce9on 音楽") == "l?on 音楽"


def test_a_png_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "roll.png").mkdir()
    with pytest.raises(OSError, match=r"roll\.png"):
        write_png(Figure(), tmp_path / "roll.png")
    assert os.listdir(tmp_path) == ["roll.png"]
