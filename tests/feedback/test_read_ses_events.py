"""Events of SES are read strictly where it matters and tolerantly where it does not."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.feedback.read_ses_events import MAX_BYTES, Effect, Ignored, SesEvent, UnreadableEvent, read_ses_event
from testbed.ses_events import ACCOUNT, FOLDER, PERSON, TYPES, documented, member

CONFIGURATION_SET = "ConfigSet"
TAGS = {"scheduled_email_id": ["7"], "campaign_id": [str(uuid.UUID(int=1))], "claim_token": [str(uuid.UUID(int=2))]}


def event(type_: str, **content: Any) -> Any:
    """The documented event with our tags; `content` goes into the object of its type."""
    changed = documented(type_)
    tags = {"ses:configuration-set": [CONFIGURATION_SET], **TAGS}
    mail = {"timestamp": "2017-08-05T00:40:02.012Z", "sendingAccountId": ACCOUNT, "tags": tags}
    changed["detail"]["mail"] = {**changed["detail"]["mail"], **mail}
    changed["detail"][member(type_)] = {**(changed["detail"].get(member(type_)) or {}), **content}
    return changed


def read(document: Any) -> SesEvent | Ignored:
    return read_ses_event(json.dumps(document), ACCOUNT, CONFIGURATION_SET)


def read_one(type_: str, **content: Any) -> SesEvent:
    found = read(event(type_, **content))
    assert isinstance(found, SesEvent)
    return found


def test_there_is_a_documented_event_of_every_type() -> None:
    assert {f"ses_{name}.json" for name in TYPES.values()} == {path.name for path in FOLDER.glob("ses_*.json")}


@pytest.mark.parametrize("type_", TYPES)
def test_every_documented_event_is_read(type_: str) -> None:
    found = read_one(type_)
    assert found.type == type_
    assert found.message_id.startswith("EXAMPLE")
    assert "@example.com" in found.recipient
    assert (found.scheduled_email_id, found.campaign_id, found.claim_token) == (7, uuid.UUID(int=1), uuid.UUID(int=2))


@pytest.mark.parametrize("type_", TYPES)
def test_nothing_that_is_kept_names_a_person(type_: str) -> None:
    kept = json.dumps(read_one(type_).detail)
    assert "@" not in kept
    assert "192.0.2" not in kept


def test_time_is_that_of_the_event_and_else_that_of_the_mail() -> None:
    assert read_one("Bounce").occurred_at == dt.datetime(2017, 8, 5, 0, 41, 2, 669000, dt.UTC)
    assert read_one("Send").occurred_at == dt.datetime(2017, 8, 5, 0, 40, 2, 12000, dt.UTC)


@pytest.mark.parametrize(
    ("type_", "content", "effect"),
    [
        ("Bounce", {}, Effect.HARD_BOUNCE),
        ("Bounce", {"bounceSubType": "OnAccountSuppressionList"}, Effect.HARD_BOUNCE),
        ("Bounce", {"bounceType": "Transient"}, Effect.SOFT_BOUNCE),
        ("Bounce", {"bounceType": "Undetermined"}, None),
        ("Bounce", {"bounceType": "SomethingNew"}, None),
        ("Complaint", {}, Effect.COMPLAINT),
        ("Complaint", {"complaintFeedbackType": None}, Effect.COMPLAINT),
        ("Complaint", {"complaintFeedbackType": "not-spam"}, None),
        ("Subscription", {}, Effect.OPT_OUT),
        ("Subscription", {"newTopicPreferences": {"unsubscribeAll": False}}, None),
        (
            "Subscription",
            {
                "newTopicPreferences": {
                    "unsubscribeAll": False,
                    "topicSubscriptionStatus": [{"topicName": "News", "subscriptionStatus": "OptOut"}],
                }
            },
            Effect.OPT_OUT,
        ),
        ("Delivery", {}, None),
        ("Click", {}, None),
    ],
)
def test_effect_on_the_address(type_: str, content: dict[str, Any], effect: Effect | None) -> None:
    assert read_one(type_, **content).effect is effect


@pytest.mark.parametrize(
    ("user_agent", "seconds", "machine"),
    [
        (PERSON, 60, None),
        (PERSON, 3, "too_soon"),
        ("Mozilla/5.0", 60, "apple_privacy"),
        (
            "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            3 * 3600,
            None,
        ),
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", 4, "too_soon"),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", 60, None),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", 2, "too_soon"),
        ("Mozilla/5.0 (Linux; Android 11; CUBOT P50) AppleWebKit/537.36 Chrome/90.0 Mobile Safari/537.36", 60, None),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT) AppleWebKit/537.36 Chrome/90.0 Mobile Safari/537.36", 60, None),
        ("Mozilla/5.0 (Linux; Android 12; M bot 60) AppleWebKit/537.36 Chrome/90.0 Mobile Safari/537.36", 60, None),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 60, "scanner"),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", 60, "scanner"),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", 60, "scanner"),
        ("TelegramBot (like TwitterBot)", 60, "scanner"),
        ("python-requests/2.32", 60, "scanner"),
        ("", 60, "scanner"),
        (None, 60, "scanner"),
    ],
)
@pytest.mark.parametrize("type_", ["Open", "Click"])
def test_opens_and_clicks_of_machines_are_marked(
    type_: str, user_agent: str | None, seconds: int, machine: str | None
) -> None:
    at = dt.datetime(2017, 8, 5, 0, 40, 2, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    found = read_one(type_, userAgent=user_agent, timestamp=at.isoformat())
    assert found.detail.get("machine") == machine
    assert found.counts is (machine is None)


def test_link_is_stored_without_query_and_fragment() -> None:
    found = read_one("Click", link="https://example.com/offer?to=ann@example.com#ann")
    assert found.detail["link"] == "https://example.com/offer"


def test_addresses_in_answers_of_mail_servers_are_blacked_out() -> None:
    recipient = {"emailAddress": "ann@example.com", "diagnosticCode": "smtp; 550 <ann@example.com>: unknown"}
    assert read_one("Bounce", bouncedRecipients=[recipient]).detail["diagnostic_code"] == (
        "smtp; 550 <(address)>: unknown"
    )


@pytest.mark.parametrize("text", ["a" * 200_000, "a@" * 100_000, "@" * 200_000, "<a" * 100_000, " a@b" * 50_000])
def test_long_answer_of_a_mail_server_is_read_quickly(text: str) -> None:
    recipient = {"emailAddress": "ann@example.com", "diagnosticCode": text}
    started = time.process_time()
    kept = read_one("Bounce", bouncedRecipients=[recipient]).detail["diagnostic_code"]
    assert time.process_time() - started < 0.5
    assert len(str(kept)) <= 500


def test_same_event_under_another_eventbridge_id_has_the_same_key() -> None:
    again = event("Bounce") | {"id": "another", "time": "2030-01-01T00:00:00Z"}
    found = read(again)
    assert isinstance(found, SesEvent)
    assert found.key == read_one("Bounce").key


@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("Bounce", {"feedbackId": "another"}),
        ("Click", {"link": "https://example.com/another"}),
        ("Open", {"ipAddress": "198.51.100.1"}),
        ("Open", {"timestamp": "2017-08-09T22:00:19.653Z"}),
    ],
)
def test_other_events_of_the_same_email_have_other_keys(type_: str, content: dict[str, Any]) -> None:
    assert read_one(type_, **content).key != read_one(type_).key


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("source",), "my.app", "other_source"),
        (("account",), "999999999999", "other_account"),
        (("detail", "mail", "sendingAccountId"), "999999999999", "other_account"),
        (("detail", "eventType"), "Teleported", "unknown_type"),
        (("detail", "eventType"), ["Bounce"], "unknown_type"),
        (("detail", "mail", "tags", "ses:configuration-set"), ["other"], "other_configuration_set"),
        (("detail", "mail", "tags"), None, "other_configuration_set"),
        (("detail", "mail", "destination"), ["a@example.com", "b@example.com"], "not_ours"),
    ],
)
def test_events_of_others_are_ignored(path: tuple[str, ...], value: Any, reason: str) -> None:
    document = event("Bounce")
    *parents, last = path
    target = document
    for name in parents:
        target = target[name]
    target[last] = value
    assert read(document) == Ignored(reason)


@pytest.mark.parametrize(
    "tags",
    [
        {"scheduled_email_id": ["9" * 30], "campaign_id": ["c-1"], "claim_token": [""]},
        {"scheduled_email_id": "7", "campaign_id": [1], "claim_token": ["a", "b"]},
        {"scheduled_email_id": ["-7"]},
    ],
)
def test_tags_that_are_not_ours_are_no_tags(tags: dict[str, Any]) -> None:
    document = event("Bounce")
    document["detail"]["mail"]["tags"] = {"ses:configuration-set": [CONFIGURATION_SET], **tags}
    found = read(document)
    assert isinstance(found, SesEvent)
    assert (found.scheduled_email_id, found.campaign_id, found.claim_token) == (None, None, None)


def test_tag_of_emails_from_before_it_was_renamed_is_read() -> None:
    document = event("Bounce")
    tags = document["detail"]["mail"]["tags"]
    tags["attempt"] = tags.pop("claim_token")
    found = read(document)
    assert isinstance(found, SesEvent)
    assert found.claim_token == uuid.UUID(int=2)


def test_unknown_fields_are_passed_over() -> None:
    document = event("Bounce", somethingNew={"a": [1, None]}) | {"replay-name": "again"}
    found = read(document)
    assert isinstance(found, SesEvent)
    assert found.key == read_one("Bounce").key


TEXT = json.dumps(event("Bounce"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="list"),
        pytest.param(TEXT[:-1], id="truncated"),
        pytest.param(TEXT[:500], id="cut in the middle"),
        pytest.param(TEXT + TEXT, id="two in one"),
        pytest.param("[" * 100_000, id="nested and truncated"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="nested deeply"),
        pytest.param('{"x":' * 50_000 + "1" + "}" * 50_000, id="objects nested deeply"),
        pytest.param(TEXT.replace('"detail"', '"more": ' + "[" * 50 + "]" * 50 + ', "detail"', 1), id="nested in part"),
        pytest.param(TEXT[:-1] + ', "x": "' + "x" * MAX_BYTES + '"}', id="oversized"),
        pytest.param(TEXT[:-1] + ', "x": "' + "ü" * (MAX_BYTES // 2) + '"}', id="oversized in bytes"),
        pytest.param(TEXT[:-1] + ', "x": ' + "9" * 10_000 + "}", id="endless number"),
        pytest.param(json.dumps(event("Bounce") | {"detail": "x"}), id="detail is a text"),
        pytest.param(json.dumps(event("Bounce", timestamp="yesterday")), id="no time"),
        pytest.param(json.dumps(event("Bounce", timestamp="2017-08-05T00:40:02")), id="time without zone"),
        pytest.param(json.dumps(event("Bounce", timestamp=7)), id="time is a number"),
        pytest.param(TEXT.replace("EXAMPLE7c", "EXAMPLE\\u00007c"), id="NUL in the message id"),
        pytest.param(TEXT.replace('"messageId"', '"no"'), id="no message id"),
    ],
)
def test_text_that_is_no_event_is_refused(body: str) -> None:
    with pytest.raises(UnreadableEvent):
        read_ses_event(body, ACCOUNT, CONFIGURATION_SET)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(TYPES)), st.data())
def test_whatever_a_field_holds_it_is_read_or_refused(type_: str, data: st.DataObject) -> None:
    document = event(type_)
    part = data.draw(st.sampled_from([document, document["detail"], document["detail"]["mail"], content_of(document)]))
    if part:
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    try:
        found = read(document)
    except UnreadableEvent:
        return
    if isinstance(found, SesEvent):
        kept = json.dumps(dict(found.detail), ensure_ascii=False)
        kept.encode()  # no half of a surrogate pair
        assert "\x00" not in kept
        assert "\\u0000" not in kept


def content_of(document: Any) -> Any:
    return document["detail"][member(document["detail"]["eventType"])]
