"""A segment as SQL: its conditions in, a condition on `leads` out, in which every value is bound.

Every condition is true or false for a lead, never unknown. What is asked of another table is asked for each lead by an
index that begins with the lead's id. So the cost grows with the leads, whatever the planner believes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect

from sendledger.core.tables import emails, leads, past_contacts, replies, scheduled_emails
from sendledger.core.time_zones import zones_by_country
from sendledger.core.vocabulary import CampaignContact, ScheduledEmailStatus
from sendledger.segments import conditions
from sendledger.segments.conditions import Condition

Truth = sa.ColumnElement[bool]
_NUMBER = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"


@dataclass(frozen=True)
class ConditionText:
    """A condition on `leads` as text, for a statement that is written as text, and the parameters that it names."""

    sql: str
    parameters: tuple[sa.BindParameter[Any], ...]


class _Compiler(PGCompiler):
    def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> str:
        return sqltext  # the statement casts its typed parameters itself


class _Named(PGDialect):
    statement_compiler = _Compiler
    supports_statement_cache = True
    default_paramstyle = "named"


_DIALECT: Callable[[], sa.Dialect] = _Named


def as_text(condition: Truth) -> ConditionText:
    """The condition as text. Its values stay parameters."""
    compiled = condition.compile(dialect=_DIALECT())
    bound = (sa.bindparam(name, value.value, value.type) for value, name in compiled.bind_names.items())
    return ConditionText(str(compiled), tuple(bound))


def matching(condition: Condition) -> Truth:
    """The condition on `leads`. An erased lead is in no segment."""
    return sa.and_(leads.c.erased_at.is_(None), _sql(condition))


@functools.singledispatch
def _sql(condition: Any) -> Truth:
    raise AssertionError(f"unknown condition {condition}")


@_sql.register
def _(condition: conditions.AndCondition) -> Truth:
    return sa.and_(*map(_sql, condition.conditions))


@_sql.register
def _(condition: conditions.OrCondition) -> Truth:
    return sa.or_(*map(_sql, condition.conditions))


@_sql.register
def _(condition: conditions.NotCondition) -> Truth:
    return sa.not_(_sql(condition.condition))


@_sql.register
def _(condition: conditions.FieldCondition) -> Truth:
    column = sa.func.coalesce(leads.c[condition.field], "", type_=sa.Text)
    return _text_is(column, condition.operator, condition.values)


@_sql.register
def _(condition: conditions.CustomFieldCondition) -> Truth:
    column = sa.func.coalesce(leads.c.custom_fields.op("->>")(condition.name), "", type_=sa.Text)
    numbers = [value for value in condition.values if conditions.is_number(value)]
    number = sa.case((column.regexp_match(_NUMBER), sa.cast(column, sa.Numeric)))
    limits: dict[str, Callable[[sa.ColumnElement[Any]], Truth]] = {
        "at_least": lambda limit: number >= limit,
        "at_most": lambda limit: number <= limit,
    }
    if condition.operator in limits:
        limit = sa.cast(sa.literal(str(numbers[0]), sa.Text), sa.Numeric)
        return sa.func.coalesce(limits[condition.operator](limit), sa.false())
    # As JSON writes them.
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in condition.values]
    found = _text_is(column, condition.operator, texts)
    if condition.operator != "is" or not numbers:
        return found
    bound = [sa.cast(sa.literal(str(value), sa.Text), sa.Numeric) for value in numbers]
    return sa.or_(found, sa.func.coalesce(number.in_(bound), sa.false()))


@_sql.register
def _(condition: conditions.TagCondition) -> Truth:
    tag = sa.cast(array([condition.tag], type_=sa.Text), leads.c.tags.type)
    return sa.func.coalesce(leads.c.tags.op("@>", return_type=sa.Boolean)(tag), sa.false())


@_sql.register
def _(condition: conditions.StatusCondition) -> Truth:
    return sa.func.coalesce(_is_one_of(leads.c.status, condition.values, leads.c.status.type), sa.false())


@_sql.register
def _(condition: conditions.BatchCondition) -> Truth:
    return sa.func.coalesce(leads.c.batch_id == condition.batch_id, sa.false())


@_sql.register
def _(condition: conditions.TimeZoneCondition) -> Truth:
    own = sa.func.coalesce(leads.c.time_zone, "", type_=sa.Text)
    country = sa.func.replace(sa.func.lower(sa.func.btrim(sa.func.coalesce(leads.c.country, ""))), "\u2019", "'")
    countries = [name for name, zone in zones_by_country().items() if zone in condition.values]
    return sa.or_(_is_one_of(own, condition.values), sa.and_(own == "", _is_one_of(country, countries)))


@_sql.register
def _(condition: conditions.LastContactedCondition) -> Truth:
    at = leads.c.last_contacted_at
    limits = [at >= condition.after] if condition.after is not None else []
    limits += [at < condition.before] if condition.before is not None else []
    return sa.func.coalesce(sa.and_(*limits), sa.false())


@_sql.register
def _(condition: conditions.NotContactedForCondition) -> Truth:
    at = leads.c.last_contacted_at
    now = sa.func.timezone("UTC", sa.func.now())
    return sa.or_(at.is_(None), at < now - sa.func.make_interval(0, 0, 0, condition.days))


@_sql.register
def _(condition: conditions.CampaignCondition) -> Truth:
    replied = replies.c
    of_lead: dict[CampaignContact, tuple[sa.Table, Truth]] = {
        CampaignContact.RECEIVED: (scheduled_emails, scheduled_emails.c.status == ScheduledEmailStatus.SENT),
        CampaignContact.OPENED: (emails, emails.c.opened_at.is_not(None)),
        CampaignContact.CLICKED: (emails, emails.c.clicked_at.is_not(None)),
        CampaignContact.REPLIED: (replies, sa.and_(replied.matched_by.is_not(None), replied.automatic.is_(None))),
    }
    table, happened = of_lead[condition.contact]
    # The CASE hides all but the lead from the planner. With old statistics it would look at all rows of the campaign
    # for each lead, and OFFSET 0 keeps it from making that a join.
    of_campaign = sa.case((table.c.campaign_id == condition.campaign_id, happened))
    of_this_lead = table.c.lead_id == sa.literal_column("leads.id", leads.c.id.type)
    found: sa.Select[Any] = sa.select(sa.literal_column("1")).where(of_this_lead, of_campaign)
    happens = sa.exists(found.offset(sa.literal_column("0")))
    if condition.contact is CampaignContact.REPLIED:
        return happens
    # What retention has removed of the ledger.
    before: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        past_contacts.c.lead_id == sa.literal_column("leads.id", leads.c.id.type),
        past_contacts.c.campaign_id == condition.campaign_id,
        past_contacts.c[condition.contact],
    )
    return sa.or_(happens, sa.exists(before.offset(sa.literal_column("0"))))


def _text_is(column: sa.ColumnElement[str], operator: str, values: Sequence[str]) -> Truth:
    if operator == "is_empty":
        return sa.func.btrim(column) == ""
    if operator == "is":
        # Python has other lower-case letters for some texts. The planner computes those of the values once.
        return sa.func.lower(column) == sa.any_(array([sa.func.lower(sa.literal(each, sa.Text)) for each in values]))
    if operator == "contains":
        return sa.or_(*(column.icontains(value, autoescape=True) for value in values))
    return sa.or_(*(column.istartswith(value, autoescape=True) for value in values))


def _is_one_of(column: sa.ColumnElement[Any], values: Sequence[str], type_: Any = sa.Text) -> Truth:
    return column == sa.any_(sa.literal(list(values), sa.ARRAY(type_)))
