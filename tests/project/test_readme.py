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
    generated = {"client/src/sendledger_client/generated", ".pytest_cache", ".hypothesis"}
    assert folders == {".venv", ".venv-sam", ".aws-sam", *generated}
    assert folders <= set(cleaned[0].split())


def test_capacity_of_one_sender_is_said_once() -> None:
    """Other rates of sending are those of what it is compared with, and of SES."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    rates = [(page.name, rate) for page in pages for rate in re.findall(r"\b\d,\d{3}/s", page.read_text())]
    assert rates == [("speed.md", "6,607/s"), ("speed.md", "1,601/s"), ("speed.md", "1,000/s")]
    speed = (ROOT / "docs" / "speed.md").read_text()
    assert re.search(r"\(6,607/s beside 1,601/s;.*`python -m bench.sending` \|", speed)


def test_every_row_of_measurements_names_its_benchmark() -> None:
    speed = (ROOT / "docs" / "speed.md").read_text()
    rows = [line for line in speed.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    named = [re.search(r"`python -m bench\.(\w+)[^`]*` \|$", row) for row in rows]
    assert [row for row, found in zip(rows, named, strict=True) if found is None] == []
    assert all(found and (ROOT / "bench" / f"{found[1]}.py").exists() for found in named)


def test_every_folder_that_make_installs_into_is_named() -> None:
    said = README + (ROOT / "docs/local-stack.md").read_text()
    installed = re.findall(r"(\.venv[\w.-]*)", MAKEFILE)
    assert {folder for folder in installed if f"`{folder}`" not in said} == set()
