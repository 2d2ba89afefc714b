"""Files and folders that a user names: written whole or not at all."""

from pathlib import Path

import pytest

from midinet.folders import Kind, file_in_the_way, kind_of, midi_files, put_in_place, replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_replaced_file_is_old_until_it_is_whole(tmp_path):
    path = tmp_path / "model.weights.h5"
    path.write_text("old")
    with replacing(path) as unfinished:
        assert unfinished.name.endswith(".weights.h5")  # Keras chooses the format by it
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt(), ValueError()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "song.mid"
    path.write_text("old")

    def write_half():
        with replacing(path) as unfinished:
            unfinished.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == [path.name]
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)  # which the user knows; not the temporary name


def test_a_file_in_the_way_of_a_folder_is_found(tmp_path):
    (tmp_path / "file").write_text("")
    assert file_in_the_way(tmp_path / "new" / "folder") is None
    assert file_in_the_way(tmp_path) is None
    assert file_in_the_way(tmp_path / "file") == tmp_path / "file"
    assert file_in_the_way(tmp_path / "file" / "folder") == tmp_path / "file"


def test_a_finished_folder_replaces_an_old_one(tmp_path):
    for name in ("partial", "output"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    put_in_place(tmp_path / "partial", tmp_path / "output")
    assert names(tmp_path) == ["output"]
    assert names(tmp_path / "output") == ["partial"]


def test_kinds_of_folders(tmp_path):
    assert kind_of(tmp_path / "none") == Kind.MISSING
    assert kind_of(tmp_path) == Kind.EMPTY
    for name, kind in (
        ("notes.txt", Kind.OTHER),
        ("sub/Song.MID", Kind.MIDI),
        ("model.weights.h5", Kind.MODEL),
        ("dataset.json", Kind.DATA_SET),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        assert kind_of(tmp_path) == kind
    assert kind_of(tmp_path / "notes.txt") == Kind.FILE
    assert [path.name for path in midi_files(tmp_path)] == ["Song.MID"]
