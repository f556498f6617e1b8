"""Tables of the sending policy: schedules, and the lanes that the emails of a campaign with a policy wait in."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    UUID,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import RANDOM_UUID, metadata, one_of, required_timestamp
from sendledger.core.vocabulary import ZoneOf

sending_schedules = Table(
    "sending_schedules",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", String(255), nullable=False),
    # An IANA name. It counts where the lead's zone is not known, or does not matter.
    Column("time_zone", String(64), nullable=False),
    Column("zone_of", Text, nullable=False),
    # {"mon": [["09:00", "12:00"], ["13:00", "17:00"]], …}; see policy/openings.py.
    Column("hours", JSONB, nullable=False),
    Column("holidays", ARRAY(Date), nullable=False, server_default=text("'{}'")),
    # Grows with each change: a sender that has read the hours of before claims nothing by them.
    Column("revision", Integer, nullable=False, server_default=text("1")),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    CheckConstraint(one_of("zone_of", ZoneOf), name="zone_of"),
)

campaign_lanes = Table(
    "campaign_lanes",
    metadata,
    # Emails of one campaign that may go at the same times; `scheduled_emails.lane` says which email waits where.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    # The leads' own zone; NULL where it is not known, and that of the schedule counts.
    Column("time_zone", String(64)),
    CheckConstraint("lane > 0", name="lane_positive"),
    Index("campaign_lanes_zone_key", "campaign_id", text("coalesce(time_zone, '')"), unique=True),
)
