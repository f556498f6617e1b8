"""Triggers of the ledger: a session keeps the plan of a trigger's first call, which must not be one for few rows."""

from __future__ import annotations

import time
import uuid

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from testbed.campaigns import DAY, NO_DELAY, make_campaign

LEADS = 3000
CHANGES = {
    "end": "status = 'skipped', reason = 'late'",
    "claim": "status = 'sending', sending_day = current_date, claim_token = gen_random_uuid(), lease_until = now()",
    "record": "status = 'sent', sent_at = now(), sending_day = current_date",
}


def seconds(engine: sa.Engine, campaign_id: uuid.UUID, change: str, first: int) -> float:
    """How long all first steps take in a new session in which so many of them were changed before."""
    statement = sa.text(f"""
        UPDATE scheduled_emails SET {change} WHERE id IN (
            SELECT id FROM scheduled_emails
            WHERE campaign_id = :campaign_id AND workflow_step_number = 1 AND status = 'pending' LIMIT :most)
    """).bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
    engine.dispose()
    with engine.connect() as connection:
        for most in (first, LEADS - first):
            began = time.monotonic()
            assert connection.execute(statement, {"campaign_id": campaign_id, "most": most}).rowcount == most
        connection.rollback()
    return time.monotonic() - began


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_triggers_are_quick_for_many_rows_after_a_first_call_with_one(engine: sa.Engine, change: str) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, LEADS, [NO_DELAY, DAY], new_leads_per_day=1)
    lifecycle.start_campaign(engine, campaign_id)
    half, all_but_one = [], []
    for _ in range(3):  # in turn, as the machine may be busy at times
        half.append(seconds(engine, campaign_id, change, LEADS // 2))
        all_but_one.append(seconds(engine, campaign_id, change, 1))
    # With the plan for one row it was 25 times as long.
    assert min(all_but_one) < 8 * min(half)
