"""The one port of the local stack: takes HTTP requests and has them answered by the API Gateway or the Lambda API.

In comes HTTP/1.1, out go `HttpRequest` values to a handler, whose `HttpResponse` is sent back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from local.threaded_server import RequestHandler, ThreadedServer

MAX_BODY_BYTES = 10 * 1024 * 1024
"""https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HttpRequest:
    """`target` is undecoded; `headers` have lower-case names and come in their order, repeated ones too."""

    method: str
    target: str
    protocol: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    client: str

    @property
    def path(self) -> str:
        """The undecoded path."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str:
        """The values of a header joined by commas, or an empty string."""
        return ",".join(value for each, value in self.headers if each == name)


@dataclass(frozen=True)
class HttpResponse:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class BadRequestError(Exception):
    """The request is not valid HTTP."""


class BodyTooLargeError(Exception):
    """The body is larger than API Gateway allows."""


def http_front(port: int, handle: Callable[[HttpRequest], HttpResponse]) -> ThreadedServer:
    """A server that is ready to be started; `handle` is called from many threads.

    Raises:
        PortTakenError: something else listens on the port.
    """
    return ThreadedServer(port, functools.partial(_Front, handle))


class _Front(RequestHandler):
    def __init__(self, handle: Callable[[HttpRequest], HttpResponse], *connection: Any) -> None:
        self._handle = handle
        super().__init__(*connection)

    def answer(self) -> None:
        try:
            body = self._read_body()
        except BodyTooLargeError:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        except BadRequestError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        request = HttpRequest(
            method=self.command,
            target=self.path,
            protocol=self.request_version,
            headers=tuple((name.lower(), value.strip()) for name, value in self.headers.items()),
            body=body,
            client=self.client_address[0],
        )
        try:
            response = self._handle(request)
        except Exception:
            _log.exception("A request could not be answered")
            response = HttpResponse(
                500, b'{"message":"Internal Server Error"}', (("content-type", "application/json"),)
            )
        self.respond(response.status, list(response.headers), response.body)

    def handle_expect_100(self) -> bool:
        length = self.headers.get("Content-Length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return False
        return super().handle_expect_100()

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        message = f'{{"message":"{status.phrase}"}}'.encode()
        self.respond(status, [("Content-Type", "application/json")], message)

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(self._chunks())
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            raise BadRequestError
        if int(length) > MAX_BODY_BYTES:
            self._discard(int(length))
            raise BodyTooLargeError
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise BadRequestError
        return body

    def _chunks(self) -> list[bytes]:
        """RFC 9112, section 7.1; trailers are read and dropped."""
        chunks: list[bytes] = []
        total = 0
        while True:
            try:
                size = int(self.rfile.readline(1024).partition(b";")[0], 16)
            except ValueError:
                raise BadRequestError from None
            if size == 0:
                break
            total += size
            if total > MAX_BODY_BYTES:
                raise BodyTooLargeError
            chunks.append(self.rfile.read(size))
            self.rfile.readline(1024)
        while self.rfile.readline(1024).strip():
            pass
        return chunks

    def _discard(self, length: int) -> None:
        """A client that is still sending does not see the answer."""
        while length > 0 and (read := self.rfile.read1(min(length, 65_536))):
            length -= len(read)
