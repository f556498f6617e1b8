"""`sendledger replies`, `diagnose`, `campaigns plan` and `audit`: what came back, why nothing is sent, when it will be,
and who did what."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from sendledger_client import UNSET, each, models
from sendledger_client.commands.campaigns import CampaignName, find
from sendledger_client.commands.output import Json, Limit, show_fields, show_json, show_table
from sendledger_client.commands.session import connect


def replies(
    campaign: Annotated[str | None, typer.Option(help="Only to this campaign: its id, or its exact name.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List replies, newest first."""
    with connect() as api:
        of = find(api, campaign).id if campaign else UNSET
        found = list(islice(each(api.list_replies, campaign_id=of, limit=min(limit, 200)), limit))
    if as_json:
        show_json(found)
        return
    show_table(
        ["received", "from", "subject", "automatic"],
        ((reply.created_at, reply.from_address, reply.subject, reply.automatic) for reply in found),
    )


def diagnose(campaign: CampaignName, as_json: Json = False) -> None:
    """Say why a campaign sends nothing, and when it will."""
    with connect() as api:
        found = find(api, campaign)
        diagnosis = api.diagnose_campaign(found.id)
    if as_json:
        show_json(diagnosis)
        return
    show_fields(
        {
            "status": diagnosis.status,
            "cause": diagnosis.cause,
            "": diagnosis.message,
            "next email": diagnosis.next_send_at,
        },
        title=found.name,
    )


def plan(campaign: CampaignName, as_json: Json = False) -> None:
    """Say how many emails go on which day, and when the last one will have gone."""
    with connect() as api:
        found = api.plan_campaign(find(api, campaign).id)
    if as_json:
        show_json(found)
        return
    if found.days:
        show_table(["day", "emails", "held up by"], ((day.date, day.emails, day.bottleneck) for day in found.days))
    show_fields({"finishes": found.finishes_at, "not known because": found.reason})


def audit(
    entity: Annotated[str | None, typer.Option(help="Only what happened to the thing with this id.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor did: api_key:<id>.")] = None,
    action: Annotated[str | None, typer.Option(help="Only such deeds: campaign.start.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List who did what, newest first."""
    with connect() as api:
        entries = each(
            api.list_audit_log,
            entity_id=entity or UNSET,
            actor=actor or UNSET,
            action=action or UNSET,
            sort=models.ListAuditLogSort("-id"),
            limit=min(limit, 200),
        )
        found = list(islice(entries, limit))
    if as_json:
        show_json(found)
        return
    show_table(
        ["when", "who", "what", "id"],
        ((entry.occurred_at, entry.actor, entry.action, entry.entity_id) for entry in found),
    )
