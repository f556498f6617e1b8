"""What the size of the ledger costs the sender: claim, idle tick and completion check with little and much history.

    python -m bench.history [--rows 10000000] [--few 10000]

History is rows that were sent in the past. The claim takes 500 due rows of one campaign; the idle tick is a whole tick
(check-in, sweep, background work, scheduled starts, quota, claim, completion) with nothing due.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
import uuid
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.scheduling import vacuum
from bench.sending import ENVIRON, add_leads, migrated_database, ses_simulator
from sendledger.campaigns import completion, lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, SenderSettings
from sendledger.ledger import claim_emails
from sendledger.sending import tick
from sendledger.ses import client
from testbed.campaigns import make_campaign
from testbed.databases import plain_engine

REPEATS = 30


def add_history(engine: sa.Engine, rows: int) -> None:
    """Completed campaigns of 100,000 sent rows each; triggers are off, as the rows refer to no leads.

    The ids of these leads are in the order of their import, as those of all leads are.
    """
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    for first in range(0, rows, 100_000):
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            connection.execute(
                sa.text("""
                    WITH c AS (INSERT INTO campaigns (name, status) VALUES ('old', 'completed') RETURNING id),
                    s AS (INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
                          SELECT id, 1, interval '0', 's', 't' FROM c)
                    INSERT INTO scheduled_emails
                        (campaign_id, lead_id, workflow_step_number, scheduled_for, status, sent_at)
                    SELECT c.id, CAST(lpad(to_hex(n), 32, '0') AS uuid), 1,
                           now() - interval '90 days', 'sent', now() - interval '90 days'
                    FROM c CROSS JOIN generate_series(CAST(:first AS integer), :last) n
                """),
                {"first": first + 1, "last": min(first + 100_000, rows)},
            )
    vacuum(engine)


def write_down(engine: sa.Engine) -> None:
    """Write earlier changes to disk now, not while it is measured."""
    autocommit = plain_engine(engine.url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(sa.text("CHECKPOINT"))


class Ledger:
    """One database with a history, and what is measured in it."""

    def __init__(self, url: str, ses_url: str, history: int) -> None:
        self._engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0)
        add_history(self._engine, history)
        settings = SenderSettings.read({**ENVIRON, **os.environ})
        self._resources = tick.Resources(self._engine, client.ses_client(endpoint_url=ses_url), settings)
        with self._engine.connect() as connection:
            self._campaign_id = make_campaign(connection, [])
            add_leads(connection, self._campaign_id, 20_000)

    def idle_tick(self) -> None:
        tick.send_due_emails(self._resources, 60.0)

    def start(self) -> None:
        lifecycle.start_campaign(self._engine, self._campaign_id)

    def claim(self) -> None:
        with self._engine.begin() as connection:
            claimed = claim_emails.claim(connection, 500, uuid.uuid4())
        assert len(claimed) == 500

    def completion_check(self) -> None:
        completion.mark_campaign_complete(self._engine, self._campaign_id)

    def write_down(self) -> None:
        write_down(self._engine)

    def close(self) -> None:
        self._engine.dispose()


def median_ms(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The median time of each of these, which are called in turns."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(REPEATS):
        for call, taken in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) * 1000 for taken in times]


def compare(few: int, many: int) -> None:
    with contextlib.ExitStack() as open_:
        ses_url = open_.enter_context(ses_simulator(0.0))
        ledgers = []
        for rows in (few, many):
            ledgers.append(Ledger(open_.enter_context(migrated_database()), ses_url, rows))
            open_.callback(ledgers[-1].close)
        for ledger in ledgers:
            ledger.write_down()
        results = {"idle tick": median_ms([ledger.idle_tick for ledger in ledgers])}
        for ledger in ledgers:
            ledger.start()
            ledger.write_down()
        results["claim of 500"] = median_ms([ledger.claim for ledger in ledgers])
        results["completion check"] = median_ms([ledger.completion_check for ledger in ledgers])
    rows_of_table = [
        (name, f"{of_few:.2f}", f"{of_many:.2f}", f"{of_many / of_few:.2f} ×")
        for name, (of_few, of_many) in results.items()
    ]
    write_report(
        "history",
        Table(
            f"median ms of {REPEATS} calls, in turns",
            ("what", f"{few:,} rows of history", f"{many:,} rows of history", "ratio"),
            rows_of_table,
        ),
        [
            (f"{name}, {count:,} rows", taken)
            for name, both in results.items()
            for count, taken in zip((few, many), both, strict=True)
        ],
        "The claim reads no history, and writes no index entries.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRON.items() if name.startswith("AWS_")})
    compare(options.few, options.rows)
