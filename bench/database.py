"""What an email costs PostgreSQL in CPU time, WAL and disk: at the start, from claim to completion, per SES event.

    python -m bench.database [--emails 20000] [--beside REVISION]

Processor time is that of all processes of the server. WAL is without page images, which depend on when checkpoints
come. Disk is what the tables and indexes of the ledger have grown by. Each figure stands beside a bare table that holds
the same facts with a primary key and nothing else. With `--beside` the same is measured in a checkout of that revision,
in turns with this one.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import ENVIRON, HTML, ROOT, SUBJECT, TEXT, add_leads, make_template, measured, serving
from local.postgres import Postgres
from sendledger.campaigns import background_work, lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, GuardrailSettings
from sendledger.feedback.ingest_events import ingest_events
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from testbed.campaigns import make_campaign
from testbed.databases import migrate, plain_engine
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of

PHASES = ("start", "claim to completion", "SES event")
FIGURES = ("CPU µs", "WAL bytes", "disk bytes")
EVENTS_AT_ONCE = 500

_BARE = """
CREATE TABLE bare_email (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, campaign_id uuid, lead_id uuid, step smallint,
    scheduled_for timestamptz, status smallint, sent_at timestamptz, ses_message_id text, to_address text, subject text,
    body_text text, body_html text);
CREATE TABLE bare_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email_id bigint, type smallint, occurred_at timestamptz,
    ses_message_id text);
"""


@dataclass(frozen=True)
class Usage:
    """What the server has used since it was started."""

    cpu: float
    wal: int
    disk: int

    def since(self, before: Usage, rows: int) -> list[float]:
        """For each row, in the units of FIGURES."""
        return [
            (self.cpu - before.cpu) * 1e6 / rows,
            (self.wal - before.wal) / rows,
            (self.disk - before.disk) / rows,
        ]


@dataclass(frozen=True)
class Sent:
    """An email that its event tells of."""

    message_id: str
    accepted_at: dt.datetime
    destination: tuple[str, ...]
    tags: dict[str, str]


class MeasuredServer:
    """A PostgreSQL of its own, with its ordinary durability and without page images."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._admin = plain_engine(server.url(), isolation_level="AUTOCOMMIT")
        self.run("ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM SET autovacuum = off")
        self.run("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        return self._server.url()

    @property
    def folder(self) -> Path:
        return self._server.folder

    def run(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def usage(self) -> Usage:
        """Call it while no other connection is open, so that all processes that have worked are counted."""
        with self._admin.connect() as connection:
            wal = connection.scalar(sa.text("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))
            disk = connection.scalar(
                sa.text("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND oid > 16384")
            )
        times = psutil.Process(self._server.process.pid).cpu_times()
        cpu = times.user + times.system + times.children_user + times.children_system
        for child in psutil.Process(self._server.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                cpu += sum(child.cpu_times()[:2])
        return Usage(cpu, int(wal or 0), int(disk or 0))


@contextlib.contextmanager
def measured_server() -> Iterator[MeasuredServer]:
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        server = Postgres(Path(folder) / "pg")
        migrate(server.url())
        yield MeasuredServer(server)
        server.stop()


def measure(emails: int, endpoint: str) -> dict[str, list[float]]:
    """Each phase, and its bare counterpart, for one campaign of so many emails."""
    results: dict[str, list[float]] = {}
    with measured_server() as server:

        def phase(name: str, work: Callable[[], object]) -> None:
            server.run("CHECKPOINT")
            before = server.usage()
            work()
            results[name] = server.usage().since(before, emails)

        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": server.url}), longest_statement=600.0)
        with engine.connect() as connection:
            campaign_id = make_campaign(connection, [], email_template_id=make_template(connection))
            add_leads(connection, campaign_id, emails)
        server.run("VACUUM ANALYZE")
        engine.dispose()

        def start() -> None:
            lifecycle.start_campaign(engine, campaign_id)
            background_work.work_until(engine, campaign_id, time.monotonic() + 3600)
            engine.dispose()

        phase("start", start)
        server.run("VACUUM ANALYZE")
        phase("claim to completion", lambda: measured(endpoint, "--side", "sender", "--url", server.url))
        server.run("VACUUM ANALYZE")
        events = events_of_sent(engine)
        assert len(events) == emails, f"{len(events)} of {emails} were sent"

        def ingest() -> None:
            for first in range(0, emails, EVENTS_AT_ONCE):
                ingest_events(engine, events[first : first + EVENTS_AT_ONCE], GuardrailSettings.read({}))
            engine.dispose()

        phase("SES event", ingest)
        server.run(_BARE)
        for name, statements in bare_statements(emails).items():
            phase(f"bare {name}", lambda statements=statements: server.run(*statements))  # type: ignore[misc]
    return results


def events_of_sent(engine: sa.Engine, type_: str = "Delivery") -> list[SesEvent]:
    """An event of SES of this type for each email that was sent."""
    sent = sa.text("""
        SELECT s.id, s.campaign_id, s.claim_token, s.ses_message_id, s.sent_at, l.email
        FROM scheduled_emails s JOIN leads l ON l.id = s.lead_id WHERE s.status = 'sent' ORDER BY s.id
    """)
    with engine.connect() as connection:
        rows = connection.execute(sent).all()
    engine.dispose()
    events = []
    for id_, campaign_id, token, message_id, sent_at, address in rows:
        tags = {"scheduled_email_id": str(id_), "campaign_id": str(campaign_id), "claim_token": str(token)}
        email = Sent(message_id, sent_at, (address,), tags)
        event = read_ses_event(json.dumps(event_of(email, type_)), ACCOUNT, CONFIGURATION_SET)
        assert isinstance(event, SesEvent)
        events.append(event)
    return events


def bare_statements(emails: int) -> dict[str, list[str]]:
    """The same facts, written by the simplest statements, in transactions of 500."""
    html, text, subject = HTML.replace("'", "''"), TEXT.replace("'", "''"), SUBJECT
    ranges = [(first + 1, first + 500) for first in range(0, emails, 500)]
    return {
        "start": [
            """INSERT INTO bare_email (campaign_id, lead_id, step, scheduled_for, status)
               SELECT (SELECT id FROM campaigns LIMIT 1), id, 1, now(), 0 FROM leads"""
        ],
        "claim to completion": [
            "UPDATE bare_email SET status = 1, sent_at = now(), ses_message_id = to_hex(id), "
            f"to_address = 'lead' || id || '@example.com', subject = '{subject}', body_text = '{text}', "
            f"body_html = '{html}' WHERE id BETWEEN {first} AND {last}"
            for first, last in ranges
        ],
        "SES event": [
            "INSERT INTO bare_event (email_id, type, occurred_at, ses_message_id) "
            f"SELECT id, 1, now(), ses_message_id FROM bare_email WHERE id BETWEEN {first} AND {last}"
            for first, last in ranges
        ],
    }


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the files of that revision, and with this benchmark where it has none."""
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, revision], cwd=ROOT, check=True)
        try:
            own = Path(__file__).relative_to(ROOT)
            if not (tree / own).exists():
                (tree / own).write_text(Path(__file__).read_text())
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def measured_in(tree: Path, emails: int) -> dict[str, list[float]]:
    """The figures of the code in this folder, from a process of its own."""
    path = os.pathsep.join([str(tree), str(tree / "layers/shared")])
    command = [sys.executable, "-m", "bench.database", "--emails", str(emails), "--json"]
    environ = {**os.environ, "PYTHONPATH": path}
    finished = subprocess.run(command, cwd=tree, env=environ, check=True, capture_output=True, text=True)
    result: dict[str, list[float]] = json.loads(finished.stdout.splitlines()[-1])
    return result


def compare(emails: int, rounds: int, beside: str | None) -> None:
    with contextlib.ExitStack() as stack:
        trees = {"this code": ROOT}
        if beside:
            trees[beside] = stack.enter_context(checkout(beside))
        runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in trees}
        for _ in range(rounds):
            for name, tree in trees.items():
                runs[name].append(measured_in(tree, emails))
    rows: list[tuple[Any, ...]] = []
    bars: list[tuple[str, float]] = []
    for phase in PHASES:
        for position, figure in enumerate(FIGURES):
            medians = [statistics.median(run[phase][position] for run in found) for found in runs.values()]
            bare = statistics.median(run[f"bare {phase}"][position] for run in runs["this code"])
            ratio = f"{medians[0] / medians[1]:.2f} ×" if beside else ""
            rows.append((phase, figure, *(f"{value:,.1f}" for value in medians), f"{bare:,.1f}", ratio))
            bars += [(f"{phase}, {figure}, {name}", value) for name, value in zip(runs, medians, strict=True)]
    title = f"for each email, one campaign of {emails:,}, median of {rounds} rounds"
    header = ("phase", "figure", *runs, "bare table", f"beside {beside}" if beside else "")
    write_report("database", Table(title, header, rows), bars, "No page images, no autovacuum while it is measured.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", help="a revision of git to measure in turns with this code")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRON.items() if name.startswith("AWS_")})
    if options.json:
        with serving("bench.sink", latency_ms=5.0) as url:
            print(json.dumps(measure(options.emails, url)))
    else:
        compare(options.emails, options.rounds, options.beside)
