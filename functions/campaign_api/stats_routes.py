"""Routes of the progress of campaigns and the results of their emails."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import MOST_IDS, CampaignId, Instant, Resource, ids_in
from sender_routes import Sender
from sendledger.access import api_keys
from sendledger.campaigns import campaign_counts, campaign_progress, campaigns, removed_history
from sendledger.core.vocabulary import CampaignStatus, RemovalKind, SenderAddressStatus, WinnerBy
from sendledger.ledger import sender_state
from sendledger.webhooks import endpoints

router = APIGatewayHttpRouter()


class CountByStatus(Resource):
    """How many scheduled emails have which status."""

    pending: int
    sending: int
    sent: int
    failed: int
    skipped: int
    cancelled: int


Tracked = Annotated[int | None, Field(description="Null: the campaign does not track it.")]


class Funnel(Resource):
    """Emails, each counted once for each kind; opens and clicks by people only."""

    sent: int
    delivered: int
    opened: Tracked
    clicked: Tracked
    replied: int
    bounced: Annotated[int, Field(description="For good.")]
    soft_bounced: Annotated[int, Field(description="Bounced temporarily, and not delivered.")]
    complained: int
    unsubscribed: int


class Rates(Resource):
    """The parts of the sent emails, between 0 and 1; null while none has been sent, and for what is not tracked."""

    delivered: float | None
    opened: float | None
    clicked: float | None
    replied: float | None
    bounced: float | None
    soft_bounced: float | None
    complained: float | None
    unsubscribed: float | None


class VariantStats(Resource):
    """The scheduled emails of one variant of a step."""

    variant: int
    weight: int
    email_template_id: Annotated[UUID | None, Field(description="Null: the template was deleted. Its content is kept.")]
    retired_at: Annotated[dt.datetime | None, Field(description="Since when it is not sent any more.")]
    by_status: CountByStatus
    funnel: Funnel
    rates: Rates


class WinnerStats(Resource):
    """The winner of a step. A part of the step's emails waits, or has waited, for its decision."""

    by: WinnerBy
    test_share: int
    decide_at: Annotated[
        dt.datetime | None,
        Field(description="When it is, or was, to be decided. A pause moves it. Null: no lead has come in yet."),
    ]
    decided_at: dt.datetime | None
    variant: Annotated[int | None, Field(description="Null after the decision: none is better, so they are split.")]


class StepStats(Resource):
    """The scheduled emails of one step."""

    step_number: int
    by_status: CountByStatus
    funnel: Annotated[
        Funnel | None,
        Field(description="Null: some of the campaign's emails were reported on before results were counted by step."),
    ]
    rates: Rates | None
    variants: Annotated[
        list[VariantStats], Field(description="Of a step that has several; those of the newest revision.")
    ]
    winner: WinnerStats | None


class RevisionStepStats(Resource):
    """The scheduled emails of one step of a revision."""

    step_number: int
    by_status: CountByStatus
    funnel: Funnel
    rates: Rates
    variants: Annotated[list[VariantStats], Field(description="Of a step that has several.")]
    winner: WinnerStats | None


class RevisionStats(Resource):
    """The steps of one revision, for the leads that came in while the workflow was like this."""

    revision: int
    created_at: Annotated[dt.datetime, Field(description="Since when leads that come in get it.")]
    steps: list[RevisionStepStats]


class Removed(Resource):
    """Since when retention has removed something of a campaign that has ended; null: all of it is there.

    The statistics are those of before.
    """

    content: Annotated[dt.datetime | None, Field(description="Subjects and texts of its emails.")]
    events: Annotated[dt.datetime | None, Field(description="What SES reported.")]
    ledger: Annotated[dt.datetime | None, Field(description="Its scheduled emails and emails.")]


class SenderStats(Resource):
    """The scheduled emails of one sender of the campaign, and its use of today."""

    sender_id: UUID
    from_address: str
    status: SenderAddressStatus
    cap_today: Annotated[int | None, Field(description="What it may send today; null: no limit.")]
    sent_today: Annotated[int, Field(description="What counts against it, from all campaigns.")]
    by_status: CountByStatus
    funnel: Funnel
    rates: Rates


class CampaignStats(Resource):
    """How far a campaign is."""

    campaign_id: UUID
    status: CampaignStatus
    total_leads_targeted: int
    emails_scheduled_count: int
    emails_sent_count: int
    emails_failed_count: int
    leads_left_out: dict[str, int]
    track_opens: bool
    track_clicks: bool
    by_status: CountByStatus
    by_step: list[StepStats]
    by_revision: Annotated[
        list[RevisionStats],
        Field(description="Of a campaign whose workflow was edited between leads that came in; otherwise empty."),
    ]
    by_sender: Annotated[list[SenderStats], Field(description="Of a campaign with senders, in its order.")]
    funnel: Funnel
    rates: Rates
    next_due_at: Annotated[dt.datetime | None, Field(description="When the next pending email is due.")]
    last_due_at: Annotated[dt.datetime | None, Field(description="When the last pending email is due.")]
    emails_per_second: Annotated[
        float | None, Field(description="In this hour and the one before; null: none was sent.")
    ]
    expected_to_finish_at: Annotated[
        dt.datetime | None,
        Field(description="At this rate, and not before the last email is due; null: it cannot be said."),
    ]
    removed_since: Removed
    background_work: Annotated[
        list[dict[str, Any]],
        Field(
            description="What is still being finished in the background; with large campaigns the counts grow until "
            "then."
        ),
    ]


class CampaignProgress(Resource):
    """How far a campaign is, in short."""

    campaign_id: UUID
    by_status: CountByStatus
    next_due_at: Annotated[dt.datetime | None, Field(description="When the next pending email is due.")]
    expected_to_finish_at: Annotated[
        dt.datetime | None, Field(description="As in the statistics of the campaign; null: it cannot be said.")
    ]


class CampaignProgressList(Resource):
    """How far campaigns are."""

    items: list[CampaignProgress]


class TimelineItem(Resource):
    """What happened in one hour or day."""

    starts_at: dt.datetime
    sent: int
    failed: int
    delivered: int
    opened: Tracked
    clicked: Tracked
    bounced: Annotated[int, Field(description="For good.")]
    soft_bounced: Annotated[int, Field(description="Bounced temporarily, and not delivered.")]
    complained: int
    replied: int


_INTERVALS = "- `hour`: An item is a whole hour.\n- `day`: An item is a day in UTC."


class Timeline(Resource):
    """Every hour or day between two times, those in which nothing happened too."""

    interval: Annotated[Literal["hour", "day"], Field(description=_INTERVALS)]
    from_: Annotated[dt.datetime, Field(serialization_alias="from")]
    to: dt.datetime
    items: list[TimelineItem]


class RecentEmails(Resource):
    """Emails of all campaigns, each counted in the hour in which it happened first."""

    sent: int
    failed: int
    delivered: int
    opened: int
    clicked: int
    bounced: Annotated[int, Field(description="For good.")]
    soft_bounced: Annotated[int, Field(description="Bounced temporarily, and not delivered.")]
    complained: int


class Retention(Resource):
    """The last run of retention, which removes what is older than the deployment keeps."""

    last_run_at: dt.datetime
    rows_removed: Annotated[
        dict[str, int], Field(description="By that run: `ledger`, `events`, `content`, and contents of `replies`.")
    ]
    campaigns_waiting: Annotated[
        int, Field(description="Old enough, but kept until a person settles an email of unknown outcome.")
    ]


class Overview(Resource):
    """All campaigns at a glance."""

    campaigns_by_status: dict[CampaignStatus, int]
    today: Annotated[RecentEmails, Field(description="Since midnight UTC.")]
    last_30_days: Annotated[RecentEmails, Field(description="Today and the 29 days before.")]
    next_due_at: Annotated[dt.datetime | None, Field(description="When the next email of a running campaign is due.")]
    sender: Sender
    retention: Annotated[Retention | None, Field(description="Null: it has not run yet.")]
    webhook_endpoints_disabled: Annotated[
        int,
        Field(
            description="Webhook endpoints that were disabled because each attempt failed for a day. Their events are "
            "kept for 7 days."
        ),
    ]
    administrators_until: Annotated[
        dt.datetime | None,
        Field(
            description="When the last API key of an administrator expires, if in less than 30 days. Make another one "
            "before: afterwards only who can invoke the migration function of the deployment can make keys."
        ),
    ]


@router.get(
    "/v1/campaigns/<campaign_id>/stats",
    operation_id="get_campaign_stats",
    summary="How far is a campaign?",
    response_description="Counts by status and by step, the funnel, and when it is expected to finish.",
    tags=["Campaigns"],
)
def get_campaign_stats(campaign_id: CampaignId) -> CampaignStats:
    with api_resources.transaction() as connection:
        campaign = campaigns.get_campaign(connection, campaign_id)
        stats = campaign_counts.campaign_stats(connection, campaign)
        removed = removed_history.removed_since(connection, campaign_id)
    since = {kind: removed.get(kind) for kind in RemovalKind}
    return CampaignStats.model_validate({**campaign, **stats, "campaign_id": campaign_id, "removed_since": since})


@router.get(
    "/v1/campaign-progress",
    operation_id="list_campaign_progress",
    summary="How far are these campaigns?",
    description="For a list of campaigns. Ids that belong to no campaign are left out.",
    response_description="The progress of each, in no order.",
    tags=["Campaigns"],
)
def list_campaign_progress(
    ids: Annotated[
        str,
        Query(
            max_length=MOST_IDS * 37,
            description=f"At most {MOST_IDS} ids, with commas between them.",
            examples=["0d7d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c11,7b1d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c12"],
        ),
    ],
) -> CampaignProgressList:
    with api_resources.transaction() as connection:
        progress = campaign_progress.progress_of(connection, ids_in(ids) or [])
    return CampaignProgressList.model_validate({"items": progress})


@router.get(
    "/v1/campaigns/<campaign_id>/timeline",
    operation_id="get_campaign_timeline",
    summary="What happened when?",
    description=(
        "By default the last two days by the hour, or the last 30 days by the day. At most 31 days by the hour and 366 "
        "by the day. Hours and days are those of UTC."
    ),
    response_description="One item for each hour or day.",
    tags=["Campaigns"],
)
def get_campaign_timeline(
    campaign_id: CampaignId,
    interval: Annotated[Literal["hour", "day"], Query(description=_INTERVALS)] = "hour",
    from_: Annotated[Instant | None, Query(alias="from", description="The first hour or day.")] = None,
    to: Annotated[Instant | None, Query(description="Where it ends; now, if missing.")] = None,
) -> Timeline:
    with api_resources.transaction() as connection:
        return Timeline.model_validate(campaign_counts.timeline(connection, campaign_id, interval, from_, to))


@router.get(
    "/v1/overview",
    operation_id="get_overview",
    summary="All campaigns at a glance",
    response_description="Campaigns by status, recent emails, and the sender.",
    tags=["Campaigns"],
)
def get_overview() -> Overview:
    with api_resources.transaction() as connection:
        seen = campaign_counts.overview(connection)
        sender, until = sender_state.read(connection), api_keys.administrators_until(connection)
        disabled, retained = endpoints.count_disabled(connection), removed_history.last_run(connection)
        return Overview.model_validate(
            {
                **seen,
                "retention": retained,
                "sender": sender,
                "administrators_until": until,
                "webhook_endpoints_disabled": disabled,
            }
        )
