"""One campaign of 300,000 due emails beside 300 of 200: when each of the small ones is served.

    python -m bench.fairness [--large 300000] [--small 300] [--rate 1000]

All are due at once; one sender works at the given SES rate. A small campaign is served with its first email and done
with its last. It measures shares, not speed. With equal shares the small ones together need about twice as long as
alone, however large the other is.
"""

from __future__ import annotations

import argparse
import os
import time

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import ENVIRON, add_leads, migrated_database
from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, SenderSettings
from sendledger.sending import tick
from sendledger.ses import client
from testbed.campaigns import make_campaign

SMALL_LEADS = 200
EXPECTED_SECONDS = 120.0


def compare(large: int, small: int, rate: float) -> None:
    with SesSimulator(rate=rate, daily_quota=-1, latency_ms=20) as ses, migrated_database() as url:
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=120.0)
        with engine.connect() as connection:
            campaigns = []
            for leads in (large, *[SMALL_LEADS] * small):
                campaigns.append(make_campaign(connection, []))
                add_leads(connection, campaigns[-1], leads)
        for campaign_id in campaigns:
            lifecycle.start_campaign(engine, campaign_id)
            background_work.work_until(engine, campaign_id, time.monotonic() + 3600)
        settings = SenderSettings.read({**ENVIRON, **os.environ, "SENDER_RATE_SAFETY": "1"})
        resources = tick.Resources(engine, client.ses_client(endpoint_url=ses.url), settings)
        with engine.connect() as connection:
            began = connection.scalar(sa.text("SELECT clock_timestamp()"))
        summary = tick.send_due_emails(resources, EXPECTED_SECONDS + 20.0)
        with engine.connect() as connection:
            first, last, done = connection.execute(
                sa.text("""
                    SELECT max(first), max(last), count(*) FILTER (WHERE sent = :leads)
                    FROM (SELECT count(*) FILTER (WHERE status = 'sent') AS sent,
                                 extract(epoch FROM min(sent_at) - :began) AS first,
                                 extract(epoch FROM max(sent_at) - :began) AS last
                          FROM scheduled_emails WHERE campaign_id <> :large GROUP BY campaign_id) each
                """),
                {"began": began, "large": campaigns[0], "leads": SMALL_LEADS},
            ).one()
        engine.dispose()
    rows = [
        ("emails sent in the tick", f"{summary.sent:,}"),
        ("the last small campaign to be served had its first email after", f"{first:.1f} s"),
        (f"small campaigns with all {SMALL_LEADS} emails sent", f"{done} of {small}"),
        ("their last email went out after", f"{last:.1f} s"),
    ]
    write_report(
        "fairness",
        Table(f"{large:,} due emails beside {small} × {SMALL_LEADS}, SES at {rate:,.0f}/s", ("what", "found"), rows),
        [("first email of the last one, s", float(first)), ("last email, s", float(last))],
        "Each campaign with due emails gets an equal share of every claim.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=300_000)
    parser.add_argument("--small", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1000.0)
    options = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRON.items() if name.startswith("AWS_")})
    compare(options.large, options.small, options.rate)
