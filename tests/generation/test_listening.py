"""What is said of a model, and of how to hear its music."""

from pathlib import Path

import numpy as np
import pytest

from midinet.generation.listening import describe_model, how_to_listen, title_of
from midinet.generation.prompts import Prompt

EPOCHS = [{"epoch": i, "val_loss": loss} for i, loss in enumerate((2.5, 1.523, float("nan"), 1.7))]


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (EPOCHS, "mine (4 epochs, validation loss 1.52)"),
        (EPOCHS[:1], "mine (1 epoch, validation loss 2.50)"),
        ([{"epoch": 1, "val_loss": None}], "mine (1 epoch)"),
        ([], "mine"),
    ],
)
def test_a_model_is_named_with_its_best_loss(history, said):
    assert describe_model(Path("mine"), False, {"history": history}) == said


def test_the_demo_model_has_a_name():
    demo = describe_model(Path("midinet/demo"), True, {"history": EPOCHS[:2]})
    assert demo == "the demo model (2 epochs, validation loss 1.52)"
    assert describe_model(Path("old"), False, {}) == "old"


def test_how_to_listen():
    paths = [Path("output/a_1.mid"), Path("output/a_2.mid")]
    page, sounds = str(Path("output/a_1.html")), str(Path("output/a_2.wav"))
    assert page in how_to_listen(paths, html=True, sounds=[".wav"])
    assert sounds in how_to_listen(paths, html=False, sounds=[".wav"])
    assert "--html" in how_to_listen(paths, html=False, sounds=[])


def test_titles():
    nothing = np.empty(0, np.uint16)
    assert title_of(Path("output/a.mid"), Prompt(nothing, "")) == "a"
    assert title_of(Path("output/a.mid"), Prompt(nothing, "songs/my song.mid")) == "a, from my song"
