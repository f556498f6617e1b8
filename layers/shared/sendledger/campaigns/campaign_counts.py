"""Progress of campaigns and results of their emails, as sums over `campaign_counts`, without reading the ledger.

Triggers write the changes of each statement on `scheduled_emails` and `emails` there. The sum over the rows is exact at
any time. `fold` keeps the number of rows small. The results of variants, revisions and senders, and what came back, are
counted in `result_counts` in the same way, and the days of all campaigns together in `daily_counts`. Reads these,
`campaigns`, for timelines `replies` and complaints in `email_events`, and one pending row of `scheduled_emails` at
either end of its index.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from sendledger.campaigns.assign_lanes import has_policy
from sendledger.campaigns.detailed_results import DetailedResults, detailed_results
from sendledger.campaigns.step_results import step_results
from sendledger.campaigns.variants import kept_variants
from sendledger.campaigns.winners import decisions
from sendledger.core.errors import FieldError, InvalidInput, NotFound
from sendledger.core.ledger_rules import LAST_STEP, is_pending
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import CampaignStatus, Counted, ScheduledEmailStatus
from sendledger.policy import budgets, sender_addresses

Interval = Literal["hour", "day"]

LONGEST: Mapping[Interval, dt.timedelta] = {"hour": dt.timedelta(days=31), "day": dt.timedelta(days=366)}
"""How much time a timeline may span."""
DEFAULT: Mapping[Interval, dt.timedelta] = {"hour": dt.timedelta(days=2), "day": dt.timedelta(days=30)}

_OPENED = (Counted.DELIVERED, Counted.OPENED, Counted.CLICKED)
_BOUNCED = (Counted.BOUNCED, Counted.SOFT_BOUNCED)
FUNNEL = (*_OPENED, "replied", *_BOUNCED, "complained", "unsubscribed")
OVERVIEW = (Counted.SENT, Counted.FAILED, *_OPENED, *_BOUNCED, "complained")
TIMELINE = (*OVERVIEW, "replied")

_DETAILS = "campaign_id, revision, step_number, variant, sender_id, what"
_FOLD = sa.text("""
    WITH held AS MATERIALIZED (
        -- A campaign that is locked can wait: its changes count without being folded.
        SELECT id FROM campaigns WHERE id IN (SELECT campaign_id FROM campaign_counts WHERE NOT is_total)
        ORDER BY id FOR KEY SHARE SKIP LOCKED
    ), taken AS MATERIALIZED (
        SELECT id FROM campaign_counts WHERE NOT is_total AND campaign_id IN (SELECT id FROM held)
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM campaign_counts WHERE id IN (SELECT id FROM taken)
        RETURNING campaign_id, what, step_number, hour, count
    )
    INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count, is_total)
    SELECT campaign_id, what, step_number, hour, sum(count), true FROM gone
    GROUP BY campaign_id, what, step_number, hour ORDER BY campaign_id, what, step_number, hour
    ON CONFLICT (campaign_id, what, step_number, hour) WHERE is_total
        DO UPDATE SET count = campaign_counts.count + excluded.count
""")
_FOLD_RESULTS = sa.text(f"""
    WITH held AS MATERIALIZED (
        SELECT id FROM campaigns WHERE id IN (SELECT campaign_id FROM result_counts WHERE NOT is_total)
        ORDER BY id FOR KEY SHARE SKIP LOCKED
    ), taken AS MATERIALIZED (
        SELECT id FROM result_counts WHERE NOT is_total AND campaign_id IN (SELECT id FROM held)
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM result_counts WHERE id IN (SELECT id FROM taken) RETURNING {_DETAILS}, count
    )
    INSERT INTO result_counts ({_DETAILS}, count, is_total)
    SELECT {_DETAILS}, sum(count), true FROM gone GROUP BY {_DETAILS} ORDER BY {_DETAILS}
    ON CONFLICT ({_DETAILS}) WHERE is_total DO UPDATE SET count = result_counts.count + excluded.count
""")
# After _FOLD, whose own changes cancel each other out.
_FOLD_DAYS = sa.text("""
    WITH taken AS MATERIALIZED (
        SELECT id FROM daily_counts WHERE NOT is_total FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM daily_counts WHERE id IN (SELECT id FROM taken) RETURNING day, what, count
    )
    INSERT INTO daily_counts (day, what, count, is_total)
    SELECT day, what, sum(count), true FROM gone GROUP BY day, what HAVING sum(count) <> 0 ORDER BY day, what
    ON CONFLICT (day, what) WHERE is_total DO UPDATE SET count = daily_counts.count + excluded.count
""")
_BY_STEP = sa.text("""
    SELECT step_number, what, CAST(sum(count) AS bigint) FROM campaign_counts
    WHERE campaign_id = :campaign_id AND step_number > 0 GROUP BY step_number, what HAVING sum(count) <> 0
""")
_DUE = sa.text(f"""
    SELECT (SELECT scheduled_for FROM scheduled_emails e WHERE campaign_id = :campaign_id AND {is_pending("e")}
            ORDER BY scheduled_for LIMIT 1),
           (SELECT scheduled_for FROM scheduled_emails e WHERE campaign_id = :campaign_id AND {is_pending("e")}
            ORDER BY scheduled_for DESC LIMIT 1)
""")
# Per second, over this hour and the one before, as far as the campaign was running.
_RATE = sa.text("""
    SELECT now(), sum(n.count) / greatest(extract(epoch FROM now() - since.start), 60)
    FROM campaigns c CROSS JOIN LATERAL (
        SELECT greatest(date_trunc('hour', now(), 'UTC') - interval '1 hour', c.actual_started_at, c.resumed_at)
    ) since (start)
    LEFT JOIN campaign_counts n
           ON n.campaign_id = c.id AND n.what = 'sent' AND n.hour >= date_trunc('hour', since.start, 'UTC')
    WHERE c.id = :campaign_id GROUP BY since.start
""")
_REVISIONS = sa.text(f"""
    SELECT revision, step_number, created_at FROM campaign_steps
    WHERE campaign_id = :campaign_id AND step_number <= {LAST_STEP} ORDER BY revision, step_number
""")
_TIMELINE = sa.text("""
    SELECT date_trunc(:interval, at, 'UTC'), what, CAST(sum(count) AS bigint) FROM (
        SELECT hour AS at, what, count FROM campaign_counts WHERE campaign_id = :campaign_id
        UNION ALL
        -- An email that was reported twice counts once, as in the campaign's counter.
        SELECT min(occurred_at), 'complained', 1 FROM email_events
        WHERE campaign_id = :campaign_id AND event_type = 'Complaint'
          AND coalesce(detail ->> 'feedback_type', '') <> 'not-spam'
        GROUP BY email_id, CASE WHEN email_id IS NULL THEN id END
        UNION ALL
        SELECT created_at, 'replied', 1 FROM replies WHERE campaign_id = :campaign_id AND automatic IS NULL
    ) happened
    WHERE at >= :start AND at < :end GROUP BY 1, 2
""")
_RECENT = sa.text("""
    SELECT what, CAST(sum(count) FILTER (WHERE day >= :today) AS bigint), CAST(sum(count) AS bigint)
    FROM daily_counts WHERE day >= :today - 29 GROUP BY what
""").bindparams(sa.bindparam("today", type_=sa.Date))
# By the index of each campaign. An email that was reported twice counts once.
_RECENT_COMPLAINTS = sa.text("""
    SELECT count(*) FILTER (WHERE at >= :today), count(*) FROM campaigns c CROSS JOIN LATERAL (
        SELECT min(occurred_at) AS at FROM email_events
        WHERE campaign_id = c.id AND event_type = 'Complaint' AND occurred_at >= :today - interval '29 days'
          AND coalesce(detail ->> 'feedback_type', '') <> 'not-spam'
        GROUP BY email_id, CASE WHEN email_id IS NULL THEN id END) complained
""").bindparams(sa.bindparam("today", type_=sa.DateTime(True)))
_NEXT_DUE = sa.text(f"""
    SELECT now(), (
        SELECT min(due.scheduled_for) FROM campaigns c CROSS JOIN LATERAL (
            SELECT scheduled_for FROM scheduled_emails e WHERE e.campaign_id = c.id AND {is_pending("e")}
            ORDER BY scheduled_for LIMIT 1) due
        WHERE c.status = 'running')
""")


def fold(connection: sa.Connection) -> None:
    """Add the changes of the last minute to their totals. Every reader sees the same sums before and after."""
    connection.execute(_FOLD)
    connection.execute(_FOLD_RESULTS)
    connection.execute(_FOLD_DAYS)


def campaign_stats(connection: sa.Connection, campaign: sa.RowMapping) -> dict[str, Any]:
    """The progress of a campaign, the results of its emails, and when it is expected to finish, if that is known."""
    campaign_id = {"campaign_id": campaign["id"]}
    nothing: dict[str, int] = dict.fromkeys(ScheduledEmailStatus, 0)
    by_status, by_step = dict(nothing), dict[int, dict[str, int]]()
    for step, status, count in connection.execute(_BY_STEP, campaign_id):
        by_status[status] += count
        by_step.setdefault(step, dict(nothing))[status] = count
    next_due, last_due = connection.execute(_DUE, campaign_id).one()
    now, rate = connection.execute(_RATE, campaign_id).one()
    finish = expected_finish(campaign, by_status, now, rate, next_due, last_due)
    sent = campaign["emails_sent_count"]
    counts = {Counted.SENT: sent, **{name: campaign[f"emails_{name}_count"] for name in FUNNEL}}
    funnel = _without_untracked(counts, campaign)
    results = step_results(connection, campaign["id"])
    variants, counted = kept_variants(connection, campaign["id"]), DetailedResults()
    if variants or campaign["revision"] > 1 or campaign["sender_ids"]:
        counted = detailed_results(connection, campaign["id"], by_step, results or {})
    revisions = _by_revision(connection, campaign, variants, counted)
    newest = [each for each in revisions if each["revision"] == campaign["revision"]]
    details = {step["step_number"]: step for each in newest for step in each["steps"]}
    return {
        "by_status": by_status,
        "by_step": [
            {
                "step_number": step,
                "by_status": counts,
                **_step_funnel(
                    campaign, counts[ScheduledEmailStatus.SENT], None if results is None else results.get(step, {})
                ),
                "variants": details.get(step, {}).get("variants", []),
                "winner": details.get(step, {}).get("winner"),
            }
            for step, counts in sorted(by_step.items())
            if step <= LAST_STEP
        ],
        "by_revision": revisions if len(revisions) > 1 else [],
        "by_sender": _by_sender(connection, campaign, counted),
        "next_due_at": next_due,
        "last_due_at": last_due,
        "emails_per_second": round(float(rate), 6) if rate else None,
        "expected_to_finish_at": finish,
        "funnel": funnel,
        "rates": {name: _rate(funnel[name], sent) for name in FUNNEL},
    }


def expected_finish(
    campaign: sa.RowMapping,
    by_status: Mapping[str, int],
    now: dt.datetime,
    rate: float | None,
    next_due: dt.datetime | None,
    last_due: dt.datetime | None,
) -> dt.datetime | None:
    """When the last email goes, at so many a second; None if that cannot be said."""
    remaining = by_status[ScheduledEmailStatus.PENDING] + by_status[ScheduledEmailStatus.SENDING]
    # With a sending schedule or caps the rate of an hour says nothing of the next one.
    if campaign["status"] != CampaignStatus.RUNNING or not rate or not remaining or has_policy(campaign):
        return None
    # At this rate from the time of the next email, but not before the last one is due.
    at_this_rate = max(now, next_due or now) + dt.timedelta(seconds=remaining / float(rate))
    return max(at_this_rate, last_due or now)


def _step_funnel(campaign: sa.RowMapping, sent: int, results: Mapping[str, int] | None) -> dict[str, Any]:
    if results is None:
        return {"funnel": None, "rates": None}
    funnel = _without_untracked({Counted.SENT: sent, **{name: results.get(name, 0) for name in FUNNEL}}, campaign)
    return {"funnel": funnel, "rates": {name: _rate(funnel[name], sent) for name in FUNNEL}}


def _by_revision(
    connection: sa.Connection, campaign: sa.RowMapping, variants: Sequence[sa.RowMapping], results: DetailedResults
) -> list[dict[str, Any]]:
    """The steps of each revision, and their variants, with what became of their emails.

    Empty where neither is more than one.
    """
    if not variants and campaign["revision"] == 1:
        return []
    winners = decisions(connection, campaign["id"])
    revisions: dict[int, dict[str, Any]] = {}
    for revision, number, created_at in connection.execute(_REVISIONS, {"campaign_id": campaign["id"]}):
        of_step = [found for key, found in results.items() if key[:2] == (revision, number)]
        own = [each for each in variants if (each["revision"], each["step_number"]) == (revision, number)]
        of_variant = {
            each["variant"]: [found for key, found in results.items() if key[:3] == (revision, number, each["variant"])]
            for each in own
        }
        step = {
            "step_number": number,
            **_came_of(of_step, campaign),
            "variants": [{**each, **_came_of(of_variant[each["variant"]], campaign)} for each in own],
            "winner": winners.get((revision, number)),
        }
        each = revisions.setdefault(revision, {"revision": revision, "created_at": created_at, "steps": []})
        each["steps"].append(step)
    return list(revisions.values())


def _by_sender(connection: sa.Connection, campaign: sa.RowMapping, results: DetailedResults) -> list[dict[str, Any]]:
    """The senders of the campaign, in its order, with what became of their emails, and their use of today."""
    rows = {row["id"]: row for row in sender_addresses.of_campaign(connection, campaign["sender_ids"])}
    uses = budgets.uses_of(connection, rows.values(), budgets.sending_day_now(connection)) if rows else {}
    return [
        {
            "sender_id": id_,
            "from_address": rows[id_]["from_address"],
            "status": rows[id_]["status"],
            "cap_today": uses[id_].cap,
            "sent_today": uses[id_].used,
            **_came_of([found for key, found in results.items() if key[3] == id_], campaign),
        }
        for id_ in campaign["sender_ids"]
    ]


def _came_of(results: Sequence[Mapping[str, Any]], campaign: sa.RowMapping) -> dict[str, Any]:
    """The sum of what became of emails: by status, as a funnel, and its rates."""
    by_status, counts = dict.fromkeys(ScheduledEmailStatus, 0), dict.fromkeys(FUNNEL, 0)
    for result in results:
        for status, count in result.get("by_status", {}).items():
            by_status[status] += count
        for name in FUNNEL:
            counts[name] += result.get(name, 0)
    sent = by_status[ScheduledEmailStatus.SENT]
    funnel = _without_untracked({Counted.SENT: sent, **counts}, campaign)
    return {"by_status": by_status, "funnel": funnel, "rates": {name: _rate(funnel[name], sent) for name in FUNNEL}}


def _rate(count: int | None, sent: int) -> float | None:
    return round(count / sent, 6) if sent and count is not None else None


def _without_untracked(counts: Mapping[str, int], campaign: sa.RowMapping) -> dict[str, int | None]:
    """None instead of 0 for what the campaign does not track, because the number is not known."""
    untracked: dict[str, bool] = {
        Counted.OPENED: not campaign["track_opens"],
        Counted.CLICKED: not campaign["track_clicks"],
    }
    return {name: None if untracked.get(name) and not count else count for name, count in counts.items()}


def timeline(
    connection: sa.Connection, campaign_id: UUID, interval: Interval, start: dt.datetime | None, end: dt.datetime | None
) -> dict[str, Any]:
    """What happened in each hour or day (UTC) between two times. Both are extended to whole hours or days.

    Raises:
        NotFound: there is no such campaign.
        InvalidInput: the times are in the wrong order, or too far apart.
    """
    query = sa.select(campaigns.c.track_opens, campaigns.c.track_clicks).where(campaigns.c.id == campaign_id)
    campaign = connection.execute(query).mappings().one_or_none()
    if campaign is None:
        raise NotFound("campaign", campaign_id)
    one = dt.timedelta(hours=1) if interval == "hour" else dt.timedelta(days=1)
    now: dt.datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
    end = end or now
    start = _floor(start or end - DEFAULT[interval], interval)
    end = _floor(end + one - dt.timedelta(microseconds=1), interval)
    if not start < end <= start + LONGEST[interval]:
        message = f"must be later than from, by at most {LONGEST[interval].days} days with interval={interval}"
        raise InvalidInput("The request is not valid.", [FieldError("to", message)])
    found = connection.execute(
        _TIMELINE.bindparams(
            sa.bindparam("start", type_=sa.DateTime(True)), sa.bindparam("end", type_=sa.DateTime(True))
        ),
        {"campaign_id": campaign_id, "interval": interval, "start": start, "end": end},
    )
    items = {start + number * one: dict.fromkeys(TIMELINE, 0) for number in range((end - start) // one)}
    for at, what, count in found:
        items[at][what] = count
    return {
        "interval": interval,
        "from_": start,
        "to": end,
        "items": [{"starts_at": at, **_without_untracked(counts, campaign)} for at, counts in items.items()],
    }


def overview(connection: sa.Connection) -> dict[str, Any]:
    """All campaigns: how many have each status, what was sent and reported in the last days (UTC), what is next."""
    status = sa.func.coalesce(campaigns.c.status, sa.literal_column("'draft'"))
    counted = connection.execute(sa.select(status, sa.func.count()).group_by(status))
    by_status: dict[str, int] = {name: count for name, count in counted}  # noqa: C416 (rows are no pairs to mypy)
    now, next_due = connection.execute(_NEXT_DUE).one()
    today, month = dict.fromkeys(OVERVIEW, 0), dict.fromkeys(OVERVIEW, 0)
    midnight = _floor(now, "day")
    for what, since_midnight, in_30_days in connection.execute(_RECENT, {"today": midnight.date()}):
        today[what], month[what] = since_midnight or 0, in_30_days
    complaints = connection.execute(_RECENT_COMPLAINTS, {"today": midnight})
    today["complained"], month["complained"] = complaints.one()
    return {"campaigns_by_status": by_status, "today": today, "last_30_days": month, "next_due_at": next_due}


def _floor(time: dt.datetime, interval: Interval) -> dt.datetime:
    whole = time.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    return whole if interval == "hour" else whole.replace(hour=0)
