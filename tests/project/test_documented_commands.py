"""Every command of curl and of the command line that the documentation shows is executed by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from sendledger_client.commands.app import app
from testbed.documented import EXECUTED, NOT_EXECUTED, ROOT, Inline, commands_of, inline_commands, pages, script

Path = tuple[str, ...]


def known() -> dict[Path, Any]:
    """The commands of the command line by their words."""
    top: Any = typer.main.get_command(app)
    found: dict[Path, Any] = {}
    for name, command in top.commands.items():
        below = getattr(command, "commands", {})
        if below:
            found |= {(name, each): deeper for each, deeper in below.items()}
        else:
            found[(name,)] = command
    return found


KNOWN = known()


def path_of(words: Path) -> Path | None:
    return next((words[:length] for length in (2, 1) if words[:length] in KNOWN), None)


def tried_by_tests() -> Iterator[Path]:
    """Commands that tests run with their arguments one by one: in a call, or in a list."""
    for module in (ROOT / "tests" / "client").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            given = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.List) else []
            words = tuple(str(each.value) for each in given if isinstance(each, ast.Constant))
            if (path := path_of(words)) is not None:
                yield path


DOCUMENTED = [command for page in pages() for command in inline_commands(page)]


def test_every_page_with_commands_is_executed_by_a_test() -> None:
    assert {page for page in pages() if script(page)} == {*EXECUTED, *NOT_EXECUTED}


@pytest.mark.parametrize("page", EXECUTED)
def test_the_test_of_a_page_takes_its_whole_script(page: str) -> None:
    source = (ROOT / EXECUTED[page]).read_text("utf-8")
    assert f'"{page}"' in source
    assert "script(" in source


def test_every_command_in_a_script_exists() -> None:
    shown = [(page, words) for page in EXECUTED for words in commands_of(script(page))]
    assert len(shown) > 30
    assert [(page, words) for page, words in shown if path_of(words) is None and not words[0].startswith("-")] == []


@pytest.mark.parametrize("command", DOCUMENTED, ids=lambda command: f"{command.page}: {' '.join(command.words)}")
def test_every_command_in_a_sentence_exists_with_its_options_and_is_executed_somewhere(command: Inline) -> None:
    executed = {path_of(words) for page in EXECUTED for words in commands_of(script(page))} | set(tried_by_tests())
    words = command.words
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--install-completion", "--show-completion")
        return
    leading = words[:2] if path_of(words[:2]) == words[:2] else words[:1]
    meant = {path: known for path, known in KNOWN.items() if path[: len(leading)] == leading}
    assert meant, "there is no such command"
    assert meant.keys() & executed, "no test executes it"
    options = {name for each in meant.values() for parameter in each.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("function", ["output", "resource"])
def test_page_of_the_deployment_defines_its_functions_before_it_uses_them(function: str) -> None:
    page = (ROOT / "docs/operations/deploy.md").read_text("utf-8")
    assert page.index(f"\n{function}() {{") < page.index(f"$({function} ")
