"""What partitions of the ledger would cost and save: the statements of a day, and the removal of a month.

    python -m bench.partitions [--rows 3000000]

The same rows, with the same indexes, in one table, in a partition for each month of three years, and in 16 partitions
by campaign. Each unique index has the partition's column too, as PostgreSQL requires. Statements are planned each time,
as the product's are. Times are medians of 15, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import sqlalchemy as sa

from bench.large import YEARS, Cost, cost, large_server, load
from bench.report import Table, write_report
from sendledger.core.ledger_rules import is_open, is_pending
from testbed.databases import admin

ONE = "scheduled_emails"
VARIANTS = {ONE: "", "by_month": "created_at", "by_campaign": "campaign_id"}
MONTHS = YEARS * 12
HASHED = 16
REPEATS = 15
DUE = 20_000

# {0} is the table.
STATEMENTS = {
    "choose 500 due rows": f"""
        SELECT due.id FROM campaigns c CROSS JOIN LATERAL (
            SELECT e.id FROM {{0}} e WHERE e.campaign_id = c.id AND {is_pending("e")} AND e.scheduled_for <= now()
            ORDER BY e.scheduled_for, e.id LIMIT 500 FOR UPDATE OF e SKIP LOCKED) due
        WHERE c.id = :campaign_id""",
    "read 500 rows by id": "SELECT id, status, claim_token FROM {0} WHERE id = ANY(:ids)",
    "update 500 rows by id": "UPDATE {0} SET lease_until = now() WHERE id = ANY(:ids)",
    "the emails of a lead": "SELECT id, status FROM {0} WHERE lead_id = :lead_id",
    "a page of a campaign": """
        SELECT id, status FROM {0} WHERE campaign_id >= :campaign_id AND campaign_id <= :campaign_id
        ORDER BY campaign_id, id LIMIT 51""",
}
_PREPARE = f"""
    SET session_replication_role = replica;
    INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for)
    SELECT (SELECT id FROM campaigns ORDER BY created_at DESC LIMIT 1), gen_random_uuid(), 1, now() - interval '1 hour'
    FROM generate_series(1, {DUE});
    SET session_replication_role = origin;
"""


def divide(connection: sa.Connection, variant: str, column: str) -> None:
    """Copy the ledger into a table of these partitions, then build its indexes."""
    run = connection.exec_driver_sql
    how = "HASH" if column == "campaign_id" else "RANGE"
    run(f"CREATE TABLE {variant} (LIKE {ONE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY {how} ({column})")
    for number in range(HASHED if how == "HASH" else MONTHS):
        start, end = (f"now() - interval '{YEARS} years' * {(MONTHS - n) / MONTHS}" for n in (number, number + 1))
        values = f"WITH (MODULUS {HASHED}, REMAINDER {number})"
        if how == "RANGE":
            at = connection.execute(sa.text(f"SELECT {start} - interval '1 day', {end} - interval '1 day'")).one()
            first = "MINVALUE" if number == 0 else f"'{at[0].date()}'"
            last = "MAXVALUE" if number == MONTHS - 1 else f"'{at[1].date()}'"
            values = f"FROM ({first}) TO ({last})"
        run(f"CREATE TABLE {variant}_{number} PARTITION OF {variant} FOR VALUES {values} WITH (fillfactor = 50)")
    run(f"INSERT INTO {variant} SELECT * FROM {ONE}")
    definitions = f"SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '{ONE}'::regclass"
    for definition in connection.execute(sa.text(definitions)).scalars():
        made = definition.replace("INDEX ", f"INDEX {variant}_", 1).replace(f"public.{ONE}", variant)
        if "UNIQUE" in made and column not in made:
            made = f"{made.removesuffix(')')}, {column})"
        run(made)


def medians(connection: sa.Connection) -> dict[str, dict[str, float]]:
    """The milliseconds of each statement in each variant."""
    newest = connection.execute(sa.text(f"SELECT campaign_id, lead_id FROM {ONE} ORDER BY id DESC LIMIT 1")).one()
    ids = list(connection.execute(sa.text(f"SELECT id FROM {ONE} ORDER BY id DESC LIMIT 500")).scalars())
    parameters = {"campaign_id": newest.campaign_id, "lead_id": newest.lead_id, "ids": ids}
    times: dict[str, dict[str, list[float]]] = {name: {variant: [] for variant in VARIANTS} for name in STATEMENTS}
    for _ in range(REPEATS):
        for name, sql in STATEMENTS.items():
            for variant in VARIANTS:
                statement = sa.text(sql.format(variant))
                wanted = {key: value for key, value in parameters.items() if f":{key}" in sql}
                started = time.perf_counter()
                connection.execute(statement, wanted).close()
                times[name][variant].append((time.perf_counter() - started) * 1000)
    return {
        name: {variant: statistics.median(taken) for variant, taken in each.items()} for name, each in times.items()
    }


def removal(connection: sa.Connection, variant: str, rows: int) -> Cost:
    """What it takes until a month is gone and its room can be used again."""
    run = connection.exec_driver_sql
    work: Callable[[], object] = lambda: run(f"DROP TABLE {variant}_0")  # noqa: E731
    if variant != "by_month":

        def work() -> None:
            run(f"DELETE FROM {variant} WHERE id <= {rows // MONTHS}")
            run(f"VACUUM {variant}")

    return cost(connection, work)


def measure(rows: int) -> None:
    with large_server() as server, admin(server) as connection:
        load(connection, rows)
        connection.exec_driver_sql(_PREPARE)
        for variant, column in VARIANTS.items():
            if column:
                divide(connection, variant, column)
        connection.exec_driver_sql("VACUUM (FREEZE, ANALYZE)")
        found = medians(connection)
        removed = {variant: removal(connection, variant, rows) for variant in VARIANTS}
    table = [
        (name, *(f"{each[variant]:.1f} ms, {each[variant] / each[ONE]:.2f} ×" for variant in VARIANTS))
        for name, each in found.items()
    ]
    table.append(("remove a month", *(f"{each.seconds:.2f} s, {each.wal / 1e6:,.0f} MB" for each in removed.values())))
    write_report(
        "partitions",
        Table(f"{rows:,} rows", ("what", "one table", f"{MONTHS} months", f"{HASHED} by campaign"), table),
        [(f"{name}, {variant}", each[variant]) for name, each in found.items() for variant in VARIANTS],
        f"Open rows, of {DUE:,} that are due, are those of one campaign: {is_open()}.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    measure(parser.parse_args().rows)
