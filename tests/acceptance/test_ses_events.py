"""What comes back from SES, told from outside: who bounces or complains is left alone, a bad list stops a campaign."""

from __future__ import annotations

import httpx
import sqlalchemy as sa

from local.event_queue import EventQueue
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from testbed.campaigns import DAY, pass_time
from tests.acceptance.campaign_story import act, call, campaign, make_campaign, rows, statuses
from tests.acceptance.reporting_ses import box, ses, ses_events, settle

__all__ = ["ses", "ses_events"]


def test_who_bounces_or_complains_gets_nothing_more_and_the_campaign_completes(
    api: httpx.Client, stack: LocalStack, ses: SesSimulator, ses_events: EventQueue, engine: sa.Engine
) -> None:
    addresses = [box("success"), box("success+2"), box("bounce"), box("complaint"), box("suppressionlist")]
    campaign_id = make_campaign(api, addresses, [0, 1])
    act(api, campaign_id, "start")
    stack.tick()
    assert settle(ses, ses_events) == []
    assert statuses(api, campaign_id) == {"sent": 5, "pending": 2, "skipped": 3}
    assert {row["reason"] for row in rows(api, campaign_id) if row["status"] == "skipped"} == {"suppressed"}
    suppressed = call(api, "GET", "/v1/suppressions")["items"]
    assert {each["value"]: each["reason"] for each in suppressed} == {
        box("bounce"): "bounce",
        box("complaint"): "complaint",
        box("suppressionlist"): "bounce",
    }
    pass_time(engine, DAY)
    stack.tick()
    assert settle(ses, ses_events) == []
    assert campaign(api, campaign_id)["status"] == "completed"
    assert statuses(api, campaign_id) == {"sent": 7, "skipped": 3}
    assert {email.destination[0] for email in ses.accepted()[5:]} == {box("success"), box("success+2")}


def test_campaign_with_too_many_bounces_pauses_itself(
    api: httpx.Client, stack: LocalStack, ses: SesSimulator, ses_events: EventQueue
) -> None:
    addresses = [box(f"bounce+{number}") for number in range(5)] + [box(f"success+{number}") for number in range(45)]
    campaign_id = make_campaign(api, addresses, [0, 1])
    act(api, campaign_id, "start")
    stack.tick()
    assert settle(ses, ses_events) == []
    paused = campaign(api, campaign_id)
    assert paused["status"] == "paused"
    assert "of the latest 50 emails bounced" in paused["failure_reason"]
    assert statuses(api, campaign_id) == {"sent": 50, "skipped": 5, "cancelled": 45}


def test_message_that_is_no_event_ends_as_a_dead_letter_and_holds_up_nothing(
    api: httpx.Client, stack: LocalStack, ses: SesSimulator, ses_events: EventQueue
) -> None:
    ses_events.put('{"truncated": ')
    campaign_id = make_campaign(api, [box("bounce")], [0, 1])
    act(api, campaign_id, "start")
    stack.tick()
    assert settle(ses, ses_events) == ['{"truncated": ']
    assert campaign(api, campaign_id)["status"] == "completed"
