"""The notebook, run from top to bottom with small settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).parent.parent
NOTEBOOK = REPOSITORY / "midinet_notebook.ipynb"

SMALL_SETTINGS = """
MIDI_FOLDER = {midi_folder!r}
EPOCHS = 1
LENGTH = 40
PARAMETERS = midinet.Parameters(
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
    return nbformat.read(NOTEBOOK, as_version=4)


def test_runs_from_top_to_bottom(notebook, midi_folder, tmp_path, monkeypatch):
    settings = next(cell for cell in notebook.cells if "PARAMETERS = " in cell.source)
    settings.source += SMALL_SETTINGS.format(midi_folder=str(midi_folder))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()

    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4  # a song, the training curves, two new pieces
    assert len(list((tmp_path / "output").glob("*.mid"))) == 2
    if shutil.which("fluidsynth"):
        assert len(list((tmp_path / "output").glob("*.wav"))) == 2


def test_is_kept_without_outputs(notebook):
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code_cells
    for cell in code_cells:
        assert not cell.outputs
        assert cell.execution_count is None
