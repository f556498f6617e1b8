"""The connection to SES: whatever a server may answer is read as what it is, or known to say nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from sendledger.ses import connection
from sendledger.ses import connection as ses_connection
from sendledger.ses.connection import BadResponse, SesConnection, addresses_of

REQUEST = b"POST / HTTP/1.1\r\nHost: ses\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: 1\r\nContent-Length: 2\r\n\r\n{}"

Serve = Callable[[list[list[bytes]]], SesConnection]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Gives a connection to a server that answers the requests of one connection after the other with these pieces,
    and closes each connection after its last one."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended: list[Callable[[], object]] = [listener.close]

    def start(connections: list[list[bytes]]) -> SesConnection:
        def run() -> None:
            with contextlib.suppress(OSError):  # the test is over
                for answers in connections:
                    peer, _ = listener.accept()
                    with peer:
                        for answer in answers:
                            peer.recv(65536)
                            peer.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        connection = to(f"http://127.0.0.1:{listener.getsockname()[1]}")
        ended[:0] = [connection.close, lambda: listener.shutdown(socket.SHUT_RDWR), thread.join]
        return connection

    yield start
    for end in ended:
        end()


def to(url: str) -> SesConnection:
    endpoint = urlsplit(url)
    return SesConnection(endpoint, addresses_of(endpoint), ssl.create_default_context())


def call(connection: SesConnection) -> connection.Response:
    connection.open()
    connection.write((REQUEST,))
    return connection.read()


def test_one_connection_serves_many_requests(serve: Serve) -> None:
    connection = serve([[OK, OK]])
    assert [call(connection).status for _ in range(2)] == [200, 200]


def test_response_has_its_headers_and_body(serve: Serve) -> None:
    response = call(serve([[OK]]))
    assert (response.headers[0], response.body) == (("X-Amzn-RequestId", "1"), b"{}")


def test_endpoint_with_a_dead_address_is_reached_at_another(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = serve([[OK]])
    # Its backlog is full: whoever connects to it waits.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as dead, socket.create_connection(dead.getsockname()):
        (*stream, living) = connection._addresses[0]
        connection._addresses = [(*stream, dead.getsockname()), (*stream, living)]
        monkeypatch.setattr(random, "sample", lambda addresses, count: addresses)
        monkeypatch.setattr(ses_connection, "CONNECT_TIMEOUT", 1.0)
        assert call(connection).status == 200


def test_preferred_of_ipv4_and_ipv6_is_tried_first(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no way out for the other one, and each attempt would take its part of the time."""
    tried = []

    class Recorded(socket.socket):
        def __init__(self, *kind: int, **options: object) -> None:
            if "fileno" not in options:  # not one that the server has accepted
                tried.append(kind[0])
            super().__init__(*kind, **options)  # type: ignore[arg-type]

    (good,) = serve([[]] * 20)._addresses
    no_way_out = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("100::1", 9, 0, 0))
    monkeypatch.setattr(socket, "socket", Recorded)
    tls = ssl.create_default_context()
    for _ in range(20):
        opened = SesConnection(urlsplit("http://ses"), [good, no_way_out, no_way_out], tls)
        opened.open()
        opened.close()
    assert tried == [socket.AF_INET] * 20


def test_https_is_not_spoken_without_tls() -> None:
    with pytest.raises(ValueError, match="TLS"):
        SesConnection(urlsplit("https://ses"), [], None)


def test_connection_that_the_server_gives_up_is_replaced(serve: Serve) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    connection = serve([[closing], [OK]])
    assert [call(connection).status for _ in range(2)] == [200, 200]


def test_connection_that_was_closed_while_it_rested_is_replaced(serve: Serve) -> None:
    connection = serve([[OK], [OK]])
    call(connection)
    assert connection._socket is not None
    connection._socket.recv(1, socket.MSG_PEEK)  # until the server's close has arrived
    assert call(connection).status == 200


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, b"{}"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", 200, b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{", 200, b"{"),
        (OK + b"more than was asked for", 200, b"{}"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", 429, b""),
    ],
    ids=["interim", "chunked", "ended_by_closing", "accepted_and_cut_off", "with_garbage_behind", "error"],
)
def test_answer_is_read_with_its_status_and_body(serve: Serve, answer: bytes, status: int, body: bytes) -> None:
    response = call(serve([[answer]]))
    assert (response.status, response.body) == (status, body)


def test_data_after_an_answer_is_not_read_as_the_next_one(serve: Serve) -> None:
    connection = serve([[OK + b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"], [OK]])
    assert [call(connection).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 400 Bad\r\nContent-Length: 30\r\n\r\n{",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 101 U\r\n\r\n",
    ],
    ids=["nothing", "half_a_status", "half_an_error", "not_http", "another_protocol"],
)
def test_incomplete_answer_proves_nothing(serve: Serve, answer: bytes) -> None:
    connection = serve([[answer]])
    with pytest.raises(BadResponse):
        call(connection)


@pytest.mark.parametrize("pause", [0.1, 0.02])
def test_server_that_sends_byte_by_byte_takes_no_longer_than_a_silent_one(
    pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses_connection, "READ_TIMEOUT", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                    if over.wait(pause):
                        return
                    peer.sendall(bytes([byte]))

        thread = threading.Thread(target=drip)
        thread.start()
        connection = to(f"http://127.0.0.1:{listener.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            call(connection)
        took = time.monotonic() - began
        over.set()
        thread.join()
        connection.close()
    # All bytes would take 20 s or more.
    assert took < 15.0
