"""The tables of the ledger and its surroundings, as SQLAlchemy Core; Alembic compares the database with these.

Names and types of columns that existed before this system (LeadNexConnect) are kept, also unused ones, so that the old
application still works. Its ``timestamp`` columns are UTC without a time zone: `UtcTimestamp` reads and writes them as
aware UTC. Columns that this system added are ``timestamptz``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    Column,
    MetaData,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from sendledger.core.vocabulary import EmailStatus, LeadStatus, TemplateCategory, quoted

SCHEMA_REVISION = "0083"
"""The Alembic revision that has these tables; a test compares."""


def has_these_tables(revision: str | None) -> bool:
    """Whether a database at this revision is at SCHEMA_REVISION or at a later one.

    Functions do not have the migrations with them, so the names must tell: a number, then a letter or none. A test
    holds that this is the order of the migrations. Any other name is another application's.
    """
    return revision_order(revision or "") >= revision_order(SCHEMA_REVISION)


def revision_order(revision: str) -> tuple[int, str]:
    """Compares as the revisions follow each other: 0006 < 0006b < 0007 and 9999 < 10000."""
    parts = re.fullmatch(r"([0-9]{4,9})([a-z]?)", revision)
    return (int(parts[1]), parts[2]) if parts else (-1, "")


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

_ENUMS: dict[str, Iterable[str]] = {
    "lead_status": LeadStatus,
    "email_status": EmailStatus,
    "template_category": TemplateCategory,
    # Kept for the application that used this database before.
    "schedule_type": ("manual", "daily", "weekly", "custom", "immediate", "scheduled"),
    "verification_status": ("unverified", "email_verified", "phone_verified", "fully_verified"),
}


def existing_enum(name: str) -> ENUM:
    """One of the enum types of an existing installation; the migrations create it."""
    return ENUM(*map(str, _ENUMS[name]), name=name, create_type=False)


def one_of(column: str, words: Iterable[str]) -> str:
    """The condition of a CHECK that lets a column hold these words only."""
    return f"{column} IN ({quoted(words)})"


def required_timestamp(name: str) -> Column[dt.datetime]:
    return Column(name, TIMESTAMPTZ, nullable=False, server_default=NOW)


NEWEST = text("coalesce(created_at, '-infinity'::timestamp)")
