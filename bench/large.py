"""What a ledger of 30,000,000 rows costs: sizes, lookups, claim and record, vacuum, a dump, a deletion.

    python -m bench.large [--rows 30000000] [--few 10000]

The rows are those of completed campaigns of 100,000 emails over three years. They are loaded before the indexes are
built, as a restore does it; those that grow row by row are up to a third larger. The server has 2 GB of shared
buffers and does not wait for the disk, so the times are those of a processor. WAL includes page images. A million rows
need 0.7 GB of disk.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import prepare
from bench.statements import ROWS, through_the_code
from local.postgres import Postgres
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from testbed.databases import admin, migrate, plain_engine

YEARS = 3
ROWS_OF_A_CAMPAIGN = 100_000
LOADED = 65
"""How full pages are with rows that have ended. Those of a new campaign are emptier, and fill up as its emails go."""
DELETED_AT_ONCE = 10_000
ROUNDS = 9
SETTINGS = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    "fsync": "off",
    "autovacuum": "off",
}

_DEFINITIONS = sa.text("""
    SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS index, c.conname AS constraint,
           pg_get_constraintdef(c.oid) AS definition
    FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'u'
    WHERE i.indrelid = 'scheduled_emails'::regclass AND NOT i.indisprimary ORDER BY 1
""")
_FILL_FACTOR = sa.text("""
    SELECT option_value FROM pg_class, pg_options_to_table(reloptions)
    WHERE oid = 'scheduled_emails'::regclass AND option_name = 'fillfactor'
""")
# One of 25 was skipped. Triggers are off, as the rows refer to no leads.
_CAMPAIGN = sa.text(f"""
    WITH c AS (
        INSERT INTO campaigns (name, status, created_at) VALUES ('old', 'completed', :at) RETURNING id
    ), s AS (
        INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
        SELECT id, 1, interval '0', 's', 't' FROM c
    ), row AS MATERIALIZED (
        SELECT c.id AS campaign_id, n, mod(n, 25) > 0 AS sent, CAST(:at AS timestamptz) + n * interval '10 ms' AS at
        FROM c CROSS JOIN generate_series(1, {ROWS_OF_A_CAMPAIGN}) n
    )
    INSERT INTO scheduled_emails (campaign_id, lead_id, template_id, workflow_step_number, scheduled_for, status,
                                  reason, claim_token, send_started_at, sent_at, ses_message_id, email_id, created_at)
    SELECT campaign_id, gen_random_uuid(), campaign_id, 1, at, CASE WHEN sent THEN 'sent' ELSE 'skipped' END,
           CASE WHEN NOT sent THEN 'suppressed' END, CASE WHEN sent THEN campaign_id END, CASE WHEN sent THEN at END,
           CASE WHEN sent THEN at END, CASE WHEN sent THEN '0100018f00000000-' || lead || '-000000' END,
           CASE WHEN sent THEN lead END, :at
    FROM row CROSS JOIN LATERAL (SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid)) made (lead)
""").bindparams(sa.bindparam("at", type_=sa.DateTime(True)))


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu: float
    wal: int

    def __str__(self) -> str:
        return f"{self.seconds:,.0f} s, {self.cpu:,.1f} s of CPU, {self.wal / 1e6:,.0f} MB of WAL"


@contextlib.contextmanager
def large_server() -> Iterator[Postgres]:
    """A migrated server with `SETTINGS`."""
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        first = Postgres(Path(folder) / "pg")
        migrate(first.url())
        with admin(first) as connection:
            for name, value in SETTINGS.items():
                connection.execute(sa.text(f"ALTER SYSTEM SET {name} = '{value}'"))
        first.stop()
        server = Postgres(Path(folder) / "pg")
        yield server
        server.stop()


def cost(connection: sa.Connection, work: Callable[[], object]) -> Cost:
    """What some work takes, the CPU time of this connection's process, and what the whole server writes meanwhile."""
    process = connection.scalar(sa.text("SELECT pg_backend_pid()"))

    def used() -> tuple[float, float, int]:
        written = connection.scalar(sa.text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))
        computed = Path(f"/proc/{process}/schedstat").read_text().split()[0]
        return time.perf_counter(), int(computed) / 1e9, int(written or 0)

    before = used()
    work()
    after = used()
    return Cost(after[0] - before[0], after[1] - before[1], after[2] - before[2])


def statement(connection: sa.Connection, sql: str) -> Cost:
    return cost(connection, lambda: connection.execute(sa.text(sql)))


def load(connection: sa.Connection, rows: int) -> Cost:
    """Write the history, then build the indexes; by an autocommit connection."""

    def write() -> None:
        definitions = connection.execute(_DEFINITIONS).mappings().all()
        for each in definitions:
            name = each["constraint"]
            drop = f"ALTER TABLE scheduled_emails DROP CONSTRAINT {name}" if name else f"DROP INDEX {each['name']}"
            connection.execute(sa.text(drop))
        connection.execute(sa.text("SET session_replication_role = replica"))
        fill = int(connection.scalar(_FILL_FACTOR) or 100)
        connection.execute(sa.text(f"ALTER TABLE scheduled_emails SET (fillfactor = {LOADED})"))
        campaigns = max(1, rows // ROWS_OF_A_CAMPAIGN)
        start = connection.execute(sa.text(f"SELECT now() - interval '{YEARS} years', now()")).one()
        for number in range(campaigns):
            connection.execute(_CAMPAIGN, {"at": start[0] + (start[1] - start[0]) * number / campaigns})
        connection.execute(sa.text(f"ALTER TABLE scheduled_emails SET (fillfactor = {fill})"))
        connection.execute(sa.text("SET session_replication_role = origin"))
        for each in definitions:
            name, made = each["constraint"], f"ADD CONSTRAINT {each['constraint']} {each['definition']}"
            connection.execute(sa.text(f"ALTER TABLE scheduled_emails {made}" if name else each["index"]))

    return cost(connection, write)


def sizes(connection: sa.Connection) -> dict[str, float]:
    """The bytes for each row of the ledger and of each of its indexes."""
    found = connection.execute(
        sa.text("""
            SELECT c.relname, pg_relation_size(c.oid) / t.reltuples FROM pg_class t
            JOIN pg_class c ON c.oid = t.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = t.oid)
            WHERE t.oid = 'scheduled_emails'::regclass ORDER BY c.relkind DESC, 2 DESC
        """)
    )
    return {row[0]: float(row[1]) for row in found if row[1] > 1}


def pages_of_a_lookup(connection: sa.Connection, rows: int) -> int:
    """How many pages are read to find one row by its id; one of them is the row's own."""
    lookup = sa.text(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT status FROM scheduled_emails WHERE id = {rows // 2}"
    )
    connection.execute(lookup).close()  # the first one reads the index's own description too
    plan = connection.scalar(lookup)
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


def claims_and_records(urls: list[str]) -> list[list[float]]:
    """The median milliseconds of a claim and of a record of 1,000 rows in each of these databases, in turns."""
    engines = []
    for url in urls:
        prepare(url, ROWS * (ROUNDS + 1))
        engines.append(database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0))
    times: list[list[tuple[float, float]]] = [[] for _ in urls]
    for round_ in range(ROUNDS + 1):
        for engine, taken in zip(engines, times, strict=True):
            took = through_the_code(engine)
            if round_:
                taken.append(took)
    for engine in engines:
        engine.dispose()
    return [[statistics.median(part) * 1000 for part in zip(*taken, strict=True)] for taken in times]


def delete(connection: sa.Connection, rows: int) -> None:
    for first in range(1, rows + 1, DELETED_AT_ONCE):
        last = min(rows, first + DELETED_AT_ONCE - 1)
        connection.execute(sa.text(f"DELETE FROM scheduled_emails WHERE id BETWEEN {first} AND {last}"))


def dump(connection: sa.Connection, rows: int) -> tuple[Cost, int]:
    """What pg_dump does with this table, here with its first rows, and the size of the result in bytes."""
    some = f"SELECT * FROM scheduled_emails WHERE id <= {rows}"
    took = statement(connection, f"COPY ({some}) TO PROGRAM 'wc -c > dump-size'")
    return took, int(connection.scalar(sa.text("SELECT pg_read_file('dump-size')")) or 0)


def measure(rows: int, few: int) -> None:
    found: list[tuple[str, str]] = []

    def say(what: str, value: object) -> None:
        print(f"{time.strftime('%H:%M:%S')} {what}: {value}", flush=True)
        found.append((what, str(value)))

    with large_server() as server, admin(server) as connection:
        connection.execute(sa.text("CREATE DATABASE few"))
        migrate(server.url("few"))
        with plain_engine(server.url("few"), isolation_level="AUTOCOMMIT").connect() as other:
            load(other, few)
        say("load and build the indexes", load(connection, rows))
        say("first vacuum, which freezes all rows", statement(connection, "VACUUM (FREEZE, ANALYZE) scheduled_emails"))
        bytes_of = sizes(connection)
        say("bytes for each row, all", f"{sum(bytes_of.values()):,.0f}")
        for name, size in bytes_of.items():
            say(f"bytes for each row, {name}", f"{size:,.1f}")
        say("pages read by a lookup by id", pages_of_a_lookup(connection, rows))
        (claim, record), (claim_few, record_few) = claims_and_records([server.url(), server.url("few")])
        say(f"claim of {ROWS:,}", f"{claim:.1f} ms, {claim / claim_few:.2f} × that with {few:,} rows")
        say(f"record of {ROWS:,}", f"{record:.1f} ms, {record / record_few:.2f} × that with {few:,} rows")
        part = rows // 10
        took, size = dump(connection, part)
        say(f"dump {part:,} rows", f"{took}; {size / 1e9:.2f} GB")
        say(f"delete {part:,} rows", cost(connection, lambda: delete(connection, part)))
        say("vacuum after it", statement(connection, "VACUUM scheduled_emails"))
        say("vacuum with nothing to do", statement(connection, "VACUUM scheduled_emails"))
    write_report(
        "large",
        Table(f"a ledger of {rows:,} rows", ("what", "result"), found),
        list(bytes_of.items()),
        "The bars are the bytes for each row, in the table and in each index.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000_000)
    parser.add_argument("--few", type=int, default=ROWS_OF_A_CAMPAIGN)
    options = parser.parse_args()
    measure(options.rows, options.few)
