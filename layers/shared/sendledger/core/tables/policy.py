"""Tables of the sending policy: schedules, and the lanes that the emails of a campaign with a policy wait in."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    UUID,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import RANDOM_UUID, TIMESTAMPTZ, metadata, one_of, required_timestamp
from sendledger.core.vocabulary import SenderAddressStatus, ZoneOf

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
    # Grows with each change. A sender that has read the earlier hours claims nothing with them.
    Column("revision", Integer, nullable=False, server_default=text("1")),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    CheckConstraint(one_of("zone_of", ZoneOf), name="zone_of"),
)

sender_addresses = Table(
    "sender_addresses",
    metadata,
    # The mailboxes that campaigns send from; `/v1/senders` in the API. (`senders` are the senders at work.)
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("from_address", Text, nullable=False),
    # The bare address of it, in lower case.
    Column("address", Text, nullable=False),
    Column("reply_to_address", Text),
    # The most emails of one day; NULL: no limit. Days are those of `sender_state.sending_day_time_zone`.
    Column("daily_cap", Integer),
    # {"start": 10, "step": 5, "ceiling": 50}: a cap that grows with each day on which it sends; see policy/caps.py.
    Column("ramp", JSONB(none_as_null=True)),
    # Whether the budget of a day is spread over its open hours.
    Column("spread", Boolean, nullable=False, server_default=text("true")),
    Column("status", Text, nullable=False, server_default=text("'active'")),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    UniqueConstraint("address"),
    CheckConstraint(one_of("status", SenderAddressStatus), name="status"),
    CheckConstraint("daily_cap > 0", name="daily_cap_positive"),
    CheckConstraint(
        "(ramp ->> 'start')::int > 0 AND (ramp ->> 'step')::int > 0 "
        "AND (ramp ->> 'ceiling')::int >= (ramp ->> 'start')::int",
        name="ramp_grows",
    ),
)

cap_uses = Table(
    "cap_uses",
    metadata,
    # What counts against the caps of a day: the sum of the rows. A trigger of `scheduled_emails` appends what each
    # statement changes, and each tick adds that to the totals; see policy/budgets.py.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sender_id", UUID, nullable=False),
    Column("campaign_id", UUID, nullable=False),
    Column("day", Date, nullable=False),
    # Whether it is the first email to a lead, and of which company, if that has a cap; else 0.
    Column("is_first", Boolean, nullable=False),
    Column("company", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    # When the first and the last of them were claimed.
    Column("first_at", TIMESTAMPTZ),
    Column("last_at", TIMESTAMPTZ),
    Column("is_total", Boolean, nullable=False, server_default=text("false")),
    Index("cap_uses_sender_id_idx", "sender_id", "day"),
    Index("cap_uses_campaign_id_idx", "campaign_id", "day", "company"),
    Index("cap_uses_change_idx", "id", postgresql_where=text("NOT is_total")),
    Index(
        "cap_uses_day_idx",
        "day",
        postgresql_where=text("is_total AND campaign_id <> '00000000-0000-0000-0000-000000000000'"),
    ),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.05},
)

requeued_sends = Table(
    "requeued_sends",
    metadata,
    # Not used any more, but the version before reads it in each claim. The next release drops it.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", UUID, nullable=False),
    Column("workflow_step_number", Integer, nullable=False),
    Column("sender_id", UUID),
    Column("sending_day", Date, nullable=False),
    Column("company", BigInteger),
    Column("sent_at", TIMESTAMPTZ, nullable=False),
)

campaign_lanes = Table(
    "campaign_lanes",
    metadata,
    # Emails of one campaign that may go at the same times; `scheduled_emails.lane` says which email waits where.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    # The leads' own zone; NULL where it is not known, and that of the schedule counts.
    Column("time_zone", String(64)),
    # What it is sent from, and whether it holds the steps after the first; without senders NULL and false.
    Column("sender_id", UUID, ForeignKey("sender_addresses.id")),
    Column("follow_up", Boolean, nullable=False, server_default=text("false")),
    # Emails that were due at or before this time wait for an operator; see campaigns/late_emails.py.
    Column("late_hold_until", TIMESTAMPTZ),
    CheckConstraint("lane > 0", name="lane_positive"),
    Index(
        "campaign_lanes_key",
        "campaign_id",
        text("coalesce(time_zone, '')"),
        text("coalesce(sender_id, '00000000-0000-0000-0000-000000000000')"),
        "follow_up",
        unique=True,
    ),
    Index("campaign_lanes_sender_id_idx", "sender_id", postgresql_where=text("sender_id IS NOT NULL")),
)
