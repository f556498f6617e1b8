"""No regular expression of the product takes more than linear time, whatever text it is given."""

from __future__ import annotations

import ast
import importlib
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
    """What the worst texts for it are made of: its own characters and words, and one of each kind."""
    own = [sign for sign in dict.fromkeys(pattern) if sign.isprintable() and sign not in "^$|?*+\\"]
    words = re.findall(r"(?<![\\<\w])[A-Za-z]\w+[:=/]?|(?<=\\b)[A-Za-z]\w+[:=/]?", pattern)
    return [*own[:12], "a", "A", "0", " ", "\n", "@", "<", "{", '"', "=", *words[:6]]


def used(pattern: re.Pattern[Any], methods: set[str]) -> list[Callable[[Any], object]]:
    """As it is used: at the beginning of a text, or wherever in it."""
    if methods == {"fullmatch"}:
        return [pattern.fullmatch]
    return [pattern.match] if methods <= {"match", "fullmatch"} else [partial(pattern.sub, pattern.pattern[:0])]


METHOD = re.compile(r"\.(fullmatch|match|search|sub|subn|split|findall|finditer)\(")


def patterns_in(value: object) -> Iterator[re.Pattern[Any]]:
    """The value itself, or those in a table."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from patterns_in([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from patterns_in(item)


def built_expressions() -> Iterator[tuple[str, re.Pattern[Any], set[str]]]:
    """Each expression that a module holds, however it was put together. A table's have the methods of its readers."""
    importlib.import_module("console.front")  # it registers the pages, in their order
    for file, source in CODE.items():
        if "re.compile" not in source:
            continue
        for name, value in vars(importlib.import_module(module_of(file))).items():
            patterns = list(patterns_in(value))
            if not patterns:
                continue
            readers = [text for text in CODE.values() if re.search(rf"\b{name}\b", text)]
            if isinstance(value, re.Pattern):
                methods = {used for text in readers for used in re.findall(rf"\b{name}\.([a-z]+)\b", text)}
            else:
                methods = {used for text in readers for used in METHOD.findall(text.replace("re.sub(", ""))}
            for number, pattern in enumerate(patterns, 1):
                yield f"{file.relative_to(ROOT)}:{name}:{number}", pattern, methods


def module_of(file: Path) -> str:
    package = ROOT / ("layers/shared" if file.is_relative_to(ROOT / "layers") else "functions")
    parts = file.relative_to(package).with_suffix("").parts
    return ".".join(parts if package.name == "shared" else parts[1:])


CONSTANTS = {where: (pattern, methods) for where, pattern, methods in expressions()}
KNOWN = {(pattern.pattern, pattern.flags) for pattern, _ in CONSTANTS.values()}
BUILT = {
    where: (pattern, methods)
    for where, pattern, methods in built_expressions()
    if (pattern.pattern, pattern.flags) not in KNOWN
}
EXPRESSIONS = CONSTANTS | BUILT


def test_expressions_are_found() -> None:
    assert len(CONSTANTS) > 40


@pytest.mark.parametrize(
    "where",
    [
        "sendledger/leads/opt_outs.py:_STATUS_NAME",
        "sendledger/ses/answers.py:_TEXTS",
        "sendledger/content/link_values.py:_IN_SCHEME",
        "sendledger/core/signed_tokens.py:_UNSUBSCRIBE_TOKEN",
        "sendledger/files/read_csv.py:_BLANKS_BEHIND_QUOTE",
        "campaign_api/console/public_pages.py:_PAGE_OF_OURS",
        "campaign_api/console/visit.py:PAGES",
    ],
)
def test_expressions_that_are_put_together_are_found(where: str) -> None:
    assert any(f"{where}:" in found for found in EXPRESSIONS)


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
