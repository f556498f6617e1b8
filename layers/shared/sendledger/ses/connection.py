"""One kept-alive HTTP/1.1 connection to SES that never blocks: a request in, the response out. Uses no table.

An error of a connection that is not yet `is_open` proves that SES has not seen the request. No request is repeated.
httptools (llhttp, the parser of Node.js) reads responses. The parser of the standard library takes more time than the
rest of a call (docs/decisions).
"""

from __future__ import annotations

import errno
import math
import os
import random
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any
from urllib.parse import SplitResult

import httptools

from sendledger.core.sockets import is_readable

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds; an email without an answer by then has an unknown outcome."""


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
    """`begin` a request, then `advance` whenever its socket is ready, until that returns the response.

    After an exception of any of them `close` it. The selector watches its socket, with the connection as data.
    """

    def __init__(
        self,
        endpoint: SplitResult,
        addresses: Sequence[tuple[Any, ...]],
        tls: ssl.SSLContext | None,
        selector: selectors.BaseSelector,
    ) -> None:
        """`addresses` are from `addresses_of`. Only https needs `tls`."""
        if endpoint.scheme == "https" and tls is None:
            raise ValueError("An https endpoint needs a context for TLS.")  # otherwise emails would go in plain text
        self.is_open = False
        """Whether it is connected. If not, SES has seen nothing of the request."""
        self.give_up_at = math.inf
        """When (`time.monotonic()`) `give_up` is to be called."""
        self._name = endpoint.hostname or ""
        self._addresses = addresses
        self._tls = tls if endpoint.scheme == "https" else None
        self._selector = selector
        self._socket: socket.socket | None = None
        self._watched = 0
        self._connect_by = 0.0
        self._untried: list[tuple[Any, ...]] = []
        self._unwritten: deque[memoryview] = deque()
        self._response: Response | None = None

    def begin(self, request: Sequence[bytes]) -> None:
        """Send a whole request, part after part; connect first, or again if SES has closed the idle connection.

        Raises: what `advance` raises.
        """
        self._unwritten.extend(map(memoryview, request))
        # An email that is written to a closed connection would have an unknown outcome. urllib3 does the same.
        if self.is_open and self._was_ended():
            self._drop_socket()
        if self.is_open:
            self._write()
        else:
            self._connect_by = time.monotonic() + CONNECT_TIMEOUT
            # Connections are spread over the zones. But the order of IPv4 and IPv6 is kept: the network may not route
            # one of them.
            families = list(dict.fromkeys(address[0] for address in self._addresses))
            self._untried = random.sample(self._addresses, len(self._addresses))
            self._untried.sort(key=lambda address: families.index(address[0]))
            self._try_next(ConnectionError(f"{self._name} has no address"))

    def advance(self) -> Response | None:
        """Go on, as far as the socket allows. Returns the response when it is complete.

        Raises:
            ssl.SSLCertVerificationError: the server cannot prove that it is SES.
            OSError: there is no connection, or if it `is_open`: it broke, and any part of the request may have arrived.
            BadResponse: what came is not HTTP, or not all of it came.
        """
        if self._socket is None:
            return None  # some selectors report reading and writing one after the other
        if not self.is_open:
            self._go_on_connecting()
            return None
        if self._response is None:
            if self._was_ended():
                self.close()
            return None
        if self._unwritten:
            self._write()
        return self._read(self._response)

    def give_up(self) -> Response | None:
        """The time of the server is over. Try its next address, if it is not connected yet. Returns the response if it
        has come after all, as it may have while this process was paused.

        Raises:
            TimeoutError: there is none.
            OSError, BadResponse: as `advance`.
        """
        if not self.is_open:
            self._drop_socket()
            self._try_next(TimeoutError())
            return None
        if self._response is None or (response := self._read(self._response)) is None:
            raise TimeoutError
        return response

    def close(self) -> None:
        """End the connection, if there is one; the next `begin` makes another."""
        self._drop_socket()
        self._unwritten.clear()
        self._response = None
        self.give_up_at = math.inf

    def _try_next(self, error: OSError) -> None:
        """One timeout for all addresses: the endpoint has one in each zone, and some may not answer."""
        while self._untried:
            now = time.monotonic()
            self.give_up_at = now + max(0.001, (self._connect_by - now) / len(self._untried))
            *kind, _, address = self._untried.pop(0)
            try:
                self._socket = socket.socket(*kind)
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if (code := self._socket.connect_ex(address)) not in (0, errno.EINPROGRESS):
                    raise OSError(code, os.strerror(code))
            except OSError as failure:
                self._drop_socket()
                error = failure
            else:
                self._watch(EVENT_WRITE)
                return
        raise error

    def _go_on_connecting(self) -> None:
        assert self._socket is not None  # noqa: S101 (for the type checker: it is watched)
        try:
            if self._tls is not None:
                if not isinstance(self._socket, ssl.SSLSocket):
                    self._check_connected()
                    self._unwatch()
                    self._socket = self._tls.wrap_socket(
                        self._socket, server_hostname=self._name, do_handshake_on_connect=False
                    )
                    self.give_up_at = self._connect_by
                self._socket.do_handshake()
            else:
                self._check_connected()
        except ssl.SSLWantReadError:
            self._watch(EVENT_READ)
        except ssl.SSLWantWriteError:
            self._watch(EVENT_WRITE)
        except ssl.SSLCertVerificationError:
            raise
        except OSError as error:
            self._drop_socket()
            self._try_next(error)
        else:
            self.is_open = True
            self._write()

    def _check_connected(self) -> None:
        assert self._socket is not None  # noqa: S101
        if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))

    def _write(self) -> None:
        assert self._socket is not None  # noqa: S101
        if self._response is None:
            self._response = Response()
            self.give_up_at = time.monotonic() + READ_TIMEOUT
        try:
            while self._unwritten:
                part = self._unwritten.popleft()
                if (written := self._socket.send(part)) < len(part):
                    self._unwritten.appendleft(part[written:])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._unwritten.appendleft(part)
            self._watch(EVENT_READ | EVENT_WRITE)
        else:
            self._watch(EVENT_READ)

    def _read(self, response: Response) -> Response | None:
        """Once, however much has come: the selector says if there is more. (A record of TLS is shorter than this.)"""
        assert self._socket is not None  # noqa: S101
        try:
            received = self._socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        if received:
            response.feed(received)
        else:
            response.feed_end()
        if not response.is_complete:
            return None
        response.drop_parser()
        self._response = None
        self.give_up_at = math.inf
        if not response.is_reusable or self._unwritten:
            self.close()
        return response

    def _was_ended(self) -> bool:
        """Whether the other side has closed the idle connection or sent what it was not asked for."""
        assert self._socket is not None  # noqa: S101
        if not is_readable(self._socket):
            return False
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False  # a message of TLS, as keys for another connection
        except OSError:
            return True
        return True

    def _watch(self, events: int) -> None:
        assert self._socket is not None  # noqa: S101
        if not self._watched:
            self._selector.register(self._socket, events, self)
        elif self._watched != events:
            self._selector.modify(self._socket, events, self)
        self._watched = events

    def _unwatch(self) -> None:
        if self._socket is not None and self._watched:
            self._selector.unregister(self._socket)
        self._watched = 0

    def _drop_socket(self) -> None:
        self._unwatch()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.is_open = False


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
