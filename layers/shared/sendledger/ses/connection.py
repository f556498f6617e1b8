"""One kept-alive HTTP/1.1 connection to SES: a request in, the response out. Uses no table.

The steps are separate, so that the caller knows after an error whether SES can have seen the request: not before
`write`. No request is repeated. httptools (llhttp, the parser of Node.js) reads responses. The parser of the standard
library takes more time than the rest of a call (docs/decisions).
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult

import httptools

from sendledger.core.sockets import is_readable

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds; an email without an answer by then has an unknown outcome."""

TIMEOUT_TOLERANCE = 0.1


class BadResponse(Exception):
    """The response is not complete HTTP, so it says nothing about the request."""


def addresses_of(endpoint: SplitResult) -> Sequence[tuple[Any, ...]]:
    """The addresses of the endpoint from `socket.getaddrinfo`. It has no timeout, so call it before a fence.

    Raises:
        OSError: it has no address, or the name server does not answer.
    """
    port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
    return socket.getaddrinfo(endpoint.hostname, port, type=socket.SOCK_STREAM)


class SesConnection:
    """A connection for one thread at a time: `open`, `write`, `read`, and after any error `close`."""

    def __init__(self, endpoint: SplitResult, addresses: Sequence[tuple[Any, ...]], tls: ssl.SSLContext | None) -> None:
        """`addresses` are from `addresses_of`. Only https needs `tls`."""
        if endpoint.scheme == "https" and tls is None:
            raise ValueError("An https endpoint needs a context for TLS.")  # otherwise emails would go in plain text
        self._name = endpoint.hostname or ""
        self._addresses = addresses
        self._tls = tls if endpoint.scheme == "https" else None
        self._socket: socket.socket | None = None
        self._answer_by = 0.0

    def open(self) -> None:
        """Connect, or check that SES has not closed the idle connection.

        Raises:
            ssl.SSLCertVerificationError: the server cannot prove that it is SES.
            OSError: there is no connection.
        """
        # An email that is written to a closed connection would have an unknown outcome. urllib3 does the same.
        if self._socket is not None and is_readable(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()

    def _connect(self) -> socket.socket:
        """One timeout for all addresses: the endpoint has one in each zone, and some may not answer."""
        connect_by = time.monotonic() + CONNECT_TIMEOUT
        error: OSError = ConnectionError(f"{self._name} has no address")
        # Connections are spread over the zones. But the order of IPv4 and IPv6 is kept: the network may not route one
        # of them.
        families = list(dict.fromkeys(address[0] for address in self._addresses))
        tried = random.sample(self._addresses, len(self._addresses))
        tried.sort(key=lambda address: families.index(address[0]))
        for left, (*kind, _, address) in zip(range(len(tried), 0, -1), tried, strict=True):
            connection = socket.socket(*kind)
            try:
                connection.settimeout(max(0.001, (connect_by - time.monotonic()) / left))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(max(0.001, connect_by - time.monotonic()))
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_hostname=self._name)
            except BaseException as failure:
                connection.close()
                if not isinstance(failure, OSError) or isinstance(failure, ssl.SSLCertVerificationError):
                    raise
                error = failure
            else:
                return connection
        raise error

    def write(self, request: Sequence[bytes]) -> None:
        """Send a whole request, part after part.

        Raises:
            OSError: any part of it may have arrived.
        """
        assert self._socket is not None  # noqa: S101 (for the type checker: it is open)
        self._answer_by = time.monotonic() + READ_TIMEOUT
        for part in request:
            self._set_timeout(max(0.001, self._answer_by - time.monotonic()))
            self._socket.sendall(part)

    def read(self) -> Response:
        """Wait for the response to what was written.

        Raises:
            TimeoutError: it was not complete `READ_TIMEOUT` after the request was begun.
            OSError: the connection broke.
            BadResponse: what came is not HTTP, or not all of it came.
        """
        assert self._socket is not None  # noqa: S101
        response = Response()
        while not response.is_complete:
            # A server that sends single bytes gets no more time than a silent one.
            self._set_timeout(max(0.001, self._answer_by - time.monotonic()))
            if received := self._socket.recv(65536):
                response.feed(received)
            else:
                response.feed_end()
            if not response.is_complete and time.monotonic() > self._answer_by:
                raise TimeoutError
        response.drop_parser()
        if not response.is_reusable:
            self.close()
        return response

    def _set_timeout(self, seconds: float) -> None:
        """Only if it changes, because each call is a system call."""
        assert self._socket is not None  # noqa: S101
        if abs((self._socket.gettimeout() or 0.0) - seconds) > TIMEOUT_TOLERANCE:
            self._socket.settimeout(seconds)

    def close(self) -> None:
        """End the connection, if there is one; the next `open` makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Response:
    """A response as far as it has arrived. The parser calls the methods `on_…`."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        self.is_reusable = False
        """Whether the connection may carry another request."""

    @property
    def body(self) -> bytes:
        return b"".join(self._body)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Decoded here, as they are read after errors only."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers]

    def feed(self, received: bytes) -> None:
        try:
            self._parser.feed_data(received)
        except Exception as error:
            # Data after the end of the response does not make it wrong.
            self.is_reusable = False
            if not self.is_complete:
                raise BadResponse(type(error).__name__) from error

    def feed_end(self) -> None:
        """The server has closed the connection, which may be its way to end a response."""
        if not 200 <= self.status < 300:
            raise BadResponse("the connection ended before the response")
        # SES has accepted the email, even if a part of the body is missing.
        self.is_complete = True

    def drop_parser(self) -> None:
        """The parser and this refer to each other, and only the garbage collector would free them."""
        del self._parser

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise BadResponse("more than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self.status < 200:
            # An interim response; the final one follows.
            self._headers.clear()
            self.status = 0
        else:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()
