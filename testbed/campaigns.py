"""Campaigns for tests, written straight to the database, and queries for their results."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from sendledger.core.ordered_ids import ordered_ids
from sendledger.core.tables import (
    campaigns,
    email_templates,
    lead_batches,
    leads,
    scheduled_emails,
    workflow_step_variants,
    workflow_steps,
    workflows,
)

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
NO_DELAY = dt.timedelta(0)


def make_batch(connection: sa.Connection, addresses: Sequence[str | None], **lead: Any) -> uuid.UUID:
    """A lead batch with one lead for each address. Their ids are in this order, as those of an import are."""
    batch_id: uuid.UUID = connection.execute(
        sa.insert(lead_batches).values(name="batch").returning(lead_batches.c.id)
    ).scalar_one()
    if addresses:
        connection.execute(
            sa.insert(leads),
            [
                {
                    "id": id_,
                    "email": address,
                    "company_name": f"Company {number}",
                    "contact_name": f"Ann{number} Lee",
                    "industry": "spa",
                    "source": "test",
                    "batch_id": batch_id,
                    **lead,
                }
                for number, (id_, address) in enumerate(zip(ordered_ids(len(addresses)), addresses, strict=True))
            ],
        )
    return batch_id


def make_template(connection: sa.Connection, **content: Any) -> uuid.UUID:
    values = {
        "name": "Hello",
        "subject": "Hello {{ first_name }}",
        "body_text": "Dear {{ contact_name }} of {{ company_name }}",
        **content,
    }
    template_id: uuid.UUID = connection.execute(
        sa.insert(email_templates).values(values).returning(email_templates.c.id)
    ).scalar_one()
    return template_id


def make_workflow(connection: sa.Connection, delays: Sequence[dt.timedelta], **content: Any) -> uuid.UUID:
    """A workflow with one step and one template for each delay."""
    workflow_id: uuid.UUID = connection.execute(
        sa.insert(workflows).values(name="flow", steps_count=len(delays)).returning(workflows.c.id)
    ).scalar_one()
    for number, delay in enumerate(delays, 1):
        template_id = make_template(connection, **{"subject": f"Step {number} for {{{{ first_name }}}}", **content})
        connection.execute(
            sa.insert(workflow_steps).values(
                workflow_id=workflow_id, step_number=number, delay=delay, email_template_id=template_id
            )
        )
    return workflow_id


def make_variants(connection: sa.Connection, workflow_id: uuid.UUID, weights: Sequence[int], step: int = 1) -> None:
    """Give a step of a workflow these variants, with the subjects "A", "B" and so on; bodies name step and variant."""
    own = workflow_steps.c
    of_step = sa.and_(own.workflow_id == workflow_id, own.step_number == step)
    step_id = connection.execute(sa.select(own.id).where(of_step)).scalar_one()
    for number, weight in enumerate(weights, 1):
        letter = chr(ord("A") + number - 1)
        template_id = make_template(
            connection, subject=letter, body_text=f"Step {step} {letter} for {{{{ first_name }}}}"
        )
        connection.execute(
            sa.insert(workflow_step_variants).values(
                workflow_step_id=step_id, variant=number, email_template_id=template_id, weight=weight
            )
        )
        if number == 1:
            connection.execute(sa.update(workflow_steps).where(of_step).values(email_template_id=template_id))


def make_campaign(
    connection: sa.Connection,
    addresses: Sequence[str | None] | int = 3,
    delays: Sequence[dt.timedelta] | None = None,
    **values: Any,
) -> uuid.UUID:
    """A draft campaign with its own batch: a workflow with these delays, or without them a single template.

    Commits, so that other connections see it.
    """
    if isinstance(addresses, int):
        addresses = [f"lead{number}-{uuid.uuid4().hex[:8]}@example.com" for number in range(addresses)]
    if "batch_ids" not in values:
        values["batch_ids"] = [make_batch(connection, addresses)]
    if delays is not None:
        values.setdefault("workflow_id", make_workflow(connection, delays))
    else:
        values.setdefault("email_template_id", make_template(connection))
    campaign_id: uuid.UUID = connection.execute(
        sa.insert(campaigns).values({"name": "Campaign", **values}).returning(campaigns.c.id)
    ).scalar_one()
    connection.commit()
    return campaign_id


def campaign_row(engine: sa.Engine, campaign_id: uuid.UUID) -> sa.RowMapping:
    with engine.connect() as connection:
        return connection.execute(sa.select(campaigns).where(campaigns.c.id == campaign_id)).mappings().one()


def rows_of(engine: sa.Engine, campaign_id: uuid.UUID) -> list[sa.RowMapping]:
    """The campaign's rows of the ledger, by lead and step."""
    query = sa.select(scheduled_emails).where(scheduled_emails.c.campaign_id == campaign_id)
    ordered = query.order_by(scheduled_emails.c.lead_id, scheduled_emails.c.workflow_step_number)
    with engine.connect() as connection:
        return list(connection.execute(ordered).mappings())


def statuses(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[str, int]:
    return dict(Counter(row["status"] for row in rows_of(engine, campaign_id)))


def pass_time(engine: sa.Engine, time: dt.timedelta) -> None:
    """Let time pass: due times are the database's, so all times in it move into the past."""
    moved = {
        "scheduled_emails": ("scheduled_for", "lease_until", "send_started_at", "sent_at"),
        "campaigns": (
            "actual_started_at",
            "scheduled_start_at",
            "paused_at",
            "resumed_at",
            "late_hold_until",
            "content_changed_at",
            "winner_at",
        ),
        "campaign_lanes": ("late_hold_until",),
        "campaign_steps": ("winner_at",),
        "sender_state": ("last_tick_at", "last_tick_ended_at", "rate_reserved_until", "stopped_until"),
    }
    with engine.begin() as connection:
        # Senders may be at work: their rows would be locked in another order than these.
        connection.execute(
            sa.text(
                "LOCK TABLE sender_state, campaigns, campaign_lanes, campaign_steps, scheduled_emails IN EXCLUSIVE MODE"
            )
        )
        for table, columns in moved.items():
            assignments = ", ".join(f"{column} = {column} - :time" for column in columns)
            connection.execute(
                sa.text(f"UPDATE {table} SET {assignments}").bindparams(sa.bindparam("time", type_=sa.Interval)),
                {"time": time},
            )
