"""The installation that `make` begins with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "requirements" / "install.py"


def test_ctrl_c_ends_an_installation_in_one_line(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    with subprocess.Popen(
        [sys.executable, SCRIPT, tmp_path / "environment", lock, "a test"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as installing:
        assert installing.stdout is not None
        assert installing.stderr is not None
        assert installing.stdout.readline() == f"Installing a test into {tmp_path / 'environment'} (once)\n"
        # As a terminal does: to every process of its group.
        os.killpg(installing.pid, signal.SIGINT)
        assert installing.wait(60) != 0
        assert installing.stderr.read() == "Stopped. The next try starts anew.\n"


def test_what_cannot_be_installed_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path / "environment"), str(tmp_path / "no-lock.txt"), "a test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("a test could not be installed: see above.\n")
    assert "Traceback" not in done.stderr
