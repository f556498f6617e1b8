"""What an answer of SES means, and that a request is what boto3's own client would have sent."""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import botocore.auth
import botocore.session
import pytest

from sendledger.send_email import (
    Answer,
    OutgoingEmail,
    SesSender,
    classify,
    mailbox,
    send_email_parameters,
    ses_client,
)
from sendledger.ses_connection import READ_TIMEOUT


@pytest.mark.parametrize(
    ("code", "message", "status", "answer"),
    [
        ("TooManyRequestsException", "Maximum sending rate exceeded.", 429, Answer.SLOW_DOWN),
        ("TooManyRequestsException", "Daily message quota exceeded.", 429, Answer.STOP_FOR_A_WHILE),
        ("Throttling", "Rate exceeded", 400, Answer.SLOW_DOWN),
        ("LimitExceededException", "", 400, Answer.STOP_FOR_A_WHILE),
        ("AccountSuspendedException", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("SendingPausedException", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("ExpiredTokenException", "", 403, Answer.STOP_UNTIL_OPERATOR),
        ("SomethingNewException", "", 403, Answer.STOP_UNTIL_OPERATOR),
        ("404", "HTTP status 404", 404, Answer.STOP_UNTIL_OPERATOR),
        ("407", "HTTP status 407", 407, Answer.STOP_UNTIL_OPERATOR),
        ("MailFromDomainNotVerifiedException", "", 400, Answer.PAUSE_CAMPAIGN),
        ("NotFoundException", "Configuration set <x> does not exist.", 404, Answer.PAUSE_CAMPAIGN),
        ("MessageRejected", "Email address is not verified.", 400, Answer.PAUSE_CAMPAIGN),
        ("MessageRejected", "Content rejected", 400, Answer.FAIL_ROW),
        ("BadRequestException", "", 400, Answer.FAIL_ROW),
        ("413", "HTTP status 413", 413, Answer.FAIL_ROW),
        ("SomethingNewException", "", 429, Answer.SLOW_DOWN),
        ("408", "HTTP status 408", 408, Answer.UNKNOWN),
        ("InternalFailure", "", 500, Answer.UNKNOWN),
        ("ServiceUnavailable", "", 503, Answer.UNKNOWN),
        ("TooManyRequestsException", "Maximum sending rate exceeded.", 500, Answer.SLOW_DOWN),
        ("301", "HTTP status 301", 301, Answer.UNKNOWN),
    ],
)
def test_class_of_an_error(code: str, message: str, status: int, answer: Answer) -> None:
    assert classify(code, message, status) is answer


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann Lee <ann@example.com>", "Ann Lee <ann@example.com>"),
        ("Jörg <j@example.com>", "=?utf-8?b?SsO2cmc=?= <j@example.com>"),
        ('"Lee, Ann" <ann@example.com>', '"Lee, Ann" <ann@example.com>'),
    ],
)
def test_display_name_of_a_mailbox_is_encoded(given: str, expected: str) -> None:
    assert mailbox(given) == expected


# The request


class Captured(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def captured() -> Iterator[tuple[str, list[Captured]]]:
    """A server that keeps every request as it came, and its URL."""
    requests: list[Captured] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(Captured(self.command, self.path, dict(self.headers.items()), body))
            answer = b'{"MessageId":"0100-abc"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()
        thread.join()


def session(token: str | None = None) -> botocore.session.Session:
    created = botocore.session.get_session()
    created.set_credentials("test", "secret", token)
    created.set_config_variable("region", "eu-west-1")
    return created


def outgoing(**values: Any) -> OutgoingEmail:
    return OutgoingEmail(
        **{
            "scheduled_email_id": 1,
            "campaign_id": uuid.UUID(int=2),
            "attempt": uuid.UUID(int=3),
            "from_address": "Jörg Sales <sales@example.com>",
            "to_address": "ann@example.com",
            "reply_to_addresses": ("reply@example.com",),
            "subject": "Grüße — 你好",
            "body_text": "text €\n",
            "body_html": "<p>ä</p>",
            "headers": (("List-Unsubscribe", "<https://example.com/u/x>"),),
            **values,
        }
    )


@pytest.mark.parametrize("token", [None, "session-token"])
@pytest.mark.parametrize(
    "email",
    [outgoing(), outgoing(body_html=None, headers=(), reply_to_addresses=()), outgoing(body_text="x" * 300_000)],
    ids=["everything", "text_only", "long"],
)
def test_request_is_the_one_that_boto3_would_make(
    token: str | None,
    email: OutgoingEmail,
    captured: tuple[str, list[Captured]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, requests = captured
    now = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 (what botocore's signer works with)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    sender = SesSender(ses_client(session(token), url))
    outcome = sender.send(email, "sendledger")
    sender.close()
    assert (outcome.answer, outcome.message_id) == (Answer.SENT, "0100-abc")
    reference = session(token).create_client("sesv2", endpoint_url=url)
    reference.send_email(**send_email_parameters(email, "sendledger"))
    reference.close()
    ours, theirs = requests
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body)
    # These are not signed: how often botocore has tried, and that it can unpack.
    own = {"amz-sdk-invocation-id", "amz-sdk-request", "Accept-Encoding", "User-Agent"}
    signed_and_more = {name: value for name, value in ours.headers.items() if name != "User-Agent"}
    assert signed_and_more == {name: value for name, value in theirs.headers.items() if name not in own}
    # Powertools appends its name to what botocore says.
    assert theirs.headers["User-Agent"].startswith(ours.headers["User-Agent"])
    assert json.loads(ours.body)["EmailTags"][2] == {"Name": "attempt", "Value": str(email.attempt)}


def test_missing_credentials_stop_everything_and_nothing_is_sent(
    captured: tuple[str, list[Captured]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requests = captured
    created = session()
    client = ses_client(created, url)
    monkeypatch.setattr(client._request_signer, "_credentials", None)
    outcome = SesSender(client).send(outgoing(), None)
    assert (outcome.answer, outcome.error_code) == (Answer.STOP_UNTIL_OPERATOR, "no_credentials")
    assert requests == []


def test_unreachable_ses_proves_that_nothing_was_sent() -> None:
    outcome = SesSender(ses_client(session(), "http://127.0.0.1:9")).send(outgoing(), None)
    assert (outcome.answer, outcome.error_code) == (Answer.RETRY_LATER, "cannot_connect")


def test_client_never_repeats_a_request() -> None:
    client = ses_client(session(), "http://127.0.0.1:9")
    assert client.meta.config.retries["total_max_attempts"] == 1
    assert client.meta.config.read_timeout == READ_TIMEOUT
