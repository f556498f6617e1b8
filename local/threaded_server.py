"""A threaded HTTP/1.1 server for the local stack: one thread per connection, keep-alive, stops at once.

The standard library's server looks for its stop flag twice a second; this one sleeps until a connection comes. The
standard library's also asks the DNS for its own name when it starts, which takes long where no DNS answers.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar

HOST = "127.0.0.1"


class PortTakenError(Exception):
    """The port cannot be listened on; the message says why."""


class RequestHandler(BaseHTTPRequestHandler):
    """Base of the handlers: answers of a known length on a connection that stays open, nothing written to the log."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm: ClassVar[bool] = True
    wbufsize = -1  # one packet per answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Answer the request, whatever its method."""
        raise NotImplementedError

    def respond(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged here: paths and queries may contain addresses, and the functions have their own logs."""


class ThreadedServer(ThreadingHTTPServer):
    """Listens when made and serves from `start` to `stop`; `stop` closes the open connections too.

    Raises:
        PortTakenError: something else listens on the port.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, handler: Callable[..., RequestHandler]) -> None:
        try:
            super().__init__((HOST, port), handler)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise PortTakenError(f"Port {port} may be used by root only; take one from 1024 on.") from error
            what = "is not free" if error.errno == errno.EADDRINUSE else "cannot be used"
            raise PortTakenError(f"Port {port} of {HOST} {what}: {error.strerror}.") from error
        self._connections: set[socket.socket] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"http-{self.port}", daemon=True)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.port

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        if self._thread.is_alive():
            socket.create_connection((HOST, self.port)).close()  # wakes the thread
            self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was closed meanwhile

    def _serve(self) -> None:
        while not self._stopping:
            self.handle_request()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has disconnected is not an error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
