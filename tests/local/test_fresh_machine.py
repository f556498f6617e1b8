"""The first start of the tests on a machine that has never seen the project, with workers that start at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from local.ses_simulator import SesSimulator

ROOT = Path(__file__).parents[2]
WORKERS = 4


def test_workers_that_start_at_once_on_a_fresh_machine_each_have_a_database(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PG"))}
    pytest = [sys.executable, "-m", "pytest", "-qp", "no:cacheprovider", f"--numprocesses={WORKERS}", "--dist=each"]
    done = subprocess.run(
        [ROOT / ".ci" / "fresh", *pytest, "tests/feedback/test_suppressions.py", "-k", "suppressing_again"],
        cwd=ROOT,
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)
    # It has removed what it made in the folder for temporary files, but for pytest's own.
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("pytest-of-")]


def test_tests_behind_a_proxy_reach_what_runs_on_this_machine(
    ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert httpx.get(ses.url).status_code == 200
