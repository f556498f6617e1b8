"""A lean HTTP/1.1 server on asyncio: what comes in is bytes on a socket, what goes to the handler is a Request.

The handler is a plain function that returns an HttpResponse. It also says how long to wait before it is sent, and
whether the connection then stays open, is closed, or is reset. Requests of one connection are answered in order.
Written by hand because http.server takes about 0.3 ms per request, which would be most of what a benchmark
of a sender against this server measures.
"""

import asyncio
import errno
import logging
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, cast
from urllib.parse import parse_qs, unquote

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 64 * 1024 * 1024  # SES takes messages of 40 MB; base64 makes them a third longer
LINGER_SECONDS = 2.0

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n|$)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_OTHER_HOST = re.compile(
    rb"\r\nhost:(?![ \t]*(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?[ \t]*(?:\r\n|$))", re.IGNORECASE
)
"""A foreign domain name can resolve to this machine. A page of that site could then read the inbox.
https://owasp.org/www-community/attacks/DNS_Rebinding"""
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One complete HTTP request. `target` is undecoded; `head` holds the header lines as they came."""

    method: str
    target: str
    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    def header(self, name: str) -> str:
        """The first header of that name, or an empty string."""
        found = re.search(rb"\r\n" + re.escape(name.encode()) + rb":[ \t]*([^\r\n]*)", self.head, re.IGNORECASE)
        return found[1].decode("latin-1").strip() if found else ""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response; `silent` sends nothing. `delay` (seconds) passes first, then `ending` decides about the connection.

    `reset` closes with a TCP RST, which a client sees as "connection reset by peer".
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    ending: Literal["keep_alive", "close", "reset"] = "keep_alive"
    silent: bool = False

    def encode(self) -> bytes:
        lines = [
            _STATUS_LINES[self.status],
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n",
            *(f"{name}: {value}\r\n" for name, value in self.headers),
            "Connection: close\r\n\r\n" if self.ending == "close" else "\r\n",
        ]
        return "".join(lines).encode("latin-1") + self.body


Handler = Callable[[Request], HttpResponse]


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, connections: "set[_Connection]") -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = b""
        self._waiting: asyncio.TimerHandle | None = None
        self._continued = False
        self._refused = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # asyncio does this itself only where the listening socket was made with an explicit IPPROTO_TCP.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._waiting is None:
            self._answer_complete_requests()

    def _answer_complete_requests(self) -> None:
        while self._buffer and self._waiting is None and not self.transport.is_closing():
            request = self._next_request()
            if request is None:
                return
            try:
                answer = self._handler(request)
            except Exception:
                logger.exception("The handler failed")
                answer = HttpResponse(status=500, body=b'{"message":"Internal failure"}', ending="close")
            if answer.ending == "keep_alive" and _CLOSE.search(request.head):
                answer = HttpResponse(
                    answer.status, answer.body, answer.content_type, answer.headers, answer.delay, "close"
                )
            if answer.delay > 0:
                self._waiting = asyncio.get_running_loop().call_later(answer.delay, self._finish_waiting, answer)
            else:
                self._finish(answer)

    def _next_request(self) -> Request | None:
        buffer = self._buffer
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                self._refuse(431)
            return None
        head = buffer[:head_end]
        if _OTHER_HOST.search(head):
            self._refuse(421)
            return None
        length = _CONTENT_LENGTH.search(head)
        if length is None and _CHUNKED.search(head):
            self._refuse(411)
            return None
        body_start = head_end + 4
        end = body_start + (int(length[1]) if length else 0)
        if end - body_start > MAX_BODY_BYTES:
            self._refuse(413)
            return None
        if len(buffer) < end:
            if not self._continued and _EXPECT.search(head):
                self._continued = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        request_line = head.partition(b"\r\n")[0].split(b" ")
        if len(request_line) != 3 or not request_line[2].startswith(b"HTTP/1."):
            self._refuse(400)
            return None
        self._buffer = buffer[end:]
        self._continued = False
        method, target, _ = (part.decode("latin-1") for part in request_line)
        return Request(method, target, head, buffer[body_start:end])

    def _refuse(self, status: int) -> None:
        """Answer what cannot be read as a request. Closing with input unread would be a reset, which can overtake the
        answer: so only our half is closed, and the rest of the input is thrown away for a while."""
        self._buffer = b""
        self._refused = True
        self.transport.write(HttpResponse(status=status, ending="close").encode())
        self.transport.write_eof()
        self._waiting = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)

    def _finish_waiting(self, answer: HttpResponse) -> None:
        self._waiting = None
        self._finish(answer)
        self._answer_complete_requests()

    def _finish(self, answer: HttpResponse) -> None:
        if answer.ending == "reset":
            self.reset()
            return
        if not answer.silent:
            self.transport.write(answer.encode())
        if answer.ending == "close":
            self.transport.close()

    def reset(self) -> None:
        """Close at once with an RST: a linger time of zero discards what is unsent."""
        raw_socket = self.transport.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where the port is taken, or is none."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OverflowError as error:
        listener.close()
        raise OSError(errno.EINVAL, "a port is 0 to 65535") from error
    except OSError:
        listener.close()
        raise
    return listener


async def serve(listener: socket.socket, handler: Handler, stopped: asyncio.Event) -> None:
    """Answer requests until `stopped` is set, then drop every connection, stalled ones too."""
    connections: set[_Connection] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(handler, connections), sock=listener)
    await stopped.wait()
    server.close()
    for connection in list(connections):
        connection.transport.abort()
    await asyncio.sleep(0)
