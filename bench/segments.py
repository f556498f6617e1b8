"""How long a segment takes to be counted, and its first page to be listed, for each kind of condition.

    python -m bench.segments [--leads 1000000]

All leads have an email of a campaign, which all have opened; a tenth has clicked, and a hundredth has replied. Fails if
a statement takes longer than the API allows.
"""

from __future__ import annotations

import argparse
import time
import uuid
from typing import Any

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.scheduling import make_campaign, vacuum
from bench.sending import migrated_database
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.leads import leads
from sendledger.segments import segments
from sendledger.segments.conditions import of_json
from sendledger.segments.matching_leads import matching


def conditions(campaign_id: str, batch_id: str) -> dict[str, dict[str, Any]]:
    """One of each kind."""
    kinds: dict[str, dict[str, Any]] = {
        "field": {"kind": "field", "field": "email", "operator": "contains", "values": ["7@"]},
        "custom_field": {"kind": "custom_field", "name": "seats", "operator": "at_least", "values": [25]},
        "tag": {"kind": "tag", "tag": "vip"},
        "status": {"kind": "status", "values": ["new"]},
        "batch": {"kind": "batch", "batch_id": batch_id},
        "time_zone": {"kind": "time_zone", "values": ["Europe/Berlin"]},
        "last_contacted": {"kind": "last_contacted", "after": "2020-01-01T00:00:00Z"},
        "not_contacted_for": {"kind": "not_contacted_for", "days": 1},
    }
    for contact in ("received", "opened", "clicked", "replied"):
        kinds[contact] = {"kind": "campaign", "campaign_id": campaign_id, "contact": contact}
    received, clicked, replied = kinds["received"], kinds["clicked"], kinds["replied"]
    kinds["and: received, clicked"] = {"kind": "and", "conditions": [received, clicked]}
    kinds["or: replied, clicked"] = {"kind": "or", "conditions": [replied, clicked]}
    kinds["not: received"] = {"kind": "not", "condition": received}
    kinds["or: all kinds"] = {"kind": "or", "conditions": list(kinds.values())}
    return kinds


def make_leads(engine: sa.Engine, count: int) -> str:
    """A batch of leads with countries, tags and custom fields; returns its id."""
    with engine.begin() as connection:
        batch_id = connection.scalar(sa.text("INSERT INTO lead_batches (name) VALUES ('bench') RETURNING id"))
        written = sa.text("""
            INSERT INTO leads (email, company_name, contact_name, industry, source, batch_id, country, tags,
                               custom_fields, last_contacted_at)
            SELECT 'lead' || n || '@example.com', 'Company ' || n, 'Ann Lee', 'spa', 'bench', :batch_id,
                   (ARRAY['Germany', 'France', 'Austria'])[1 + mod(n, 3)],
                   CASE WHEN mod(n, 10) = 0 THEN ARRAY['vip', 'fair'] END, jsonb_build_object('seats', mod(n, 50)),
                   now()
            FROM generate_series(1, :leads) n
        """)
        connection.execute(
            written.bindparams(sa.bindparam("batch_id", type_=sa.UUID)), {"batch_id": batch_id, "leads": count}
        )
    return str(batch_id)


def write_history(engine: sa.Engine, campaign_id: str) -> None:
    with engine.begin() as connection:
        for statement in (
            """INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
               VALUES (:id, 1, interval '0', 's', 'b')""",
            """INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for, status, sent_at)
               SELECT :id, id, 1, now(), 'sent', now() FROM leads""",
            """INSERT INTO emails (lead_id, campaign_id, subject, body_text, opened_at, clicked_at)
               SELECT id, :id, 's', 'b', now(), CASE WHEN email LIKE '%7@%' THEN now() END FROM leads""",
            """INSERT INTO replies
                   (message_id, source, from_address, subject, body_text, lead_id, campaign_id, matched_by)
               SELECT gen_random_uuid(), 'api', 'x', 's', 'b', id, :id, 'token' FROM leads WHERE email LIKE '%77@%'""",
        ):
            written = sa.text(statement).bindparams(sa.bindparam("id", uuid.UUID(campaign_id), sa.UUID))
            connection.execute(written)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leads", type=int, default=1_000_000)
    given = parser.parse_args()
    rows, bars = [], []
    with migrated_database() as url:
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0)
        batch_id = make_leads(engine, given.leads)
        campaign_id = make_campaign(engine, batch_id)
        write_history(engine, campaign_id)
        vacuum(engine)
        print(f"{given.leads:,} leads and their history are there", flush=True)
        for kind, stored in conditions(campaign_id, batch_id).items():
            condition = matching(of_json(stored))
            with engine.connect() as connection:
                began = time.perf_counter()
                count = segments.count(connection, condition)
                counted = time.perf_counter() - began
                leads.list_page(connection, 50, None, condition=condition)
                listed = time.perf_counter() - began - counted
            print(f"{kind}: {counted:.2f} s and {listed:.2f} s", flush=True)
            assert max(counted, listed) < database.LONGEST_STATEMENT, f"{kind} takes too long"
            rows.append([kind, f"{count:,}", f"{counted:.2f}", f"{listed:.2f}"])
            bars.append((f"{kind}: count and first page (s)", counted + listed))
        engine.dispose()
    header = ["condition", "leads found", "count, seconds", "first page, seconds"]
    note = f"The statement timeout of the API is {database.LONGEST_STATEMENT:g} s."
    write_report("segments", Table(f"Segments over {given.leads:,} leads", header, rows), bars, note)


if __name__ == "__main__":
    main()
