"""The content and delay of each step, as a copy from the start of the campaign.

A resume can read the content of a paused campaign again. Reads `email_templates`, their attachments,
`workflows`, `workflow_steps` and `scheduled_emails`; writes `campaign_steps`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.content.attachments import attached_files
from sendledger.content.render_email import CompiledTemplate, compile_template
from sendledger.content.workflows import MAX_BUSINESS_DAYS, MAX_DELAY, delay_of_days
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.ledger_rules import LAST_STEP, is_sending
from sendledger.core.tables import campaign_steps, email_templates, workflow_steps
from sendledger.core.vocabulary import StepCondition

_UNSETTLED = sa.text(f"""
    SELECT (SELECT count(*) FROM scheduled_emails e
            WHERE campaign_id = :campaign_id AND {is_sending("e")} AND send_started_at IS NOT NULL)
         + (SELECT count(*) FROM scheduled_emails
            WHERE campaign_id = :campaign_id AND failed_at IS NOT NULL AND error_code = 'outcome_unknown')
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


def snapshot_steps(connection: sa.Connection, campaign: sa.RowMapping) -> int:
    """Keep the content and delay of each step as they are now; later edits do not reach this campaign.

    Returns the number of steps.

    Raises:
        InvalidInput: there is nothing to send, a template is not valid, or a step depends on what is not tracked.
    """
    steps = planned_steps(connection, campaign)
    check_conditions(steps, campaign)
    compile_steps(steps)
    write_steps(connection, campaign["id"], steps)
    return len(steps)


def count_steps(connection: sa.Connection, campaign_id: uuid.UUID) -> int:
    """How many steps a started campaign has, without the answers that people have written."""
    own = (campaign_steps.c.campaign_id == campaign_id) & (campaign_steps.c.step_number <= LAST_STEP)
    return int(connection.scalar(sa.select(sa.func.count()).select_from(campaign_steps).where(own)) or 0)


def compile_steps(steps: list[dict[str, Any]]) -> dict[int, CompiledTemplate]:
    """The templates by the number of the step.

    Raises:
        InvalidInput: with an error for each part that is not valid.
    """
    errors: list[FieldError] = []
    compiled: dict[int, CompiledTemplate] = {}
    for step in steps:
        number = step["step_number"]
        try:
            compiled[number] = compile_template(step["subject"], step["body_text"], step["body_html"])
        except InvalidInput as invalid:
            errors += [FieldError(f"steps.{number}.{error.field}", error.message) for error in invalid.errors]
    if errors:
        raise InvalidInput("A template of this campaign is not valid.", errors)
    return compiled


def refreshed_steps(connection: sa.Connection, campaign: sa.RowMapping) -> list[dict[str, Any]]:
    """What a refresh would put in place of the content that a started campaign has now.

    Raises:
        InvalidInput: there is nothing to send any more, or the workflow has other steps than the campaign.
    """
    steps = planned_steps(connection, campaign)
    # Those above are of answers that people have written.
    own = (campaign_steps.c.campaign_id == campaign["id"]) & (campaign_steps.c.step_number <= LAST_STEP)
    query = sa.select(campaign_steps.c.step_number).where(own)
    kept = sorted(connection.scalars(query))
    if kept != [step["step_number"] for step in steps]:
        message = f"it has {len(steps)} steps and the campaign was started with {len(kept)}; make a new campaign"
        raise InvalidInput("The content cannot be read again.", [FieldError("workflow_id", message)])
    return steps


def refresh_steps(connection: sa.Connection, campaign: sa.RowMapping) -> list[int]:
    """Take subject, texts and attachments of each step from the templates as they are now.

    The caller has locked the campaign. Delays and threads stay as they are, as the emails are scheduled by them.
    Returns the steps that have changed.

    Raises:
        InvalidInput: as `refreshed_steps`, or a template is not valid.
        Conflict: for some emails it is not known yet whether they went out, with the content that is there now.
    """
    if unsettled := connection.scalar(_UNSETTLED, {"campaign_id": campaign["id"]}):
        raise Conflict(
            f"{unsettled} emails of this campaign are on their way or of unknown outcome, and their content would be "
            "lost. Wait six minutes for those on their way; settle the others (mark-sent or requeue).",
            status=campaign["status"],
        )
    steps = refreshed_steps(connection, campaign)
    compile_steps(steps)
    content = ("email_template_id", "subject", "body_text", "body_html", "attachments")
    new = insert(campaign_steps).values([{"campaign_id": campaign["id"], **step} for step in steps])
    changed = connection.scalars(
        new.on_conflict_do_update(
            index_elements=["campaign_id", "step_number"],
            set_={name: new.excluded[name] for name in content},
            where=sa.or_(*(campaign_steps.c[name].is_distinct_from(new.excluded[name]) for name in content)),
        ).returning(campaign_steps.c.step_number)
    )
    return sorted(changed)


def planned_steps(connection: sa.Connection, campaign: sa.RowMapping) -> list[dict[str, Any]]:
    """What a start would send in each step: the columns of `campaign_steps`.

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
            message = f"there is no email template with the id {campaign['email_template_id']}"
            raise InvalidInput("There is nothing to send.", [FieldError("email_template_id", message)])
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
        steps.append(step_values(number, delay, row))
    if problems:
        raise InvalidInput("The workflow does not say when to send its steps.", problems)
    if not steps:
        raise InvalidInput("There is nothing to send.", [FieldError("workflow_id", "the workflow has no steps")])
    return with_attachments(connection, steps)


def with_attachments(connection: sa.Connection, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps, each with the attachments that its template has now."""
    named = {step["email_template_id"] for step in steps if step["email_template_id"] is not None}
    files = attached_files(connection, named)
    return [{**step, "attachments": files.get(step["email_template_id"], [])} for step in steps]


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
    }


def write_steps(connection: sa.Connection, campaign_id: uuid.UUID, steps: list[dict[str, Any]]) -> None:
    connection.execute(
        insert(campaign_steps).values([{"campaign_id": campaign_id, **step} for step in steps]).on_conflict_do_nothing()
    )
