"""What an installed midinet consists of, as far as pyproject.toml says it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import midinet

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "midinet"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def test_every_file_that_is_not_python_is_installed():
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    folders = {name: REPOSITORY.joinpath(*name.split(".")) for name in data}
    listed = {
        path for name, globs in data.items() for glob in globs for path in folders[name].glob(glob)
    }
    needed = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert PACKAGE / "py.typed" in needed
    assert PACKAGE / "demo" / "model.weights.h5" in needed
    assert needed == listed


def test_every_room_is_a_package():
    """Without an __init__.py a room would be missing from the installed package."""
    rooms = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((room / "__init__.py").is_file() for room in rooms)


def test_version_dependencies_and_python_are_said_once():
    assert PYPROJECT["project"]["dynamic"] == ["version", "dependencies"]
    dynamic = PYPROJECT["tool"]["setuptools"]["dynamic"]
    assert dynamic["version"] == {"attr": "midinet.__version__"}
    assert (REPOSITORY / dynamic["dependencies"]["file"][0]).is_file()
    python = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == python
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{python.replace('.', '')}"
    assert python in (PACKAGE / "cli.py").read_text("utf-8")


def test_the_changelog_tells_what_this_version_brings():
    assert f"\n## {midinet.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
