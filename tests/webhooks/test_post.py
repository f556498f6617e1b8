"""Posting to one address: only to public ones, for 10 seconds at most, and never after a redirect."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sendledger.webhooks import post
from sendledger.webhooks.post import Answered, EndpointConnection
from sendledger.webhooks.targets import is_public
from testbed.webhook_receiver import WebhookReceiver

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.1.2.3", "224.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fd00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_address_inside_of_a_network_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.fixture
def connection() -> Iterator[EndpointConnection]:
    opened = EndpointConnection(any_target=True)
    yield opened
    opened.close()


def send(connection: EndpointConnection, url: str) -> Answered:
    return connection.post(url, {"webhook-id": "evt_1"}, '{"type":"webhook.test"}')


def test_name_that_leads_into_the_network_is_not_connected_to(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is of the address that is connected to: what the name led to before does not matter."""
    port = int(receiver.url.rsplit(":", 1)[1].split("/")[0])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    answered = send(EndpointConnection(any_target=False), f"https://rebound.example:{port}/")
    assert (answered.outcome, "public address" in answered.text) == ("failed", True)
    assert not receiver.arrived.is_set()


def test_http_is_refused_on_the_internet() -> None:
    answered = send(EndpointConnection(any_target=False), "http://1.1.1.1/")
    assert (answered.outcome, "https" in answered.text) == ("failed", True)


def test_redirect_is_a_failure_and_not_followed(receiver: WebhookReceiver, connection: EndpointConnection) -> None:
    with WebhookReceiver() as other:
        receiver.status, receiver.headers = 302, {"Location": other.url}
        assert send(connection, receiver.url)[:2] == ("failed", 302)
        assert not other.arrived.is_set()


def test_connection_is_used_again(receiver: WebhookReceiver, connection: EndpointConnection) -> None:
    opened = []
    connect = connection._connect
    connection._connect = lambda *given: opened.append(1) or connect(*given)  # type: ignore[func-returns-value,method-assign]
    for _ in range(3):
        assert send(connection, receiver.url).outcome == "delivered"
    assert len(opened) == 1


class Raw:
    """A server that answers bytes as they are, part by part, and then closes or waits."""

    def __init__(self, parts: list[bytes], *, closes: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._done = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve, args=(parts, closes))
        self._thread.start()

    def _serve(self, parts: list[bytes], closes: bool) -> None:
        with self._listener:
            opened, _ = self._listener.accept()
            with opened:
                opened.recv(65_536)
                try:
                    for part in parts:
                        opened.sendall(part)
                        if not closes and self._done.wait(0.05):
                            return
                    if not closes:
                        self._done.wait()
                except OSError:
                    return

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


@pytest.mark.parametrize(
    ("parts", "closes", "expected"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], True, ("delivered", 200, "ok")),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n\r\n\x00more"], True, ("delivered", 200, "ok")),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"],
            True,
            ("delivered", 200, "ok"),
        ),
        ([b"HTTP/1.1 200 OK\r\n\r\nuntil the end"], True, ("delivered", 200, "until the end")),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"], True, ("delivered", 204, "")),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\x00"], True, ("delivered", 200, "\ufffd")),
        (
            [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
            True,
            ("failed", None, "it answered 101: it wants to speak something else than HTTP."),
        ),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"\xff" * 2000],
            True,
            ("delivered", 200, "\ufffd" * 341),  # 1 KB as UTF-8
        ),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], True, ("failed", None, "what came back is not HTTP.")),
        ([], True, ("failed", None, "the connection was closed without an answer.")),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", *[b"x" * 1000] * 80],
            True,
            ("delivered", 200, None),
        ),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X-Y: " + b"z" * 1000 + b"\r\n"] * 80], True, ("failed", None, None)),
    ],
)
def test_every_answer_is_a_result(
    connection: EndpointConnection, parts: list[bytes], closes: bool, expected: tuple[Any, ...]
) -> None:
    server = Raw(parts, closes=closes)
    try:
        answered = send(connection, server.url)
    finally:
        server.stop()
    assert answered[:2] == expected[:2], answered
    assert expected[2] is None or answered.text == expected[2]


@pytest.mark.parametrize("parts", [[], [b"HTTP/1.1 200 OK\r\n"], [bytes([byte]) for byte in b"HTTP/1.1 200 OK"]])
def test_receiver_that_drips_bytes_gets_no_more_time_than_a_silent_one(
    connection: EndpointConnection, parts: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "ANSWER_SECONDS", 0.3)
    server = Raw(parts, closes=False)
    try:
        answered = send(connection, server.url)
    finally:
        server.stop()
    assert (answered.outcome, "within" in answered.text) == ("failed", True)


def test_nobody_who_listens_is_a_failure(connection: EndpointConnection) -> None:
    assert send(connection, "http://127.0.0.1:1/").outcome == "failed"


def test_name_servers_that_do_not_answer_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, threads = threading.Event(), []

    def never(*given: object, **options: object) -> list[object]:
        threads.append(threading.current_thread())
        answers.wait(300)
        return []

    monkeypatch.setattr(post, "LOOK_UP_SECONDS", 0.05)
    monkeypatch.setattr("socket.getaddrinfo", never)
    connection = EndpointConnection(any_target=False)
    answered = connection.post("https://example.com/", {}, "{}")
    assert (answered.outcome, answered.text) == ("failed", "Its name servers have not answered in time.")
    answers.set()
    threads[0].join()
