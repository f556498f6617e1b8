"""Starts functions in a tenth of a second: forks their processes from one that has loaded the libraries that they use.

Loading these takes most of the time that a function needs to start. The process that forks has none of Sendledger's
code: each function loads that by itself, with its own environment, as in Lambda.

    python forked_functions.py     is the process that forks; its standard input is a socket that orders come from

An order is one message: JSON with the handler, the folder and the environment, and two files. One is the log. The other
is a socket on which the function's process is killed (by any message, or by closing it) and its exit code comes back.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

LIBRARIES = (
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.metrics",
    "botocore.client",
    "botocore.httpsession",
    "botocore.session",
    "email_validator",
    "httptools",
    "jinja2.sandbox",
    "lxml.html",
    "pg8000",
    "pydantic.main",
    "sqlalchemy.dialects.postgresql.pg8000",
    "zoneinfo",
)
_LONGEST_ORDER = 128 * 1024


class ForkedFunction:
    """The process of a function that AWS's runtime client runs in, as much as is needed of a `subprocess.Popen`."""

    def __init__(self, handler: str, folder: Path, environment: Mapping[str, str], log: IO[bytes]) -> None:
        self._line, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = json.dumps([handler, str(folder), dict(environment)]).encode()
        with other_end:
            _forker.send(order, [log.fileno(), other_end.fileno()])

    def kill(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._line.send(b"kill")

    def wait(self) -> int:
        """The exit code, negative for a signal; to be called once."""
        with self._line:
            try:
                return int(self._line.recv(32))
            except (ValueError, ConnectionResetError):
                # The process that forks was killed, or was told to kill one that had ended.
                return -signal.SIGKILL


class _Forker:
    """The process that forks. It is started when it is needed, and ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def send(self, order: bytes, files: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._orders(), [order], files)

    def _orders(self) -> socket.socket:
        if self._started is not None:
            process, orders = self._started
            if process.poll() is None:
                return orders
            orders.close()
        orders, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other_end:
            process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=other_end.fileno(),
                stdout=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                # Ctrl-C in the terminal reaches the stack only.
                start_new_session=True,
            )
        self._started = process, orders
        return orders

    def stop(self) -> None:
        if self._started is not None:
            process, orders = self._started
            process.kill()
            process.wait()
            orders.close()


_forker = _Forker()
atexit.register(_forker.stop)


def main() -> None:
    # The folder of this file has modules that are none of a function's business.
    del sys.path[0]
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # their memory stays shared
    if _fork_as_ordered(socket.socket(fileno=sys.stdin.fileno())):
        runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


def _fork_as_ordered(orders: socket.socket) -> bool:
    """Whether this is a new process, which is ready to run its function. Else nobody can order any more."""
    running: dict[socket.socket, int] = {}
    ends, end = socket.socketpair()
    end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(end.fileno())
    while True:
        for ready in select.select([orders, ends, *running], [], [])[0]:
            if ready is orders:
                order, files, _, _ = socket.recv_fds(orders, _LONGEST_ORDER, 2)
                if not order:
                    return False
                log, line = files
                process = os.fork()
                if process == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(line)
                    for other in (ends, end, *running):
                        other.close()
                    orders.detach()
                    _become_function(order, log)
                    return True
                os.close(log)
                running[socket.socket(fileno=line)] = process
            elif ready is ends:
                ends.recv(4096)
                for each in list(running):
                    _report_end(each, running, os.WNOHANG)
            elif ready in running:  # not ended meanwhile
                with contextlib.suppress(ConnectionResetError):
                    ready.recv(32)  # what is left unread when the line is closed would keep the exit code back
                os.kill(running[ready], signal.SIGKILL)
                _report_end(ready, running)


def _report_end(line: socket.socket, running: dict[socket.socket, int], options: int = 0) -> None:
    process, status = os.waitpid(running[line], options)
    if process != 0:
        del running[line]
        with line, contextlib.suppress(OSError):  # nobody wants to know
            line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become_function(order: bytes, log: int) -> None:
    handler, folder, environment = json.loads(order)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(log)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path.insert(0, folder)
    sys.argv = ["awslambdaric", handler]
    Path("/proc/self/comm").write_text(handler)  # what ps and top call it


if __name__ == "__main__":
    main()
