"""The connection to SES: whatever a server may answer is read as what it is, or known to say nothing."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sendledger.ses import connection as ses_connection
from sendledger.ses.connection import BadResponse, Response, SesConnection, addresses_of
from testbed.certificates import Authority
from testbed.ses_call import response_to

REQUEST = b"POST / HTTP/1.1\r\nHost: ses\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: 1\r\nContent-Length: 2\r\n\r\n{}"

Serve = Callable[[list[list[bytes]]], SesConnection]


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def serve(selector: selectors.BaseSelector) -> Iterator[Serve]:
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
        connection = to(f"http://127.0.0.1:{listener.getsockname()[1]}", selector)
        ended[:0] = [connection.close, lambda: listener.shutdown(socket.SHUT_RDWR), thread.join]
        return connection

    yield start
    for end in ended:
        end()


def to(url: str, selector: selectors.BaseSelector, tls: ssl.SSLContext | None = None) -> SesConnection:
    endpoint = urlsplit(url)
    return SesConnection(endpoint, addresses_of(endpoint), tls, selector)


def call(connection: SesConnection) -> Response:
    return response_to((REQUEST,), connection, connection._selector)


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

    living = serve([[OK]] * 20)
    no_way_out = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("100::1", 9, 0, 0))
    living._addresses = [*living._addresses, no_way_out, no_way_out]
    monkeypatch.setattr(socket, "socket", Recorded)
    for _ in range(20):
        assert call(living).status == 200
        living.close()
    assert tried == [socket.AF_INET] * 20


def test_https_is_not_spoken_without_tls(selector: selectors.BaseSelector) -> None:
    with pytest.raises(ValueError, match="TLS"):
        SesConnection(urlsplit("https://ses"), [], None, selector)


def test_connection_that_the_server_gives_up_is_replaced(serve: Serve) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    connection = serve([[closing], [OK]])
    assert [call(connection).status for _ in range(2)] == [200, 200]


def test_connection_that_was_closed_while_it_rested_is_replaced(serve: Serve) -> None:
    connection = serve([[OK], [OK]])
    call(connection)
    assert connection._selector.select(60)  # the server's close has arrived
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


def test_answer_that_came_while_the_process_was_paused_counts(serve: Serve) -> None:
    connection = serve([[OK]])
    connection.begin((REQUEST,))
    while not connection.is_open:
        connection._selector.select(60)
        connection.advance()
    assert connection._selector.select(60)  # the answer has come, and nobody has read it in time
    response = connection.give_up()
    assert response is not None
    assert response.status == 200


@pytest.mark.parametrize("pause", [0.1, 0.02])
def test_server_that_sends_byte_by_byte_takes_no_longer_than_a_silent_one(
    pause: float, selector: selectors.BaseSelector, monkeypatch: pytest.MonkeyPatch
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
        connection = to(f"http://127.0.0.1:{listener.getsockname()[1]}", selector)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            call(connection)
        took = time.monotonic() - began
        over.set()
        thread.join()
        connection.close()
    # All bytes would take 20 s or more.
    assert took < 15.0


# What does not fit into a socket's buffer, and TLS

LARGE = b"POST / HTTP/1.1\r\nHost: ses\r\nContent-Length: 8000000\r\n\r\n", b"x" * 5_000_000, b"y" * 3_000_000


def serve_large(listener: socket.socket, tls: ssl.SSLContext | None, received: list[bytes]) -> None:
    """Answers two requests, each after all of it has come, which takes a while."""
    peer, _ = listener.accept()
    with tls.wrap_socket(peer, server_side=True) if tls is not None else peer as stream:
        for size in (sum(map(len, LARGE)), len(REQUEST)):
            request = bytearray()
            while len(request) < size and (more := stream.recv(10_000)):
                request += more
            received.append(bytes(request))
            stream.sendall(OK)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_large_request_arrives_whole_and_the_connection_serves_the_next(
    scheme: str, selector: selectors.BaseSelector, tmp_path: Path
) -> None:
    authority = Authority("Root")
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    proving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    proving.load_cert_chain(*authority.certificate_of("localhost").write(tmp_path, "server"))
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve_large, listener, proving if scheme == "https" else None, received)
        connection = to(f"{scheme}://localhost:{listener.getsockname()[1]}", selector, trusting)
        try:
            assert response_to(LARGE, connection, selector).status == 200
            assert call(connection).status == 200
        finally:
            connection.close()
        served.result()
    assert received == [b"".join(LARGE), REQUEST]


@pytest.mark.parametrize("name", ["another-host", "localhost"])
def test_server_that_cannot_prove_that_it_is_ses_gets_no_request(
    name: str, selector: selectors.BaseSelector, tmp_path: Path
) -> None:
    trusted, other = Authority("Trusted"), Authority("Other")
    tls = ssl.create_default_context(cadata=trusted.pem.decode())
    proving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    signed_by = other if name == "localhost" else trusted
    proving.load_cert_chain(*signed_by.certificate_of(name).write(tmp_path, "server"))

    def shake_hands(listener: socket.socket) -> bytes:
        peer, _ = listener.accept()
        try:
            with proving.wrap_socket(peer, server_side=True) as stream:
                return stream.recv(1)
        except OSError:
            return b""

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        received = pool.submit(shake_hands, listener)
        connection = to(f"https://localhost:{listener.getsockname()[1]}", selector, tls)
        try:
            with pytest.raises(ssl.SSLCertVerificationError):
                call(connection)
            assert not connection.is_open
        finally:
            connection.close()
        assert received.result() == b""
