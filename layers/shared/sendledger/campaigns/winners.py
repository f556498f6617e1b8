"""The winner of a step: which variant goes to the leads that wait while the others are tested.

A waiting email has no variant. It is due when the winner is to be decided, and nothing of a campaign is claimed while
a decision is overdue (`ledger_rules.may_send`). The decision is one row of `campaign_steps`; a claim reads it there.
Reads `emails` and `replies`; reads and writes `campaign_steps`, `campaigns` and the due times of `scheduled_emails`;
writes `audit_log`.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.variants import variants_of_step
from sendledger.core import audit_log
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.ledger_rules import is_step_of, is_variant_of, lock_campaigns, still_planned
from sendledger.core.tables import campaign_steps, campaigns
from sendledger.core.vocabulary import AuditAction, CampaignStatus
from sendledger.policy.business_days import due_times

SIGNIFICANCE = 0.05
"""How likely such a difference may be by chance, at most."""

logger = Logger(child=True)

_step = campaign_steps.c
_UNDECIDED = sa.and_(_step.winner_at.is_not(None), _step.winner_decided_at.is_(None))

_SET_TIMES = sa.text("""
    UPDATE campaign_steps s
    SET winner_at = coalesce(times.due_at, :at + planned.delay)
                    + CAST(s.winner ->> 'after_seconds' AS float) * interval '1 second'
    FROM (SELECT p.revision, p.step_number, sum(p.delay) OVER (ORDER BY p.step_number) AS delay
          FROM campaigns c JOIN campaign_steps p ON p.campaign_id = c.id AND p.revision = c.revision
          WHERE c.id = :campaign_id) planned
    LEFT JOIN json_to_recordset(CAST(:times AS json)) AS times (step_number integer, due_at timestamptz)
           ON times.step_number = planned.step_number
    WHERE s.campaign_id = :campaign_id AND s.revision = planned.revision AND s.step_number = planned.step_number
      AND s.winner IS NOT NULL AND s.winner_at IS NULL
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("at", type_=sa.TIMESTAMP(timezone=True)))
_DUE = sa.text("SELECT id FROM campaigns WHERE status = 'running' AND winner_at <= now() ORDER BY winner_at, id")
# Test emails have a variant; those that wait have none. The emails of each step are read once.
_TESTS = sa.text(f"""
    WITH due AS MATERIALIZED (
        SELECT s.* FROM campaigns c JOIN campaign_steps s ON s.campaign_id = c.id
        WHERE c.id = :campaign_id AND c.status = 'running' AND s.winner_at <= now() AND s.winner_decided_at IS NULL
    ), counted AS MATERIALIZED (
        SELECT e.revision, e.workflow_step_number AS step_number, e.variant, count(*) AS tested,
               count(*) FILTER (WHERE CASE s.winner ->> 'by'
                   WHEN 'delivered' THEN m.delivered_at IS NOT NULL
                   WHEN 'opened' THEN coalesce(m.opened_at, m.clicked_at) IS NOT NULL
                   WHEN 'clicked' THEN m.clicked_at IS NOT NULL
                   ELSE EXISTS (SELECT FROM replies r WHERE r.email_id = m.id AND r.automatic IS NULL) END) AS successes
        FROM due s JOIN scheduled_emails e ON {is_step_of("s", "e")}
        LEFT JOIN emails m ON m.id = e.email_id AND m.campaign_id = e.campaign_id
        WHERE CASE e.status WHEN 'sent' THEN e.variant IS NOT NULL END
        GROUP BY 1, 2, 3
    )
    SELECT s.revision, s.step_number, v.variant, coalesce(n.tested, 0) AS tested, coalesce(n.successes, 0) AS successes
    FROM due s JOIN campaign_step_variants v ON {is_variant_of("v", "s")}
    LEFT JOIN counted n ON n.revision = v.revision AND n.step_number = v.step_number AND n.variant = v.variant
    WHERE v.retired_at IS NULL
    ORDER BY 1, 2, 3
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
# Of several ticks the first one decides. A campaign that was paused meanwhile is decided after its resume.
_DECIDE = sa.text("""
    UPDATE campaign_steps s SET winner_decided_at = now(), winner_variant = d.variant
    FROM json_to_recordset(CAST(:decisions AS json))
             AS d (revision smallint, step_number int, variant smallint),
         campaigns c
    WHERE s.campaign_id = :campaign_id AND s.revision = d.revision AND s.step_number = d.step_number
      AND s.winner_decided_at IS NULL AND c.id = s.campaign_id AND c.status = 'running'
    RETURNING s.revision, s.step_number, s.winner_variant
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_NEXT_DECISION = sa.text("""
    UPDATE campaigns c SET winner_at = (
        SELECT min(s.winner_at) FROM campaign_steps s WHERE s.campaign_id = c.id AND s.winner_decided_at IS NULL)
    WHERE c.id = ANY(:ids)
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))
# An email waits for `winner_wait` seconds after its own time. One from before this column existed waits as long as
# those of the start.
_BRING_FORWARD = sa.text(f"""
    WITH chunk AS MATERIALIZED (
        SELECT id FROM scheduled_emails e
        WHERE campaign_id = :campaign_id AND id > :after_id
          AND revision = :revision AND workflow_step_number = :step_number
          AND variant IS NULL AND fallback_variant IS NOT NULL AND {still_planned("e")}
        ORDER BY id LIMIT :limit FOR UPDATE
    ), moved AS (
        UPDATE scheduled_emails e
        SET scheduled_for = e.scheduled_for
                            - make_interval(secs => least(:seconds, coalesce(e.winner_wait, :after_seconds))),
            updated_at = now()
        FROM chunk WHERE e.id = chunk.id AND e.scheduled_for <= :until
    )
    SELECT count(*), max(id) FROM chunk
""").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("seconds", type_=sa.Double),
    sa.bindparam("after_seconds", type_=sa.Double),
    sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True)),
)


def set_times(connection: sa.Connection, campaign: sa.RowMapping, at: dt.datetime) -> bool:
    """When each winner of the campaign's newest revision is to be decided, counted from its first leads, which come in
    `at` this time; before rows are written for them. Returns whether that was not known yet.

    Business days are counted in the zone of the sending schedule.
    """
    of_revision = sa.and_(_step.campaign_id == campaign["id"], _step.revision == campaign["revision"])
    has_no_time = sa.select(_step.step_number).where(of_revision, _step.winner.is_not(None), _step.winner_at.is_(None))
    if connection.scalar(has_no_time.limit(1)) is None:
        return False
    times = due_times(connection, campaign["id"], [""], at)
    connection.execute(_SET_TIMES, {"campaign_id": campaign["id"], "times": json.dumps(times), "at": at})
    connection.execute(_NEXT_DECISION, {"ids": [campaign["id"]]})
    return True


def forget_times(connection: sa.Connection, campaign: sa.RowMapping) -> None:
    """Nobody has come in after all: the winners of the newest revision are decided after its first leads."""
    of_revision = sa.and_(_step.campaign_id == campaign["id"], _step.revision == campaign["revision"])
    connection.execute(sa.update(campaign_steps).where(of_revision, _UNDECIDED).values(winner_at=None))
    connection.execute(_NEXT_DECISION, {"ids": [campaign["id"]]})


def decisions(connection: sa.Connection, campaign_id: uuid.UUID) -> dict[tuple[int, int], dict[str, Any]]:
    """The winners of the campaign's steps that have one to be decided, by revision and step."""
    columns = (_step.revision, _step.step_number, _step.winner, _step.winner_at, _step.winner_decided_at)
    query = sa.select(*columns, _step.winner_variant)
    rows = connection.execute(query.where(_step.campaign_id == campaign_id, _step.winner.is_not(None)))
    return {
        (revision, number): {**winner, "decide_at": at, "decided_at": decided_at, "variant": variant}
        for revision, number, winner, at, decided_at, variant in rows
    }


def shift_decisions(connection: sa.Connection, campaign_id: uuid.UUID, seconds: float) -> None:
    """Postpone the decisions by the length of a pause. The emails that wait are due later by the same time."""
    later = _step.winner_at + dt.timedelta(seconds=seconds)
    own = sa.update(campaign_steps).where(_step.campaign_id == campaign_id, _UNDECIDED)
    connection.execute(own.values(winner_at=later))
    connection.execute(_NEXT_DECISION, {"ids": [campaign_id]})


def decide_due(engine: sa.Engine) -> int:
    """Decide each winner whose time has come; returns how many this call decided. Each is decided once.

    A campaign whose winner cannot be decided is logged and does not stop the others.
    """
    with engine.connect() as connection:
        due = list(connection.scalars(_DUE))
    decided = 0
    for campaign_id in due:
        try:
            with engine.begin() as connection:
                decided += _decide(connection, campaign_id)
        except Exception:
            logger.exception("Deciding a winner failed", extra={"campaign_id": str(campaign_id)})
    return decided


def _decide(connection: sa.Connection, campaign_id: uuid.UUID) -> int:
    """Decide what is due of one campaign; returns how many steps that were."""
    tests: dict[tuple[int, int], list[sa.RowMapping]] = {}
    for row in connection.execute(_TESTS, {"campaign_id": campaign_id}).mappings():
        tests.setdefault((row["revision"], row["step_number"]), []).append(row)
    connection.execute(lock_campaigns("NO KEY UPDATE"), {"ids": [campaign_id]})
    decisions = [
        {"revision": revision, "step_number": number, "variant": best_variant(variants)}
        for (revision, number), variants in tests.items()
    ]
    parameters = {"campaign_id": campaign_id, "decisions": json.dumps(decisions)}
    decided = connection.execute(_DECIDE, parameters).all()
    connection.execute(_NEXT_DECISION, {"ids": [campaign_id]})
    for revision, number, variant in decided:
        counts = {str(row["variant"]): [row["successes"], row["tested"]] for row in tests[revision, number]}
        detail = {"revision": revision, "step_number": number, "variant": variant, "counts": counts}
        audit_log.record(connection, SYSTEM, AuditAction.CAMPAIGN_WINNER, "campaign", campaign_id, detail)
    return len(decided)


def choose(
    connection: sa.Connection,
    campaign_id: uuid.UUID,
    step_number: int,
    variant: int,
    actor: str,
    revision: int | None = None,
) -> sa.RowMapping:
    """Decide earlier: the emails that wait go out as this variant, from now. Background work moves their times.

    It is the step of the newest revision, or of `revision`.

    Raises:
        NotFound: there is no such campaign, or no such variant.
        Conflict: it is neither running nor paused, the step decides no winner or has one, or the variant is retired.
    """
    campaign = get_campaign(connection, campaign_id, lock=True)
    status = campaign["status"]
    if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        raise Conflict(f"The campaign is {status}, neither running nor paused.", status=status)
    revision = campaign["revision"] if revision is None else revision
    named = {each["variant"]: each for each in variants_of_step(connection, campaign_id, revision, step_number)}
    if variant not in named:
        raise NotFound(f"variant of step {step_number} in revision {revision}", variant)
    if named[variant]["retired_at"] is not None:
        raise Conflict(f"Variant {variant} of step {step_number} is retired.", status=status)
    of_step = sa.and_(_step.campaign_id == campaign_id, _step.revision == revision, _step.step_number == step_number)
    step = connection.execute(sa.select(campaign_steps).where(of_step)).mappings().one()
    if step["winner"] is None:
        raise Conflict(f"Step {step_number} decides no winner; each lead has its variant.", status=status)
    if step["winner_decided_at"] is not None:
        message = f"The winner of step {step_number} is decided already."
        raise Conflict(message, status=status, variant=step["winner_variant"])
    chosen = sa.update(campaign_steps).where(of_step)
    at = sa.func.coalesce(_step.winner_at, sa.func.now())
    connection.execute(chosen.values(winner_at=at, winner_decided_at=sa.func.now(), winner_variant=variant))
    connection.execute(_NEXT_DECISION, {"ids": [campaign_id]})
    # For a paused campaign, time has stopped at the pause.
    now = campaign["paused_at"] if status == CampaignStatus.PAUSED else connection.scalar(sa.select(sa.func.now()))
    seconds = (step["winner_at"] - now).total_seconds() if step["winner_at"] is not None else 0
    if seconds > 0:
        # Not before the planned time of each lead.
        work = {"kind": "bring_forward", "revision": revision, "step_number": step_number, "after_id": 0}
        work |= {"seconds": seconds, "after_seconds": step["winner"]["after_seconds"]}
        work["until"] = step["winner_at"].isoformat()
        values = {"background_work": [*campaign["background_work"], work], "updated_at": sa.func.now()}
        connection.execute(sa.update(campaigns).where(campaigns.c.id == campaign_id).values(values))
    detail = {"revision": revision, "step_number": step_number, "variant": variant}
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_WINNER, "campaign", campaign_id, detail)
    return connection.execute(sa.select(campaign_steps).where(of_step)).mappings().one()


def bring_forward(
    connection: sa.Connection, campaign_id: uuid.UUID, work: Mapping[str, Any], limit: int
) -> tuple[int, int]:
    """Make the next emails that waited for a winner due. Returns how many were looked at, and the last id."""
    # Work that the version before has left is of the only revision.
    known = {"revision": 1, "after_seconds": work["seconds"], **work}
    names = ("revision", "step_number", "seconds", "after_seconds", "after_id")
    parameters = {name: known[name] for name in names}
    parameters |= {"campaign_id": campaign_id, "until": dt.datetime.fromisoformat(work["until"]), "limit": limit}
    looked_at, last = connection.execute(_BRING_FORWARD, parameters).one()
    return looked_at, last or work["after_id"]


def best_variant(variants: Sequence[sa.RowMapping | Mapping[str, int]]) -> int | None:
    """The variant that is better than each other one by more than chance; None if there is no such one.

    `variants` have `variant`, `tested` and `successes`. The only one left wins. See docs/variants.md for the test.
    """
    if len(variants) == 1:
        return int(variants[0]["variant"])
    with_emails = [each for each in variants if each["tested"]]
    if len(with_emails) < len(variants):
        return None
    best = max(with_emails, key=lambda each: each["successes"] / each["tested"])
    others = [each for each in with_emails if each is not best]
    if any(_chance(best, other) > SIGNIFICANCE for other in others):
        return None
    return int(best["variant"])


def _chance(best: sa.RowMapping | Mapping[str, int], other: sa.RowMapping | Mapping[str, int]) -> float:
    """Fisher's exact test, one-sided: how likely `best` has so many successes if both have the same rate."""
    tested, successes = best["tested"], best["successes"]
    total, all_successes = tested + other["tested"], successes + other["successes"]
    ways = _log_ways(total, all_successes)
    return math.fsum(
        math.exp(_log_ways(tested, count) + _log_ways(other["tested"], all_successes - count) - ways)
        for count in range(successes, min(tested, all_successes) + 1)
        if all_successes - count <= other["tested"]
    )


def _log_ways(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
