"""A signal that comes at whatever moment of a wait ends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# With a threading.Event the first deadlock comes after some hundred of these.
PROGRAM = """
import random, signal
from local import stop_request
from local.stop_request import StopRequest

random.seed(1)
stop_request.POLL_SECONDS = 0.001
for _ in range(3000):
    request = StopRequest()
    signal.signal(signal.SIGALRM, lambda *_: request.set())
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 60e-6))
    assert request.wait(300.0)
    assert request.is_set()
print("each was seen")
"""


def test_signal_at_whatever_moment_of_the_wait_is_seen() -> None:
    command = [sys.executable, "-c", PROGRAM]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout == "each was seen\n"
