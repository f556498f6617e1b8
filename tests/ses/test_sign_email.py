"""That a request is what boto3's own client would have sent."""

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
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from sendledger.ses.answers import Answer
from sendledger.ses.attachments import AttachedFile, EncodedAttachments
from sendledger.ses.client import ses_client
from sendledger.ses.ses_sender import SesSender
from sendledger.ses.sign_email import (
    CannotSign,
    EmailSigner,
    OutgoingEmail,
    endpoint_of,
    mailbox,
    send_email_parameters,
)
from testbed.ses_call import send


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
            "claim_token": uuid.UUID(int=3),
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


def signature(client: Any, token: str | None, url: str, body: bytes) -> str:
    """What botocore's signer says of a request with this body."""
    request = AWSRequest("POST", url, {"Content-Type": "application/json"}, body)
    if token is not None:
        request.headers["X-Amz-Security-Token"] = token
    SigV4Auth(client._request_signer._credentials, "ses", "eu-west-1").add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("token", [None, "session-token"])
def test_request_with_attachments_says_what_boto3_says(
    token: str | None, captured: tuple[str, list[Captured]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requests = captured
    now = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 (as below)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    client = ses_client(session(token), url)
    files = [
        AttachedFile("Prospekt für Sie.pdf", "application/pdf", None, bytes(range(256)) * 1000),
        AttachedFile("logo.png", "image/png", "logo", b"\x89PNG"),
    ]
    email = outgoing(attachments=EncodedAttachments(files))
    signed = EmailSigner(client, "sendledger").signed(email)
    assert send(SesSender(client), signed).answer is Answer.SENT
    parameters = send_email_parameters(email, "sendledger")
    parameters["Content"]["Simple"]["Attachments"] = [file.parameters() for file in files]
    reference = session(token).create_client("sesv2", endpoint_url=url)
    reference.send_email(**parameters)
    reference.close()
    ours, theirs = requests
    assert json.loads(ours.body) == json.loads(theirs.body)
    assert ours.headers["Authorization"] == signature(client, token, f"{url}{ours.path}", ours.body)


@pytest.mark.parametrize("token", [None, "session-token"])
def test_requests_equal_those_of_boto3(
    token: str | None, captured: tuple[str, list[Captured]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requests = captured
    now = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 (what botocore's signer works with)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    client = ses_client(session(token), url)
    signer, sender = EmailSigner(client, "sendledger"), SesSender(client)
    reference = session(token).create_client("sesv2", endpoint_url=url)
    for email in (
        outgoing(),
        outgoing(body_html=None, headers=(), reply_to_addresses=()),
        outgoing(body_text="x" * 300_000, claim_token=uuid.UUID(int=4)),
    ):
        outcome = send(sender, signer.signed(email))
        assert (outcome.answer, outcome.message_id) == (Answer.SENT, "0100-abc")
        reference.send_email(**send_email_parameters(email, "sendledger"))
        ours, theirs = requests
        requests.clear()
        assert (ours.method, ours.path) == (theirs.method, theirs.path)
        assert json.loads(ours.body) == json.loads(theirs.body)
        assert ours.headers["Authorization"] == signature(client, token, f"{url}{ours.path}", ours.body)
        assert theirs.headers["Authorization"] == signature(client, token, f"{url}{theirs.path}", theirs.body)
        # The body has no blanks, so that its length and signature differ.
        of_body = {"Content-Length", "Authorization", "User-Agent"}
        # These are not signed: how often botocore has tried, and that it can unpack.
        own = {"amz-sdk-invocation-id", "amz-sdk-request", "Accept-Encoding", *of_body}
        rest = {name: value for name, value in ours.headers.items() if name not in of_body}
        assert rest == {name: value for name, value in theirs.headers.items() if name not in own}
        # Powertools appends its name to what botocore says.
        assert theirs.headers["User-Agent"].startswith(ours.headers["User-Agent"])
        assert json.loads(ours.body)["EmailTags"][2] == {"Name": "claim_token", "Value": str(email.claim_token)}
    reference.close()


def test_time_and_credentials_of_a_request_are_those_of_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    created = session("first")
    signer = EmailSigner(ses_client(created, "http://127.0.0.1:9"), None)
    now = 1_000_000_000.9
    monkeypatch.setattr("sendledger.ses.sign_email.time.time", lambda: now)
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda: dt.datetime.fromtimestamp(now, dt.UTC).replace(tzinfo=None)
    )
    before = b"".join(signer.signed(outgoing()))
    created.get_credentials().token = "second"
    assert b"".join(signer.signed(outgoing())) == before
    now += 0.1
    after = b"".join(signer.signed(outgoing()))
    for request, second, token in ((before, b"40", b"first"), (after, b"41", b"second")):
        assert b"\r\nX-Amz-Date: 20010909T0146%bZ\r\n" % second in request
        assert b"\r\nX-Amz-Security-Token: %b\r\n" % token in request


@pytest.mark.parametrize(
    ("dual_stack", "host"), [("true", "email.eu-west-1.api.aws"), ("false", "email.eu-west-1.amazonaws.com")]
)
def test_in_a_network_with_ipv6_requests_go_to_the_name_that_has_both_kinds_of_addresses(
    monkeypatch: pytest.MonkeyPatch, dual_stack: str, host: str
) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", dual_stack)
    created = session()
    created.set_config_variable("region", "eu-west-1")
    client = ses_client(created)
    assert endpoint_of(client).hostname == host
    assert f"\r\nHost: {host}\r\n".encode() in b"".join(EmailSigner(client, None).signed(outgoing()))


def test_without_credentials_there_is_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ses_client(session(), "http://127.0.0.1:9")
    monkeypatch.setattr(client._request_signer, "_credentials", None)
    with pytest.raises(CannotSign) as caught:
        EmailSigner(client, None).signed(outgoing())
    assert caught.value.permanent


def test_credentials_that_cannot_be_had_now_are_no_fault_of_the_email(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ses_client(session(), "http://127.0.0.1:9")

    def expired(*args: Any) -> None:
        raise RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")

    monkeypatch.setattr(client._request_signer, "get_auth_instance", expired)
    with pytest.raises(CannotSign, match="still expired") as caught:
        EmailSigner(client, None).signed(outgoing())
    assert not caught.value.permanent
