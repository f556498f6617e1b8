"""Whatever is killed between two steps of a delivery: no event is lost or invented, duplicates have the same id."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import webhook_deliveries, webhook_endpoints
from testbed.campaigns import campaign_row, make_campaign, rows_of
from testbed.databases import url_as
from testbed.invariants import let_it_settle
from testbed.sender_process import SenderProcess, SenderRun
from testbed.senders import sender_resources
from testbed.webhook_process import DeliveryRun, PauseRun, deliver, pause
from testbed.webhook_receiver import WebhookReceiver

EVENTS = 6
MakeEndpoint = Callable[..., sa.RowMapping]
Start = Callable[..., SenderProcess]
Times = Counter[str]

# Each with the least and the most requests that the receiver gets for all the events together.
KILLED = {
    "lease_webhooks.before": (EVENTS, EVENTS),
    "sign_webhook.after:3": (EVENTS, EVENTS),
    "lease_webhooks.before_commit": (EVENTS, EVENTS),
    "lease_webhooks.after_commit": (EVENTS, EVENTS),
    # Other threads post at the same time, and the last of them may be cut off.
    "post_webhook.before": (EVENTS, 2 * EVENTS),
    "post_webhook.before:5": (EVENTS + 1, 2 * EVENTS),
    "post_webhook.after": (EVENTS + 1, 2 * EVENTS),
    "post_webhook.after:6": (2 * EVENTS, 2 * EVENTS),
    "record_webhooks.before": (2 * EVENTS, 2 * EVENTS),
    "record_webhooks.after": (2 * EVENTS, 2 * EVENTS),
    "record_webhooks.before_commit": (2 * EVENTS, 2 * EVENTS),
    "record_webhooks.after_commit": (EVENTS, EVENTS),
}


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """Start a process that works with the rights of the function of this kind."""
    started: list[SenderProcess] = []

    def start(kind: str, work: Callable[..., Any], run: Callable[..., dict[str, Any]], **fields: Any) -> SenderProcess:
        started.append(SenderProcess(work(url_as(kind, database_url), **fields), run))
        return started[-1]

    yield start
    for process in started:
        process.end()


def add_events(engine: sa.Engine, endpoint: sa.RowMapping) -> None:
    with engine.begin() as connection:
        events = [
            {"endpoint_id": endpoint["id"], "event_type": "webhook.test", "data": {"n": n}} for n in range(EVENTS)
        ]
        connection.execute(sa.insert(webhook_deliveries), events)


def deliveries(engine: sa.Engine) -> list[sa.RowMapping]:
    with engine.connect() as connection:
        query = sa.select(webhook_deliveries).order_by(webhook_deliveries.c.id)
        return list(connection.execute(query).mappings())


def let_leases_end(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for table in (webhook_deliveries, webhook_endpoints):
            connection.execute(sa.update(table).values(next_attempt_at=sa.func.now()))


def verified(receiver: WebhookReceiver, secret: str) -> Times:
    """How often each event came, by its id. Each came with its signature, and each time with the same body."""
    bodies: dict[str, set[str]] = {}
    for received in receiver.received:
        Webhook(secret).verify(received.body, received.headers)
        bodies.setdefault(received.headers["webhook-id"], set()).add(received.body)
    assert {len(same) for same in bodies.values()} == {1}
    assert len(set.union(*bodies.values())) == len(bodies)
    return Counter(received.headers["webhook-id"] for received in receiver.received)


@pytest.mark.parametrize("failpoint", KILLED)
def test_killed_deliverer_loses_and_invents_nothing(
    failpoint: str, engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, start: Start
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_events(engine, endpoint)
    assert start("webhooks", DeliveryRun, deliver, failpoint=failpoint).wait() is None, (
        "it did not get to the failpoint"
    )
    # What the dead one had in hand is its own until its lease ends.
    had = sum(row["attempts"] == 1 and row["status"] == "pending" for row in deliveries(engine))
    reported = sum(row["status"] == "delivered" for row in deliveries(engine))
    counted = start("webhooks", DeliveryRun, deliver).wait()
    assert counted == ({"delivered": EVENTS - had - reported} if had + reported < EVENTS else {})
    let_leases_end(engine)
    assert start("webhooks", DeliveryRun, deliver).wait() == ({"delivered": had} if had else {})
    times = verified(receiver, endpoint["secret"])
    assert set(times) == {f"evt_{row['id']}" for row in deliveries(engine)}
    assert set(times.values()) <= {1, 2}
    least, most = KILLED[failpoint]
    assert least <= times.total() <= most
    assert {row["status"] for row in deliveries(engine)} == {"delivered"}
    # Nothing is left to be delivered.
    assert start("webhooks", DeliveryRun, deliver).wait() == {}


def test_deliverer_killed_while_the_receiver_answers_posts_again_under_the_same_id(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, start: Start
) -> None:
    with WebhookReceiver() as slow:
        slow.release = threading.Event()
        endpoint = make_endpoint(slow.url, "campaign.completed")
        add_events(engine, endpoint)
        killed = start("webhooks", DeliveryRun, deliver)
        assert slow.arrived.wait(300)
        killed.kill()
        assert killed.wait() is None
        slow.release.set()
        let_leases_end(engine)
        assert start("webhooks", DeliveryRun, deliver).wait() == {"delivered": EVENTS}
        times = verified(slow, endpoint["secret"])
    assert (len(times), 2 in times.values()) == (EVENTS, True)


# What writes events dies


@pytest.mark.parametrize(
    ("failpoint", "status", "told"),
    [
        ("background_work.before", "running", []),
        ("background_work.after", "running", []),
        ("background_work.before_commit", "running", []),
        ("background_work.after_commit", "paused", ["campaign.paused"]),
    ],
)
def test_event_is_written_if_and_only_if_the_change_is(
    failpoint: str,
    status: str,
    told: list[str],
    engine: sa.Engine,
    connection: sa.Connection,
    receiver: WebhookReceiver,
    make_endpoint: MakeEndpoint,
    start: Start,
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.paused")
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    killed = start("api", PauseRun, pause, campaign_id=campaign_id, failpoint=failpoint)
    assert killed.wait() is None, "it did not get to the failpoint"
    assert campaign_row(engine, campaign_id)["status"] == status
    assert [row["event_type"] for row in deliveries(engine)] == told
    assert start("webhooks", DeliveryRun, deliver).wait() == ({"delivered": 1} if told else {})
    assert len(receiver.received) == len(told)
    if told:
        verified(receiver, endpoint["secret"])


@pytest.mark.parametrize("failpoint", ["record.before_commit", "record.after_commit", "complete.before"])
def test_killed_sender_tells_each_email_once(
    failpoint: str,
    database_url: str,
    engine: sa.Engine,
    connection: sa.Connection,
    ses: SesSimulator,
    sender_engine: sa.Engine,
    make_endpoint: MakeEndpoint,
) -> None:
    make_endpoint("http://127.0.0.1:1/", "email.sent", "email.failed", "campaign.completed")
    campaign_id = make_campaign(connection, 12)
    lifecycle.start_campaign(engine, campaign_id)
    sender = SenderProcess(SenderRun(url_as("sender", database_url), ses.url, failpoint=failpoint))
    assert sender.wait() is None, "it did not get to the failpoint"
    let_it_settle(engine, sender_resources(sender_engine, ses.url, GUARDRAILS_ENABLED="false"))
    told = Counter((row["event_type"], row["data"].get("scheduled_email_id")) for row in deliveries(engine))
    expected = {(f"email.{row['status']}", row["id"]) for row in rows_of(engine, campaign_id)}
    assert told == Counter({*expected, ("campaign.completed", None)})
