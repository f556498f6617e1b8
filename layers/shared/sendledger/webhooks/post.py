"""Posts one event to one address of the internet. A signed delivery goes in, what became of it comes out. No table.

Where the name leads is looked up for each connection, every address is checked, and the connection goes to an address
that was checked: a name that leads elsewhere a moment later (DNS rebinding) changes nothing. Redirects are not
followed. An answer gets 10 seconds in all, and 64 KB of it are read.
"""

from __future__ import annotations

import functools
import ipaddress
import queue
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import httptools

from sendledger.core.email_address import without_addresses
from sendledger.core.vocabulary import WebhookOutcome
from sendledger.webhooks.targets import is_public

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 5.0
LOOK_UP_SECONDS = 5.0
MOST_BYTES = 65_536
SHOWN_BYTES = 1024
USER_AGENT = "Sendledger-Webhooks"


class Answered(NamedTuple):
    """What became of an attempt; `text` is the beginning of the answer, or why there was none."""

    outcome: WebhookOutcome
    status: int | None
    text: str


class NotAllowed(OSError):
    """The name leads to no public address."""


class NotFoundInTime(OSError):
    """The name servers have not answered."""


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class EndpointConnection:
    """A kept-alive connection to an endpoint, for one thread. `any_target` is for receivers on this machine."""

    def __init__(self, *, any_target: bool) -> None:
        self._any_target = any_target
        self._socket: socket.socket | None = None
        self._place: tuple[str, str | None, int] | None = None

    def post(self, url: str, headers: dict[str, str], body: str) -> Answered:
        """Post, on the open connection if it leads there; never raises for what the other side does."""
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            parts = urlsplit(url)
            request = _request(parts, headers, body.encode())
            reused = self._open(parts, deadline)
            try:
                response = self._exchange(request, deadline)
            except (ConnectionError, _NoAnswer):
                # It may have been closed while it idled; a new one tells.
                if not reused:
                    raise
                self.close()
                self._open(parts, deadline)
                response = self._exchange(request, deadline)
        except (OSError, ValueError, _NoAnswer) as error:
            self.close()
            return Answered(WebhookOutcome.FAILED, None, _reason(error))
        if not response.is_reusable:
            self.close()
        text = _shown(bytes(response.body).decode("utf-8", "replace").replace("\x00", "\ufffd"))
        outcome = WebhookOutcome.DELIVERED if 200 <= response.status < 300 else WebhookOutcome.FAILED
        return Answered(outcome, response.status, text)

    def _open(self, parts: SplitResult, deadline: float) -> bool:
        """Whether there was a connection already."""
        place = (parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        if self._socket is not None and self._place == place:
            return True
        self.close()
        if not self._any_target and parts.scheme != "https":
            raise NotAllowed("only https:// is allowed")
        self._socket = self._connect(str(parts.hostname), place[2], parts.scheme == "https", deadline)
        self._place = place
        return False

    def _connect(self, host: str, port: int, secure: bool, deadline: float) -> socket.socket:
        found = _look_up(host, port, min(LOOK_UP_SECONDS, deadline - time.monotonic()))
        allowed = [each for each in found if self._any_target or is_public(ipaddress.ip_address(str(each[4][0])))]
        if not allowed:
            raise NotAllowed("the name does not lead to a public address")
        error: OSError = ConnectionError("no address")
        for family, kind, protocol, _, address in allowed[:4]:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(max(0.001, min(CONNECT_SECONDS, deadline - time.monotonic())))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _tls().wrap_socket(connection, server_hostname=host) if secure else connection
            except OSError as failure:
                connection.close()
                error = failure
        raise error

    def _exchange(self, request: bytes, deadline: float) -> _Response:
        assert self._socket is not None  # noqa: S101 (for the type checker: it is open)
        response = _Response()
        self._wait_at_most(deadline)
        self._socket.sendall(request)
        while not response.is_complete:
            # A receiver that sends a byte now and then gets no more time than a silent one.
            self._wait_at_most(deadline)
            received = self._socket.recv(16_384)
            if not received:
                if response.status == 0:
                    raise _NoAnswer("the connection was closed without an answer")
                break
            response.feed(received)
        response.drop_parser()
        return response

    def _wait_at_most(self, deadline: float) -> None:
        assert self._socket is not None  # noqa: S101
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _NoAnswer(Exception):
    """What came back is no HTTP response."""


class _Response:
    """A response as far as it is read; the parser calls the methods named `on_…`."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._read = 0
        self.status = 0
        self.body = bytearray()
        self.is_complete = False
        self.is_reusable = False

    def feed(self, received: bytes) -> None:
        self._read += len(received)
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserUpgrade as error:
            raise _NoAnswer("it answered 101: it wants to speak something else than HTTP") from error
        except httptools.HttpParserError as error:
            # After a complete answer it does not matter what comes.
            if not self.is_complete:
                raise _NoAnswer("what came back is not HTTP") from error
            self.is_reusable = False
        if self._read > MOST_BYTES:
            if self.status == 0:
                raise _NoAnswer("the headers of the answer are too long")
            self.is_complete, self.is_reusable = True, False

    def drop_parser(self) -> None:
        # The parser and this refer to each other, and only the garbage collector would free them.
        self._parser = None

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.is_reusable = False  # a second answer to one request

    def on_headers_complete(self) -> None:
        if not self.is_complete:
            self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self.is_complete:
            self.body += body

    def on_message_complete(self) -> None:
        if self.is_complete:
            return
        if self.status < 200:
            self.status = 0  # an interim response
            return
        self.is_complete = True
        self.is_reusable = self._parser.should_keep_alive()


def _look_up(host: str, port: int, seconds: float) -> list[Any]:
    """The addresses of a name. `getaddrinfo` knows no time limit, so it is left alone after this time."""
    found: queue.SimpleQueue[list[Any] | OSError | ValueError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            found.put(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        answer = found.get(timeout=max(0.001, seconds))
    except queue.Empty:
        raise NotFoundInTime("Its name servers have not answered in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _request(parts: SplitResult, headers: dict[str, str], body: bytes) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = {
        "Host": parts.netloc,
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


def _reason(error: Exception) -> str:
    """Why there was no answer, in words for the owner of the endpoint."""
    if isinstance(error, TimeoutError):
        return f"There was no whole answer within {ANSWER_SECONDS:g} seconds."
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Its certificate is not good: {error.verify_message}."
    if isinstance(error, socket.gaierror):
        return "Its name has no address."
    return _shown(f"{str(error) or type(error).__name__}.")


def _shown(text: str) -> str:
    """The first KB, without addresses: those of a lead that is erased must not stay here.

    It is cut as UTF-8, since a byte that is no text becomes a character of three.
    """
    return without_addresses(text).encode("utf-8", "replace")[:SHOWN_BYTES].decode("utf-8", "ignore")
