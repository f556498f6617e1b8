"""Leads: the people that campaigns write to. Reads and writes `leads`; a deletion writes `scheduled_emails` too.

No two leads that are created here have the same address, in any case. An adopted database may contain such leads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.ledger_rules import still_planned
from sendledger.core.pagination import Page
from sendledger.core.person_names import NAME_PARTS, person_name
from sendledger.core.tables import campaigns, leads, scheduled_emails
from sendledger.core.time_zones import zone_of_lead
from sendledger.core.vocabulary import AuditAction, Reason, ScheduledEmailStatus
from sendledger.leads import lead_values
from sendledger.leads.import_leads import insert_new, lock_addresses
from sendledger.leads.lead_values import BadValue

SOURCE, SOURCE_TYPE = "api", "manual"

_table = leads
_tag = sa.func.unnest(_table.c.tags).table_valued(sa.column("tag", sa.Text), name="tag")
_tags = sa.select(_tag.column).where(_tag.column.is_not(None))
LEAD = (
    _table.c.id,
    _table.c.email,
    sa.func.nullif(_table.c.company_name, "").label("company_name"),
    _table.c.contact_name,
    _table.c.job_title,
    sa.func.nullif(_table.c.industry, "").label("industry"),
    _table.c.business_type,
    _table.c.company_size,
    _table.c.phone,
    _table.c.website,
    _table.c.linkedin_url,
    _table.c.address,
    _table.c.city,
    _table.c.country,
    _table.c.time_zone,
    _table.c.notes,
    # Rows of the old application may contain NULLs and nested lists.
    sa.func.array(_tags.correlate(_table).scalar_subquery(), type_=_table.c.tags.type).label("tags"),
    _table.c.custom_fields,
    _table.c.source,
    _table.c.status,
    _table.c.batch_id,
    _table.c.emails_sent,
    _table.c.last_contacted_at,
    _table.c.last_responded_at,
    _table.c.created_at,
    _table.c.updated_at,
    _table.c.erased_at,
)
"""The columns that `shown` needs."""

_DERIVED = {"contact_name": NAME_PARTS, "time_zone": ("local_time_zone", "time_zone_source")}
"""Column → fields that follow it and are derived from it and others."""

FIELDS = tuple(name for column in LEAD for name in (column.name, *_DERIVED.get(column.name, ())))
"""The fields that are shown of a lead, in their order."""


def shown(row: sa.RowMapping | dict[str, Any]) -> dict[str, Any]:
    """The fields of a lead. First and last name are what a template gets; None where they are not clear.

    The local time zone is what a sending schedule goes by.
    """
    values = dict(row)
    zone = zone_of_lead(row["time_zone"], row["country"])
    values |= {"local_time_zone": zone.name, "time_zone_source": zone.source}
    stored = row["custom_fields"] if isinstance(row["custom_fields"], dict) else {}
    values |= {part: name or None for part, name in person_name(values)._asdict().items()}
    values["custom_fields"] = {name: value for name, value in stored.items() if name not in NAME_PARTS}
    return {name: values[name] for name in FIELDS}


def create(connection: sa.Connection, fields: Mapping[str, Any], custom_fields: Mapping[str, Any]) -> dict[str, Any]:
    """Store a lead. Only the address is required in `fields`.

    Raises:
        InvalidInput: a field cannot be stored.
        Conflict: there is a lead with this address; `data["lead_id"]` is its id.
    """
    values = columns_of(fields, custom_fields)
    lock_addresses(connection)
    _refuse_duplicate(connection, values["email"])
    inserted = sa.insert(_table).values({**values, "source": SOURCE, "source_type": SOURCE_TYPE}).returning(*LEAD)
    return shown(connection.execute(inserted).mappings().one())


def columns_of(fields: Mapping[str, Any], custom_fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new lead.

    Raises:
        InvalidInput: a field cannot be stored.
    """
    try:
        return lead_values.lead_values(fields, custom_fields)
    except BadValue as error:
        raise _invalid(error) from error


def find_or_create(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[UUID]:
    """The lead with the address of each row. Of `columns_of` those are stored whose address is new."""
    insert_new(connection, rows, None, SOURCE, SOURCE_TYPE)
    address = sa.func.lower(_table.c.email)
    wanted = sa.literal([row["email"].lower() for row in rows], sa.ARRAY(sa.Text))
    # Where an adopted database has an address twice, it is always the same lead.
    query = sa.select(address, _table.c.id).where(address == sa.any_(wanted)).order_by(_table.c.id.desc())
    found: dict[str, UUID] = {lower: lead_id for lower, lead_id in connection.execute(query)}  # noqa: C416 (typed)
    return [found[row["email"].lower()] for row in rows]


def get(connection: sa.Connection, lead_id: UUID) -> dict[str, Any]:
    """Raises:
    NotFound: there is no such lead.
    """
    row = connection.execute(sa.select(*LEAD).where(_table.c.id == lead_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("lead", lead_id)
    return shown(row)


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    ids: Sequence[UUID] | None = None,
    status: str | None = None,
    batch_id: UUID | None = None,
    email: str | None = None,
    search: str | None = None,
    condition: sa.ColumnElement[bool] | None = None,
    sort: str = pagination.NEWEST_FIRST,
    scan_limit: int | None = None,
) -> Page:
    """A page of leads. `email` is the whole address, `search` a part of company, contact or address, `condition` one
    on `leads`. `scan_limit`: see `pagination.scanned_page`."""
    query = sa.select(*LEAD)
    if ids is not None:
        query = query.where(_table.c.id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.UUID))))
    if batch_id is not None:
        query = query.where(_table.c.batch_id == batch_id)
    if email is not None:
        query = query.where(_same_address(email))
    # No index finds the leads for these.
    filters = [] if condition is None else [condition]
    if status is not None:
        filters.append(_table.c.status == status)
    if search is not None:
        columns = (_table.c.company_name, _table.c.contact_name, _table.c.email)
        filters.append(sa.or_(*(column.icontains(search, autoescape=True) for column in columns)))
    if filters and scan_limit is not None:
        order = pagination.Order(_table, sort)
        page = pagination.scanned_page(connection, query, sa.and_(*filters), order, limit, cursor, scan_limit)
    else:
        page = pagination.sorted_page(connection, query.where(*filters), _table, limit, cursor, sort)
    return replace(page, items=[shown(row) for row in page.items])


def count_first(
    connection: sa.Connection, condition: sa.ColumnElement[bool], sort: str, scan_limit: int
) -> tuple[int, bool]:
    """On how many of the first leads in this order the condition is true, and whether these are all leads."""
    rows = pagination.first_rows(sa.select(_table), pagination.Order(_table, sort), None, scan_limit)
    fitting = sa.func.count().filter(pagination.of_rows(condition, _table, rows))
    count, looked_at = connection.execute(sa.select(fitting, sa.func.count()).select_from(rows)).one()
    return count, looked_at < scan_limit


def update(connection: sa.Connection, lead_id: UUID, changes: Mapping[str, Any], actor: str = SYSTEM) -> dict[str, Any]:
    """Change the given fields only; None empties one. A new address applies to emails that are not being sent yet.

    Raises:
        NotFound: there is no such lead.
        InvalidInput: a field cannot be stored.
        Conflict: there is another lead with this address, `data["lead_id"]` is its id; or this one was erased.
    """
    if "email" in changes:
        lock_addresses(connection)
    columns = (_table.c.email, _table.c.contact_name, _table.c.custom_fields, _table.c.erased_at)
    locked = sa.select(*columns).where(_table.c.id == lead_id).with_for_update()
    current = connection.execute(locked).mappings().one_or_none()
    if current is None:
        raise NotFound("lead", lead_id)
    if current["erased_at"] is not None:
        message = "This lead was erased and stays empty; create a new lead if the person wants to hear from you again."
        raise Conflict(message, erased_at=current["erased_at"].isoformat())
    try:
        values = _changed_columns(current, changes)
    except BadValue as error:
        raise _invalid(error) from error
    if "email" in values and values["email"].lower() != (current["email"] or "").lower():
        _refuse_duplicate(connection, values["email"])
    if values:
        values["updated_at"] = sa.func.now()
        connection.execute(sa.update(_table).where(_table.c.id == lead_id).values(values))
        detail = {"fields": sorted(changes)}
        audit_log.record(connection, actor, AuditAction.LEAD_UPDATE, "lead", lead_id, detail)
    return get(connection, lead_id)


def delete(connection: sa.Connection, lead_id: UUID, actor: str = SYSTEM) -> None:
    """Delete a lead and the emails that it was sent. Its rows in the ledger stay, without the lead.

    Planned emails, also those that a pause has cancelled, are skipped with the reason `lead_deleted`.

    Raises:
        NotFound: there is no such lead.
        Conflict: an email to it is on its way to SES.
    """
    rows = scheduled_emails.c
    still_to_come = (rows.lead_id == lead_id) & sa.literal_column(still_planned("scheduled_emails"), sa.Boolean)
    # The order in which results are recorded: campaigns, leads, rows of the ledger.
    open_campaigns = campaigns.c.id.in_(sa.select(rows.campaign_id).where(still_to_come))
    connection.execute(
        sa.select(campaigns.c.id)
        .where(open_campaigns)
        .order_by(campaigns.c.id)
        .with_for_update(read=True, key_share=True)
    )
    if connection.scalar(sa.select(_table.c.id).where(_table.c.id == lead_id).with_for_update()) is None:
        raise NotFound("lead", lead_id)
    connection.execute(
        sa.update(scheduled_emails)
        .where(still_to_come)
        .values(status=ScheduledEmailStatus.SKIPPED, reason=Reason.LEAD_DELETED, updated_at=sa.func.now())
    )
    on_its_way = sa.select(rows.id).where(rows.lead_id == lead_id, rows.status == ScheduledEmailStatus.SENDING).limit(1)
    if connection.execute(on_its_way).first() is not None:
        raise Conflict("An email to this lead is on its way; delete the lead in a few minutes.")
    connection.execute(sa.delete(_table).where(_table.c.id == lead_id))
    audit_log.record(connection, actor, AuditAction.LEAD_DELETE, "lead", lead_id)


def _same_address(email: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(_table.c.email) == sa.func.lower(email)


def _refuse_duplicate(connection: sa.Connection, email: str) -> None:
    existing = connection.scalar(sa.select(_table.c.id).where(_same_address(email)).limit(1))
    if existing is not None:
        raise Conflict(f"There is a lead with this address already; its id is {existing}.", lead_id=str(existing))


def _changed_columns(current: sa.RowMapping, changes: Mapping[str, Any]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    stored = current["custom_fields"] if isinstance(current["custom_fields"], dict) else {}
    names = {part: stored[part] for part in NAME_PARTS if part in stored}
    custom = {name: value for name, value in stored.items() if name not in NAME_PARTS}
    for field, value in changes.items():
        if field == "email":
            columns[field] = lead_values.address(value)
        elif field == "custom_fields":
            custom = lead_values.custom_values(value or {})
        elif field == "tags":
            columns[field] = lead_values.tags(value or [])
        elif field in NAME_PARTS:
            names[field] = lead_values.text(field, value or "")
        elif field in lead_values.MAX_LENGTH:
            text = lead_values.text(field, value or "")
            columns[field] = text if text or not _table.c[field].nullable else None
        else:
            columns[field] = value
    if changes.keys() & set(NAME_PARTS):
        if "contact_name" not in changes and current["contact_name"] in (None, "", lead_values.contact_name(stored)):
            columns["contact_name"] = lead_values.contact_name(names) or None
    elif "contact_name" in changes:
        names = {}  # the parts of another name
    if changes.keys() & {*NAME_PARTS, "contact_name", "custom_fields"}:
        columns["custom_fields"] = custom | {part: name for part, name in names.items() if name}
    return columns


def _invalid(error: BadValue) -> InvalidInput:
    field = error.field if error.field in lead_values.MAX_LENGTH else f"custom_fields.{error.field}"
    return InvalidInput("The lead is not valid.", [FieldError(field, error.message)])
