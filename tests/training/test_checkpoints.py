"""Checkpoints: whole or not there, and a damaged one costs only the time since the one before."""

import numpy as np
import pytest

from midinet.errors import TrainingError
from midinet.training.checkpoints import MAX_TO_KEEP, Checkpoints, RunState, differences

ARRAYS = {"block_0/kernel": np.arange(6.0).reshape(2, 3), "seed": np.array(3, np.int64)}


def save(checkpoints: Checkpoints, step: int):
    state = RunState({"seed": 1}, step=step, sums=(1.5, 2.0, 3.0), best_val_loss=0.1 + 0.2)
    return checkpoints.save(state, {**ARRAYS, "step": np.array(step)})


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    save(checkpoints, 7)
    state, arrays = checkpoints.load()
    assert (state.step, list(state.sums), state.best_val_loss) == (7, [1.5, 2.0, 3.0], 0.1 + 0.2)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_the_newest_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 5, 20, 100, 1000):
        save(checkpoints, step)
    assert len(checkpoints.paths()) == MAX_TO_KEEP
    assert checkpoints.load()[0].step == 1000


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-10],
        lambda content: content.replace(b"seed", b"sead"),
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: b"\0" * len(content),
    ],
)
def test_a_damaged_checkpoint_falls_back(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match="0000002.npz is damaged"):
        assert checkpoints.load()[0].step == 1


def test_no_whole_checkpoint_is_a_clear_error(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint"):
        Checkpoints(tmp_path / "nowhere").load()
    save(Checkpoints(tmp_path), 1).write_bytes(b"PK")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(TrainingError, match="every checkpoint is damaged"),
    ):
        Checkpoints(tmp_path).load()


def test_a_failed_write_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)

    def full_disk(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(TrainingError, match=r"0000000002.npz can't be written \(No space"):
        save(checkpoints, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000001.npz"]


def test_differences_name_both_values():
    before, now = {"dropout": 0.1, "seed": 1}, {"dropout": 0.2, "seed": 1}
    assert differences(before, now) == ["dropout was 0.1 and is 0.2"]
