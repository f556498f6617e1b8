"""Suppressions: addresses and domains that get no more mail, from every campaign or from one.

An address or domain with a reason goes in. Its planned emails are skipped in the same transaction. Scheduling and the
fence check suppressions too, so rows that were not skipped here are stopped when they are due. Reads `leads`; writes
`suppressions`, `scheduled_emails` and `audit_log`. Locks campaigns, then leads, then rows, as recording does.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.core import audit_log, pagination
from sendledger.core.email_address import InvalidAddress, normalized_address
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.ledger_rules import address_of, lock_campaigns, lock_leads, still_planned, suppresses
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, suppressions
from sendledger.core.vocabulary import AuditAction, SuppressionReason, quoted

REASONS = (
    SuppressionReason.IMPORT,
    SuppressionReason.MANUAL,
    SuppressionReason.TRANSIENT_BOUNCES,
    SuppressionReason.BOUNCE,
    SuppressionReason.UNSUBSCRIBE,
    SuppressionReason.COMPLAINT,
)
"""From weak to strong. Of two reasons the stronger one is kept, in whatever order they came."""

MAX_SKIPPED = 100_000
"""Rows that one call skips at most. A large domain may have more, which the fence skips when they are due."""


@dataclass(frozen=True)
class NewSuppression:
    """`value` is a lower-case address or a bare lower-case domain; see `suppression_value`."""

    value: str
    reason: str
    note: str | None = None


@dataclass(frozen=True)
class Suppressed:
    """What a call did. After the commit the campaigns `campaign_ids` may be complete, which the caller checks."""

    created: frozenset[str]
    """The values that were not suppressed before."""
    emails_skipped: int
    campaign_ids: frozenset[uuid.UUID]


@dataclass(frozen=True)
class ListEntry:
    """One entry of a list: its text and its place. `error` says why it could not be read."""

    field: str
    """Its position, such as ``values.2``, or the name of its column."""
    text: str
    row: int | None = None
    error: str | None = None
    reason: SuppressionReason | None = None
    warning: InvalidEntry | None = None
    """What was not understood, although the entry can be suppressed."""


@dataclass(frozen=True)
class InvalidEntry:
    """What is wrong with an entry, and where."""

    row: int | None
    field: str
    message: str


@dataclass(frozen=True)
class ImportedSuppressions:
    """What became of a list."""

    total: int
    suppressed: Suppressed
    errors: tuple[InvalidEntry, ...]
    warnings: tuple[InvalidEntry, ...]


_UUIDS = sa.ARRAY(sa.UUID)
_TEXTS = sa.ARRAY(sa.Text)
_FIND = sa.text(f"""
    WITH found AS MATERIALIZED (
        SELECT id FROM leads WHERE lower(email) = ANY(:addresses)
        UNION
        SELECT id FROM leads WHERE cardinality(:domains) > 0 AND split_part(lower(btrim(email)), '@', 2) = ANY(:domains)
    )
    SELECT e.lead_id, e.campaign_id FROM found JOIN scheduled_emails e ON e.lead_id = found.id
    WHERE {still_planned("e")} AND (:campaign_id IS NULL OR e.campaign_id = :campaign_id)
    LIMIT :limit
""").bindparams(
    sa.bindparam("addresses", type_=_TEXTS),
    sa.bindparam("domains", type_=_TEXTS),
    sa.bindparam("campaign_id", type_=sa.UUID),
)
_REASON_FOR = sa.text(f"""
    SELECT s.reason FROM leads l JOIN suppressions s ON {suppresses("s", address_of("l"), ":campaign_id")}
    WHERE l.id = :lead_id LIMIT 1
""").bindparams(sa.bindparam("lead_id", type_=sa.UUID), sa.bindparam("campaign_id", type_=sa.UUID))
_LOCK_CAMPAIGNS = lock_campaigns("NO KEY UPDATE")
_LOCK_LEADS = lock_leads()
_RANK = f"array_position(ARRAY[{quoted(REASONS)}], {{}}.reason)"
_ADD = sa.text(f"""
    INSERT INTO suppressions (value, campaign_id, reason, note, created_by)
    SELECT value, :campaign_id, reason, note, :actor
    FROM json_to_recordset(CAST(:given AS json)) AS given (value text, reason text, note text)
    ON CONFLICT (value, coalesce(campaign_id, '00000000-0000-0000-0000-000000000000')) WHERE removed_at IS NULL
    DO UPDATE SET reason = excluded.reason
    WHERE {_RANK.format("excluded")} > {_RANK.format("suppressions")}
    RETURNING value, xmax = 0
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_SKIP = sa.text(f"""
    UPDATE scheduled_emails e SET status = 'skipped', reason = 'suppressed', updated_at = now()
    WHERE e.lead_id = ANY(:lead_ids) AND e.campaign_id = ANY(:campaign_ids) AND {still_planned("e")}
    RETURNING e.campaign_id
""").bindparams(sa.bindparam("lead_ids", type_=_UUIDS), sa.bindparam("campaign_ids", type_=_UUIDS))


def suppression_value(text: str) -> str:
    """The form in which an address or a domain (``example.com`` or ``@example.com``) is stored and compared.

    Raises:
        InvalidAddress: it is neither.
    """
    text = text.strip()
    if "@" in text.removeprefix("@"):
        return normalized_address(text).lower()
    try:
        return normalized_address(f"postmaster@{text.removeprefix('@')}").rpartition("@")[2].lower()
    except InvalidAddress as error:
        raise InvalidAddress("This is neither an email address nor a domain.") from error


def suppress(
    connection: sa.Connection,
    value: str,
    reason: str,
    actor: str,
    campaign_id: uuid.UUID | None = None,
    note: str | None = None,
) -> Suppressed:
    """Suppress one address or domain, from every campaign or from one; doing it again changes nothing.

    The caller owns the transaction, and checks `campaign_ids` for completion after it.

    Raises:
        InvalidInput: `value` is neither an address nor a domain, or there is no such campaign.
    """
    if campaign_id is not None and connection.scalar(sa.select(campaigns.c.id).filter_by(id=campaign_id)) is None:
        message = f"there is no campaign with the id {campaign_id}"
        raise InvalidInput("The suppression is not valid.", [FieldError("campaign_id", message)])
    try:
        normalized = suppression_value(value)
    except InvalidAddress as error:
        raise InvalidInput("The suppression is not valid.", [FieldError("value", str(error))]) from error
    done = suppress_all(connection, [NewSuppression(normalized, reason, note)], actor, campaign_id)
    if done.created:
        added = find(connection, normalized, campaign_id)["id"]
        audit_log.record(connection, actor, AuditAction.SUPPRESSION_ADD, "suppression", added)
    return done


def suppress_all(
    connection: sa.Connection, given: Iterable[NewSuppression], actor: str, campaign_id: uuid.UUID | None = None
) -> Suppressed:
    """Suppress many at once, in a fixed number of statements; otherwise as `suppress`."""
    strongest: dict[str, NewSuppression] = {}
    for each in sorted(given, key=lambda suppression: REASONS.index(SuppressionReason(suppression.reason))):
        strongest[each.value] = each
    if not strongest:
        return Suppressed(frozenset(), 0, frozenset())
    planned = planned_rows(connection, list(strongest), campaign_id)
    lock(connection, {campaign for _, campaign in planned}, {lead for lead, _ in planned})
    rows = [{"value": each.value, "reason": each.reason, "note": each.note} for _, each in sorted(strongest.items())]
    parameters = {"campaign_id": campaign_id, "actor": actor, "given": json.dumps(rows)}
    created = [value for value, is_new in connection.execute(_ADD, parameters) if is_new]
    skipped: Sequence[Any] = ()
    if planned:
        skip = {"lead_ids": list({lead for lead, _ in planned}), "campaign_ids": list({each for _, each in planned})}
        skipped = connection.execute(_SKIP, skip).scalars().all()
    return Suppressed(frozenset(created), len(skipped), frozenset(skipped))


def planned_rows(
    connection: sa.Connection, values: Sequence[str], campaign_id: uuid.UUID | None = None
) -> set[tuple[uuid.UUID, uuid.UUID]]:
    """Lead and campaign of each row that is still planned for these addresses and domains; locks nothing."""
    parameters = {
        "addresses": [value for value in values if "@" in value],
        "domains": [value for value in values if "@" not in value],
        "campaign_id": campaign_id,
        "limit": MAX_SKIPPED,
    }
    return {(lead, campaign) for lead, campaign in connection.execute(_FIND, parameters)}


def lock(connection: sa.Connection, campaign_ids: Iterable[uuid.UUID], lead_ids: Iterable[uuid.UUID]) -> None:
    """Lock these campaigns and leads until the transaction ends.

    A fixed lock order, campaigns before leads and each kind by id, prevents deadlocks.
    """
    connection.execute(_LOCK_CAMPAIGNS, {"ids": sorted(campaign_ids)})
    connection.execute(_LOCK_LEADS, {"ids": sorted(lead_ids)})


def import_suppressions(
    connection: sa.Connection,
    entries: Iterable[ListEntry],
    actor: str,
    note: str | None = None,
    reason: SuppressionReason = SuppressionReason.IMPORT,
) -> ImportedSuppressions:
    """Suppress a list from every campaign; `reason` is that of the entries that give none.

    Entries that are neither address nor domain are left out and reported.
    """
    found: list[NewSuppression] = []
    errors: list[InvalidEntry] = []
    warnings: list[InvalidEntry] = []
    for entry in entries:
        try:
            if entry.error is not None:
                raise InvalidAddress(entry.error)
            found.append(NewSuppression(suppression_value(entry.text), entry.reason or reason, note))
            if entry.warning is not None:
                warnings.append(entry.warning)
        except InvalidAddress as error:
            errors.append(InvalidEntry(entry.row, entry.field, str(error)))
    suppressed = suppress_all(connection, found, actor)
    audit_log.record(
        connection, actor, AuditAction.SUPPRESSION_IMPORT, "suppression", "import", {"added": len(suppressed.created)}
    )
    return ImportedSuppressions(len(found) + len(errors), suppressed, tuple(errors), tuple(warnings))


def get(connection: sa.Connection, suppression_id: uuid.UUID) -> sa.RowMapping:
    """One suppression, removed or not.

    Raises:
        NotFound: there is none with this id.
    """
    query = sa.select(suppressions).where(suppressions.c.id == suppression_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("suppression", suppression_id)
    return row


def find(connection: sa.Connection, value: str, campaign_id: uuid.UUID | None) -> sa.RowMapping:
    """The suppression of this value that is in force."""
    query = sa.select(suppressions).where(
        suppressions.c.value == value,
        suppressions.c.campaign_id.is_not_distinct_from(campaign_id),
        suppressions.c.removed_at.is_(None),
    )
    return connection.execute(query).mappings().one()


def reason_for(connection: sa.Connection, lead_id: uuid.UUID, campaign_id: uuid.UUID) -> str | None:
    """Why the lead's address gets no mail from the campaign; None if no suppression keeps it from that."""
    reason: str | None = connection.scalar(_REASON_FOR, {"lead_id": lead_id, "campaign_id": campaign_id})
    return reason


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    value: str | None = None,
    reason: str | None = None,
    campaign_id: uuid.UUID | None = None,
    removed: bool = False,
    sort: str = pagination.NEWEST_FIRST,
) -> Page:
    """A page of suppressions in force, or of those that were removed, in the order of `pagination.Order`."""
    query = sa.select(suppressions)
    query = query.where(suppressions.c.removed_at.is_not(None) if removed else suppressions.c.removed_at.is_(None))
    if value is not None:
        query = query.where(suppressions.c.value == value.strip().lower().removeprefix("@"))
    if reason is not None:
        query = query.where(suppressions.c.reason == reason)
    if campaign_id is not None:
        query = query.where(suppressions.c.campaign_id == campaign_id)
    return pagination.sorted_page(connection, query, suppressions, limit, cursor, sort)


def remove(connection: sa.Connection, suppression_id: uuid.UUID, reason: str, actor: str) -> sa.RowMapping:
    """Let the address or domain get mail again, from campaigns that start later. Skipped emails stay skipped.

    The suppression stays on record as removed, and so does every bounce and complaint.

    Raises:
        NotFound: there is none with this id.
        Conflict: it was removed already.
    """
    removed = (
        connection.execute(
            sa.update(suppressions)
            .where(suppressions.c.id == suppression_id, suppressions.c.removed_at.is_(None))
            .values(removed_at=sa.func.now(), removed_by=actor, removal_reason=reason)
            .returning(suppressions)
        )
        .mappings()
        .one_or_none()
    )
    if removed is None:
        found = get(connection, suppression_id)
        raise Conflict("This suppression was removed already.", removed_at=found["removed_at"].isoformat())
    detail = {"reason": reason, "suppressed_for": removed["reason"]}
    audit_log.record(connection, actor, AuditAction.SUPPRESSION_REMOVE, "suppression", suppression_id, detail)
    return removed
