"""Modules are imported at the top. An import inside a function has a comment that says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("functions", "layers/shared/sendledger", "migrations", "deployment", "local")


def imports_in_functions(file: Path) -> Iterator[int]:
    """The first line of each group of imports inside a function that has no comment on it or above it."""
    lines = ["", *file.read_text().splitlines()]
    found = {
        node.lineno
        for function in ast.walk(ast.parse("\n".join(lines[1:])))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for line in sorted(found):
        if line - 1 not in found and "#" not in lines[line] and not lines[line - 1].lstrip().startswith("#"):
            yield line


def test_import_inside_a_function_says_why() -> None:
    unexplained = [
        f"{file.relative_to(ROOT)}:{line}"
        for folder in FOLDERS
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line in imports_in_functions(file)
    ]
    assert unexplained == []
