"""What the list of campaigns shows is read by indexes: those that need attention, and the progress of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns import campaigns
from sendledger.campaigns.campaign_progress import progress_of
from testbed.campaigns import make_campaign
from testbed.databases import plain_engine

HOURS = 400
CAMPAIGNS = 30
MANY = 5_000
TOTALS = sa.text("""
    INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count, is_total)
    SELECT c.id, what, step, date_trunc('hour', now()) - n * interval '1 hour', 2, true
    FROM campaigns c, unnest(ARRAY['sent', 'failed']) what, generate_series(1, 2) step, generate_series(1, :hours) n
    ORDER BY n
""")


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for below in node.get("Plans", []):
        yield from nodes(below)


def test_totals_are_read_from_their_index_alone(engine: sa.Engine, database_url: str) -> None:
    with engine.connect() as connection:
        ids = [make_campaign(connection, 1, name=str(number)) for number in range(CAMPAIGNS)]
        connection.execute(TOTALS, {"hours": HOURS})
        # A change that is not folded yet.
        changed = {"id": ids[0], "what": "sent"}
        connection.execute(
            sa.text(
                "INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count)"
                " VALUES (:id, :what, 1, now(), 5)"
            ),
            changed,
        )
        connection.commit()
    autocommit = plain_engine(database_url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(sa.text("VACUUM ANALYZE campaign_counts"))
    autocommit.dispose()
    statements: list[tuple[str, Any]] = []
    with engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *asked: statements.append((asked[2], asked[3])))
        progress = {each["campaign_id"]: each["by_status"] for each in progress_of(connection, ids[:20])}
        assert (progress[ids[0]]["sent"], progress[ids[1]]["sent"]) == (HOURS * 4 + 5, HOURS * 4)
        (statement, parameters) = next(each for each in statements if "campaign_counts" in each[0])
        plan: Any = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    reads = [
        node
        for node in nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
        if node.get("Relation Name") == "campaign_counts"
    ]
    by_index = [node for node in reads if node.get("Index Name") == "campaign_counts_total_key"]
    assert by_index
    assert all(node["Node Type"] == "Index Only Scan" for node in by_index)
    assert {node.get("Index Name") for node in reads} <= {"campaign_counts_total_key", "campaign_counts_change_idx"}


def test_campaigns_that_need_attention_are_found_by_indexes(connection: sa.Connection) -> None:
    stopped = make_campaign(connection, 0, name="Stopped")
    connection.execute(sa.text("UPDATE campaigns SET status = 'paused', failure_reason = 'Too many bounces.'"))
    many = "INSERT INTO campaigns (name, status, completed_at) SELECT 'Done ' || n, 'completed', now()"
    connection.execute(sa.text(f"{many} FROM generate_series(1, :many) n"), {"many": MANY})
    connection.execute(sa.text("ANALYZE campaigns"))
    statements: list[tuple[str, Any]] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *asked: statements.append((asked[2], asked[3])))
    page = campaigns.list_page(connection, 10, None, needs_attention=True)
    assert [campaign["id"] for campaign in page.items] == [stopped]
    statement, parameters = statements[0]
    plan: Any = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    reads = [node for node in nodes(top) if node.get("Relation Name") == "campaigns"]
    indexes = {node["Index Name"] for node in nodes(top) if "Index Name" in node}
    assert [node["Node Type"] for node in reads] == ["Bitmap Heap Scan"]
    assert {"campaigns_failure_reason_idx", "campaigns_open_idx"} <= indexes
