"""The inbox shows what was received, and nothing that a sender writes can act on the page."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest

from local.ses_simulator import SesSimulator
from tests.local.ses_simulator_client import http, request_to, ses_client, simple_content


@pytest.fixture
def simulator() -> Iterator[SesSimulator]:
    with SesSimulator(rate=None) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: SesSimulator) -> Any:
    return ses_client(simulator.url)


def page(simulator: SesSimulator, path: str) -> str:
    response, body = http(simulator.url, "GET", path)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    return body.decode().replace("<wbr>", "")


def shown_recipients(document: str) -> list[str]:
    return re.findall(r'<td class="to">([^<]*@[^<]*)</td>', document)


def test_empty_inbox_says_so(simulator: SesSimulator) -> None:
    assert "No message yet." in page(simulator, "/")


def test_newest_messages_come_first_and_the_rest_is_on_further_pages(simulator: SesSimulator, client: Any) -> None:
    for number in range(60):
        client.send_email(**request_to(f"lead{number:02}@example.org"))
    first = page(simulator, "/")
    assert shown_recipients(first) == [f"lead{number:02}@example.org" for number in range(59, 9, -1)]
    assert "60 messages accepted" in first
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = page(simulator, unescape(older[1]))
    assert shown_recipients(second) == [f"lead{number:02}@example.org" for number in range(9, -1, -1)]
    assert 'rel="prev"' in second
    assert 'rel="next"' not in second


def test_address_may_be_broken_where_its_parts_meet(simulator: SesSimulator, client: Any) -> None:
    client.send_email(**request_to("info@bluedoor-massage.example.com"))
    body = http(simulator.url, "GET", "/")[1].decode()
    assert "info<wbr>@bluedoor-massage<wbr>.example<wbr>.com" in body


def test_campaign_and_step_that_are_known_are_shown(simulator: SesSimulator, client: Any) -> None:
    message_id = client.send_email(**request_to("ann@example.org"))["MessageId"]
    client.send_email(**request_to("bob@example.org"))
    simulator.inbox.describe = lambda emails: {
        email.message_id: f"Spring <1>, step {len(emails)}" for email in emails if email.message_id == message_id
    }
    assert page(simulator, "/").count("Spring &lt;1&gt;, step 2") == 1
    assert "Spring &lt;1&gt;, step 1" in page(simulator, f"/messages/{message_id}")


def test_search_finds_a_recipient_in_any_case(simulator: SesSimulator, client: Any) -> None:
    for name in ("ann", "bob", "joann"):
        client.send_email(**request_to(f"{name}@example.org"))
    assert shown_recipients(page(simulator, "/?to=ANN%40")) == ["joann@example.org", "ann@example.org"]
    assert "No message to “nobody”." in page(simulator, "/?to=nobody")


@pytest.mark.parametrize("query", ["page=x", "page=-1", "page=99999999999999999999", "to=%00", "to=%22%3E%3Cscript%3E"])
def test_strange_queries_show_a_page(simulator: SesSimulator, client: Any, query: str) -> None:
    client.send_email(**request_to("ann@example.org"))
    assert "<script" not in page(simulator, f"/?{query}")


def test_message_is_answered_as_its_recipient_would(simulator: SesSimulator, client: Any) -> None:
    message_id = client.send_email(**request_to("ann@example.org"))["MessageId"]
    form = (f"/messages/{message_id}/reply", "text=Call+me")
    # Nobody takes replies yet.
    assert http(simulator.url, "POST", *form)[0].status == 404
    assert "Reply as" not in page(simulator, f"/messages/{message_id}")

    taken: list[tuple[str, str]] = []
    simulator.inbox.reply = lambda email, text: taken.append((email.message_id, text))
    assert "Reply as ann@example.org" in page(simulator, f"/messages/{message_id}")
    answer, _ = http(simulator.url, "POST", *form)
    assert (answer.status, answer.headers["Location"]) == (303, f"/messages/{message_id}?replied=yes#reply")
    assert taken == [(message_id, "Call me")]
    assert http(simulator.url, "POST", "/messages/none/reply", "text=a")[0].status == 404


def test_reply_that_is_not_taken_says_why(simulator: SesSimulator, client: Any) -> None:
    def refuse(email: Any, text: str) -> None:
        raise ValueError("<it is full>")

    message_id = client.send_email(**request_to("ann@example.org"))["MessageId"]
    simulator.inbox.reply = refuse
    answer, body = http(simulator.url, "POST", f"/messages/{message_id}/reply", "text=Call+me")
    assert answer.status == 422
    assert "It was not taken: &lt;it is full&gt;" in body.decode()


def test_message_shows_headers_text_html_and_tags(simulator: SesSimulator, client: Any) -> None:
    content = simple_content([("List-Unsubscribe", "<https://example.com/u>")])
    message_id = client.send_email(**request_to("Ann <ann@example.org>", Content=content))["MessageId"]
    document = page(simulator, f"/messages/{message_id}")
    for expected in (
        "Ann &lt;ann@example.org&gt;",
        "Acme Sales &lt;sales@example.com&gt;",
        '<th scope="row">List-Unsubscribe</th><td>&lt;https://example.com/u&gt;</td>',
        "<pre>Hello Ann</pre>",
        '<th scope="row">campaign_id</th><td>c-1</td>',
        f"/_simulator/ledger/{message_id}.eml",
    ):
        assert expected in document


def test_html_part_is_shown_in_a_frame_that_runs_nothing(simulator: SesSimulator, client: Any) -> None:
    html = '<p title="a">Hi</p><script>alert(1)</script></iframe>"'
    content = simple_content(Body={"Html": {"Data": html, "Charset": "UTF-8"}})
    message_id = client.send_email(**request_to("ann@example.org", Content=content))["MessageId"]
    document = page(simulator, f"/messages/{message_id}")
    frame = re.search(r'<iframe sandbox="([^"]*)"[^>]* srcdoc="([^"]*)"></iframe>', document)
    assert frame is not None
    assert "allow-scripts" not in frame[1]
    assert "allow-same-origin" not in frame[1]
    assert unescape(frame[2]).endswith(html)
    assert "<script" not in document


def test_nothing_that_a_sender_writes_becomes_markup(simulator: SesSimulator, client: Any) -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    content = simple_content(
        [("X-Evil", evil)], Subject={"Data": evil}, Body={"Text": {"Data": f"</pre>{evil}"}, "Html": {"Data": evil}}
    )
    message_id = client.send_email(**request_to('"<img src=x>" <ann@example.org>', Content=content))["MessageId"]
    for path in ("/", f"/messages/{message_id}"):
        assert "<img" not in page(simulator, path)


def test_pages_need_nothing_from_elsewhere(simulator: SesSimulator, client: Any) -> None:
    message_id = client.send_email(**request_to("ann@example.org"))["MessageId"]
    assert re.findall(r'(?:src|href)="(?:https?:)?//', page(simulator, f"/messages/{message_id}")) == []
    response, style = http(simulator.url, "GET", "/inbox.css")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/css")
    assert b"url(" not in style


def test_unknown_message_is_not_found_and_pages_are_read_only(simulator: SesSimulator) -> None:
    assert http(simulator.url, "GET", "/messages/nothing")[0].status == 404
    assert http(simulator.url, "GET", "/nothing")[0].status == 404
    assert http(simulator.url, "POST", "/", {})[0].status == 405


def test_encoded_words_are_shown_decoded_and_broken_ones_as_they_are(simulator: SesSimulator, client: Any) -> None:
    client.send_email(**request_to("=?utf-8?q?J=C3=B6rg?= <joerg@example.org>"))
    client.send_email(**request_to("=?nonsense?q?x?= <x@example.org>"))
    document = page(simulator, "/")
    assert "Jörg &lt;joerg@example.org&gt;" in document
    assert "=?nonsense?q?x?= &lt;x@example.org&gt;" in document


def test_tracked_message_is_shown_as_it_was_sent_and_as_it_is_delivered(simulator: SesSimulator, client: Any) -> None:
    html = '<p><a href="https://example.com/">go</a> <a ses:no-track href="https://example.com/stop">stop</a></p>'
    tracked = {"Tracking": {"OpenTrackingEnabled": "ENABLED", "ClickTrackingEnabled": "ENABLED"}}
    request = request_to("ann@example.org", Content=simple_content(Body={"Html": {"Data": html}}))
    message_id = client.send_email(**request, ConfigurationOverrides=tracked)["MessageId"]
    shown = unescape(page(simulator, f"/messages/{message_id}"))
    sent, as_delivered = shown.split("HTML as it is delivered")
    assert "opens, clicks" in sent
    assert html in sent
    assert "awstrack" not in sent
    assert '<a href="https://example.com/stop">stop</a>' in as_delivered
    assert "https%3A%2F%2Fexample.com%2F/1/" in as_delivered
    assert "/I0/" in as_delivered
