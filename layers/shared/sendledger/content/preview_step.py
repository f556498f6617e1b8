"""Previews of a workflow's step: the email for a lead, with the subject and the quote of its thread.

The template says which variant of the step. Reads `workflow_steps`, `email_templates` and `leads`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.content import email_templates, workflows
from sendledger.content.email_thread import QuotedEmail, answer_subject, with_quote
from sendledger.content.render_email import RenderedEmail
from sendledger.core.errors import FieldError, InvalidInput, NotFound


@dataclass(frozen=True)
class StepPreview:
    """The email, and the steps that it takes its subject from and answers; None where it is in no thread."""

    email: RenderedEmail
    subject_of_step: int | None
    answers_step: int | None


def preview_step(
    connection: sa.Connection,
    email_template_id: UUID,
    workflow_id: UUID,
    step_number: int,
    lead: UUID | dict[str, Any],
    campaign_name: str | None,
    sender: str,
) -> StepPreview:
    """Preview a template as the step of a workflow; `sender` is who a quoted email would be from.

    Raises:
        NotFound: there is no such template.
        InvalidInput: the workflow has no such step with this template, or it cannot be rendered for the lead.
    """
    try:
        steps = {step["step_number"]: step for step in workflows.get(connection, workflow_id)["steps"]}
    except NotFound as error:
        raise InvalidInput(error.detail, [FieldError("workflow_id", error.detail)]) from error
    step = steps.get(step_number)
    templates = {number: [variant["email_template_id"] for variant in steps[number]["variants"]] for number in steps}
    if step is None or email_template_id not in templates[step_number]:
        message = f"is not a step of the workflow that sends the template {email_template_id}"
        raise InvalidInput("The workflow has no such step.", [FieldError("step_number", message)])
    earlier = [number for number in sorted(steps) if number < step_number and steps[number]["email_template_id"]]
    begins = [number for number in earlier if not steps[number]["in_thread"]]
    if not step["in_thread"] or not begins:
        return StepPreview(email_templates.preview(connection, email_template_id, lead, campaign_name), None, None)
    root, parent = begins[-1], earlier[-1]
    variant = templates[step_number].index(email_template_id)

    def of_same_variant(number: int) -> RenderedEmail:
        # A lead keeps its variant in steps that have as many of them; otherwise it may have got any.
        same = variant if len(templates[number]) == len(templates[step_number]) else 0
        return email_templates.preview(connection, templates[number][same], lead, campaign_name)

    first = of_same_variant(root)
    subject = answer_subject(first.subject)
    email = email_templates.preview(connection, email_template_id, lead, campaign_name, subject)
    if step["quote"]:
        answered = of_same_variant(parent).body_text
        email = with_quote(email, QuotedEmail(dt.datetime.now(dt.UTC), sender, answered))
    return StepPreview(email, root, parent)
