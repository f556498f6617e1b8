"""How long a start takes to write its rows, beside the bare INSERT … SELECT of the same rows in the same run.

    python -m bench.scheduling [--leads 100000] [--rounds 3] [--variants 4]

100,000 leads × 3 steps = 300,000 rows, with all that a start does (suppressions, addresses, duplicates, statuses,
content of the steps) against one statement in psql's manner that checks nothing. Also prints the memory of this
process before and after: it must not grow with the number of leads. With `--variants` the other side is a start of the
same campaign whose steps have so many variants each; the sides take turns.
"""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import statistics
import time

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import migrated_database
from sendledger.campaigns import lifecycle, schedule_emails
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from testbed.campaigns import make_variants, make_workflow
from testbed.databases import plain_engine

DAY = dt.timedelta(days=1)


def make_leads(engine: sa.Engine, leads: int) -> str:
    """A batch of leads made in the database; returns its id."""
    with engine.begin() as connection:
        batch_id = connection.scalar(sa.text("INSERT INTO lead_batches (name) VALUES ('bench') RETURNING id"))
        connection.execute(
            sa.text("""
                INSERT INTO leads (email, company_name, contact_name, industry, source, batch_id)
                SELECT 'lead' || n || '@example.com', 'Company ' || n, 'Ann Lee', 'spa', 'bench', :batch_id
                FROM generate_series(1, :leads) n
            """).bindparams(sa.bindparam("batch_id", type_=sa.UUID)),
            {"batch_id": batch_id, "leads": leads},
        )
    return str(batch_id)


def make_campaign(engine: sa.Engine, batch_id: str, variants: int = 1) -> str:
    with engine.begin() as connection:
        workflow_id = make_workflow(connection, [dt.timedelta(0), DAY, DAY])
        for step in (1, 2, 3) if variants > 1 else ():
            make_variants(connection, workflow_id, [1] * variants, step)
        return str(
            connection.scalar(
                sa.text("""
                    INSERT INTO campaigns (name, batch_ids, workflow_id)
                    VALUES ('bench', ARRAY[CAST(:batch_id AS uuid)], :workflow_id) RETURNING id
                """).bindparams(sa.bindparam("workflow_id", type_=sa.UUID)),
                {"batch_id": batch_id, "workflow_id": workflow_id},
            )
        )


def bare(engine: sa.Engine, campaign_id: str, batch_id: str) -> float:
    """The same rows with nothing checked, into the same table."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
                SELECT CAST(:campaign_id AS uuid), n, interval '1 day', 's', 't' FROM generate_series(1, 3) n
            """),
            {"campaign_id": campaign_id},
        )
        started = time.perf_counter()
        connection.execute(
            sa.text("""
                INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for)
                SELECT CAST(:campaign_id AS uuid), l.id, n, now() + n * interval '1 day'
                FROM leads l CROSS JOIN generate_series(1, 3) n WHERE l.batch_id = CAST(:batch_id AS uuid)
            """),
            {"campaign_id": campaign_id, "batch_id": batch_id},
        )
    return time.perf_counter() - started


def vacuum(engine: sa.Engine) -> None:
    autocommit = plain_engine(engine.url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def start(engine: sa.Engine, campaign_id: str, leads: int) -> float:
    """Seconds of a start, whose rows are all written in it."""
    started = time.perf_counter()
    result = lifecycle.start_campaign(engine, campaign_id)  # type: ignore[arg-type]
    took = time.perf_counter() - started
    assert result.emails_scheduled_count == leads * 3, result
    return took


def empty_the_ledger(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE scheduled_emails, campaign_steps CASCADE"))
    vacuum(engine)


def compare_variants(leads: int, rounds: int, variants: int) -> None:
    """The same start with several variants of each step and with one."""
    times: dict[int, list[float]] = {1: [], variants: []}
    schedule_emails.ROWS_PER_BUCKET = leads * 3
    with migrated_database() as url:
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0)
        batch_id = make_leads(engine, leads)
        for number in range(rounds + 1):
            for side in sorted(times, reverse=number % 2 == 1):
                empty_the_ledger(engine)
                campaign_id = make_campaign(engine, batch_id, side)
                took = start(engine, campaign_id, leads)
                with engine.begin() as connection:
                    connection.execute(sa.text("UPDATE campaigns SET status = 'cancelled'"))
                    connection.execute(sa.text("UPDATE lead_batches SET active_campaign_id = NULL"))
                if number:  # the first round warms the server
                    times[side].append(took)
        engine.dispose()
    ratio = statistics.median(many / one for many, one in zip(times[variants], times[1], strict=True))
    names = {1: "one variant", variants: f"{variants} variants"}
    write_report(
        "scheduling_variants",
        Table(
            f"{leads:,} leads × 3 steps = {leads * 3:,} rows, median of {rounds} rounds in turns",
            ("steps with", "seconds", "rows/s"),
            [
                (names[side], f"{statistics.median(took):.2f}", f"{leads * 3 / statistics.median(took):,.0f}")
                for side, took in times.items()
            ],
        ),
        [(names[side], statistics.median(took)) for side, took in times.items()],
        f"Ratio, median of pairs: {ratio:.2f}.",
    )


def compare(leads: int, rounds: int) -> None:
    starts, inserts = [], []
    # One pass for the comparison with one statement; in production a start this large goes in several.
    schedule_emails.ROWS_PER_BUCKET = leads * 3
    with migrated_database() as url:
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
        for number in range(rounds + 1):
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE leads, scheduled_emails, campaign_steps CASCADE"))
            batch_id = make_leads(engine, leads)
            vacuum(engine)
            took = start(engine, make_campaign(engine, batch_id), leads)
            empty_the_ledger(engine)
            baseline = bare(engine, make_campaign(engine, batch_id), batch_id)
            if number:  # the first round warms the server
                starts.append(took)
                inserts.append(baseline)
    ratio = statistics.median(a / b for a, b in zip(starts, inserts, strict=True))
    write_report(
        "scheduling",
        Table(
            f"{leads:,} leads × 3 steps = {leads * 3:,} rows, median of {rounds} rounds",
            ("what", "seconds", "rows/s"),
            [
                (name, f"{statistics.median(times):.2f}", f"{leads * 3 / statistics.median(times):,.0f}")
                for name, times in (("start of the campaign", starts), ("bare INSERT … SELECT", inserts))
            ],
        ),
        [("start of the campaign", statistics.median(starts)), ("bare INSERT … SELECT", statistics.median(inserts))],
        f"Ratio, median of pairs: {ratio:.2f}. Peak memory of the client: "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", type=int, default=1)
    options = parser.parse_args()
    if options.variants > 1:
        compare_variants(options.leads, options.rounds, options.variants)
    else:
        compare(options.leads, options.rounds)
