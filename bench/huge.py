"""A campaign of a million leads and three steps: how long each call of the API takes, and how long its rows take.

    python -m bench.huge [--leads 1000000]

The calls are those of the API; between them ticks of the sender finish the background work, as they do every minute.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import ENVIRON, add_leads, migrated_database, ses_simulator
from sendledger.campaigns import background_work, lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, SenderSettings
from sendledger.sending import tick
from sendledger.ses import client
from testbed.campaigns import DAY, make_campaign

LONGEST_WAIT = 3600.0


def compare(leads: int) -> None:
    steps = 3
    rows: list[tuple[str, str, str, str]] = []
    bars: list[tuple[str, float]] = []
    with ses_simulator(0.0) as ses_url, migrated_database() as url:
        api = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
        bulk = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=120.0)
        settings = SenderSettings.read({**ENVIRON, **os.environ, "SENDER_RATE_SAFETY": "0.001"})
        resources = tick.Resources(api, client.ses_client(endpoint_url=ses_url), settings, bulk_engine=bulk)
        with bulk.connect() as connection:
            campaign_id = make_campaign(connection, [], [DAY] * steps)
            add_leads(connection, campaign_id, leads)

        def measure(name: str, call: Callable[[sa.Engine, uuid.UUID], Any], expected: dict[str, int]) -> None:
            began = time.perf_counter()
            status = call(api, campaign_id).status
            took = time.perf_counter() - began
            ticks = 0
            while has_work(api):
                tick.send_due_emails(resources, 60.0)
                ticks += 1
                assert time.perf_counter() - began < LONGEST_WAIT
            finished = time.perf_counter() - began
            with api.connect() as connection:
                counts = connection.execute(sa.text("SELECT status, count(*) AS rows FROM scheduled_emails GROUP BY 1"))
                found = {row.status: row.rows for row in counts}
            assert found == expected, (name, found)
            rows.append((f"{name} → {status}", f"{took:.1f}", f"{finished:.1f}", str(ticks)))
            bars.append((f"{name}, the call", took))
            bars.append((f"{name}, all rows", finished))

        total = leads * steps
        measure("start", lifecycle.start_campaign, {"pending": total})
        measure("pause", lifecycle.pause_campaign, {"cancelled": total})
        measure("resume", lifecycle.resume_campaign, {"pending": total})
        measure("cancel", lifecycle.cancel_campaign, {"cancelled": total})
        api.dispose()
        bulk.dispose()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    write_report(
        "huge",
        Table(
            f"{leads:,} leads × {steps} steps",
            ("call", "the call, s", "until all rows are done, s", "ticks"),
            rows,
        ),
        bars,
        f"Peak memory {peak:.0f} MB. The status, which senders obey, has changed by the end of the call.",
    )


def has_work(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return bool(background_work.campaigns_with_work(connection))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, default=1_000_000)
    options = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRON.items() if name.startswith("AWS_")})
    compare(options.leads)
