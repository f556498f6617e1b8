"""A TCP proxy in front of PostgreSQL's Unix socket that breaks connections at a COMMIT, or swallows what is sent."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Literal, Self

from sqlalchemy.engine import make_url

Fault = Literal["drop_before", "drop_after", "swallow_before", "swallow_after"]

# How the query ends; also the statement of a Parse message would.
_COMMIT = b"commit\x00"


class DatabaseProxy:
    """Use it as a context manager. With a `fault`, the `nth` COMMIT that passes is struck, and only that one.

    `drop_before` closes both sides without passing it on; `drop_after` lets the server commit and closes before its
    answer gets back. The `swallow` kinds keep the connections open and let nothing through any more: a black hole.
    """

    def __init__(self, database_url: str, fault: Fault | None = None, nth: int = 1) -> None:
        url = make_url(database_url)
        self._server_path = str(url.query["unix_sock"])
        self._fault: Fault | None = fault
        self._left = nth
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.set(host="127.0.0.1", port=port).difference_update_query(["unix_sock"]).render_as_string()
        self.struck = False

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close(*self._sockets)
        for thread in self._threads:
            thread.join(300)
        for each in self._sockets:
            each.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server_path)
            self._sockets += [client, server]
            link = _Link(client, server)
            self._start(self._to_server, link)
            self._start(self._to_client, link)

    def _to_server(self, link: _Link) -> None:
        while data := _receive(link.client):
            if _COMMIT in data and self._strikes():
                match self._fault:
                    case "drop_before":
                        self.struck = True
                        break
                    case "swallow_before":
                        link.swallows = True
                        self.struck = True
                    case "drop_after":
                        link.drops_answer = True
                    case "swallow_after":
                        link.swallows_answer = True
            if not link.swallows:
                _send(link.server, data)
        # A black hole swallows the end of the connection too: the server goes on waiting.
        self._close(link.client, *([] if link.swallows else [link.server]))

    def _to_client(self, link: _Link) -> None:
        while data := _receive(link.server):
            # Z: ready for the next statement, I: outside a transaction. So the COMMIT has been done.
            if (link.drops_answer or link.swallows_answer) and data.endswith(b"Z\x00\x00\x00\x05I"):
                self.struck = True
                if link.drops_answer:
                    break
                link.swallows = True
            if not link.swallows:
                _send(link.client, data)
        self._close(link.client, link.server)

    def _strikes(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left == 0 and self._fault is not None

    @staticmethod
    def _close(*sockets: socket.socket) -> None:
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already, by the other side or the other thread


class _Link:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.drops_answer = False
        self.swallows_answer = False
        self.swallows = False


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def _send(target: socket.socket, data: bytes) -> None:
    try:
        target.sendall(data)
    except OSError:
        return  # the reading side of that socket ends the link
