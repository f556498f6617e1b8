"""What webhooks cost: the sending rate beside 100,000 events for a dead endpoint, and events per second of one process.

    python -m bench.webhooks [--emails 10000] [--waiting 100000] [--rounds 3] [--events 20000]

The sender runs in a process of its own, with and without the waiting events, in turns. Beside it the deliverer runs in
this process: it probes the dead endpoint, and a fast endpoint gets an event now and then, whose delay is measured.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import measured, migrated_database, prepare, serving
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.core.tables import webhook_deliveries
from sendledger.webhooks import endpoints
from sendledger.webhooks.deliver import SPARE_SECONDS, deliver_all
from sendledger.webhooks.exchange import exchange
from testbed.databases import plain_engine

DEAD = "http://127.0.0.1:9/"
"""Nobody listens there."""


def add_endpoint(engine: sa.Engine, url: str) -> UUID:
    with engine.begin() as connection:
        wanted = {"url": url, "event_types": ["campaign.completed"]}
        created: UUID = endpoints.create(connection, wanted, "bench", any_target=True)["id"]
    return created


def add_events(engine: sa.Engine, endpoint_id: UUID, count: int) -> None:
    insert = """
        INSERT INTO webhook_deliveries (endpoint_id, event_type, data)
        SELECT :id, 'webhook.test', '{}' FROM generate_series(1, :count)
    """
    with engine.begin() as connection:
        connection.execute(sa.text(insert), {"id": endpoint_id, "count": count})


def deliver(engine: sa.Engine, seconds: float) -> dict[str, int]:
    return deliver_all(
        lambda asked: exchange(engine, asked), time.monotonic() + SPARE_SECONDS + seconds, any_target=True
    )


def events_per_second(events: int) -> float:
    """Of one process to one fast endpoint, claims and records included."""
    with migrated_database() as url, serving("bench.sink", latency_ms=0) as receiver:
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), pool_size=4)
        add_events(engine, add_endpoint(engine, receiver), events)
        started = time.perf_counter()
        done = deliver(engine, 600)
        seconds = time.perf_counter() - started
        engine.dispose()
    assert done == {"delivered": events}, done
    return events / seconds


def sending_rate(emails: int, waiting: int) -> tuple[float, float]:
    """Emails per second, and the median delay of an event for a fast endpoint in seconds."""
    with migrated_database() as url, serving("bench.sink", latency_ms=20) as ses:
        prepare(url, emails)
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), pool_size=4)
        dead, fast = add_endpoint(engine, DEAD), add_endpoint(engine, f"{ses}/hooks")
        if waiting:
            add_events(engine, dead, waiting)
            # As after a minute in production.
            with plain_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(sa.text("VACUUM ANALYZE webhook_deliveries"))
        result: dict[str, Any] = {}
        sender = threading.Thread(target=lambda: result.update(measured(ses, "--side", "sender", "--url", url)))
        sender.start()
        delays = []
        while sender.is_alive():
            add_events(engine, fast, 1)
            started = time.perf_counter()
            while _is_waiting(engine, fast):
                deliver(engine, 0.5)
            delays.append(time.perf_counter() - started)
            sender.join(0.5)
        engine.dispose()
    return emails / result["seconds"], statistics.median(delays)


def _is_waiting(engine: sa.Engine, endpoint_id: UUID) -> bool:
    waits = sa.exists().where(webhook_deliveries.c.endpoint_id == endpoint_id, webhook_deliveries.c.status == "pending")
    with engine.connect() as connection:
        return bool(connection.scalar(sa.select(waits)))


def main(emails: int, waiting: int, rounds: int, events: int) -> None:
    pairs = []
    for number in range(rounds):
        # In turns, as the machine may become slower or faster.
        order = (0, waiting) if number % 2 else (waiting, 0)
        found = {events_waiting: sending_rate(emails, events_waiting) for events_waiting in order}
        pairs.append((found[0], found[waiting]))
    ratio = statistics.median(busy / calm for (calm, _), (busy, _) in pairs)
    calm_delay, busy_delay = (statistics.median(pair[at][1] for pair in pairs) for at in (0, 1))
    rate = events_per_second(events)
    rows = [
        (f"sending rate beside {waiting:,} events for a dead endpoint", f"{ratio:.2f} × that without"),
        ("delay of another endpoint's event without them, and with them", f"{calm_delay:.2f} s, {busy_delay:.2f} s"),
        ("events of one process to a fast endpoint", f"{rate:,.0f}/s"),
    ]
    write_report(
        "webhooks",
        Table(f"{emails:,} emails, median of {rounds} rounds; {events:,} events", ("what", "found"), rows),
        [("events/s", rate)],
        "Sender and deliverer are two processes; PostgreSQL, SES and the receiver share their cores.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    main(options.emails, options.waiting, options.rounds, options.events)
