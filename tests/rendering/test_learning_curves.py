import pytest

from midinet.rendering import learning_curves as curves
from midinet.rendering.learning_curves import training_curves

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EPOCH = {
    "epoch": 1,
    "loss": 2.0,
    "accuracy": 0.3,
    "val_loss": 2.2,
    "val_accuracy": 0.28,
    "learning_rate": 1e-4,
}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [EPOCH],
        [EPOCH, EPOCH | {"epoch": 2, "val_loss": None}],
        [EPOCH, EPOCH | {"epoch": 2, "val_loss": float("nan"), "loss": float("nan")}],
        [{"epoch": 1, "loss": 2.0}],
    ],
    ids=["nothing", "one epoch", "no validation", "nan", "loss only"],
)
def test_learning_curves_are_drawn_from_what_there_is(history, tmp_path):
    png = training_curves(history, tmp_path / "curves.png")
    assert png.startswith(PNG_SIGNATURE)
    assert (tmp_path / "curves.png").read_bytes() == png


def test_the_best_epoch_is_the_one_with_the_least_validation_loss():
    history = [EPOCH | {"epoch": i, "val_loss": loss} for i, loss in enumerate([3, 2, 1, 2])]
    assert curves._best_epoch(history)["epoch"] == 2
