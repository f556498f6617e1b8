"""What a draft still needs before it can start: something to send, and somebody to send it to.

A draft may be stored without both. A scheduled campaign starts by itself, so it has to keep them. A campaign goes in,
an error for each field that could be filled comes out. Reads `campaign_leads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.tables import campaign_leads

CONTENT = ("email_template_id", "workflow_id")
AUDIENCE = ("batch_ids", "segment_ids", "lead_ids")


def missing_content(campaign: sa.RowMapping | Mapping[str, Any]) -> list[FieldError]:
    """Empty where there is an email template or a workflow."""
    if any(campaign[name] is not None for name in CONTENT):
        return []
    return [FieldError(name, "one of email_template_id and workflow_id is needed") for name in CONTENT]


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
    content, leads = missing_content(campaign), missing_leads(connection, campaign)
    lacks = {
        "no content (email_template_id or workflow_id)": content,
        "no leads (batch_ids, segment_ids or lead_ids)": leads,
    }
    if content or leads:
        said = " and ".join(text for text, errors in lacks.items() if errors)
        raise InvalidInput(f"The campaign is not complete: it has {said}.", [*content, *leads])
