"""Claimed rows: no index has them, so it must be certain that `claims` does; and what that saves."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core import tables
from sendledger.core.tables import claims
from sendledger.leads import leads
from sendledger.ledger import claim_emails, scheduled_emails, sweep
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.sending import tick
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import make_campaign, rows_of, statuses

TOKEN = uuid.UUID(int=1)
LEASE_IS_OVER = sa.text("UPDATE scheduled_emails SET lease_until = now() - interval '1 s' WHERE status = 'sending'")


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    started = make_campaign(connection, 3)
    lifecycle.start_campaign(engine, started)
    return started


def claim(engine: sa.Engine) -> list[ClaimedEmail]:
    with engine.begin() as connection:
        return claim_emails.claim(connection, 100, TOKEN)


def noted(connection: sa.Connection) -> list[tuple[uuid.UUID, list[int]]]:
    rows = connection.execute(sa.select(claims.c.claim_token, claims.c.row_ids).order_by(claims.c.id))
    return [(token, list(ids)) for token, ids in rows]


def swept(engine: sa.Engine) -> sweep.Swept:
    assert sweep.forget_settled_claims(engine, time.monotonic() + 60)
    with engine.begin() as connection:
        return sweep.sweep(connection)


def test_a_claim_is_noted_once_with_all_its_rows(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    claimed = claim(engine)
    with engine.begin() as opened:
        claim_emails.fence(opened, claimed, TOKEN)
    assert noted(connection) == [(TOKEN, [email.id for email in claimed])]


def test_rows_are_noted_whatever_statement_claims_them(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    other = uuid.UUID(int=2)
    claimed = claim(engine)
    connection.execute(
        sa.text("UPDATE scheduled_emails SET claim_token = :token, send_started_at = now() WHERE id = :id").bindparams(
            sa.bindparam("token", type_=sa.UUID)
        ),
        {"token": other, "id": claimed[1].id},
    )
    assert noted(connection)[1:] == [(other, [claimed[1].id])]


def test_rows_that_the_same_sender_claims_again_are_noted_again(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    claimed = claim(engine)
    with engine.begin() as opened:
        claim_emails.release(opened, claimed, TOKEN)
    assert swept(engine).returned == 0
    assert noted(connection) == []
    connection.rollback()
    assert claim(engine) == claimed
    connection.execute(LEASE_IS_OVER)
    connection.commit()
    assert swept(engine).returned == 3
    assert statuses(engine, campaign_id) == {"pending": 3}


def test_claims_are_kept_while_one_of_their_rows_is_open(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    claimed = claim(engine)
    with engine.begin() as opened:
        claim_emails.release(opened, claimed[1:], TOKEN)
    swept(engine)
    assert len(noted(connection)) == 1


@pytest.fixture
def left_behind(engine: sa.Engine, campaign_id: uuid.UUID) -> int:
    """The number of claims that a release from before them has left, with rows that it has long sent."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO claims (claim_token, row_ids)
                SELECT gen_random_uuid(), (SELECT array_agg(id) FROM scheduled_emails)
                FROM generate_series(1, 2 * :at_once + 1)
            """),
            {"at_once": sweep.CLAIMS_AT_ONCE},
        )
    return 2 * sweep.CLAIMS_AT_ONCE + 1


def test_many_settled_claims_are_removed_in_parts_until_the_time_is_over(
    engine: sa.Engine, connection: sa.Connection, left_behind: int
) -> None:
    assert not sweep.forget_settled_claims(engine, time.monotonic())
    assert len(noted(connection)) == left_behind - sweep.CLAIMS_AT_ONCE
    connection.rollback()
    assert sweep.forget_settled_claims(engine, time.monotonic() + 60)
    assert noted(connection) == []


def test_settled_claims_are_found_behind_as_many_open_ones(
    engine: sa.Engine, connection: sa.Connection, left_behind: int
) -> None:
    connection.execute(
        sa.text("UPDATE scheduled_emails SET status = 'sending', claim_token = :token, lease_until = now()").bindparams(
            sa.bindparam("token", TOKEN, type_=sa.UUID)
        )
    )
    connection.execute(sa.update(claims).where(claims.c.id < left_behind).values(claim_token=TOKEN))
    connection.commit()
    assert sweep.forget_settled_claims(engine, time.monotonic() + 60)
    assert len(noted(connection)) == left_behind


def test_tick_without_time_for_all_settled_claims_sends_and_sweeps_later(
    monkeypatch: pytest.MonkeyPatch,
    resources: Resources,
    engine: sa.Engine,
    campaign_id: uuid.UUID,
    left_behind: int,
) -> None:
    monkeypatch.setattr(tick, "SWEEP_SECONDS", 0.0)
    unswept: list[sa.Connection] = []
    monkeypatch.setattr(sweep, "sweep", unswept.append)
    assert send_due_emails(resources, 60.0).sent == 3
    assert unswept == []


def test_nothing_is_noted_after_a_tick_and_the_next(
    resources: Resources, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    send_due_emails(resources, 60.0)
    assert [len(ids) for _, ids in noted(connection)] == [3]
    connection.rollback()
    send_due_emails(resources, 60.0)
    assert noted(connection) == []


def test_claimed_rows_are_listed_and_a_pause_says_how_many_are_under_way(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    claimed = claim(engine)
    with engine.begin() as opened:
        claim_emails.fence(opened, claimed[:2], TOKEN)
    for of_campaign in (campaign_id, None):
        page = scheduled_emails.list_page(connection, 10, None, campaign_id=of_campaign, status="sending")
        assert [row["id"] for row in page.items] == [email.id for email in claimed]
    assert lifecycle.pause_campaign(engine, campaign_id).emails_in_flight == 2


def test_claim_and_fence_write_no_index_entries(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    updates = sa.text(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'scheduled_emails'"
    )
    claimed = claim(engine)
    with engine.begin() as opened:
        claim_emails.fence(opened, claimed, TOKEN)
        updated, without_index_entries = opened.execute(updates).one()
    assert without_index_entries == updated >= 3


@pytest.mark.parametrize(
    "end",
    [{"reason": "late"}, {"sent_at": sa.func.now()}, {"failed_at": sa.func.now()}],
    ids=lambda end: next(iter(end)),
)
def test_an_open_row_cannot_look_like_one_that_has_ended(
    connection: sa.Connection, campaign_id: uuid.UUID, end: dict[str, Any]
) -> None:
    """The index of open rows would not have it: it would be neither sent nor missed."""
    with pytest.raises(sa.exc.DBAPIError, match="open_has_no_end"):
        connection.execute(sa.update(tables.scheduled_emails).values(end))


def test_rows_forget_the_emails_that_are_deleted_with_their_lead(
    resources: Resources, engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    send_due_emails(resources, 60.0)
    first, *others = rows_of(engine, campaign_id)
    leads.delete(connection, first["lead_id"])
    connection.commit()
    kept = {row["id"]: row["email_id"] for row in rows_of(engine, campaign_id)}
    assert kept == {first["id"]: None, **{row["id"]: row["email_id"] for row in others}}
    assert None not in [row["email_id"] for row in others]
