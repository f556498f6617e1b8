"""The tables of the ledger and its surroundings, as SQLAlchemy Core; Alembic compares the database with these.

Names and types of columns that existed before this system (LeadNexConnect) are kept, unused ones included, so that
the old application can go on beside this one. Its ``timestamp`` columns hold UTC without saying so: `UtcTimestamp`
reads and writes them as aware UTC. Columns that this system added are ``timestamptz``.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    Column,
    MetaData,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

SCHEMA_REVISION = "0017"
"""The Alembic revision that has these tables; a test compares."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


class UtcTimestamp(TypeDecorator[dt.datetime]):
    """A ``timestamp without time zone`` that holds UTC; aware UTC on the Python side."""

    impl = TIMESTAMP(timezone=False)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return value.astimezone(dt.UTC).replace(tzinfo=None) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        return value.replace(tzinfo=dt.UTC) if value is not None else None


RANDOM_UUID = text("gen_random_uuid()")
NOW = text("now()")
TIMESTAMPTZ = TIMESTAMP(timezone=True)

CAMPAIGN_STATUSES = (
    "draft",
    "scheduled",
    "running",
    "paused",
    "completed",
    "cancelled",
    "failed",
    "archived",
    "active",
)
"""`active` is only ever written by the old application; `migrate-existing-campaigns` turns it into `running`."""
CAMPAIGN_TYPES = ("outreach", "lead_generation", "fully_automated", "automated", "manual")
"""`automated` and `manual` are only ever written by the old application; both mean `outreach`."""
SCHEDULED_EMAIL_STATUSES = ("pending", "sending", "sent", "failed", "skipped", "cancelled")
TERMINAL_STATUSES = ("sent", "failed", "skipped", "cancelled")
COUNTED = (*SCHEDULED_EMAIL_STATUSES, "delivered", "opened", "clicked", "bounced")
LEAD_STATUSES = (
    "new",
    "contacted",
    "follow_up_1",
    "follow_up_2",
    "responded",
    "interested",
    "not_interested",
    "invalid",
    "converted",
)
EMAIL_STATUSES = ("queued", "sent", "delivered", "opened", "clicked", "bounced", "failed", "spam")
DELIVERY_STATUSES = ("sent", "delayed", "delivered", "bounced", "complained")
EMAIL_EVENT_TYPES = (
    "Send",
    "Delivery",
    "Bounce",
    "Complaint",
    "Reject",
    "Open",
    "Click",
    "Rendering Failure",
    "DeliveryDelay",
    "Subscription",
)
"""As SES spells them."""
LEFT_OUT_REASONS = (
    "no_address",
    "invalid_address",
    "lead_responded",
    "lead_not_interested",
    "lead_converted",
    "lead_invalid",
    "suppressed",
    "duplicate_address",
)
"""Why a start leaves a lead out; see schedule_emails.py."""
LEAD_BATCH_STATUSES = ("pending", "importing", "completed", "failed", "deleting")
EXPORT_KINDS = ("leads", "campaign_ledger")
EXPORT_STATUSES = ("pending", "running", "completed", "failed")
API_KEY_ROLES = ("viewer", "editor", "sender", "admin")
TEMPLATE_CATEGORIES = (
    "initial_outreach",
    "follow_up",
    "meeting_request",
    "introduction",
    "product_demo",
    "partnership",
    "general",
    "other",
)
_ENUMS = {
    "lead_status": LEAD_STATUSES,
    "email_status": EMAIL_STATUSES,
    "template_category": TEMPLATE_CATEGORIES,
    "schedule_type": ("manual", "daily", "weekly", "custom", "immediate", "scheduled"),
    "verification_status": ("unverified", "email_verified", "phone_verified", "fully_verified"),
}


def existing_enum(name: str) -> ENUM:
    """One of the enum types of an existing installation; the migrations create it."""
    return ENUM(*_ENUMS[name], name=name, create_type=False)


def one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def required_timestamp(name: str) -> Column[dt.datetime]:
    return Column(name, TIMESTAMPTZ, nullable=False, server_default=NOW)


NEWEST = text("coalesce(created_at, '-infinity'::timestamp)")
