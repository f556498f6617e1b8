"""What the size of the ledger costs the sender: claim, idle tick and completion check with little and much history.

    python -m bench.history [--rows 10000000] [--few 10000]

History is rows that were sent in the past. The claim takes 500 due rows of one campaign; the idle tick is a whole tick
(check-in, sweep, row work, scheduled starts, quota, claim, completion) with nothing due.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import uuid
from collections.abc import Callable

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.scheduling import vacuum
from bench.sending import ENVIRON, add_leads, migrated_database, ses_simulator
from sendledger import campaign_lifecycle, claim_emails, database, send_email, sender
from sendledger.settings import DatabaseSettings, SenderSettings
from tests.campaigns import make_campaign

REPEATS = 30


def add_history(engine: sa.Engine, rows: int) -> None:
    """Completed campaigns of 100,000 sent rows each; triggers are off, as the rows refer to no leads."""
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1)
    campaign_lifecycle.start_campaign(engine, campaign_id)
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
                    SELECT c.id, gen_random_uuid(), 1, now() - interval '90 days', 'sent', now() - interval '90 days'
                    FROM c CROSS JOIN generate_series(1, :rows)
                """),
                {"rows": min(100_000, rows - first)},
            )
    vacuum(engine)


def measure(engine: sa.Engine, ses_url: str) -> dict[str, float]:
    """Median milliseconds of each."""
    settings = SenderSettings.read({**ENVIRON, **os.environ})
    resources = sender.Resources(engine, send_email.ses_client(endpoint_url=ses_url), settings)
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, [])
        add_leads(connection, campaign_id, 20_000)
    times = {"idle tick": median_ms(lambda: sender.send_due_emails(resources, 60.0))}
    campaign_lifecycle.start_campaign(engine, campaign_id)
    times["claim of 500"] = median_ms(lambda: claim(engine))
    times["completion check"] = median_ms(lambda: campaign_lifecycle.mark_campaign_complete(engine, campaign_id))
    return times


def claim(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 500, uuid.uuid4())
    assert len(claimed) == 500


def median_ms(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def compare(few: int, many: int) -> None:
    results = {}
    with ses_simulator(0.0) as ses_url:
        for rows in (few, many):
            with migrated_database() as url:
                engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
                add_history(engine, rows)
                results[rows] = measure(engine, ses_url)
                engine.dispose()
    table = [
        (
            name,
            f"{results[few][name]:.2f}",
            f"{results[many][name]:.2f}",
            f"{results[many][name] / results[few][name]:.2f} ×",
        )
        for name in results[few]
    ]
    write_report(
        "history",
        Table(
            f"median ms of {REPEATS} calls",
            ("what", f"{few:,} rows of history", f"{many:,} rows of history", "ratio"),
            table,
        ),
        [(f"{name}, {count:,} rows", results[count][name]) for name in results[few] for count in (few, many)],
        "The claim reads the partial index of due rows and touches no history.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRON.items() if name.startswith("AWS_")})
    compare(options.few, options.rows)
