"""The examples of docs/client.md, executed as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from sendledger_client import Sendledger, each, models
from sendledger_client.commands.app import EXIT_CODES, app
from testbed.documented import script
from tests.client.conftest import Run, Running

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")


PYTHON = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="There is no curl here.")
def test_every_command_and_line_of_python_on_the_page_works(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-key").write_text(f"{running.key}\n")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    typed = subprocess.run(
        ["bash", "-eux", "-o", "pipefail"],
        input=script("docs/client.md").replace("http://localhost:8000", running.stack.url),
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout[-2000:] + typed.stderr[-2000:]
    assert "broken" not in (tmp_path / "all.csv").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leads.csv").write_text("Email\ncarl@example.com\n")
    exec(compile(PYTHON, "docs/client.md", "exec"), {"url": running.stack.url, "api_key": running.key})  # noqa: S102
    assert "carl@example.com" in (tmp_path / "all.csv").read_text("utf-8")


def test_page_and_help_list_the_same_exit_codes() -> None:
    of_the_page = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert of_the_page == re.findall(r"(\d+) \w", EXIT_CODES)


def commands() -> list[str]:
    found = []
    known: Any = typer.main.get_command(app)
    for name, command in sorted(known.commands.items()):
        below = getattr(command, "commands", {})
        found += [f"{name} {each}" for each in below] or [name]
    return found


def test_every_command_but_two_has_json() -> None:
    known: Any = typer.main.get_command(app)
    every = [deeper for each in known.commands.values() for deeper in getattr(each, "commands", {"": each}).values()]
    without = {each.name for each in every if "--json" not in {name for given in each.params for name in given.opts}}
    assert without == {"login", "mcp"}


def test_every_command_is_on_the_page() -> None:
    assert [command for command in commands() if f"sendledger {command}" not in PAGE] == []


def test_demo_of_the_readme_is_what_the_commands_say(
    run: Run, api: Sendledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", script("README.md"), re.DOTALL | re.MULTILINE)
    (_, leads), *rest = shown
    monkeypatch.chdir(tmp_path)
    Path("leads.csv").write_text(leads)
    Path("hello.html").write_text("<title>*|FNAME|*, a question</title>\n<p>{{#if company}}{{{company}}}{{/if}}</p>")
    for command, said in rest:
        if command.startswith("sendledger campaigns start"):
            template = next(each_.id for each_ in each(api.list_email_templates) if each_.name == "Question")
            wanted = models.NewCampaign(
                "Autumn",
                batch_ids=[api.import_file(Path("leads.csv"), name="Autumn").id],
                email_template_id=template,
                postal_address_waived=True,
            )
            api.create_campaign(body=wanted)
        ended = run(*command.split()[1:])
        assert (ended.code, ended.err) == (0, "")
        assert [line.split() for line in ended.out.splitlines()] == [line.split() for line in said.splitlines()]
