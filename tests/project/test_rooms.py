"""The package's rooms: each says which rooms it may import, and imports no other."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "layers" / "shared" / "sendledger"
DOCS = PACKAGE.parents[2] / "docs"
ROOMS = sorted(folder.parent.name for folder in PACKAGE.glob("*/__init__.py"))
MAX_LINES = 400
MAX_FUNCTION_LINES = 60


def allowed(room: str) -> set[str]:
    """The rooms that the docstring of a room names behind "May import"."""
    said = re.search(r"^May import: (.+)\.$", importlib.import_module(f"sendledger.{room}").__doc__ or "", re.MULTILINE)
    assert said, f"the docstring of {room} does not say what it may import"
    return set() if said[1] == "no other room" else set(said[1].split(", "))


def imported(room: str) -> Iterator[tuple[str, str]]:
    """Each file of a room, and each other room that it imports, within functions too."""
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name} has a relative import"
                names = [node.module or ""]
                if node.module == "sendledger":
                    names = [f"sendledger.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                top, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                if top == "sendledger" and other != room:
                    yield file.name, other


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_the_rooms_that_it_names(room: str) -> None:
    assert [(file, other) for file, other in imported(room) if other not in allowed(room)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_room_names_only_rooms_that_it_imports(room: str) -> None:
    assert allowed(room) == {other for _, other in imported(room)}


def test_rooms_import_in_one_direction() -> None:
    try:
        TopologicalSorter({room: allowed(room) for room in ROOMS}).prepare()
    except CycleError as circle:
        pytest.fail(f"rooms import each other: {circle.args[1]}")


def test_the_decision_has_what_each_room_says_of_itself() -> None:
    page = (DOCS / "decisions" / "rooms.md").read_text()
    for room in ROOMS:
        what, _, imports = (importlib.import_module(f"sendledger.{room}").__doc__ or "").partition("May import: ")
        assert f"| `{room}` | {' '.join(what.split())} | {imports.strip().rstrip('.')} |\n" in page


def test_the_readme_names_every_room() -> None:
    (row,) = (line for line in (DOCS.parent / "README.md").read_text().splitlines() if "`layers/shared/" in line)
    assert {room for room in ROOMS if f"`{room}`" not in row} == set()


def product() -> list[Path]:
    """All modules that are written by hand and are neither tests nor migrations."""
    root, folders = PACKAGE.parents[2], ("functions", "local", "deployment", "bench", "testbed", "client/src")
    files = [*PACKAGE.rglob("*.py"), *(file for folder in folders for file in (root / folder).rglob("*.py"))]
    return [file for file in files if "generated" not in file.parts]


def test_every_module_is_in_a_room() -> None:
    assert [file.name for file in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {file.name: len(file.read_text().splitlines()) for file in product()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_function_is_longer_than_a_reader_can_hold() -> None:
    lengths = {
        f"{file.name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for file in product()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_console_imports_only_what_it_names() -> None:
    console = PACKAGE.parents[2] / "functions" / "campaign_api" / "console"
    said = re.search(r"^May import: (.+)\.$", (console / "__init__.py").read_text(), re.MULTILINE)
    assert said
    allowed_names = {"console", *said[1].split(", ")}
    product = {file.stem for file in console.parent.glob("*.py")} | {"sendledger"}
    for file in console.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            name = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
            if name.partition(".")[0] in product:
                assert any(f"{name}.".startswith(f"{each}.") for each in allowed_names), f"{file.name} imports {name}"
