"""What a draft still needs before it can start: something to send, and somebody to send it to.

A draft may be stored without both. A scheduled campaign starts by itself, so it has to keep them. A campaign goes in,
an error for each field that could be filled comes out. Reads `campaign_leads`,
`email_templates` and `workflow_steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.tables import campaign_leads, email_templates, workflow_steps

CONTENT = ("email_template_id", "workflow_id")
AUDIENCE = ("batch_ids", "segment_ids", "lead_ids")


def missing_content(connection: sa.Connection, campaign: sa.RowMapping | Mapping[str, Any]) -> list[FieldError]:
    """Empty where there is a workflow with steps, or an email template.

    A workflow without steps is of the old application, which also deletes templates that campaigns name.
    """
    template_id, workflow_id = (campaign[name] for name in CONTENT)
    if workflow_id is not None:
        steps = sa.exists().where(workflow_steps.c.workflow_id == workflow_id)
        if not connection.scalar(sa.select(steps)):
            return [FieldError("workflow_id", "the workflow has no steps")]
    elif template_id is None:
        return [FieldError(name, "one of email_template_id and workflow_id is needed") for name in CONTENT]
    elif not connection.scalar(sa.select(sa.exists().where(email_templates.c.id == template_id))):
        return [FieldError("email_template_id", f"there is no email template with the id {template_id}")]
    return []


def missing_audience(campaign: sa.RowMapping | Mapping[str, Any], *, has_chosen_leads: bool) -> list[FieldError]:
    """Empty where leads are chosen, even if none of them would get mail, and where they may come in later."""
    if has_chosen_leads or campaign["batch_ids"] or campaign["segment_ids"] or campaign["evergreen"]:
        return []
    return [FieldError(name, "at least one lead batch, segment or lead is needed") for name in AUDIENCE]


def missing_leads(connection: sa.Connection, campaign: sa.RowMapping) -> list[FieldError]:
    """`missing_audience` of a stored campaign."""
    chosen = sa.exists().where(campaign_leads.c.campaign_id == campaign["id"])
    return missing_audience(campaign, has_chosen_leads=bool(connection.scalar(sa.select(chosen))))


def check_complete(connection: sa.Connection, campaign: sa.RowMapping) -> None:
    """Raises:
    InvalidInput: it has no content, or no leads.
    """
    content, leads = missing_content(connection, campaign), missing_leads(connection, campaign)
    which = " or ".join(CONTENT) if len(content) > 1 else "".join(error.message for error in content)
    lacks = {
        f"no content ({which})": content,
        "no leads (batch_ids, segment_ids or lead_ids)": leads,
    }
    if content or leads:
        said = " and ".join(text for text, errors in lacks.items() if errors)
        raise InvalidInput(f"The campaign is not complete: it has {said}.", [*content, *leads])
