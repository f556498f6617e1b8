"""Sockets that are kept open and used again."""

from __future__ import annotations

import select
import socket


def is_readable(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection or sent unexpected data."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))
