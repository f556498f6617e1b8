"""The campaign that this system was made for: three steps, one day apart, once marked complete after four emails.

Told through the HTTP API and the sender's tick; days pass by moving every time in the database into the past.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from testbed.campaigns import pass_time
from tests.acceptance.campaign_story import act, call, campaign, due_times, make_campaign, rows, statuses

ADDRESSES = [f"lead{number}@example.com" for number in range(10)]
DAY = timedelta(days=1)


def test_three_steps_run_over_three_days_and_a_pause_and_only_then_the_campaign_completes(
    api: httpx.Client, stack: LocalStack, engine: sa.Engine, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(api, ADDRESSES, [0, 1, 1])
    assert campaign(api, campaign_id)["status"] == "draft"

    started = act(api, campaign_id, "start")
    assert (started["status"], started["total_leads_targeted"], started["emails_scheduled_count"]) == (
        "running",
        10,
        30,
    )
    scheduled = rows(api, campaign_id)
    assert Counter(row["workflow_step_number"] for row in scheduled) == {1: 10, 2: 10, 3: 10}
    times = {
        step: {row["scheduled_for"] for row in scheduled if row["workflow_step_number"] == step} for step in (1, 2, 3)
    }
    assert [len(each) for each in times.values()] == [1, 1, 1]

    # Day 1
    assert stack.tick()["sent"] == 10
    assert statuses(api, campaign_id) == {"sent": 10, "pending": 20}
    assert campaign(api, campaign_id)["status"] == "running"
    assert stack.tick()["sent"] == 0

    # Day 2
    pass_time(engine, DAY)
    assert stack.tick()["sent"] == 10
    assert statuses(api, campaign_id) == {"sent": 20, "pending": 10}
    assert campaign(api, campaign_id)["status"] == "running"

    # In the middle of the day somebody pauses it, for two days.
    pass_time(engine, DAY / 2)
    paused = act(api, campaign_id, "pause")
    assert (paused["status"], paused["emails_cancelled"], paused["emails_in_flight"]) == ("paused", 10, 0)
    assert statuses(api, campaign_id) == {"sent": 20, "cancelled": 10}
    before = due_times(api, campaign_id)
    pass_time(engine, 2 * DAY)
    before = {id_: due - 2 * DAY for id_, due in before.items()}
    assert stack.tick()["sent"] == 0
    assert len(ses.accepted()) == 20

    # Resumed: the same rows wait for what was left of their gap.
    resumed = act(api, campaign_id, "resume")
    assert (resumed["status"], resumed["emails_rescheduled"]) == ("running", 10)
    assert statuses(api, campaign_id) == {"sent": 20, "pending": 10}
    after = due_times(api, campaign_id)
    assert after.keys() == before.keys()
    shifts = {(after[row["id"]] - before[row["id"]]) for row in rows(api, campaign_id) if row["status"] == "pending"}
    assert all(2 * DAY <= shift < 2 * DAY + timedelta(minutes=5) for shift in shifts)
    assert stack.tick()["sent"] == 0

    # The last step, and with its last email the end.
    pass_time(engine, DAY / 2)
    summary = stack.tick()
    assert (summary["sent"], summary["campaigns_completed"]) == (10, 1)
    completed = campaign(api, campaign_id)
    assert completed["status"] == "completed"
    assert completed["completed_at"] is not None
    assert (completed["emails_sent_count"], completed["emails_failed_count"]) == (30, 0)
    assert statuses(api, campaign_id) == {"sent": 30}

    # Nothing is sent after, and nobody got anything twice.
    pass_time(engine, DAY)
    assert stack.tick()["claimed"] == 0
    received = Counter((email.to[0], email.subject.partition(" for ")[0]) for email in ses.accepted())
    assert received == {(address, f"Step {step}"): 1 for address in ADDRESSES for step in (1, 2, 3)}


def test_one_permanent_failure_is_counted_with_its_reason_and_the_campaign_completes(
    api: httpx.Client, stack: LocalStack, engine: sa.Engine, ses: SesSimulator
) -> None:
    ses.add_fault("message_rejected", address=ADDRESSES[3], message="The message contains a virus.")
    campaign_id = make_campaign(api, ADDRESSES, [0, 1, 1])
    act(api, campaign_id, "start")
    for _ in range(3):
        stack.tick()
        pass_time(engine, DAY)
    completed = campaign(api, campaign_id)
    assert completed["status"] == "completed"
    assert (completed["emails_sent_count"], completed["emails_failed_count"]) == (27, 1)
    assert statuses(api, campaign_id) == {"sent": 27, "failed": 1, "skipped": 2}
    failed = [row for row in rows(api, campaign_id) if row["status"] == "failed"]
    assert failed[0]["error_code"] == "message_rejected"
    assert failed[0]["failure_reason"]
    skipped = [row for row in rows(api, campaign_id) if row["status"] == "skipped"]
    assert {(row["lead_id"], row["reason"]) for row in skipped} == {(failed[0]["lead_id"], "previous_step_failed")}


def test_of_two_starts_at_once_one_wins_and_the_other_is_a_conflict_and_no_row_is_written_twice(
    api: httpx.Client, stack: LocalStack
) -> None:
    campaign_id = make_campaign(api, ADDRESSES, [0, 1, 1])
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: api.post(f"/v1/campaigns/{campaign_id}/start"), range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    (refused,) = (answer for answer in answers if answer.status_code == 409)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert "running" in refused.json()["detail"]
    assert statuses(api, campaign_id) == {"pending": 30}


def test_an_email_can_be_read_as_it_was_sent(api: httpx.Client, stack: LocalStack) -> None:
    campaign_id = make_campaign(api, ADDRESSES[:1], [0])
    act(api, campaign_id, "start")
    stack.tick()
    (row,) = rows(api, campaign_id)
    email = call(api, "GET", f"/v1/emails/{row['email_id']}")
    assert email["subject"] == "Step 1 for Company 0"
    assert email["body_text"].startswith("Hello Lead0\n")
    assert email["ses_message_id"] == row["ses_message_id"]


def test_an_email_that_is_due_later_can_be_sent_now(api: httpx.Client, stack: LocalStack, ses: SesSimulator) -> None:
    campaign_id = make_campaign(api, ADDRESSES[:2], [1])
    act(api, campaign_id, "start")
    wanted = rows(api, campaign_id)[0]["id"]
    call(api, "POST", f"/v1/scheduled-emails/{wanted}/send", 202)
    stack.wait_until_idle()
    assert [row["id"] for row in rows(api, campaign_id) if row["status"] == "sent"] == [wanted]
    assert len(ses.accepted()) == 1
