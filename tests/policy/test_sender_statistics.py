"""The statistics of a campaign say of each sender what it sent and what came of it."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns import campaign_counts, lifecycle
from sendledger.campaigns.campaigns import get_campaign
from sendledger.policy import sender_addresses
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, make_variants, make_workflow
from tests.policy.conftest import MakeSender

SECONDS = 60.0


def started(engine: sa.Engine, senders: list[uuid.UUID], leads: int, **values: Any) -> uuid.UUID:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, leads, [NO_DELAY, DAY], sender_ids=senders, **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def by_sender(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[uuid.UUID, dict[str, Any]]:
    with engine.begin() as connection:
        stats = campaign_counts.campaign_stats(connection, get_campaign(connection, campaign_id))
    found = {each["sender_id"]: each for each in stats["by_sender"]}
    for status, count in stats["by_status"].items():
        assert sum(each["by_status"][status] for each in found.values()) == count
    for name, count in stats["funnel"].items():
        assert sum(each["funnel"][name] or 0 for each in found.values()) == (count or 0)
    return found


def test_emails_are_counted_for_the_sender_that_sends_them(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    ann, bob = make_sender("ann", 2), make_sender("bob")
    campaign_id = started(engine, [bob, ann], 7)
    send_due_emails(resources, SECONDS)
    found = by_sender(engine, campaign_id)
    assert list(found) == [bob, ann]
    nothing = {"sending": 0, "failed": 0, "skipped": 0, "cancelled": 0}
    assert {id_: each["by_status"] for id_, each in found.items()} == {
        bob: {"pending": 4, "sent": 4} | nothing,
        ann: {"pending": 4, "sent": 2} | nothing,
    }
    assert {id_: (each["sent_today"], each["cap_today"]) for id_, each in found.items()} == {
        bob: (4, None),
        ann: (2, 2),
    }


def test_what_came_back_counts_for_the_sender_and_what_is_not_tracked_is_not_known(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    ann, bob = make_sender("ann"), make_sender("bob")
    campaign_id = started(engine, [ann, bob], 8, track_opens=True)
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        of_ann = connection.execute(
            sa.text(
                "SELECT email_id, lead_id FROM scheduled_emails WHERE sender_id = :ann AND status = 'sent' ORDER BY id"
            ),
            {"ann": ann},
        ).all()
        changes = ("delivered_at = now(), opened_at = now()", "delivered_at = now()", "bounced_at = now()")
        for (email_id, _), change in zip(of_ann, changes, strict=False):
            connection.execute(sa.text(f"UPDATE emails SET {change} WHERE id = :id"), {"id": email_id})
        connection.execute(
            sa.text("UPDATE emails SET delivery_status = 'complained' WHERE id = :id"), {"id": of_ann[1].email_id}
        )
    with engine.begin() as connection:
        stats = campaign_counts.campaign_stats(connection, get_campaign(connection, campaign_id))
    of_ann_, of_bob = stats["by_sender"]
    assert of_ann_["funnel"] == {
        "sent": 4,
        "delivered": 2,
        "opened": 1,
        "clicked": None,
        "replied": 0,
        "bounced": 1,
        "soft_bounced": 0,
        "complained": 1,
        "unsubscribed": 0,
    }
    assert (of_ann_["rates"]["delivered"], of_ann_["rates"]["clicked"]) == (0.5, None)
    assert (of_bob["funnel"]["sent"], of_bob["funnel"]["delivered"], of_bob["funnel"]["opened"]) == (4, 0, 0)


def test_sent_today_counts_all_campaigns_of_a_sender(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    ann = make_sender("ann")
    first, second = started(engine, [ann], 2), started(engine, [ann], 3)
    send_due_emails(resources, SECONDS)
    of_first, of_second = by_sender(engine, first)[ann], by_sender(engine, second)[ann]
    assert (of_first["by_status"]["sent"], of_second["by_status"]["sent"]) == (2, 3)
    assert (of_first["sent_today"], of_second["sent_today"]) == (5, 5)


def test_variants_and_senders_are_counted_in_one_pass(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    ann, bob = make_sender("ann"), make_sender("bob")
    with engine.begin() as connection:
        workflow_id = make_workflow(connection, [NO_DELAY])
        make_variants(connection, workflow_id, [1, 1, 1])
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 6, sender_ids=[ann, bob], workflow_id=workflow_id)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    statements: list[str] = []
    with engine.begin() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda _c, _cursor, sql, *_: statements.append(sql))
        stats = campaign_counts.campaign_stats(connection, get_campaign(connection, campaign_id))
    assert [each["by_status"]["sent"] for each in stats["by_sender"]] == [3, 3]
    assert [each["by_status"]["sent"] for each in stats["by_step"][0]["variants"]] == [2, 2, 2]
    by_variant_and_sender = [sql for sql in statements if "variant, sender_id, what" in sql]
    assert len(by_variant_and_sender) == 1


def test_campaign_without_senders_has_no_statistics_by_sender(engine: sa.Engine, resources: Resources) -> None:
    campaign_id = started(engine, [], 2)
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        stats = campaign_counts.campaign_stats(connection, get_campaign(connection, campaign_id))
    assert stats["by_sender"] == []


def test_sender_that_was_disabled_is_still_counted(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    ann, bob = make_sender("ann"), make_sender("bob")
    campaign_id = started(engine, [ann, bob], 4)
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        sender_addresses.update(connection, ann, {"status": "disabled"})
    found = by_sender(engine, campaign_id)[ann]
    assert (found["status"], found["by_status"]["sent"], found["by_status"]["pending"]) == ("disabled", 2, 2)
