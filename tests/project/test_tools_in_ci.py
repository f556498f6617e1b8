"""In CI each check needs its tool. A person may lack one, and is told what was not checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = Path(sys.prefix)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """With the environment that runs this test, as it is."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "CI"))}
    known = [f"VENV={ENVIRONMENT}", f"--assume-old={ENVIRONMENT / 'installed'}"]
    command = ["make", "--no-print-directory", *known, *arguments]
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=300)


MISSING = [
    (["check-openapi", "HAS_NODE="], "Node 20 or newer was not found"),
    (["check-lambda-python", "LAMBDA_PYTHON="], "Python 3.13, which Lambda runs, was not found"),
]


@pytest.mark.parametrize(("arguments", "said"), MISSING)
def test_missing_tool_is_an_error_in_ci(arguments: list[str], said: str) -> None:
    done = make(*arguments, "CI=true")
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(("arguments", "said"), MISSING)
def test_missing_tool_of_a_person_is_told(arguments: list[str], said: str) -> None:
    done = make(*arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
