"""A lock that one process holds at a time. The operating system releases it when the process ends."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def only_one(lock: Path, otherwise: Exception) -> Iterator[None]:
    """Hold the lock of this file, which is created if it is missing. Raise `otherwise` if another process holds it."""
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise otherwise from None
        yield
