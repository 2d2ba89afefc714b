"""The structure of the package, read from its source: which room may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "midinet"
SCRIPTS = {"download", "preprocess", "train", "generate"}
MAX_LINES = 400

# Every room may also import the modules at the root, which import only each other. Imports under
# TYPE_CHECKING obey the same table, because knowing a type is knowing the room; but they may close
# a circle between modules, because they are never executed. Only midinet/__init__.py, which names
# the home of each public name, may refer to all rooms there.
ALLOWED = {
    "midi": set(),
    "codec": {"midi"},
    "data": {"codec", "midi"},
    "model": {"codec"},
    "rendering": {"midi"},
    "generation": {"model", "data", "codec", "midi", "rendering"},
    "report": {"data", "codec", "midi", "rendering"},
    "training": {"generation", "report", "model", "data", "codec", "rendering"},
    "downloads": set(),
}


class Import(NamedTuple):
    target: str  # "midinet.midi.notes", or the top level of a foreign package
    is_type_checking: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> Iterator[Import]:
    """Yields every import of a module, also those inside functions and under TYPE_CHECKING."""

    def visit(node: ast.AST, is_type_checking: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            for child in node.body:
                yield from visit(child, True)
            for child in node.orelse:
                yield from visit(child, is_type_checking)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, is_type_checking)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import in line {node.lineno}"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name == "midinet.__version__":  # a constant, which knows no room
                    continue
                yield Import(name if name in MODULES else str(node.module), is_type_checking)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_type_checking)

    yield from visit(ast.parse(path.read_text("utf-8")), False)


def room_of(module: str) -> str | None:
    """Returns the room of a module, or None for one at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else None


def test_the_rooms_are_those_of_the_table():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)
    # A room of this name would hide the public function of the same name.
    assert not SCRIPTS & set(ALLOWED)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "midinet"])
def test_a_module_imports_only_along_the_arrows(module):
    room = room_of(module)
    for target, _ in imports_of(MODULES[module]):
        top, *rest = target.split(".")
        assert top not in SCRIPTS, f"{module} imports the script {target}"
        if top != "midinet":
            continue
        assert rest, f"{module} imports midinet itself, which knows every room"
        other = room_of(target)
        if other not in (None, room):
            allowed = ALLOWED[room] if room else set()
            assert other in allowed, f"{module} must not import {target}"


def test_only_types_are_imported_where_public_names_are_listed():
    inside = [i for i in imports_of(MODULES["midinet"]) if i.target.startswith("midinet")]
    assert inside
    assert all(i.is_type_checking for i in inside)


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        module: {
            i.target for i in imports_of(path) if i.target in MODULES and not i.is_type_checking
        }
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("room", ALLOWED)
def test_a_rooms_init_is_one_docstring(room):
    body = ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    assert isinstance(body[0].value.value, str)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_enough_to_read(module):
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import midinet.cli", [("midinet.cli", False)]),
        ("from midinet import cli", [("midinet.cli", False)]),
        ("from midinet import download", [("midinet", False)]),
        ("def f():\n    from midinet.midi.notes import Notes", [("midinet.midi.notes", False)]),
        (
            "if TYPE_CHECKING:\n    from midinet.midi import notes\nelse:\n    import numpy",
            [("midinet.midi.notes", True), ("numpy", False)],
        ),
    ],
)
def test_imports_are_found_wherever_they_stand(tmp_path, source, expected):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert list(imports_of(path)) == expected
