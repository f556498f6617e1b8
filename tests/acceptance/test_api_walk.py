"""The commands of the pages that show how to use the API, typed as they stand, each of them twice."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from local.stack import LocalStack
from sendledger.access import api_keys

DOCS = Path(__file__).parents[2] / "docs"


def commands(script: str) -> Iterator[str]:
    """The script's commands one by one, those of several lines too."""
    command = ""
    for line in script.splitlines(keepends=True):
        command += line
        whole = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True, check=False)
        if whole.returncode == 0 and "unexpected end" not in whole.stderr and not line.endswith("\\\n"):
            yield command
            command = ""
    assert command == ""


@pytest.mark.skipif(shutil.which("curl") is None, reason="There is no curl here.")
@pytest.mark.parametrize("page", ["api-walk.md", "conversations.md", "sending-policy.md", "segments.md"])
def test_every_command_of_the_walk_can_be_typed_again(
    page: str, stack: LocalStack, engine: sa.Engine, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        key = api_keys.create(connection, "walk", "admin").key
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-key").write_text(f"{key}\n")
    (script,) = (
        block for block in re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL) if "KEY=$(" in block
    )
    twice = "".join(command * 2 for command in commands(script))
    assert twice.count('"$U/') > 3
    told = twice.replace("http://localhost:8000", stack.url).replace("curl -s", "curl -sS --fail-with-body")
    typed = subprocess.run(
        ["bash", "-eux", "-o", "pipefail"], input=told, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert typed.returncode == 0, typed.stderr[-3000:]
    for line in typed.stdout.splitlines():
        assert line.count('{"') <= 1 or line.startswith(("{", "[")), "an answer that does not end its line"
    assert typed.stdout.endswith('{"status":"ok"}\n')
