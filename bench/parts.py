"""Where PostgreSQL's work for an email goes: its CPU time by step, and its WAL by table and index.

    python -m bench.parts [--emails 6000] [--at-once 500] [--first SQL]

CPU time is that of the one connection that works, from the kernel, so that other processes do not count. WAL is without
page images and from pg_waldump. `--at-once` is how many emails one statement is about: a sender at 1,000 a second has
50, one without a limit up to 500. `--first` runs a statement before, to see what something costs: drop an index or a
constraint, or set a fill factor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from bench.database import MeasuredServer, events_of_sent, measured_server
from bench.report import Table, write_report
from bench.sending import ENVIRON, HTML, SUBJECT, TEXT, add_leads, make_template
from local.postgres import _embedded_programs
from sendledger.campaigns import background_work, lifecycle
from sendledger.content.render_email import RenderedEmail
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.feedback.record_events import record_events
from sendledger.ledger import claim_emails, record_results
from sendledger.ledger.record_results import SendResult
from sendledger.ses.answers import Answer, SendOutcome
from testbed.campaigns import make_campaign
from testbed.databases import plain_engine

STEPS = ("start", "claim", "fence", "record", "Send event", "Delivery event")
_RECORD = re.compile(r"len \(rec/tot\):\s+\d+/\s*(\d+).*?(?:rel \d+/\d+/(\d+)|$)")
_NAMES = sa.text("""
    SELECT pg_relation_filenode(oid), relname FROM pg_class
    WHERE relkind IN ('r', 'i', 't') AND pg_relation_filenode(oid) IS NOT NULL
""")


class Measured:
    """One server, and what each step has cost it."""

    def __init__(self, server: MeasuredServer) -> None:
        self._server = server
        self.engine = database.engine(DatabaseSettings.read({"DATABASE_URL": server.url}), longest_statement=600.0)
        self.cpu: dict[str, list[float]] = {step: [] for step in STEPS}
        self.wal: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def step(self, name: str, emails: int) -> Iterator[None]:
        """Everything in here uses one connection of the pool, the same each time."""
        process = self._one("SELECT pg_backend_pid()")
        before = _cpu(process)
        yield
        self.cpu[name].append((_cpu(process) - before) / emails)

    @contextlib.contextmanager
    def phase(self, name: str, emails: int) -> Iterator[None]:
        self._server.run("VACUUM ANALYZE", "CHECKPOINT")
        start = self._one("SELECT pg_current_wal_flush_lsn()::text")
        yield
        end = self._one("SELECT pg_current_wal_flush_lsn()::text")
        self.wal[name] = {relation: size / emails for relation, size in self._written(start, end).most_common()}

    def _one(self, sql: str) -> str:
        with self.engine.connect() as connection:
            return str(connection.scalar(sa.text(sql)))

    def _written(self, start: str, end: str) -> Counter[str]:
        programs = Path(os.environ.get("POSTGRES_BIN") or _embedded_programs())
        log = self._server.folder / "pg_wal"
        command = [str(programs / "pg_waldump"), "--path", str(log), "--start", start, "--end", end]
        dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        with plain_engine(self._server.url).connect() as connection:
            names = {str(node): str(name) for node, name in connection.execute(_NAMES)}
        written: Counter[str] = Counter()
        for line in dumped.splitlines():
            if found := _RECORD.search(line):
                written[names.get(found[2], "other")] += int(found[1])
        return written


def _cpu(process: str) -> float:
    """Microseconds that a process has computed. https://docs.kernel.org/scheduler/sched-stats.html"""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1000


def send(measured: Measured, at_once: int) -> None:
    """Claim, fence and record what is due, as a sender does it."""
    rendered = RenderedEmail(SUBJECT, TEXT, HTML)
    while True:
        token = uuid.uuid4()
        with measured.step("claim", at_once), measured.engine.begin() as connection:
            claimed = claim_emails.claim(connection, at_once, token)
        if len(claimed) < at_once:
            measured.cpu["claim"].pop()
            return
        with measured.step("fence", at_once), measured.engine.begin() as connection:
            claim_emails.fence(connection, claimed, token)
        answered = time.monotonic()
        results = [
            SendResult(email, SendOutcome(Answer.SENT, f"{email.id:016x}"), rendered, answered) for email in claimed
        ]
        with measured.step("record", at_once), measured.engine.begin() as connection:
            record_results.record(connection, results, token)


def measure(emails: int, at_once: int, first: list[str]) -> Measured:
    with measured_server() as server:
        server.run(*first)
        measured = Measured(server)
        engine = measured.engine
        with engine.connect() as connection:
            campaign_id = make_campaign(connection, [], email_template_id=make_template(connection))
            add_leads(connection, campaign_id, emails)
        with measured.phase("start", emails), measured.step("start", emails):
            lifecycle.start_campaign(engine, campaign_id)
            background_work.work_until(engine, campaign_id, time.monotonic() + 3600)
        with measured.phase("claim to record", emails):
            send(measured, at_once)
        for type_ in ("Send", "Delivery"):
            events, name = events_of_sent(engine, type_), f"{type_} event"
            with measured.phase(name, emails):
                for place in range(0, emails, at_once):
                    with measured.step(name, at_once), engine.begin() as connection:
                        record_events(connection, events[place : place + at_once], are_of_sent=True)
        engine.dispose()
    return measured


def report(emails: int, at_once: int, first: list[str]) -> None:
    measured = measure(emails, at_once, first)
    # The median: what came between two calls of a busy machine does not count.
    cpu = {step: statistics.median(taken) for step, taken in measured.cpu.items()}
    rows = [(f"{step}, CPU µs", f"{value:.1f}") for step, value in cpu.items()]
    for phase, written in measured.wal.items():
        rows.append((f"{phase}, WAL bytes", f"{sum(written.values()):,.0f}"))
        rows += [(f"{phase}, {name}", f"{size:,.0f}") for name, size in written.items() if size >= 5]
    title = f"for each of {emails:,} emails" + "".join(f"; {statement}" for statement in first)
    write_report("parts", Table(title, ("part", "found"), rows), list(cpu.items()), f"Steps of {at_once} emails each.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=6_000)
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--first", action="append", default=[], metavar="SQL")
    options = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRON.items() if name.startswith("AWS_")})
    report(options.emails, options.at_once, options.first)
