"""The simulator takes the SendEmail requests that SES takes, keeps them, and refuses the others as SES does."""

import base64
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from local.ses_simulator import SesSimulator, send_request
from tests.local.ses_simulator_client import http, request_to, ses_client, simple_content


@pytest.fixture
def simulator() -> Iterator[SesSimulator]:
    with SesSimulator(rate=None) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: SesSimulator) -> Any:
    return ses_client(simulator.url)


def test_accepted_email_is_in_the_ledger_with_all_it_was_given(simulator: SesSimulator, client: Any) -> None:
    request = request_to(
        "Ann Lee <ann@example.org>",
        Destination={
            "ToAddresses": ["Ann Lee <ann@example.org>"],
            "CcAddresses": ["c@example.org"],
            "BccAddresses": ["b@example.org"],
        },
        ReplyToAddresses=["reply@example.com"],
        Content=simple_content([("List-Unsubscribe", "<https://example.com/u>"), ("X-Twice", "1"), ("X-Twice", "2")]),
        ListManagementOptions={"ContactListName": "leads", "TopicName": "news"},
    )
    answer = client.send_email(**request)

    (email,) = simulator.accepted()
    assert email.message_id == answer["MessageId"]
    assert (email.from_address, email.subject) == ("Acme Sales <sales@example.com>", "Hello")
    assert (email.to, email.cc, email.bcc) == (("Ann Lee <ann@example.org>",), ("c@example.org",), ("b@example.org",))
    assert email.reply_to == ("reply@example.com",)
    assert (email.text, email.html) == ("Hello Ann", "<p>Hello Ann</p>")
    assert email.headers == (("List-Unsubscribe", "<https://example.com/u>"), ("X-Twice", "1"), ("X-Twice", "2"))
    assert email.header("list-unsubscribe") == "<https://example.com/u>"
    assert email.tags == {"scheduled_email_id": "7", "campaign_id": "c-1"}
    assert email.configuration_set == "sendledger"
    assert email.request == request


def test_message_ids_look_like_those_of_ses_and_differ(client: Any) -> None:
    ids = [client.send_email(**request_to("ann@example.org"))["MessageId"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"0100[0-9a-f]{12}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-000000", each) for each in ids)


def test_raw_message_is_accepted_and_can_be_read(simulator: SesSimulator, client: Any) -> None:
    raw = b"From: raw@example.com\r\nTo: ann@example.org\r\nSubject: =?utf-8?q?Caf=C3=A9?=\r\nX-A: b\r\n\r\nHello\r\n"
    client.send_email(Destination={"ToAddresses": ["ann@example.org"]}, Content={"Raw": {"Data": raw}})
    (email,) = simulator.accepted()
    assert email.raw == raw
    assert (email.from_address, email.subject, email.header("X-A")) == ("raw@example.com", "Café", "b")
    assert email.text is not None
    assert email.text.strip() == "Hello"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"FromEmailAddress": ""}, "FromEmailAddress", id="no sender"),
        pytest.param({"Destination": {"ToAddresses": []}}, "recipient", id="no recipient"),
        pytest.param({"Destination": {"ToAddresses": ["jörg@example.org"]}}, "non-ASCII", id="local part not ASCII"),
        pytest.param({"Destination": {"ToAddresses": ["ann@exämple.org"]}}, "Punycode", id="domain not ASCII"),
        pytest.param({"FromEmailAddress": "Jörg <a@example.com>"}, "encoded-words", id="sender name not ASCII"),
        pytest.param({"Destination": {"ToAddresses": ["ann"]}}, "@domain", id="no domain"),
        pytest.param({"Destination": {"ToAddresses": ["a b@example.org"]}}, "illegal", id="blank in the address"),
        pytest.param({"Destination": {"ToAddresses": ["a@x.org\r\nBcc: b@x.org"]}}, "control", id="line break"),
        pytest.param({"Destination": {"ToAddresses": ["a@x.org"] * 51}}, "50", id="51 recipients"),
        pytest.param({"ReplyToAddresses": ["nobody"]}, "@domain", id="broken Reply-To"),
        pytest.param({"Content": simple_content([("X-A", "b")] * 16)}, "15", id="16 headers"),
        pytest.param({"Content": simple_content([("X-A", "é")])}, "ASCII", id="header not ASCII"),
        pytest.param({"Content": simple_content([("X-A", "b\r\nBcc: b@x.org")])}, "ASCII", id="header injection"),
        pytest.param({"Content": simple_content([("X A", "b")])}, "name", id="blank in a header name"),
        pytest.param({"Content": simple_content([("X:A", "b")])}, "name", id="colon in a header name"),
        pytest.param({"Content": simple_content([("X-A", "b" * 994)])}, "996", id="header of 997 characters"),
        pytest.param({"Content": simple_content([("Subject", "other")])}, "Subject", id="header that SES sets"),
        pytest.param({"Content": simple_content(Subject={"Data": "a\nb"})}, "Subject", id="line break in the subject"),
        pytest.param({"Content": simple_content(Body={})}, "Body", id="no body"),
        pytest.param({"Content": {}}, "Exactly one", id="no content"),
        pytest.param({"Content": {"Raw": {"Data": b""}}}, "Raw", id="empty raw message"),
        pytest.param({"EmailTags": [{"Name": "a b", "Value": "c"}]}, "tag", id="blank in a tag name"),
        pytest.param({"EmailTags": [{"Name": "a", "Value": "c@d"}]}, "tag", id="at sign in a tag value"),
        pytest.param({"EmailTags": [{"Name": "a", "Value": "b" * 257}]}, "256", id="tag of 257 characters"),
        pytest.param({"EmailTags": [{"Name": "a", "Value": "b"}] * 2}, "Duplicate", id="tag given twice"),
    ],
)
def test_refused_email_is_a_bad_request_and_is_not_accepted(
    simulator: SesSimulator, client: Any, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(client.exceptions.BadRequestException) as refused:
        client.send_email(**request_to("ann@example.org", **changes))
    assert complaint in refused.value.response["Error"]["Message"]
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert simulator.accepted() == []
    assert (simulator.counts.send_requests, simulator.counts.rejected) == (1, 1)


def test_longest_header_and_fifteen_headers_are_accepted(client: Any) -> None:
    headers = [("X-A", "b" * 993)] + [("X-B", "c")] * 14
    assert client.send_email(**request_to("ann@example.org", Content=simple_content(headers)))["MessageId"]


@pytest.mark.parametrize(
    "body",
    ["no object", [1], {"Destination": []}, {"Content": 3}, {"EmailTags": {}}, {"Content": {"Raw": {"Data": 1}}}],
)
def test_wrong_types_are_a_bad_request(simulator: SesSimulator, body: object) -> None:
    response, answer = http(simulator.url, "POST", "/v2/email/outbound-emails", body)
    assert (response.status, response.headers["x-amzn-ErrorType"]) == (400, "BadRequestException")
    assert b"message" in answer


def test_malformed_json_is_a_bad_request(simulator: SesSimulator) -> None:
    response, _ = http(simulator.url, "POST", "/v2/email/outbound-emails", '{"Content": ')
    assert (response.status, response.headers["x-amzn-ErrorType"]) == (400, "BadRequestException")


def test_pretty_printed_request_is_one_line_of_the_ledger(simulator: SesSimulator, client: Any) -> None:
    raw = base64.b64encode(b"Subject: a\r\n\r\nb").decode()
    body = f'{{\n "Destination": {{"ToAddresses": ["a@x.org"]}},\n "Content": {{"Raw": {{"Data": "{raw}"}}}}\n}}'
    response, _ = http(simulator.url, "POST", "/v2/email/outbound-emails", body)
    assert response.status == 200
    client.send_email(**request_to("ann@example.org"))
    assert [email.destination for email in simulator.accepted()] == [("a@x.org",), ("ann@example.org",)]


def test_unknown_operation_is_an_error_of_ses(client: Any) -> None:
    with pytest.raises(ClientError) as refused:
        client.list_contact_lists()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost", 200), ("LOCALHOST:9000", 200), ("127.0.0.1:1", 200), ("[::1]:9", 200)),
        *(("attacker.example", 421), ("localhost.attacker.example", 421), ("127.0.0.1.attacker.example:80", 421)),
        *(("127.0.0.1@attacker.example", 421), ("", 421)),
    ],
)
def test_request_under_the_name_of_another_site_is_refused(simulator: SesSimulator, host: str, status: int) -> None:
    connection = HTTPConnection(urlsplit(simulator.url).netloc, timeout=300)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


FILE = {"FileName": "a.pdf", "RawContent": b"%PDF \xff", "ContentTransferEncoding": "BASE64"}


def with_file(**changes: Any) -> dict[str, Any]:
    content = simple_content()
    content["Simple"]["Attachments"] = [{name: value for name, value in {**FILE, **changes}.items() if value != ""}]
    return request_to("ann@example.org", Content=content)


def test_attachments_are_kept_as_they_were_sent(simulator: SesSimulator, client: Any) -> None:
    client.send_email(**with_file(ContentType="application/pdf"))
    client.send_email(**with_file(ContentDisposition="INLINE", ContentId="logo", FileName="l.png"))
    files = [email.attachments[0] for email in simulator.accepted()]
    assert [(file.file_name, file.content_type, file.content_id, file.content) for file in files] == [
        ("a.pdf", "application/pdf", None, b"%PDF \xff"),
        ("l.png", "application/octet-stream", "logo", b"%PDF \xff"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FileName": "setup.exe"}, "file type"),
        ({"FileName": "x" * 256}, "FileName"),
        ({"FileName": "a\r\nb.pdf"}, "FileName"),
        ({"RawContent": b""}, "RawContent"),
        ({"ContentTransferEncoding": ""}, "7-bit"),
        ({"ContentTransferEncoding": "BASE32"}, "ContentTransferEncoding"),
        ({"ContentDisposition": "SHOWN"}, "ContentDisposition"),
        ({"ContentId": "a b"}, "ContentId"),
        ({"ContentType": "x" * 79}, "ContentType"),
    ],
)
def test_attachments_that_ses_refuses_are_refused(client: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message) as refused:
        client.send_email(**with_file(**changes))
    assert refused.value.response["Error"]["Code"] == "BadRequestException"


def test_attachments_count_in_base64_to_the_size_of_a_message(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_request, "MAX_MESSAGE_BYTES", 1000)
    client.send_email(**with_file(RawContent=bytes(600)))
    with pytest.raises(ClientError, match="Message length"):
        client.send_email(**with_file(RawContent=bytes(800)))
