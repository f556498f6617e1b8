"""The README is true: what it says of folders holds."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_what_make_clean_is_said_to_remove_it_removes() -> None:
    cleaned = re.search(r"^clean:.*?\n\n", MAKEFILE, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (.*?) \|.*\| `make clean` \|$", README, re.MULTILINE)
    folders = {folder for row in rows for folder in re.findall(r"`([^`]+)`", row)}
    assert cleaned
    assert folders == {".venv", ".venv-sam", ".aws-sam"}
    assert folders <= set(cleaned[0].split())


def test_every_folder_that_make_installs_into_is_named() -> None:
    said = README + (ROOT / "docs/local-stack.md").read_text()
    installed = re.findall(r"(\.venv[\w.-]*)", MAKEFILE)
    assert {folder for folder in installed if f"`{folder}`" not in said} == set()
