"""The content and delay of each step, as a copy from the start of the campaign.

A resume can read the content of a paused campaign again (refresh_steps.py). Leads that come in later get a newer copy
(revisions.py), and each lead keeps the revision that it came in with. Reads `email_templates`, their attachments,
`workflows`, `workflow_steps` and `workflow_step_variants`; writes `campaign_steps`, `campaign_step_variants` and what
`campaigns` say of them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert

from sendledger.campaigns.missing_parts import missing_content
from sendledger.content.attachments import attached_files
from sendledger.content.render_email import CompiledTemplate, compile_template
from sendledger.content.workflows import MAX_BUSINESS_DAYS, MAX_DELAY, delay_of_days, same_answers
from sendledger.core.errors import FieldError, IllegalTransition, InvalidInput
from sendledger.core.ledger_rules import LAST_STEP
from sendledger.core.tables import (
    campaign_step_variants,
    campaign_steps,
    campaigns,
    email_templates,
    workflow_step_variants,
    workflow_steps,
)
from sendledger.core.vocabulary import StepCondition

CONTENT = ("email_template_id", "subject", "body_text", "body_html", "attachments")
"""The columns of a step, or of a variant of one, that say what is sent."""


def snapshot_steps(connection: sa.Connection, campaign: sa.RowMapping) -> int:
    """Keep the content and delay of each step as they are now; later edits do not reach this campaign.

    Returns the number of steps.

    Raises:
        InvalidInput: there is nothing to send, a template is not valid, or a step depends on what is not tracked.
    """
    steps = startable_steps(connection, campaign)
    keep_revision(connection, campaign["id"], campaign["revision"], steps)
    return len(steps)


def startable_steps(connection: sa.Connection, campaign: sa.RowMapping) -> list[dict[str, Any]]:
    """`planned_steps`, which can all be sent.

    Raises:
        InvalidInput: as in `snapshot_steps`.
    """
    steps = planned_steps(connection, campaign)
    check_conditions(steps, campaign)
    check_answers(steps)
    compile_steps(steps)
    return steps


def check_taken_over(connection: sa.Connection, campaign: sa.RowMapping) -> None:
    """A campaign that another application has started has no steps here until it is adopted.

    Raises:
        IllegalTransition: it has none. A resume would find nothing to send and complete it.
    """
    if not connection.scalar(sa.select(sa.exists().where(campaign_steps.c.campaign_id == campaign["id"]))):
        raise IllegalTransition(
            "This campaign belongs to another application and has not been taken over "
            "(docs/migrate-from-leadnexconnect.md): continue or end it there.",
            status=campaign["status"],
        )


def count_steps(connection: sa.Connection, campaign_id: uuid.UUID, revision: int) -> int:
    """How many steps a revision of a started campaign has, without the answers that people have written."""
    own = sa.and_(
        campaign_steps.c.campaign_id == campaign_id,
        campaign_steps.c.revision == revision,
        campaign_steps.c.step_number <= LAST_STEP,
    )
    return int(connection.scalar(sa.select(sa.func.count()).select_from(campaign_steps).where(own)) or 0)


def contents_of(step: dict[str, Any]) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """What a step sends: each variant with its number, or the one content."""
    if step["variants"]:
        yield from ((each["variant"], each) for each in step["variants"])
    else:
        yield None, step


def compile_steps(steps: list[dict[str, Any]]) -> dict[tuple[int, int | None], CompiledTemplate]:
    """The templates by the number of the step and of the variant.

    Raises:
        InvalidInput: with an error for each part that is not valid.
    """
    errors: list[FieldError] = []
    compiled: dict[tuple[int, int | None], CompiledTemplate] = {}
    for step in steps:
        number = step["step_number"]
        for variant, content in contents_of(step):
            where = f"steps.{number}" if variant is None else f"steps.{number}.variants.{variant}"
            try:
                template = compile_template(content["subject"], content["body_text"], content["body_html"])
                compiled[number, variant] = template
            except InvalidInput as invalid:
                errors += [FieldError(f"{where}.{error.field}", error.message) for error in invalid.errors]
    if errors:
        raise InvalidInput("A template of this campaign is not valid.", errors)
    return compiled


def planned_steps(connection: sa.Connection, campaign: sa.RowMapping) -> list[dict[str, Any]]:
    """What a start would send in each step: the columns of `campaign_steps`, and of `campaign_step_variants`.

    Raises:
        InvalidInput: there is nothing to send, or the delay of a step is not clear.
    """
    if campaign["workflow_id"] is None:
        if campaign["email_template_id"] is None:
            message = "the campaign has neither an email template nor a workflow"
            raise InvalidInput("There is nothing to send.", [FieldError("email_template_id", message)])
        template = (
            connection.execute(sa.select(email_templates).where(email_templates.c.id == campaign["email_template_id"]))
            .mappings()
            .first()
        )
        if template is None:
            raise InvalidInput("There is nothing to send.", missing_content(connection, campaign))
        return with_attachments(connection, [step_values(1, dt.timedelta(0), template)])
    own = workflow_steps
    rows = connection.execute(
        sa.select(
            # Workflows of the old application may begin at 0 or have a number twice.
            sa.func.row_number().over(order_by=(own.c.step_number, own.c.created_at, own.c.id)).label("step_number"),
            own.c.delay,
            own.c.business_days,
            own.c.days_after_previous,
            # An inline text is used only if no template is named.
            sa.func.coalesce(email_templates.c.subject, own.c.subject).label("subject"),
            sa.func.coalesce(email_templates.c.body_text, own.c.body).label("body_text"),
            email_templates.c.body_html,
            email_templates.c.id,
            own.c.in_thread,
            own.c.quote,
            own.c.only_if_event,
            own.c.only_if_step,
            own.c.keep_variant,
            own.c.winner,
            _variants_of_step().label("variants"),
        )
        .select_from(own.outerjoin(email_templates, email_templates.c.id == own.c.email_template_id))
        .where(own.c.workflow_id == campaign["workflow_id"])
        .order_by(own.c.step_number)
    ).mappings()
    steps: list[dict[str, Any]] = []
    problems: list[FieldError] = []
    for row in rows:
        number, days, delay = row["step_number"], row["days_after_previous"], row["delay"]
        if delay is None:
            most = MAX_BUSINESS_DAYS if row["business_days"] else MAX_DELAY.days
            delay, problem = delay_of_days(f"days_after_previous of the workflow's step {number}", number, days, most)
            problems += [FieldError("workflow_id", problem)] if problem else []
        variants = [each | {"email_template_id": uuid.UUID(each["email_template_id"])} for each in row["variants"]]
        steps.append(step_values(number, delay, row) | {"variants": variants})
    if problems:
        raise InvalidInput("The workflow does not say when to send its steps.", problems)
    if not steps:
        raise InvalidInput("There is nothing to send.", missing_content(connection, campaign))
    return with_attachments(connection, steps)


def with_attachments(connection: sa.Connection, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps and their variants, each with the attachments that its template has now."""
    contents = [each for step in steps for each in (step, *step["variants"])]
    files = attached_files(connection, {each["email_template_id"] for each in contents} - {None})
    for each in contents:
        each["attachments"] = files.get(each["email_template_id"], [])
    return steps


def _variants_of_step() -> sa.ScalarSelect[Any]:
    """The variants of a row of `workflow_steps` that has several, as a JSON list.

    They are read in the statement that reads the step: a workflow may be edited between two statements.
    """
    own, template = workflow_step_variants.c, email_templates.c
    columns: dict[str, Any] = {name: own[name] for name in ("variant", "weight", "email_template_id")}
    columns |= {
        "subject": template.subject,
        "body_text": sa.func.coalesce(template.body_text, ""),
        "body_html": sa.func.nullif(template.body_html, ""),
    }
    pairs = itertools.chain.from_iterable((sa.literal(name, sa.Text), column) for name, column in columns.items())
    listed = sa.func.json_agg(aggregate_order_by(sa.func.json_build_object(*pairs), own.variant))
    return (
        sa.select(sa.func.coalesce(listed, sa.literal([], sa.JSON)))
        .select_from(workflow_step_variants.join(email_templates, template.id == own.email_template_id))
        .where(own.workflow_step_id == workflow_steps.c.id)
        .correlate(workflow_steps)
        .scalar_subquery()
    )


def check_answers(steps: list[dict[str, Any]]) -> None:
    """Refuse variants of an answer that differ in their subject only, which the answer does not use.

    Raises:
        InvalidInput: with an error for each such variant.
    """
    errors = [
        FieldError(f"steps.{step['step_number']}.variants.{step['variants'][place]['variant']}", message)
        for step in steps
        for place, message in same_answers(step["in_thread"], step["variants"])
    ]
    if errors:
        raise InvalidInput("The variants of a step are not valid.", errors)


_NEEDED = {
    StepCondition.OPENED: "track_opens",
    StepCondition.NOT_OPENED: "track_opens",
    StepCondition.CLICKED: "track_clicks",
    StepCondition.NOT_CLICKED: "track_clicks",
}


def check_conditions(steps: list[dict[str, Any]], campaign: sa.RowMapping) -> None:
    """Refuse steps that depend on what the campaign does not track, or on open days without a sending schedule.

    Raises:
        InvalidInput: with an error for each such step.
    """
    errors: list[FieldError] = []
    for step in steps:
        event, needed = step["only_if_event"], _NEEDED.get(step["only_if_event"])
        if needed is not None and not campaign[needed]:
            what = f"step {step['step_number']} asks whether step {step['only_if_step']} was {event.replace('_', ' ')}"
            errors.append(FieldError(needed, f"must be true: {what}"))
        by: Any = step["winner"]["by"] if step["winner"] else None
        if (needed := _NEEDED.get(by)) is not None and not campaign[needed]:
            message = f"must be true: the winner of step {step['step_number']} is the variant that is {by} most often"
            errors.append(FieldError(needed, message))
        if step["business_days"] and campaign["sending_schedule_id"] is None:
            message = f"must name a sending schedule: step {step['step_number']} waits for days on which it is open"
            errors.append(FieldError("sending_schedule_id", message))
    if errors:
        raise InvalidInput("The campaign does not have what its steps depend on.", errors)


def step_values(number: int, delay: dt.timedelta, content: sa.RowMapping) -> dict[str, Any]:
    return {
        "step_number": number,
        "delay": delay,
        "business_days": (delay.days or None) if content.get("business_days") else None,
        "email_template_id": content["id"],
        "subject": content["subject"],
        "body_text": content["body_text"] or "",
        "body_html": content["body_html"] or None,
        # The old application may delete the first step of a workflow, whose thread the second one would continue.
        "in_thread": number > 1 and content.get("in_thread", False),
        "quote": number > 1 and content.get("quote", False),
        "only_if_event": content.get("only_if_event"),
        "only_if_step": content.get("only_if_step"),
        "keep_variant": content.get("keep_variant", True),
        "winner": content.get("winner"),
        "variants": [],
    }


def revision_digest(steps: list[dict[str, Any]]) -> str:
    """Differs as soon as an edit changes what the steps send, to whom, or when."""
    no_id = uuid.UUID(int=0)
    rows = [*step_rows(no_id, 0, steps), *variant_rows(no_id, 0, steps)]
    return hashlib.sha256(json.dumps(rows, default=str, sort_keys=True).encode()).hexdigest()


def keep_revision(
    connection: sa.Connection, campaign_id: uuid.UUID, revision: int, steps: list[dict[str, Any]], leads_before: int = 0
) -> None:
    """Let leads that come in from now get these steps. Where the revision has steps already, they stay."""
    write_steps(connection, campaign_id, revision, steps)
    values = {"revision": revision, "revision_digest": revision_digest(steps), "leads_before_revision": leads_before}
    connection.execute(sa.update(campaigns).where(campaigns.c.id == campaign_id).values(values))


def write_steps(connection: sa.Connection, campaign_id: uuid.UUID, revision: int, steps: list[dict[str, Any]]) -> None:
    rows = step_rows(campaign_id, revision, steps)
    connection.execute(insert(campaign_steps).values(rows).on_conflict_do_nothing())
    if variants := variant_rows(campaign_id, revision, steps):
        connection.execute(insert(campaign_step_variants).values(variants).on_conflict_do_nothing())


def step_rows(campaign_id: uuid.UUID, revision: int, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `campaign_steps`, with the content of the first variant where there are several."""
    rows = []
    for step in steps:
        own = {name: value for name, value in step.items() if name != "variants"}
        if variants := step.get("variants"):
            own |= {name: variants[0][name] for name in CONTENT}
        rows.append({"campaign_id": campaign_id, "revision": revision, **own})
    return rows


def variant_rows(campaign_id: uuid.UUID, revision: int, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `campaign_step_variants`."""
    return [
        {"campaign_id": campaign_id, "revision": revision, "step_number": step["step_number"], **variant}
        for step in steps
        for variant in step.get("variants", ())
    ]
