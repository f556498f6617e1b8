"""The commands of the pages that show how to use the API, typed as they stand, each of them twice."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import sqlalchemy as sa
from botocore import UNSIGNED
from botocore.config import Config

from local.stack import LocalStack
from sendledger.access import api_keys
from testbed.documented import script

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


def type_in(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a script in a folder. It ends at the first command that fails, and what the API refuses is a failure."""
    typed = subprocess.run(
        ["bash", "-eux", "-o", "pipefail"],
        input=script.replace("curl -s", "curl -sS --fail-with-body"),
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout[-2000:] + typed.stderr[-3000:]
    return typed


@pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="There is no curl here.")
@pytest.mark.parametrize(
    "page",
    [
        *("docs/api-walk.md", "docs/conversations.md", "docs/sending-policy.md", "docs/segments.md"),
        *("docs/evergreen.md", "docs/variants.md", "docs/retention.md"),
    ],
)
def test_every_command_of_the_walk_can_be_typed_again(
    page: str, stack: LocalStack, engine: sa.Engine, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        key = api_keys.create(connection, "walk", "admin").key
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-key").write_text(f"{key}\n")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    # The command line takes a second for each command, and those here change nothing.
    twice = "".join(command * (1 if "sendledger " in command else 2) for command in commands(script(page)))
    assert twice.count('"$U/') > 3
    assert "sendledger " in twice
    typed = type_in(twice.replace("http://localhost:8000", stack.url), tmp_path)
    for line in typed.stdout.splitlines():
        assert line.count('{"') <= 1 or line.startswith(("{", "[")), "an answer that does not end its line"
    assert typed.stdout.endswith('{"status":"ok"}\n')


class TestDeployment:
    @pytest.fixture
    def parameters(self) -> dict[str, str]:
        return {"TestSendAddresses": "you@example.com"}

    @pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="There is no curl here.")
    def test_first_campaign_of_a_deployment_is_sent_by_the_commands_of_its_page(
        self, stack: LocalStack, engine: sa.Engine, tmp_path: Path
    ) -> None:
        with engine.begin() as connection:
            key = api_keys.create(connection, "me", "admin").key
        (tmp_path / "key.json").write_text(json.dumps({"key": key}))
        (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
        # In place of the outputs of the stack in AWS.
        outputs = f"output() {{ echo {stack.url}; }}\n"
        type_in(outputs + script("docs/operations/deploy.md"), tmp_path)
        stack.tick()
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT status FROM campaigns")) == "completed"


@pytest.mark.parametrize("page", ["local-stack.md", "local-invoke.md"])
def test_lambda_is_invoked_by_the_line_of_the_page(
    page: str, stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AWS CLI is not among our packages. Its library gets the options of the line, and nothing else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    (line,) = re.findall(r"^aws lambda invoke (.*\\\n.*)$", (DOCS / page).read_text(), re.MULTILINE)
    options = ArgumentParser()
    for name in ("--endpoint-url", "--region", "--function-name"):
        options.add_argument(name)
    options.add_argument(
        "--no-sign-request", dest="config", action="store_const", const=Config(signature_version=UNSIGNED)
    )
    options.add_argument("outfile")
    given = options.parse_args(shlex.split(line.replace("\\\n", "").replace("http://localhost:8000", stack.url)))
    client = boto3.client("lambda", endpoint_url=given.endpoint_url, region_name=given.region, config=given.config)
    answer = client.invoke(FunctionName=given.function_name)
    assert "FunctionError" not in answer
    assert json.load(answer["Payload"])["stopped"] is None
