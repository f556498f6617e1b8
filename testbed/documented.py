"""The commands that the documentation shows, and the tests that execute them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

_WALK = "tests/acceptance/test_api_walk.py"
EXECUTED: Mapping[str, str] = {
    "README.md": "tests/client/test_client_page.py",
    "docs/client.md": "tests/client/test_client_page.py",
    "docs/api-walk.md": _WALK,
    "docs/conversations.md": _WALK,
    "docs/evergreen.md": _WALK,
    "docs/retention.md": _WALK,
    "docs/segments.md": _WALK,
    "docs/sending-policy.md": _WALK,
    "docs/variants.md": _WALK,
    "docs/operations/deploy.md": _WALK,
    "docs/operations/tokens.md": "tests/acceptance/test_tokens.py",
    "docs/webhooks.md": "tests/webhooks/test_webhooks_page.py",
}
"""Page → the test that executes its `script`."""
NOT_EXECUTED: Mapping[str, str] = {
    "docs/decisions/certificates-of-rds.md": "It downloads from Amazon, which tests must not need.",
}
"""Page → why no test executes its commands."""

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[|;&({]|\$ ) *(?:curl|(?:\S*/)?sendledger) +(?=[\w\"$-])", re.MULTILINE)
_INLINE = re.compile(r"`(?:\$ )?sendledger ([^`]+)`")
_LANGUAGES = ("", "sh", "bash", "shell", "console")


class Inline(NamedTuple):
    """A command of the command line in a sentence: `words` without `sendledger`."""

    page: str
    words: tuple[str, ...]


def pages() -> Iterator[str]:
    """Every page of the project, from its root."""
    for path in sorted(ROOT.rglob("*.md")):
        page = path.relative_to(ROOT)
        if not any(part.startswith(".") or part == "node_modules" for part in page.parts):
            yield page.as_posix()


def script(page: str) -> str:
    """All that a page shows in blocks that have a command of curl or of the command line."""
    blocks = _FENCED.findall((ROOT / page).read_text("utf-8"))
    shown = (text for _, language, text in blocks if language in _LANGUAGES and _COMMAND.search(text))
    return "\n".join(shown)


def inline_commands(page: str) -> Iterator[Inline]:
    """The commands in a page's sentences and tables."""
    sentences = _FENCED.sub("", (ROOT / page).read_text("utf-8"))
    for found in _INLINE.findall(sentences):
        yield Inline(page, tuple(found.split()))


def commands_of(script: str) -> Iterator[tuple[str, ...]]:
    """The words after each `sendledger` of a script, to the end of its line."""
    for found in re.finditer(r"(?:^|[\s(/])sendledger +([a-z][^|>)\n]*)", script):
        yield tuple(found[1].split())
