"""The ledger outlives restarts and kills; the simulator runs as a program of its own and speaks HTTP/1.1 properly."""

import email as standard_email
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.policy import SMTP
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.ses_simulator import LedgerInUseError, PortTakenError, SesSimulator
from tests.local.ses_simulator_client import get_json, http, request_to, ses_client, simple_content

ROOT = Path(__file__).parents[2]


@pytest.fixture
def simulator() -> Iterator[SesSimulator]:
    with SesSimulator(rate=None) as simulator:
        yield simulator


@contextmanager
def program(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The simulator as its own process, with its URL; killed at the end if it still runs."""
    command = [sys.executable, "-m", "local.ses_simulator", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_restart_on_the_same_path_keeps_emails_events_and_the_quota_used(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "ses.jsonl"
    with SesSimulator(ledger_path=path) as first:
        ses_client(first.url).send_email(**request_to("bounce@simulator.amazonses.com"))
        emails, events = first.accepted(), first.events()
    with SesSimulator(ledger_path=path) as second:
        assert (second.accepted(), second.events()) == (emails, events)
        client = ses_client(second.url)
        assert client.get_account()["SendQuota"]["SentLast24Hours"] == 1.0
        client.send_email(**request_to("bob@example.org"))
        assert [email.number for email in second.accepted()] == [1, 2]
        assert second.counts.accepted == 1


def test_accepted_email_survives_a_kill_of_the_program(tmp_path: Path) -> None:
    path = tmp_path / "ses.jsonl"
    with program("--ledger", str(path)) as (process, url):
        message_id = ses_client(url).send_email(**request_to("ann@example.org"))["MessageId"]
        process.send_signal(signal.SIGKILL)
        process.wait(300)
    with SesSimulator(ledger_path=path) as simulator:
        assert [email.message_id for email in simulator.accepted()] == [message_id]


def test_line_cut_off_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ses.jsonl"
    with SesSimulator(ledger_path=path) as first:
        ses_client(first.url).send_email(**request_to("ann@example.org"))
    with path.open("ab") as file:
        file.write(b'{"message_id":"0100')
    with SesSimulator(ledger_path=path) as second:
        ses_client(second.url).send_email(**request_to("bob@example.org"))
        assert [email.destination for email in second.accepted()] == [("ann@example.org",), ("bob@example.org",)]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_ledger_belongs_to_one_simulator_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "ses.jsonl"
    with SesSimulator(ledger_path=path), pytest.raises(LedgerInUseError, match=r"ses\.jsonl is in use"):
        SesSimulator(ledger_path=path)


def test_used_port_is_a_clear_error(simulator: SesSimulator) -> None:
    port = urlsplit(simulator.url).port
    assert port is not None
    with pytest.raises(PortTakenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        SesSimulator(port=port).start()


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_port_that_is_none_is_a_clear_error(port: int) -> None:
    with pytest.raises(PortTakenError, match=f"cannot listen on 127.0.0.1:{port}: a port is 0 to 65535"):
        SesSimulator(port=port).start()


def test_program_reports_a_used_port_in_one_line(simulator: SesSimulator) -> None:
    with program("--port", str(urlsplit(simulator.url).port)) as (process, url):
        assert process.wait(300) == 1
        assert process.stderr is not None
        assert (url, process.stderr.read().count("\n")) == ("", 1)


def test_program_takes_its_limits_from_the_command_line_and_ends_at_sigterm() -> None:
    with program("--rate", "3", "--quota", "7") as (process, url):
        quota = ses_client(url).get_account()["SendQuota"]
        assert (quota["MaxSendRate"], quota["Max24HourSend"]) == (3.0, 7.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0


def test_clear_forgets_everything(simulator: SesSimulator) -> None:
    client = ses_client(simulator.url)
    client.send_email(**request_to("ann@example.org"))
    simulator.add_fault("reset")
    simulator.account.sending_enabled = False
    simulator.clear()
    assert (simulator.accepted(), simulator.counts.send_requests, simulator.faults.describe()) == ([], 0, [])
    client.send_email(**request_to("bob@example.org"))
    assert [(email.number, email.to) for email in simulator.accepted()] == [(1, ("bob@example.org",))]
    assert http(simulator.url, "POST", "/_simulator/clear", {})[0].status == 204
    assert simulator.accepted() == []


def test_many_clients_at_once_are_all_in_the_ledger_once(simulator: SesSimulator) -> None:
    client = ses_client(simulator.url)
    with ThreadPoolExecutor(8) as pool:
        ids = list(
            pool.map(
                lambda number: client.send_email(**request_to(f"lead{number}@example.org"))["MessageId"], range(200)
            )
        )
    assert sorted(email.message_id for email in simulator.accepted()) == sorted(ids)
    assert len({email.destination for email in simulator.accepted()}) == 200
    counts = get_json(simulator.url, "/_simulator/counts")
    assert (counts["send_requests"], counts["accepted"], counts["operations"]) == (200, 200, {"SendEmail": 200})


def test_ledger_is_read_over_http_from_where_one_stopped(simulator: SesSimulator) -> None:
    client = ses_client(simulator.url)
    ids = [client.send_email(**request_to(f"lead{number}@example.org"))["MessageId"] for number in range(3)]
    first = get_json(simulator.url, "/_simulator/ledger?limit=2")
    assert (first["total"], first["next_after"]) == (3, 2)
    second = get_json(simulator.url, f"/_simulator/ledger?after={first['next_after']}")
    items = first["items"] + second["items"]
    assert [item["message_id"] for item in items] == ids
    assert items[0]["destination"] == {"to": ["lead0@example.org"], "cc": [], "bcc": []}
    assert items[0]["tags"] == {"scheduled_email_id": "7", "campaign_id": "c-1"}


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=0", "limit=1001"])
def test_wrong_window_is_refused(simulator: SesSimulator, query: str) -> None:
    for path in ("ledger", "events"):
        assert http(simulator.url, "GET", f"/_simulator/{path}?{query}")[0].status == 400


def test_eml_is_the_message_as_ses_would_send_it(simulator: SesSimulator) -> None:
    unsubscribe = f"<https://example.com/{'u' * 300}>"
    content = simple_content(
        [("List-Unsubscribe", unsubscribe), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")],
        Subject={"Data": "Grüße aus dem Café. " * 8 + "Ende", "Charset": "UTF-8"},
        Body={
            "Text": {"Data": "Grüße " * 400, "Charset": "UTF-8"},
            "Html": {"Data": "<p>Grüße</p>" * 400, "Charset": "UTF-8"},
        },
    )
    message_id = ses_client(simulator.url).send_email(
        **request_to(
            "=?utf-8?q?J=C3=B6rg?= <joerg@example.org>", Content=content, ReplyToAddresses=["reply@example.com"]
        )
    )["MessageId"]
    response, raw = http(simulator.url, "GET", f"/_simulator/ledger/{message_id}.eml")
    assert (response.status, response.headers["Content-Type"]) == (200, "message/rfc822")

    message = standard_email.message_from_bytes(raw, policy=SMTP)
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Subject"] == "Grüße aus dem Café. " * 8 + "Ende"
    assert message["To"].addresses[0].display_name == "Jörg"
    assert [each.addr_spec for each in message["To"].addresses] == ["joerg@example.org"]
    assert (message["Reply-To"], message["Message-ID"]) == (
        "reply@example.com",
        f"<{message_id}@email.amazonses.com>",
    )
    assert f"\r\nList-Unsubscribe: {unsubscribe}\r\n".encode() in raw
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().strip() == ("Grüße " * 400).strip()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_eml_of_an_html_only_message_has_one_part(simulator: SesSimulator) -> None:
    content = simple_content(Body={"Html": {"Data": "<p>Hi</p>"}})
    message_id = ses_client(simulator.url).send_email(**request_to("ann@example.org", Content=content))["MessageId"]
    _, raw = http(simulator.url, "GET", f"/_simulator/ledger/{message_id}.eml")
    assert standard_email.message_from_bytes(raw, policy=SMTP).get_content_type() == "text/html"


def test_eml_of_an_unknown_message_is_not_found(simulator: SesSimulator) -> None:
    assert http(simulator.url, "GET", "/_simulator/ledger/nothing.eml")[0].status == 404
    assert http(simulator.url, "GET", "/_simulator/nothing")[0].status == 404


@contextmanager
def connection_to(simulator: SesSimulator) -> Iterator[socket.socket]:
    address = urlsplit(simulator.url)
    with socket.create_connection((address.hostname, address.port), timeout=300) as connection:
        yield connection


def receive(connection: socket.socket, until: bytes | None = None, count: int = 1) -> bytes:
    """What comes back until these bytes have come that often, or until the end of the connection."""
    received = b""
    while (until is None or received.count(until) < count) and (data := connection.recv(65536)):
        received += data
    return received


GET_ACCOUNT = b"GET /v2/email/account HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_requests_on_one_connection_are_answered_in_order(simulator: SesSimulator) -> None:
    unknown = b"GET /v2/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connection_to(simulator) as connection:
        connection.sendall(GET_ACCOUNT + unknown + GET_ACCOUNT)
        received = receive(connection, until=b"HTTP/1.1 ", count=3)
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"200", b"404", b"200"]


def test_request_may_come_in_pieces_and_wait_for_continue(simulator: SesSimulator) -> None:
    body = json.dumps(request_to("ann@example.org")).encode()
    head = b"POST /v2/email/outbound-emails HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
    head += b"CONTENT-LENGTH:%d\r\n\r\n"
    with connection_to(simulator) as connection:
        connection.sendall(head[:30])
        connection.sendall(head[30:] % len(body))
        assert receive(connection, until=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body[:100])
        connection.sendall(body[100:])
        assert receive(connection, until=b"MessageId").startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(simulator.accepted()) == 1


def test_connection_close_is_honoured(simulator: SesSimulator) -> None:
    with connection_to(simulator) as connection:
        connection.sendall(GET_ACCOUNT[:-2] + b"Connection: close\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in receive(connection)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, b"431"),
    ],
)
def test_broken_http_is_refused_and_the_connection_closed(
    simulator: SesSimulator, request_bytes: bytes, status: bytes
) -> None:
    with connection_to(simulator) as connection:
        connection.sendall(request_bytes)
        assert receive(connection).startswith(b"HTTP/1.1 " + status)
