"""The examples of docs/webhooks.md, executed as they stand, and the list of events."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.access import api_keys
from sendledger.core.vocabulary import WebhookEventType
from testbed.documented import script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "webhooks.md").read_text("utf-8")
# Waits for the event as a person would, who looks again and again.
WAITS = "until grep -q webhook.test received; do kill -0 $RECEIVER; done"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="There is no curl here.")
def test_every_command_of_the_page_works(
    database_url: str, engine: sa.Engine, ses: SesSimulator, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        key = api_keys.create(connection, "page", "admin").key
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-key").write_text(f"{key}\n")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (receiver,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "receiver.py").write_text(receiver)
    with (
        (tmp_path / "functions.log").open("ab") as log,
        LocalStack(ROOT / "template.yaml", database_url=database_url, ses_url=ses.url, log=log) as stack,
    ):
        told = script("docs/webhooks.md").replace("http://localhost:8000", stack.url).replace("9999", str(free_port()))
        told = told.replace("sleep 5\n", f"{WAITS}\n").replace("curl -s", "curl -sS --fail-with-body")
        typed = subprocess.run(
            ["bash", "-eu", "-o", "pipefail"], input=told, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        stack.wait_until_idle()
    assert typed.returncode == 0, typed.stderr[-2000:]
    assert "'type': 'webhook.test'" in typed.stdout


def test_page_lists_every_event() -> None:
    listed = re.findall(r"`([a-z]+\.[a-z]+)`", PAGE.split("## Events")[1])
    assert {str(type_) for type_ in WebhookEventType} == set(listed)
