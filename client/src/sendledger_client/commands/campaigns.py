"""`sendledger campaigns`: look at campaigns, and make them run, pause, go on and end."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sendledger_client import UNSET, ApiError, Sendledger, Unset, each
from sendledger_client.commands.output import (
    Json,
    Limit,
    as_id,
    console,
    errors,
    plain,
    show_fields,
    show_json,
    show_table,
    text,
)
from sendledger_client.commands.session import connect
from sendledger_client.generated.models import (
    Campaign,
    CampaignStats,
    CampaignStatus,
    ConfirmedOperation,
    NewConfirmation,
)

app = typer.Typer(help="Look at campaigns; start, pause, resume and cancel them.", no_args_is_help=True)

CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its id, or its exact name.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ENDED = (CampaignStatus.COMPLETED, CampaignStatus.CANCELLED, CampaignStatus.FAILED, CampaignStatus.ARCHIVED)


def find(api: Sendledger, wanted: str) -> Campaign:
    """The campaign with this id or exact name.

    Raises:
        ApiError: there is none, or several have this name.
    """
    if (id_ := as_id(wanted)) is not None:
        return api.get_campaign(id_)
    found = [campaign for campaign in each(api.list_campaigns, limit=200) if campaign.name == wanted]
    if not found:
        raise ApiError(404, "not_found", f"There is no campaign named {wanted!r}.", [], {})
    if len(found) > 1:
        ids = ", ".join(str(campaign.id) for campaign in found)
        raise ApiError(409, "conflict", f"{len(found)} campaigns are named {wanted!r}; say which: {ids}.", [], {})
    return found[0]


@app.command("list")
def list_(
    status: Annotated[CampaignStatus | None, typer.Option(help="Only those.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List campaigns, newest first."""
    wanted: CampaignStatus | Unset = UNSET if status is None else status
    with connect() as api:
        items = each(api.list_campaigns, status=wanted, limit=min(limit, 200))
        campaigns = [campaign for campaign, _ in zip(items, range(limit), strict=False)]
    if as_json:
        show_json(campaigns)
        return
    show_table(
        ["id", "name", "status", "leads", "scheduled", "sent", "failed"],
        (
            (
                each_.id,
                each_.name,
                each_.status,
                each_.total_leads_targeted,
                each_.emails_scheduled_count,
                each_.emails_sent_count,
                each_.emails_failed_count,
            )
            for each_ in campaigns
        ),
    )


@app.command()
def show(campaign: CampaignName, as_json: Json = False) -> None:
    """Show a campaign and how far it is."""
    with connect() as api:
        found = find(api, campaign)
        stats = api.get_campaign_stats(found.id)
    if as_json:
        show_json({"campaign": found.to_dict(), "stats": stats.to_dict()})
        return
    show_fields(
        {
            "id": found.id,
            "status": found.status,
            "failure reason": found.failure_reason,
            "started": found.actual_started_at,
            "leads": stats.total_leads_targeted,
            "left out": stats.leads_left_out.to_dict(),
            "scheduled": stats.emails_scheduled_count,
            "by status": stats.by_status.to_dict(),
            "next due": stats.next_due_at,
            "expected to finish": stats.expected_to_finish_at,
        },
        title=found.name,
    )
    show_table(
        ["step", "pending", "sending", "sent", "failed", "skipped", "cancelled"],
        (
            (
                step.step_number,
                step.by_status.pending,
                step.by_status.sending,
                step.by_status.sent,
                step.by_status.failed,
                step.by_status.skipped,
                step.by_status.cancelled,
            )
            for step in stats.by_step
        ),
    )


@app.command()
def start(campaign: CampaignName, yes: Yes = False, as_json: Json = False) -> None:
    """Start a campaign: its emails are scheduled and sent."""
    with connect() as api:
        found = find(api, campaign)
        _ask(f"Start {found.name!r}, which sends real emails?", yes)
        started = api.start_campaign(found.id)
    if as_json:
        show_json(started)
        return
    if started.status is CampaignStatus.SCHEDULED:
        console().print(f"{plain(found.name)} is scheduled: it starts at {text(started.scheduled_start_at)}.")
        return
    left_out = started.leads_left_out.to_dict()
    console().print(
        f"{plain(found.name)} is {started.status}: {started.emails_scheduled_count:,} emails for "
        f"{started.total_leads_targeted:,} leads" + (f"; left out: {text(left_out)}." if left_out else ".")
    )


@app.command()
def pause(campaign: CampaignName, as_json: Json = False) -> None:
    """Pause a campaign: nothing more is taken up for sending."""
    with connect() as api:
        found = find(api, campaign)
        paused = api.pause_campaign(found.id)
    if as_json:
        show_json(paused)
        return
    console().print(
        f"{plain(found.name)} is paused: {paused.emails_cancelled:,} emails wait; {paused.emails_in_flight:,} were "
        "already being handed over and still go out."
    )


@app.command()
def resume(campaign: CampaignName, as_json: Json = False) -> None:
    """Resume a paused campaign: each of its emails moves later by the length of the pause."""
    with connect() as api:
        found = find(api, campaign)
        resumed = api.resume_campaign(found.id)
    if as_json:
        show_json(resumed)
        return
    console().print(
        f"{plain(found.name)} is running: {resumed.emails_rescheduled:,} emails are pending again, "
        f"{resumed.shifted_by_seconds:,.0f} s later than before."
    )


@app.command()
def cancel(campaign: CampaignName, yes: Yes = False, as_json: Json = False) -> None:
    """Cancel a campaign, for good."""
    with connect() as api:
        found = find(api, campaign)
        _ask(f"Cancel {found.name!r} for good?", yes)
        cancelled = api.cancel_campaign(found.id)
    if as_json:
        show_json(cancelled)
        return
    console().print(f"{plain(found.name)} is cancelled: {cancelled.emails_cancelled:,} emails are not sent.")


@app.command()
def watch(
    campaign: CampaignName,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2,
    as_json: Json = False,
) -> None:
    """Watch a campaign until it has ended: the progress of each step. With --json a line for each change."""
    with connect() as api:
        found = find(api, campaign)
        stats = api.get_campaign_stats(found.id)
        if as_json:
            _watch_lines(api, stats, every)
            return
        with Live(_view(found, stats), console=console(), auto_refresh=False) as live:
            while stats.status not in ENDED:
                time.sleep(every)
                stats = api.get_campaign_stats(found.id)
                live.update(_view(found, stats), refresh=True)


def _watch_lines(api: Sendledger, stats: CampaignStats, every: float) -> None:
    shown = None
    while True:
        now = {"status": stats.status, **stats.by_status.to_dict()}
        if now != shown:
            typer.echo(json.dumps(now))
            shown = now
        if stats.status in ENDED:
            return
        time.sleep(every)
        stats = api.get_campaign_stats(stats.campaign_id)


def _view(campaign: Campaign, stats: CampaignStats) -> Group:
    steps = Table("step", "", "done", "sent", "pending", "failed", "skipped", "cancelled", box=None)
    for step in stats.by_step:
        counts = step.by_status
        total = sum(counts.to_dict().values())
        done = total - counts.pending - counts.sending
        steps.add_row(
            str(step.step_number),
            ProgressBar(total=max(total, 1), completed=done, width=30),
            f"{done / max(total, 1):.0%}",
            *(f"{count:,}" for count in (counts.sent, counts.pending + counts.sending, counts.failed, counts.skipped)),
            f"{counts.cancelled:,}",
        )
    rate = f", {stats.emails_per_second:.1f} emails/s" if stats.emails_per_second else ""
    due = f", next due {text(stats.next_due_at)}" if stats.next_due_at else ""
    return Group(f"{plain(campaign.name)}: {stats.status}{rate}{due}", steps)


def confirm(
    operation: Annotated[ConfirmedOperation, typer.Argument(help="What somebody else may do once.")],
    what: Annotated[str, typer.Argument(help="Id or exact name of the campaign; for erase the id of the lead.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let an assistant do one thing within ten minutes: prints the token that it needs."""
    with connect() as api:
        if operation is ConfirmedOperation.ERASE:
            id_, name = as_id(what), what
            if id_ is None:
                raise typer.BadParameter("must be the id of a lead", param_hint="WHAT")
        else:
            campaign = find(api, what)
            id_, name = campaign.id, campaign.name
        _ask(f"Allow {operation} of {name!r} once?", yes)
        made = api.create_confirmation(body=NewConfirmation(operation, id_))
    if as_json:
        show_json(made)
        return
    typer.echo(made.token)
    errors.print(f"It allows {operation} of {plain(name)} until {text(made.expires_at)}.", soft_wrap=True)


def _ask(question: str, yes: bool) -> None:
    """Ask a person; a program has said what it wants."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True)
