"""No regular expression of the product takes more than linear time, whatever text it is given."""

from __future__ import annotations

import ast
import itertools
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = [file for folder in ("layers/shared/sendledger", "functions") for file in sorted((ROOT / folder).rglob("*.py"))]
CODE = {file: file.read_text() for file in FILES}
LENGTH = 100_000
SECONDS = 2.0
"""Of the processor. What is quadratic takes minutes for the longest text; the shorter ones find it sooner."""


def flags_of(call: ast.Call) -> re.RegexFlag:
    found = re.NOFLAG
    for node in ast.walk(call):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re":
            flag = getattr(re, node.attr, None)
            found |= flag if isinstance(flag, re.RegexFlag) else re.NOFLAG
    return found


def expressions() -> Iterator[tuple[str, re.Pattern[Any], set[str]]]:
    """Each expression that is a constant, where it stands, and the methods that it is used with."""
    for file, source in CODE.items():
        tree = ast.parse(source)
        names = {
            id(node.value): node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
                continue
            of, pattern = call.func.value, call.args[0]
            if not (isinstance(of, ast.Name) and of.id == "re" and isinstance(pattern, ast.Constant)):
                continue
            if call.func.attr == "compile":
                name = names.get(id(call), "")
                # Another file may use it too.
                methods = {used for text in CODE.values() for used in re.findall(rf"\b{name}\.([a-z]+)\b", text)}
            else:
                methods = {call.func.attr}
            where = f"{file.relative_to(ROOT)}:{call.lineno}"
            yield where, re.compile(pattern.value, flags_of(call)), methods


def pieces(pattern: str) -> list[str]:
    """What the worst texts for it are made of: its own characters, and one of each kind."""
    own = [sign for sign in dict.fromkeys(pattern) if sign.isprintable() and sign not in "^$|?*+\\"]
    return [*own[:12], "a", "A", "0", " ", "\n", "@", "<", "{", '"', "="]


def used(pattern: re.Pattern[Any], methods: set[str]) -> list[Callable[[Any], object]]:
    """As it is used: at the beginning of a text, or wherever in it."""
    if methods == {"fullmatch"}:
        return [pattern.fullmatch]
    return [pattern.match] if methods <= {"match", "fullmatch"} else [partial(pattern.sub, pattern.pattern[:0])]


EXPRESSIONS = {where: (pattern, methods) for where, pattern, methods in expressions()}


def test_expressions_are_found() -> None:
    assert len(EXPRESSIONS) > 40


@pytest.mark.parametrize("where", sorted(EXPRESSIONS))
def test_expression_takes_linear_time(where: str) -> None:
    pattern, methods = EXPRESSIONS[where]
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    found = list(dict.fromkeys(pieces(source)))
    for piece in [*found, *(first + second for first, second in itertools.permutations(found[:6], 2))]:
        for length in (2_000, 20_000, LENGTH):
            worst = piece * (length // len(piece))
            text = worst if isinstance(pattern.pattern, str) else worst.encode()
            for method in used(pattern, methods):
                started = time.process_time()
                method(text)
                assert time.process_time() - started < SECONDS, (piece, length)
