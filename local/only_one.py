"""A lock that one process has at a time; it ends with the process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def only_one(lock: Path, otherwise: Exception) -> Iterator[None]:
    """Hold the lock of this file, which is made where it is missing; raise `otherwise` where another process has it."""
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise otherwise from None
        yield
