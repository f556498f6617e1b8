"""What the code around the statements costs: claim and record of 1,000 rows over TCP, beside the bare statements.

    python -m bench.statements [--rounds 15]

The bare side runs the same SQL with the same parameters over pg8000 alone, without SQLAlchemy, row objects and checks,
on a socket with TCP_NODELAY. A third side leaves Nagle's algorithm on, as pg8000 does by itself.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

import pg8000.dbapi
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from bench.report import Table, write_report
from bench.sending import HTML, SUBJECT, TEXT, migrated_database, prepare
from sendledger.content.render_email import RenderedEmail
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.ledger import claim_emails, record_results
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.ledger.record_results import SendResult
from sendledger.ses.answers import Answer, SendOutcome
from testbed.database_proxy import DatabaseProxy

ROWS = 1000


def results_for(claimed: list[ClaimedEmail]) -> list[SendResult]:
    rendered = RenderedEmail(SUBJECT, TEXT, HTML)
    return [SendResult(email, SendOutcome(Answer.SENT, "m" * 60), rendered, time.monotonic()) for email in claimed]


def through_the_code(engine: sa.Engine) -> tuple[float, float]:
    token = uuid.uuid4()
    started = time.perf_counter()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, ROWS, token)
    claim_seconds = time.perf_counter() - started
    assert len(claimed) == ROWS
    with engine.begin() as connection:
        claim_emails.fence(connection, claimed, token)
    results = results_for(claimed)
    started = time.perf_counter()
    with engine.begin() as connection:
        record_results.record(connection, results, token)
    return claim_seconds, time.perf_counter() - started


def bare(engine: sa.Engine, connection: pg8000.dbapi.Connection) -> tuple[float, float]:
    """The same statements, compiled once, over a plain connection."""
    token = uuid.uuid4()
    cursor = connection.cursor()

    def run(statement: sa.TextClause, parameters: dict[str, object]) -> list[dict[str, Any]]:
        compiled = statement.compile(dialect=engine.dialect)
        values = compiled.construct_params(parameters)
        cursor.execute(str(compiled), [values[name] for name in compiled.positiontup or ()])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []

    started = time.perf_counter()
    parameters = {"batch": ROWS, "token": token, "lease": claim_emails.LEASE, "alone": False}
    rows = run(claim_emails._CLAIM, parameters)
    connection.commit()
    claim_seconds = time.perf_counter() - started
    assert len(rows) == ROWS
    claimed = [ClaimedEmail(row["id"], row["campaign_id"], row["workflow_step_number"], row) for row in rows]
    with engine.begin() as other:
        claim_emails.fence(other, claimed, token)
    written = [record_results._row(result, time.monotonic()) for result in results_for(claimed)]
    recorded = record_results._parameters(written, token, first_hand=True)
    campaigns, leads = (
        sorted({email.campaign_id for email in claimed}),
        sorted(email.lead["lead_id"] for email in claimed if email.lead),
    )
    started = time.perf_counter()
    run(record_results._LOCK_CAMPAIGNS, {"ids": campaigns})
    run(record_results._LOCK_LEADS, {"ids": leads})
    run(record_results._RECORD, recorded)
    connection.commit()
    return claim_seconds, time.perf_counter() - started


def plain_connection(url: str, no_delay: bool) -> pg8000.dbapi.Connection:
    address = make_url(url)
    opened = socket.create_connection((address.host, address.port))
    if no_delay:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return pg8000.dbapi.connect(user="postgres", sock=opened, ssl_context=False)


def compare(rounds: int) -> None:
    sides: dict[str, list[tuple[float, float]]] = {}
    # The embedded server listens on a Unix socket only; the proxy adds the same to every side.
    with migrated_database() as server_url, DatabaseProxy(server_url) as proxy:
        url = proxy.url
        prepare(url, ROWS * 3 * (rounds + 1))
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
        quick, slow = plain_connection(url, True), plain_connection(url, False)
        runs: dict[str, Callable[[], tuple[float, float]]] = {
            "Sendledger": lambda: through_the_code(engine),
            "bare statements": lambda: bare(engine, quick),
            "bare statements with Nagle's algorithm": lambda: bare(engine, slow),
        }
        for round_ in range(rounds + 1):
            for name, run in runs.items():
                took = run()
                if round_:
                    sides.setdefault(name, []).append(took)
        engine.dispose()
        quick.close()
        slow.close()
    medians = {
        name: [statistics.median(part) * 1000 for part in zip(*pairs, strict=True)] for name, pairs in sides.items()
    }
    ratios = [
        statistics.median(a[part] / b[part] for a, b in zip(sides["Sendledger"], sides["bare statements"], strict=True))
        for part in (0, 1)
    ]
    write_report(
        "statements",
        Table(
            f"median ms for {ROWS:,} rows over TCP, {rounds} rounds",
            ("what", "claim", "record"),
            [(name, f"{claim:.1f}", f"{record:.1f}") for name, (claim, record) in medians.items()],
        ),
        [
            (f"{name}, {part}", value)
            for name, values in medians.items()
            for part, value in zip(("claim", "record"), values, strict=True)
        ],
        f"Ratio to the bare statements, median of pairs: claim {ratios[0]:.2f}, record {ratios[1]:.2f}.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    compare(parser.parse_args().rounds)
