"""Workflows: the steps that a campaign sends one after the other. Reads and writes `workflows`,
`workflow_steps` and `workflow_step_variants`.

A campaign copies its steps when it starts, so nothing here changes a running campaign.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.content.attachments import attached_files
from sendledger.core import audit_log, by_id, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, email_templates, workflow_step_variants, workflow_steps, workflows
from sendledger.core.vocabulary import WORKFLOW_STATUSES, AuditAction

MAX_STEPS = 50
MAX_VARIANTS = 8
MAX_WEIGHT = 100
MAX_DELAY = dt.timedelta(days=3650)
MAX_BUSINESS_DAYS = 365
_SUMMARY = (
    workflows.c.id,
    workflows.c.name,
    workflows.c.description,
    workflows.c.industry,
    workflows.c.country,
    workflows.c.steps_count,
    workflows.c.is_active,
    workflows.c.created_at,
    workflows.c.updated_at,
)
_STEP = (
    workflow_steps.c.step_number,
    workflow_steps.c.email_template_id,
    workflow_steps.c.days_after_previous,
    sa.func.coalesce(
        workflow_steps.c.delay,
        sa.func.make_interval(0, 0, 0, sa.func.coalesce(workflow_steps.c.days_after_previous, 0)),
    ).label("delay"),
    workflow_steps.c.business_days,
    workflow_steps.c.in_thread,
    workflow_steps.c.quote,
    workflow_steps.c.only_if_event,
    workflow_steps.c.only_if_step,
    workflow_steps.c.keep_variant,
    workflow_steps.c.winner,
    workflow_steps.c.id.label("step_id"),
    workflow_steps.c.subject,
    workflow_steps.c.body,
)


def create(
    connection: sa.Connection, values: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], actor: str = SYSTEM
) -> dict[str, Any]:
    """Store a workflow; `values` and `steps` are columns, a step's `delay` is None if it is given in days.

    The `variants` of a step are at least one. Its `email_template_id` is that of the first one.

    Raises:
        InvalidInput: the steps are not numbered 1, 2, 3, …, a delay is too long, a template does not exist, or variants
            make no sense.
    """
    _check_steps(connection, steps)
    workflow_id = connection.scalar(
        sa.insert(workflows).values({**values, "steps_count": len(steps)}).returning(workflows.c.id)
    )
    _insert_steps(connection, workflow_id, steps)
    audit_log.record(connection, actor, AuditAction.WORKFLOW_CREATE, "workflow", workflow_id)
    return get(connection, workflow_id)


def get(connection: sa.Connection, workflow_id: UUID) -> dict[str, Any]:
    """A workflow with its `steps` and their `variants`.

    Steps of the old application may have an inline subject and body, and then no variants.

    Raises:
        NotFound: there is no such workflow.
    """
    found = by_id.row(connection, workflows, workflow_id, "workflow", _SUMMARY)
    query = sa.select(*_STEP).where(workflow_steps.c.workflow_id == workflow_id).order_by(workflow_steps.c.step_number)
    steps, variants = connection.execute(query).mappings().all(), workflow_step_variants.c
    of_steps = sa.select(variants.workflow_step_id, variants.email_template_id, variants.weight).where(
        variants.workflow_step_id.in_([step["step_id"] for step in steps])
    )
    several: dict[UUID, list[dict[str, Any]]] = {}
    for step_id, template_id, weight in connection.execute(of_steps.order_by(variants.variant)):
        several.setdefault(step_id, []).append({"email_template_id": template_id, "weight": weight})
    return {**found, "steps": [{**step, "variants": several.get(step["step_id"]) or _one(step)} for step in steps]}


def _one(step: sa.RowMapping) -> list[dict[str, Any]]:
    return [{"email_template_id": step["email_template_id"], "weight": 1}] if step["email_template_id"] else []


def list_page(connection: sa.Connection, limit: int, cursor: str | None, sort: str = pagination.NEWEST_FIRST) -> Page:
    """A page of workflows without their steps, in the order of `pagination.Order`."""
    return pagination.sorted_page(connection, sa.select(*_SUMMARY), workflows, limit, cursor, sort)


def update(
    connection: sa.Connection,
    workflow_id: UUID,
    changes: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]] | None = None,
    actor: str = SYSTEM,
) -> dict[str, Any]:
    """Change the given columns only; `steps`, if given, replace all steps.

    Raises:
        NotFound: there is no such workflow.
        InvalidInput: as in `create`.
    """
    by_id.row(connection, workflows, workflow_id, "workflow", lock=True)
    changed = sorted([*changes, *(["steps"] if steps is not None else [])])
    if steps is not None:
        _check_steps(connection, steps)
        connection.execute(sa.delete(workflow_steps).where(workflow_steps.c.workflow_id == workflow_id))
        _insert_steps(connection, workflow_id, steps)
        changes = {**changes, "steps_count": len(steps)}
    if changes:
        connection.execute(
            sa.update(workflows).where(workflows.c.id == workflow_id).values({**changes, "updated_at": sa.func.now()})
        )
        detail = {"fields": changed}
        audit_log.record(connection, actor, AuditAction.WORKFLOW_UPDATE, "workflow", workflow_id, detail)
    return get(connection, workflow_id)


def delete(connection: sa.Connection, workflow_id: UUID, actor: str = SYSTEM) -> None:
    """Delete a workflow and its steps.

    Raises:
        NotFound: there is no such workflow.
        Conflict: `data` names the campaigns that use it and have not started, or can be started again.
    """
    by_id.row(connection, workflows, workflow_id, "workflow", lock=True)
    have_it = campaigns.c.workflow_id == workflow_id, campaigns.c.status.in_(WORKFLOW_STATUSES)
    if users := by_id.named(connection, sa.select(campaigns.c.id, campaigns.c.name).where(*have_it)):
        raise Conflict("Campaigns that have not started use the workflow; it cannot be deleted.", campaigns=users)
    connection.execute(sa.delete(workflows).where(workflows.c.id == workflow_id))
    audit_log.record(connection, actor, AuditAction.WORKFLOW_DELETE, "workflow", workflow_id)


def delay_of_days(
    name: str, step_number: int, days: int | None, most: int = MAX_DELAY.days
) -> tuple[dt.timedelta, str | None]:
    """The delay of a step in days, and the reason if it is not clear. Then the delay is 0.

    Columns of the old application, such as `name`, may contain NULL and any number. The first step may have NULL, as it
    waits for nothing.
    """
    if days is None and step_number == 1:
        return dt.timedelta(0), None
    if days is not None and 0 <= days <= most:
        return dt.timedelta(days=days), None
    stored = "NULL" if days is None else str(days)
    return dt.timedelta(0), f"{name} is {stored}; it must be a number of days from 0 to {most}"


def _insert_steps(connection: sa.Connection, workflow_id: UUID, steps: Sequence[Mapping[str, Any]]) -> None:
    rows = [{name: value for name, value in step.items() if name != "variants"} for step in steps]
    inserted = sa.insert(workflow_steps).values([{**row, "workflow_id": workflow_id} for row in rows])
    numbered = inserted.returning(workflow_steps.c.step_number, workflow_steps.c.id)
    ids = {row.step_number: row.id for row in connection.execute(numbered)}
    variants = [
        {"workflow_step_id": ids[step["step_number"]], "variant": number, **variant}
        for step in steps
        if len(step["variants"]) > 1
        for number, variant in enumerate(step["variants"], 1)
    ]
    if variants:
        connection.execute(sa.insert(workflow_step_variants).values(variants))


def _check_steps(connection: sa.Connection, steps: Sequence[Mapping[str, Any]]) -> None:
    errors = list(_wrong_steps(steps))
    wanted = {variant["email_template_id"] for step in steps for variant in step["variants"]}
    # Locked until the steps are committed, so that a concurrent delete sees that it is in use.
    template = email_templates.c
    query = sa.select(template.id, template.body_text, template.body_html).where(template.id.in_(wanted))
    rows = connection.execute(query.with_for_update(read=True, key_share=True)).mappings()
    files = attached_files(connection, wanted)
    found = {row["id"]: {**row, "attachments": files.get(row["id"])} for row in rows}
    for index, step in enumerate(steps):
        errors += _wrong_variants(f"steps.{index}", step, found)
    if errors:
        raise InvalidInput("The steps are not valid.", errors)


def _wrong_variants(field: str, step: Mapping[str, Any], templates: Mapping[UUID, Any]) -> Iterator[FieldError]:
    ids = [variant["email_template_id"] for variant in step["variants"]]
    fields = [f"{field}.variants.{place}.email_template_id" for place in range(len(ids))]
    if len(ids) == 1:
        fields = [f"{field}.email_template_id"]
    for place, template_id in enumerate(ids):
        if template_id not in templates:
            yield FieldError(fields[place], f"there is no email template with the id {template_id}")
        elif template_id in ids[:place]:
            first = ids.index(template_id) + 1
            yield FieldError(fields[place], f"is that of variant {first}; raise its weight instead")
    contents = [{"email_template_id": id_, **templates[id_]} for id_ in ids if id_ in templates]
    if len(contents) == len(set(ids)) == len(ids):
        for place, message in same_answers(step.get("in_thread", False), contents):
            yield FieldError(fields[place], message)


def same_answers(in_thread: bool, contents: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """The places of variants that are sent like an earlier one, because an answer does not use their subject."""
    bodies = [
        (content["body_text"] or "", content["body_html"] or "", content["attachments"] or []) for content in contents
    ]
    for place, body in enumerate(bodies):
        if in_thread and body in bodies[:place]:
            first = bodies.index(body) + 1
            message = f"differs from variant {first} in its subject only, and a step with in_thread does not use it"
            yield place, message


def _wrong_steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[FieldError]:
    if sorted(step["step_number"] for step in steps) != list(range(1, len(steps) + 1)):
        yield FieldError("steps", f"must have the step numbers 1 to {len(steps)}, each once")
    for index, step in enumerate(steps):
        if step["delay"] is not None and step["delay"] > MAX_DELAY:
            yield FieldError(f"steps.{index}.delay", f"must not be longer than {MAX_DELAY.days} days")
        if step.get("business_days") and step["days_after_previous"] > MAX_BUSINESS_DAYS:
            yield FieldError(f"steps.{index}.delay", f"must not be longer than {MAX_BUSINESS_DAYS} business days")
        if step.get("in_thread") and step["step_number"] == 1:
            yield FieldError(f"steps.{index}.in_thread", "must be false for step 1: there is no email to answer yet")
        if step.get("quote") and not step.get("in_thread"):
            yield FieldError(f"steps.{index}.quote", "needs in_thread: only an answer quotes the email before it")
        if step.get("only_if_event") and step["step_number"] == 1:
            yield FieldError(f"steps.{index}.only_if", "must be missing for step 1: nothing has happened before it")
        elif step.get("only_if_event") and not 1 <= step["only_if_step"] < step["step_number"]:
            message = f"must be an earlier step, 1 to {step['step_number'] - 1}"
            yield FieldError(f"steps.{index}.only_if.of_step", message)
