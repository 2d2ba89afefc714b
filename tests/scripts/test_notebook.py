"""The notebook, run with small settings: from top to bottom, and where a user goes wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "midinet_notebook.ipynb"

# The settings offer two sizes, both too large for a test.
TINY_MODEL = """
assert parameters.is_file()
parameters = midinet.Parameters(
    embedding_size=8,
    sequence_length=64,
    num_blocks=1,
    num_heads=2,
    feed_forward_dim=8,
    batch_size=4,
)
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for name in ("DEMO_SECONDS", "TUNE_SECONDS", "SECONDS", "EPOCHS"):
        fill_in(notebook, name, 1)
    find(notebook, "EPOCHS = ").source += TINY_MODEL
    return notebook


@pytest.fixture
def folder(tmp_path, midi_folder, monkeypatch) -> Path:
    """Where the notebook runs: a path with spaces, with songs in it."""
    folder = tmp_path / "my folder"
    shutil.copytree(midi_folder, folder / "old songs" / "by me")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return folder


def find(notebook: nbformat.NotebookNode, text: str) -> nbformat.NotebookNode:
    """The code cell with this text."""
    [cell] = [c for c in notebook.cells if c.cell_type == "code" and text in c.source]
    return cell


def fill_in(notebook: nbformat.NotebookNode, name: str, value: str | int) -> None:
    """Does what a user does in a form; text goes between the quotes as it is."""
    cell = find(notebook, f"\n{name} = ")
    pattern = rf'^({name} = )(?:(r?")[^"\n]*"|\S+)(?=  # @param)'
    cell.source, count = re.subn(
        pattern,
        lambda found: f'{found[1]}{found[2]}{value}"' if found[2] else f"{found[1]}{value}",
        cell.source,
        flags=re.MULTILINE,
    )
    assert count == 1


def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": folder}}).execute()


def up_to(notebook: nbformat.NotebookNode, text: str) -> nbformat.NotebookNode:
    """The notebook up to the cell with this text, without what the demo model composes."""
    end = notebook.cells.index(find(notebook, text)) + 1
    left_out = [find(notebook, name) for name in ("\nDEMO_SECONDS = ", "\nTUNE_SECONDS = ")]
    notebook.cells = [cell for cell in notebook.cells[:end] if cell not in left_out]
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def count(notebook: nbformat.NotebookNode, kind: str) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum(kind in str(output.get("data", {})) for output in outputs)


def test_runs_from_top_to_bottom(notebook, folder):
    fill_in(notebook, "MIDI_FOLDER", r"old songs\by me")
    fill_in(notebook, "PRIMER", r".\old songs\by me\song 01.mid")
    training = notebook.cells.index(find(notebook, "midinet.train("))
    again = nbformat.v4.new_code_cell(notebook.cells[training].source)
    more = nbformat.v4.new_code_cell("EPOCHS = 2"), again
    notebook.cells[training + 1 : training + 1] = more
    run(notebook, folder)

    assert "is resumed after 1 epochs" in printed(notebook)
    assert count(notebook, "image/png") == 2  # the curves twice
    # the demo's piece, one that accompanies it, a song, three new pieces
    assert count(notebook, "<iframe") == 6
    assert re.search(r"\.mid has .*; kept: ", printed(notebook))
    assert len(nbformat.writes(notebook)) < 8_000_000
    made = folder / "midinet_notebook"
    pieces = [path for path in (made / "output").glob("*.mid") if path.stem != "a song"]
    assert len(pieces) == 5
    assert sorted(path.name for path in folder.iterdir()) == ["midinet_notebook", "old songs"]


def test_learns_from_an_archive(notebook, folder):
    shutil.make_archive(str(folder / "old songs" / "all"), "zip", folder / "old songs" / "by me")
    fill_in(notebook, "ARCHIVE", r"old songs\all.zip")
    run(up_to(notebook, "open_corpus"), folder)
    assert "12 songs" in printed(notebook)
    assert "Warning" not in printed(notebook)


def test_plays_without_fluidsynth(notebook, folder):
    fill_in(notebook, "MIDI_FOLDER", "old songs")
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import os; os.environ['PATH'] = ''"))
    run(up_to(notebook, "SONG = "), folder)
    assert count(notebook, "<iframe") == 1
    assert printed(notebook).splitlines()[-1].startswith("It begins with the tokens")


def test_a_mistake_is_one_line(notebook, folder):
    fill_in(notebook, "MIDI_FOLDER", r"C:\Users\new songs")
    with pytest.raises(CellExecutionError):
        run(up_to(notebook, "open_corpus"), folder)
    last = notebook.cells[-1].outputs
    assert [output.output_type for output in last] == ["stream"]
    assert last[0].text.count("\n") == 1
    assert "midinet: C:/Users/new songs: no such folder" in last[0].text


def test_in_colab_asks_for_the_project(notebook, folder, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    in_colab = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(in_colab))
    fill_in(notebook, "REPOSITORY", "")
    with pytest.raises(CellExecutionError, match="REPOSITORY is empty: write the address"):
        run(notebook, folder)


def test_the_badge_opens_the_repository_that_the_setup_fetches(notebook):
    address = re.search(r'^REPOSITORY = "([^"]+)"', find(notebook, "REPOSITORY = ").source, re.M)[1]
    badge = notebook.cells[0].source
    assert (
        f"/github/{address.removeprefix('https://github.com/')}/blob/main/{NOTEBOOK.name})" in badge
    )


def test_is_kept_without_outputs(notebook):
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code_cells
    for cell in code_cells:
        assert not cell.outputs
        assert cell.execution_count is None
