"""How fast steps of a conversation go out: an answer in a thread beside the step before it, and emails with files.

    python -m bench.conversation [--emails 5000] [--rounds 3] [--latency-ms 20]

As `bench.sending`: one process on one core sends what is due to a stand-in for SES. A campaign's second step is an
answer in the thread; its third one is too, and quotes the second. A second campaign differs in one thing: its second
step begins a new thread. So what a thread costs is told from what a second step costs. Which of the two comes first
changes from round to round. Then the same number of emails goes out with a file of 100 KB, and a few with 10 MiB.

A rate is that of one tick, from its begin until the campaign's emails are recorded. Both ratios are of rates of the
same round.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import statistics
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import ENVIRON, add_leads, make_template, measured, migrated_database, serving
from local.object_store import ObjectStore
from sendledger.campaigns import background_work, lifecycle
from sendledger.content import attachments
from sendledger.content.attachment_rules import MOST_BYTES, CheckedFile
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.core.tables import workflow_steps
from sendledger.files.file_bucket import FileBucket
from testbed.campaigns import DAY, NO_DELAY, make_campaign, make_workflow, pass_time
from testbed.databases import plain_engine

BUCKET = "bench-files"
SMALL = 100_000
LARGE_EMAILS = 50
FOREVER = 1e12
FIRST = "the first step"
ANSWER = "the second step, an answer in the thread"
SECOND = "the second step of the other campaign, a new mail"


@contextmanager
def file_bucket() -> Iterator[FileBucket]:
    """A bucket of this process, which the measured processes read from."""
    store = ObjectStore([BUCKET], "us-east-1", lambda bucket, key, event: None)
    store.start()
    os.environ |= {**ENVIRON, "AWS_ENDPOINT_URL_S3": store.url, "FILE_BUCKET": BUCKET}
    try:
        yield FileBucket(BUCKET)
    finally:
        store.stop()


def make_steps(connection: sa.Connection, delays: list[dt.timedelta], *, in_thread: bool) -> uuid.UUID:
    """Steps with the usual template. In a thread the second is an answer, the third an answer with a quote."""
    workflow_id = make_workflow(connection, delays)
    steps = sa.update(workflow_steps).where(workflow_steps.c.workflow_id == workflow_id)
    connection.execute(steps.values(email_template_id=make_template(connection)))
    if in_thread:
        connection.execute(steps.where(workflow_steps.c.step_number > 1).values(in_thread=True))
        connection.execute(steps.where(workflow_steps.c.step_number > 2).values(quote=True))
    return workflow_id


def template_with(connection: sa.Connection, bucket: FileBucket, size: int) -> Any:
    """The usual template with an attachment of so many bytes."""
    template_id, file_id, content = make_template(connection), uuid.uuid4(), os.urandom(size)
    bucket.store(f"{attachments.FILES}{file_id}", content, "application/pdf")
    file = CheckedFile("brochure.pdf", "application/pdf", None, content)
    attachments.attach(connection, template_id, file_id, file, "content", "bench")
    return template_id


def start(url: str, emails: int, **content: Any) -> None:
    """A started campaign to so many leads."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0)
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, [], **content)
        add_leads(connection, campaign_id, emails)
    lifecycle.start_campaign(engine, campaign_id)
    background_work.work_until(engine, campaign_id, FOREVER)
    engine.dispose()


def settle(url: str, *, next_day: bool = False) -> None:
    """As autovacuum would; each further step is due a day later."""
    engine = plain_engine(url)
    if next_day:
        pass_time(engine, DAY)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now()"))
        connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


def send(endpoint: str, url: str, emails: int) -> dict[str, Any]:
    result = measured(endpoint, "--side", "sender", "--url", url)
    assert result["emails"] == emails, result
    return {**result, "rate": emails / result["seconds"]}


def run_round(endpoint: str, bucket: FileBucket, emails: int, *, answer_first: bool) -> dict[str, dict[str, Any]]:
    found = {}
    day, other_day = (DAY, 2 * DAY) if answer_first else (2 * DAY, DAY)
    with migrated_database() as url:
        engine = plain_engine(url)
        with engine.begin() as connection:
            threaded = make_steps(connection, [NO_DELAY, day, 3 * DAY - day], in_thread=True)
            plain = make_steps(connection, [NO_DELAY, other_day], in_thread=False)
            small, large = (template_with(connection, bucket, size) for size in (SMALL, MOST_BYTES))
        engine.dispose()
        for name, workflow_id in ((FIRST, threaded), ("the first step of the other campaign", plain)):
            start(url, emails, workflow_id=workflow_id)
            settle(url)
            found[name] = send(endpoint, url, emails)
        # On each day one of the two campaigns has a step.
        for name in (ANSWER, SECOND) if answer_first else (SECOND, ANSWER):
            settle(url, next_day=True)
            found[name] = send(endpoint, url, emails)
        settle(url, next_day=True)
        found["the third step, an answer with a quote"] = send(endpoint, url, emails)
        for name, template_id, count in (
            ("with a file of 100 KB", small, emails),
            ("with files of 10 MiB", large, LARGE_EMAILS),
        ):
            start(url, count, email_template_id=template_id)
            settle(url)
            found[name] = send(endpoint, url, count)
    return found


def compare(emails: int, rounds: int, latency_ms: float) -> None:
    with serving("bench.sink", latency_ms=latency_ms) as endpoint, file_bucket() as bucket:
        results = [run_round(endpoint, bucket, emails, answer_first=not each % 2) for each in range(rounds)]
    beside = {
        name: statistics.median(each[ANSWER]["rate"] / each[name]["rate"] for each in results)
        for name in (FIRST, SECOND)
    }
    rates = [(name, statistics.median(each[name]["rate"] for each in results)) for name in results[0]]
    peaks = {name: max(each[name]["peak_mb"] for each in results) for name in results[0]}
    cpu = {name: statistics.median(each[name]["cpu"] / each[name]["emails"] for each in results) for name in results[0]}
    write_report(
        "conversation",
        Table(
            f"{emails:,} emails ({LARGE_EMAILS} with 10 MiB), one process on one core, SES at {latency_ms:.0f} ms, "
            f"median of {rounds} rounds",
            ("what", "emails/s", "CPU of the sender per email", "peak memory"),
            [(name, f"{rate:,.0f}", f"{cpu[name] * 1000:.3f} ms", f"{peaks[name]:.0f} MB") for name, rate in rates],
        ),
        rates,
        f"An answer in a thread goes out at {beside[FIRST]:.2f} × the rate of the step before it, and at "
        f"{beside[SECOND]:.2f} × the rate of a second step that begins a new thread (medians of the rounds).",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    options = parser.parse_args()
    compare(options.emails, options.rounds, options.latency_ms)
