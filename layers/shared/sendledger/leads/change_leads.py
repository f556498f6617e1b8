"""Changing the tags and custom fields of all leads that a filter matches, in chunks.

A request stores the change; the call itself and then the function of imports carry it out. Each chunk is one
transaction that also stores how far it is, so that after a crash no lead is changed twice or left out. Reads and writes
`lead_changes` and `leads`; writes `audit_log`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core import audit_log, by_id
from sendledger.core.errors import FieldError, InvalidInput, NotFound
from sendledger.core.person_names import NAME_PARTS
from sendledger.core.tables import lead_changes
from sendledger.core.vocabulary import AuditAction
from sendledger.leads import lead_values
from sendledger.leads.lead_values import MAX_TAGS, BadValue
from sendledger.segments import segments
from sendledger.segments.conditions import AndCondition, Condition, FieldCondition, OrCondition, of_json
from sendledger.segments.matching_leads import as_text, matching

LEADS_PER_CHUNK = 2_000
MAX_CUSTOM_FIELDS = 500
_SEARCHED: tuple[str, ...] = ("company_name", "contact_name", "email")

_table = lead_changes


def _change_sql(condition: str) -> str:
    """A lead that would get too many tags or custom fields stays as it is."""
    fields = "CASE jsonb_typeof(custom_fields) WHEN 'object' THEN custom_fields ELSE '{}' END"
    return f"""
    WITH chunk AS MATERIALIZED (
        SELECT leads.id, CAST(coalesce(leads.tags, '{{}}') AS text[]) AS tags, leads.custom_fields FROM leads
        WHERE leads.id > :after AND ({condition}) ORDER BY leads.id LIMIT :limit FOR NO KEY UPDATE
    ), wanted AS (
        SELECT id,
               ARRAY(SELECT t FROM unnest(tags) WITH ORDINALITY u (t, n) WHERE t <> ALL(:remove_tags) ORDER BY n)
               -- `= ANY` is unknown where there is a NULL among the old tags.
               || ARRAY(SELECT t FROM unnest(:add_tags) WITH ORDINALITY u (t, n)
                        WHERE (t = ANY(tags)) IS NOT TRUE ORDER BY n) AS tags,
               CASE WHEN :touches_fields THEN ({fields} || CAST(:fields AS jsonb)) - :remove_fields
                    ELSE custom_fields END AS custom_fields
        FROM chunk
    ), changed AS (
        UPDATE leads l SET tags = w.tags, custom_fields = w.custom_fields, updated_at = now()
        FROM wanted w
        WHERE l.id = w.id AND cardinality(w.tags) <= {MAX_TAGS}
          AND (CAST(coalesce(l.tags, '{{}}') AS text[]) <> w.tags OR l.custom_fields IS DISTINCT FROM w.custom_fields)
          AND CASE WHEN :touches_fields
                   THEN (SELECT count(*) FROM jsonb_object_keys(w.custom_fields)) <= {MAX_CUSTOM_FIELDS}
                   ELSE true END
        RETURNING l.id
    )
    SELECT (SELECT count(*) FROM chunk), (SELECT count(*) FROM changed), (SELECT id FROM chunk ORDER BY id DESC LIMIT 1)
    """


def condition_of(connection: sa.Connection, filter_: Mapping[str, Any]) -> Condition:
    """The filters of a list of leads, and a segment, as one condition: all of them are true.

    Raises:
        InvalidInput: there is no such segment.
    """
    parts: list[Any] = []
    if (segment_id := filter_.get("segment_id")) is not None:
        try:
            parts.append(of_json(segments.get(connection, segment_id)["filter"]))
        except NotFound as error:
            raise InvalidInput("The change is not valid.", [FieldError("filter.segment_id", error.detail)]) from error
    if (status := filter_.get("status")) is not None:
        parts.append(of_json({"kind": "status", "values": [status]}))
    if (batch_id := filter_.get("batch_id")) is not None:
        parts.append(of_json({"kind": "batch", "batch_id": str(batch_id)}))
    if (email := filter_.get("email")) is not None:
        parts.append(FieldCondition(kind="field", field="email", values=[email]))
    if (search := filter_.get("search")) is not None:
        searched = [{"kind": "field", "field": name, "operator": "contains", "values": [search]} for name in _SEARCHED]
        parts.append(OrCondition.model_validate({"kind": "or", "conditions": searched}))
    return AndCondition(kind="and", conditions=parts)


def create(
    connection: sa.Connection,
    condition: Condition,
    add_tags: Sequence[str],
    remove_tags: Sequence[str],
    custom_fields: Mapping[str, Any],
    actor: str,
) -> sa.RowMapping:
    """Store a change of all leads that fulfil the condition; a custom field of None is removed.

    Raises:
        InvalidInput: a value cannot be stored, or nothing would change.
    """
    values = _checked(add_tags, remove_tags, custom_fields)
    values |= {"filter": condition.model_dump(mode="json"), "requested_by": actor}
    values["leads_total"] = segments.count(connection, matching(condition))
    created = connection.execute(sa.insert(_table).values(values).returning(_table)).mappings().one()
    detail = {"leads": created["leads_total"], "add_tags": values["add_tags"], "remove_tags": values["remove_tags"]}
    detail["custom_fields"] = sorted(values["custom_fields"])
    audit_log.record(connection, actor, AuditAction.LEAD_BULK_CHANGE, "lead_change", created["id"], detail)
    return created


def _checked(add_tags: Sequence[str], remove_tags: Sequence[str], custom_fields: Mapping[str, Any]) -> dict[str, Any]:
    errors: list[FieldError] = []
    values: dict[str, Any] = {"add_tags": [], "remove_tags": [], "custom_fields": {}}
    for name, tags in (("add_tags", add_tags), ("remove_tags", remove_tags)):
        try:
            values[name] = lead_values.tags(list(tags))
        except BadValue as error:
            errors.append(FieldError(f"changes.{name}", error.message))
    try:
        kept = lead_values.custom_values({name: value for name, value in custom_fields.items() if value is not None})
        values["custom_fields"] = kept | {name: None for name, value in custom_fields.items() if value is None}
    except BadValue as error:
        errors.append(FieldError(f"changes.custom_fields.{error.field}", error.message))
    if own := sorted(set(custom_fields) & set(NAME_PARTS)):
        errors.append(
            FieldError("changes.custom_fields", f"must not contain {', '.join(own)}: leads have fields for these")
        )
    if both := sorted(set(values["add_tags"]) & set(values["remove_tags"])):
        errors.append(FieldError("changes.remove_tags", f"must not be added too: {', '.join(both)}"))
    if not errors and not any(values.values()):
        errors.append(FieldError("changes", "must have a tag or a custom field"))
    if errors:
        raise InvalidInput("The change is not valid.", errors)
    return values


def get(connection: sa.Connection, lead_change_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such change.
    """
    return by_id.row(connection, _table, lead_change_id, "change of leads")


def unfinished(connection: sa.Connection) -> list[UUID]:
    """The changes that no run seems to work on, oldest first."""
    left_behind = sa.func.now() - _table.c.updated_at > sa.text("interval '1 min'")
    query = sa.select(_table.c.id).where(_table.c.completed_at.is_(None), left_behind)
    return list(connection.scalars(query.order_by(_table.c.updated_at)))


def work(engine: sa.Engine, lead_change_id: UUID, deadline: float) -> bool:
    """Carry a change out until `time.monotonic()` passes the deadline; returns whether there is more to do.

    Concurrent runs take turns and repeat nothing.
    """
    while True:
        with engine.begin() as connection:
            if not _change_some(connection, lead_change_id):
                return False
        if time.monotonic() >= deadline:
            return True


def _change_some(connection: sa.Connection, lead_change_id: UUID) -> bool:
    """Change the leads of the next chunk. Returns whether there may be more."""
    own = _table.c.id == lead_change_id
    change = connection.execute(sa.select(_table).where(own).with_for_update()).mappings().one_or_none()
    if change is None or change["completed_at"] is not None:
        return False
    condition = as_text(matching(of_json(change["filter"])))
    fields: dict[str, Any] = change["custom_fields"]
    statement = sa.text(_change_sql(condition.sql)).bindparams(
        *condition.parameters,
        sa.bindparam("after", change["after_id"], sa.UUID),
        sa.bindparam("limit", LEADS_PER_CHUNK, sa.BigInteger),
        sa.bindparam("add_tags", change["add_tags"], sa.ARRAY(sa.Text)),
        sa.bindparam("remove_tags", change["remove_tags"], sa.ARRAY(sa.Text)),
        sa.bindparam("touches_fields", bool(fields), sa.Boolean),
        sa.bindparam("fields", {name: value for name, value in fields.items() if value is not None}, JSONB),
        sa.bindparam("remove_fields", [name for name, value in fields.items() if value is None], sa.ARRAY(sa.Text)),
    )
    found, changed, last = connection.execute(statement).one()
    is_done = found < LEADS_PER_CHUNK
    values: dict[str, Any] = {"after_id": last or change["after_id"], "updated_at": sa.func.now()}
    values |= {"leads_done": _table.c.leads_done + found, "leads_changed": _table.c.leads_changed + changed}
    if is_done:
        # The filter and the values may be personal data.
        values |= {"completed_at": sa.func.now(), "filter": {}, "custom_fields": {}}
    connection.execute(sa.update(_table).where(own).values(values))
    return not is_done
