"""The simulator publishes the events that SES publishes, as EventBridge delivers them."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local.ses_simulator import AcceptedEmail, SesSimulator
from tests.local.ses_simulator_client import get_json, http, request_to, ses_client, simple_content


@pytest.fixture
def simulator() -> Iterator[SesSimulator]:
    with SesSimulator(rate=None) as simulator:
        yield simulator


def events_for(simulator: SesSimulator, address: str) -> list[dict[str, Any]]:
    ses_client(simulator.url).send_email(**request_to(address))
    return simulator.events()


@pytest.mark.parametrize(
    ("address", "event_types"),
    [
        ("ann@example.org", ["Send", "Delivery"]),
        ("success@simulator.amazonses.com", ["Send", "Delivery"]),
        ("success+1@simulator.amazonses.com", ["Send", "Delivery"]),
        ("bounce@simulator.amazonses.com", ["Send", "Bounce"]),
        ("Ann Lee <Bounce+42@simulator.amazonses.com>", ["Send", "Bounce"]),
        ("complaint+x@simulator.amazonses.com", ["Send", "Delivery", "Complaint"]),
        ("suppressionlist@simulator.amazonses.com", ["Send", "Bounce"]),
        ("ooto@simulator.amazonses.com", ["Send", "Delivery"]),
        ("bounce@example.org", ["Send", "Delivery"]),
    ],
)
def test_each_mailbox_has_its_events(simulator: SesSimulator, address: str, event_types: list[str]) -> None:
    assert [event["detail"]["eventType"] for event in events_for(simulator, address)] == event_types


def test_event_has_the_envelope_of_eventbridge(simulator: SesSimulator) -> None:
    sent, delivered = events_for(simulator, "ann@example.org")
    assert sent.keys() == {
        "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
    }  # fmt: skip
    assert (sent["version"], sent["source"], sent["region"]) == ("0", "aws.ses", "us-east-1")
    assert [sent["detail-type"], delivered["detail-type"]] == ["Email Sent", "Email Delivered"]
    assert sent["resources"] == ["arn:aws:ses:us-east-1:123456789012:configuration-set/sendledger"]
    assert sent["id"] != delivered["id"]
    assert abs((datetime.fromisoformat(sent["time"]) - datetime.now(UTC)).total_seconds()) < 60


def test_event_describes_the_mail(simulator: SesSimulator) -> None:
    client = ses_client(simulator.url)
    content = simple_content([("List-Unsubscribe", "<https://example.com/u>")])
    message_id = client.send_email(**request_to("Ann <ann@example.org>", Content=content))["MessageId"]
    sent = simulator.events()[0]["detail"]
    mail = sent["mail"]
    assert sent["send"] == {}
    assert (mail["messageId"], mail["destination"]) == (message_id, ["ann@example.org"])
    assert {"name": "List-Unsubscribe", "value": "<https://example.com/u>"} in mail["headers"]
    assert mail["commonHeaders"] == {
        "from": ["Acme Sales <sales@example.com>"],
        "to": ["Ann <ann@example.org>"],
        "messageId": message_id,
        "subject": "Hello",
    }
    assert mail["tags"]["scheduled_email_id"] == ["7"]
    assert mail["tags"]["ses:configuration-set"] == ["sendledger"]
    assert mail["tags"]["ses:from-domain"] == ["example.com"]
    assert all(isinstance(value, list) for value in mail["tags"].values())
    assert mail["timestamp"].endswith("Z")


def test_bounce_is_permanent(simulator: SesSimulator) -> None:
    bounce = events_for(simulator, "bounce@simulator.amazonses.com")[1]
    assert bounce["detail-type"] == "Email Bounced"
    assert (bounce["detail"]["bounce"]["bounceType"], bounce["detail"]["bounce"]["bounceSubType"]) == (
        "Permanent",
        "General",
    )
    (recipient,) = bounce["detail"]["bounce"]["bouncedRecipients"]
    assert (recipient["emailAddress"], recipient["status"]) == ("bounce@simulator.amazonses.com", "5.1.1")


def test_suppressed_destination_bounces_as_on_account_suppression_list(simulator: SesSimulator) -> None:
    ses_client(simulator.url).put_suppressed_destination(EmailAddress="ann@example.org", Reason="COMPLAINT")
    for address in ("suppressionlist@simulator.amazonses.com", "Ann <Ann@example.org>"):
        bounce = events_for(simulator, address)[-1]["detail"]["bounce"]
        assert (bounce["bounceType"], bounce["bounceSubType"]) == ("Permanent", "OnAccountSuppressionList")


def test_complaint_names_the_recipient_and_the_kind(simulator: SesSimulator) -> None:
    complaint = events_for(simulator, "complaint@simulator.amazonses.com")[2]
    assert complaint["detail-type"] == "Email Complaint Received"
    content = complaint["detail"]["complaint"]
    assert content["complainedRecipients"] == [{"emailAddress": "complaint@simulator.amazonses.com"}]
    assert content["complaintFeedbackType"] == "abuse"


def test_email_without_a_configuration_set_has_no_events(simulator: SesSimulator) -> None:
    request = request_to("ann@example.org")
    del request["ConfigurationSetName"]
    ses_client(simulator.url).send_email(**request)
    assert simulator.events() == []


def test_email_whose_answer_was_lost_has_its_events(simulator: SesSimulator) -> None:
    simulator.add_fault("error_500_after_accept")
    client = ses_client(simulator.url)
    with pytest.raises(client.exceptions.InternalServiceErrorException):
        client.send_email(**request_to("ann@example.org"))
    assert len(simulator.events()) == 2


def test_events_are_read_over_http_from_where_one_stopped(simulator: SesSimulator) -> None:
    client = ses_client(simulator.url)
    for number in range(3):
        client.send_email(**request_to(f"complaint+{number}@simulator.amazonses.com"))
    after, seen = 0, []
    while True:
        page = get_json(simulator.url, f"/_simulator/events?after={after}&limit=2")
        if not page["items"]:
            break
        seen += [item["event"] for item in page["items"]]
        after = page["next_after"]
    assert len(seen) == 9
    assert seen == simulator.events()


def test_sink_gets_every_event_in_order_and_outlives_its_own_failure() -> None:
    taken: list[dict[str, Any]] = []

    def sink(event: dict[str, Any]) -> None:
        if "fail@example.org" in event["detail"]["mail"]["destination"]:
            raise RuntimeError("the sink is broken")
        taken.append(event)

    with SesSimulator(rate=None, event_sink=sink) as simulator:
        client = ses_client(simulator.url)
        for address in ("a@example.org", "fail@example.org", "b@example.org"):
            client.send_email(**request_to(address))
        simulator.flush_events()
        assert [event["detail"]["mail"]["destination"][0] for event in taken] == ["a@example.org"] * 2 + [
            "b@example.org"
        ] * 2
        assert taken == [event for event in simulator.events() if event in taken]


def test_slow_sink_does_not_hold_up_sending_and_gets_the_rest_when_the_simulator_stops() -> None:
    sending_is_over, taken = threading.Event(), []

    def sink(event: dict[str, Any]) -> None:
        assert sending_is_over.wait(300)
        taken.append(event["detail"]["eventType"])

    with SesSimulator(rate=None, event_sink=sink) as simulator:
        client = ses_client(simulator.url)
        for _ in range(5):
            client.send_email(**request_to("ann@example.org"))
        sending_is_over.set()
    assert taken == ["Send", "Delivery"] * 5


def test_out_of_office_mailbox_calls_the_hook() -> None:
    replies: list[AcceptedEmail] = []
    with SesSimulator(rate=None, on_auto_reply=replies.append) as simulator:
        client = ses_client(simulator.url)
        client.send_email(**request_to("ann@example.org"))
        client.send_email(**request_to("ooto+7@simulator.amazonses.com"))
        simulator.flush_events()
        assert [email.destination for email in replies] == [("ooto+7@simulator.amazonses.com",)]


@pytest.mark.parametrize(
    ("event_type", "member"),
    [
        ("Open", "open"),
        ("Click", "click"),
        ("Reject", "reject"),
        ("DeliveryDelay", "deliveryDelay"),
        ("Rendering Failure", "failure"),
        ("Subscription", "subscription"),
        ("Bounce", "bounce"),
    ],
)
def test_any_event_can_be_scripted_over_http(simulator: SesSimulator, event_type: str, member: str) -> None:
    message_id = ses_client(simulator.url).send_email(**request_to("ann@example.org"))["MessageId"]
    script = {"message_id": message_id, "event_type": event_type, "seconds": 60, "content": {"extra": 1}}
    response, body = http(simulator.url, "POST", "/_simulator/events", script)
    assert response.status == 201
    event = simulator.events()[-1]
    assert json.loads(body)["event"] == event
    assert event["detail"]["eventType"] == event_type
    assert event["detail"][member]["extra"] == 1
    assert event["detail"]["mail"]["messageId"] == message_id


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ({"message_id": "nothing", "event_type": "Open"}, 404),
        ({"event_type": "Open"}, 404),
        ({"message_id": "", "event_type": "Teleport"}, 400),
        ({"message_id": "", "event_type": "Open", "content": 1}, 400),
        ({"message_id": "", "kind": "Open"}, 400),
    ],
)
def test_script_that_makes_no_sense_is_refused(simulator: SesSimulator, script: dict[str, Any], status: int) -> None:
    message_id = ses_client(simulator.url).send_email(**request_to("ann@example.org"))["MessageId"]
    if script.get("message_id") == "":
        script = script | {"message_id": message_id}
    assert http(simulator.url, "POST", "/_simulator/events", script)[0].status == status
    assert len(simulator.events()) == 2


def test_sink_gets_scripted_events_once_and_after_those_of_the_email() -> None:
    taken: list[str] = []
    with SesSimulator(rate=None, event_sink=lambda event: taken.append(event["detail"]["eventType"])) as simulator:
        client = ses_client(simulator.url)
        for _ in range(2):
            client.send_email(**request_to("ann@example.org"))
        simulator.flush_events()
        first, _ = simulator.accepted()
        simulator.add_event(first, "Open", 60)
        simulator.add_event(first, "Click", 61)
        simulator.flush_events()
    assert taken == ["Send", "Delivery"] * 2 + ["Open", "Click"]
