"""Guardrails: a campaign with too many bounces, complaints or refusals pauses itself.

Limits come from the settings; a campaign may have its own. They are checked after a bounce, complaint or refusal was
recorded. At the end of a tick they are checked again for campaigns that had one, because a bounce may come before there
are enough emails. Only the latest emails count, and reading them is bounded. A paused campaign waits for a person.
After a resume only emails sent since then count. Reads `campaigns`, `emails`, `email_events` and `scheduled_emails`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Annotated

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from sendledger.core.settings import GuardrailSettings

LATEST = 10_000
"""Emails of a campaign that are counted at most. They are enough to distinguish a rate of 0.1 % from chance."""


CLOCKS_APART = "1 hour"
"""A bounce has a time of SES's clock, an email one of ours. So a bounce may seem earlier than its email."""


class Limits(BaseModel):
    """When a campaign pauses itself. A limit that is left out or null is the one of the deployment's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: Annotated[bool | None, Field(description="False switches the guardrails off.")] = None
    max_bounce_rate: Annotated[
        float | None,
        Field(gt=0, le=1, description="Share of permanent bounces among the latest emails.", examples=[0.05]),
    ] = None
    max_complaint_rate: Annotated[
        float | None, Field(gt=0, le=1, description="Share of spam complaints.", examples=[0.001])
    ] = None
    min_emails: Annotated[
        int | None, Field(ge=1, le=LATEST, description="Emails before the shares are looked at.", examples=[50])
    ] = None
    window_hours: Annotated[
        int | None, Field(ge=1, le=720, description="How far back emails count.", examples=[72])
    ] = None
    max_provider_errors: Annotated[
        int | None, Field(ge=1, le=1000, description="Emails in a row that SES may refuse.", examples=[5])
    ] = None


# Emails that SES did not send because of its own suppression list do not count, here or for SES. Only permanent bounces
# count: others (full mailbox, out of office, undetermined) say nothing about the list. Complaints and bounces count
# when they happen, emails when they were sent.
_RATES = sa.text(f"""
    WITH c AS (
        SELECT id, greatest(resumed_at, now() - make_interval(hours => :window_hours)) AS since
        FROM campaigns WHERE id = :campaign_id AND status = 'running'
    ), latest AS (
        SELECT count(*) AS emails,
               greatest(min(since), min(sent_at) AT TIME ZONE 'UTC' - interval '{CLOCKS_APART}') AS since FROM (
            SELECT e.sent_at, c.since
            FROM c JOIN emails e ON e.campaign_id = c.id AND e.sent_at >= c.since AT TIME ZONE 'UTC'
            ORDER BY e.sent_at DESC LIMIT {LATEST}) sent
    )
    SELECT latest.emails,
           count(DISTINCT v.ses_message_id) FILTER (
               WHERE v.event_type = 'Bounce' AND v.detail ->> 'bounce_type' = 'Permanent'
                 AND coalesce(v.detail ->> 'bounce_sub_type', '') <> 'OnAccountSuppressionList') AS bounced,
           count(DISTINCT v.ses_message_id) FILTER (
               WHERE v.event_type = 'Complaint' AND coalesce(v.detail ->> 'feedback_type', '') <> 'not-spam'
                 AND coalesce(v.detail ->> 'complaint_sub_type', '') <> 'OnAccountSuppressionList') AS complained
    FROM latest LEFT JOIN email_events v
        ON v.campaign_id = :campaign_id AND v.event_type IN ('Bounce', 'Complaint') AND v.occurred_at >= latest.since
    GROUP BY latest.emails
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))

_WITH_BOUNCES_OR_COMPLAINTS = sa.text("""
    SELECT id FROM campaigns c
    WHERE id = ANY(:campaign_ids) AND status = 'running'
      AND EXISTS (SELECT FROM email_events WHERE campaign_id = c.id AND event_type IN ('Bounce', 'Complaint'))
""").bindparams(sa.bindparam("campaign_ids", type_=sa.ARRAY(sa.UUID)))

# Fenced and failed: SES was called. Emails that could not be rendered failed before the fence.
_ERRORS_IN_A_ROW = sa.text("""
    SELECT c.id, c.guardrails, failed.errors, failed.code
    FROM campaigns c CROSS JOIN LATERAL (
        SELECT count(*) AS errors, (array_agg(error_code))[1] AS code FROM (
            SELECT e.error_code FROM scheduled_emails e
            WHERE e.campaign_id = c.id AND e.status = 'failed' AND e.send_started_at IS NOT NULL
              AND e.failed_at > greatest(c.resumed_at, (SELECT max(sent_at) FROM emails WHERE campaign_id = c.id)
                                                       AT TIME ZONE 'UTC', '-infinity')
            ORDER BY e.failed_at DESC) refused) failed
    WHERE c.id = ANY(:campaign_ids) AND c.status = 'running'
""").bindparams(sa.bindparam("campaign_ids", type_=sa.ARRAY(sa.UUID)))


def excessive_rates(engine: sa.Engine, campaign_id: uuid.UUID, settings: GuardrailSettings) -> str | None:
    """Why the campaign should be paused for its bounces or complaints, with the numbers; None if it is within
    limits."""
    with engine.connect() as connection:
        own = connection.scalar(
            sa.text("SELECT guardrails FROM campaigns WHERE id = :id").bindparams(sa.bindparam("id", type_=sa.UUID)),
            {"id": campaign_id},
        )
        limits = _limits(settings, own)
        parameters = {"campaign_id": campaign_id, "window_hours": limits.guardrail_window_hours}
        emails, bounced, complained = connection.execute(_RATES, parameters).one()
    if not limits.guardrails_enabled or emails < limits.guardrail_min_emails:
        return None
    for count, most, what in (
        (bounced, limits.guardrail_max_bounce_rate, "bounced"),
        (complained, limits.guardrail_max_complaint_rate, "were reported as spam"),
    ):
        if count >= most * emails:
            share = f"{count} of the latest {emails} emails {what} ({count / emails:.2%})"
            return f"Paused by a guardrail: {share}; the limit is {most:.2%}."
    return None


def excessive_rates_after_sending(
    engine: sa.Engine, campaign_ids: Iterable[uuid.UUID], settings: GuardrailSettings
) -> dict[uuid.UUID, str]:
    """The campaigns to pause for their bounces or complaints, with the reason.

    This is called after emails are committed, and `excessive_rates` after events are committed. So the later call sees
    both.
    """
    ids = list(campaign_ids)
    if not ids:
        return {}
    with engine.connect() as connection:
        doubtful = connection.scalars(_WITH_BOUNCES_OR_COMPLAINTS, {"campaign_ids": ids}).all()
    reasons = {campaign_id: excessive_rates(engine, campaign_id, settings) for campaign_id in doubtful}
    return {campaign_id: reason for campaign_id, reason in reasons.items() if reason is not None}


def provider_errors(
    connection: sa.Connection, campaign_ids: Iterable[uuid.UUID], settings: GuardrailSettings
) -> dict[uuid.UUID, str]:
    """The campaigns to pause because SES refused too many of their emails in a row, with the reason."""
    ids = list(campaign_ids)
    reasons: dict[uuid.UUID, str] = {}
    if not ids:
        return reasons
    for campaign_id, own, errors, code in connection.execute(_ERRORS_IN_A_ROW, {"campaign_ids": ids}):
        limits = _limits(settings, own)
        if limits.guardrails_enabled and errors >= limits.guardrail_max_provider_errors:
            most = limits.guardrail_max_provider_errors
            reasons[campaign_id] = (
                f"Paused by a guardrail: SES refused the last {errors} emails in a row ({code}); the limit is {most}. "
                "Fix the cause, put the emails back (retry-failed) and resume the campaign."
            )
    return reasons


def most_refusals(
    connection: sa.Connection, campaign_ids: Iterable[uuid.UUID], settings: GuardrailSettings
) -> dict[uuid.UUID, int]:
    """How many emails in a row SES may refuse, by campaign. Campaigns without guardrails are left out."""
    own = sa.text("SELECT id, guardrails FROM campaigns WHERE id = ANY(:campaign_ids)").bindparams(
        sa.bindparam("campaign_ids", type_=sa.ARRAY(sa.UUID))
    )
    rows = connection.execute(own, {"campaign_ids": list(campaign_ids)})
    limits = {campaign_id: _limits(settings, guardrails) for campaign_id, guardrails in rows}
    return {
        campaign_id: limit.guardrail_max_provider_errors
        for campaign_id, limit in limits.items()
        if limit.guardrails_enabled
    }


def _limits(settings: GuardrailSettings, own: dict[str, object] | None) -> GuardrailSettings:
    given = Limits.model_validate(own or {}).model_dump(exclude_none=True)
    enabled = {"guardrails_enabled": given.pop("enabled")} if "enabled" in given else {}
    return settings.model_copy(update=enabled | {f"guardrail_{name}": value for name, value in given.items()})
