"""The variants of a started campaign's steps: who gets which, and retiring one.

A lead's rank among all leads of its revision decides; after a retirement, how many emails each variant has. See
split_leads.py. Reads `campaign_steps` and `result_counts`; reads and writes `campaign_step_variants`, `campaigns` and
the unsent rows of `scheduled_emails`; writes `audit_log`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.split_leads import catch_up, place_of, variants_in_turn
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.ledger_rules import still_planned
from sendledger.core.tables import campaign_step_variants, campaign_steps, campaigns
from sendledger.core.vocabulary import AuditAction, CampaignStatus

_kept = campaign_step_variants.c

# The rows of a chunk are locked when they are selected; a CASE keeps the planner from looking for them by status.
# What waits for a winner would be this variant if there is none, or if it has won.
_SPLIT_AGAIN = sa.text(f"""
    WITH chunk AS MATERIALIZED (
        SELECT id, variant IS NULL AND NOT :has_won AS waits FROM scheduled_emails e
        WHERE campaign_id = :campaign_id AND id > :after_id AND {still_planned("e")}
          AND revision = :revision AND workflow_step_number = :step_number
          AND CASE WHEN variant IS NOT NULL THEN variant = :variant
                   WHEN :has_won THEN fallback_variant IS NOT NULL ELSE fallback_variant = :variant END
        ORDER BY id LIMIT :limit FOR UPDATE
    ), ranked AS (
        SELECT id, waits, CAST(CASE WHEN waits THEN :equal_turns ELSE :turns END AS smallint[]) AS turns,
               CASE WHEN waits THEN 0 ELSE :head END AS head,
               CASE WHEN waits THEN :waiting_done ELSE :others_done END
               + row_number() OVER (PARTITION BY waits ORDER BY id) - 1 AS rank
        FROM chunk
    ), moved AS (
        UPDATE scheduled_emails e
        SET variant = CASE WHEN NOT r.waits THEN v.variant END,
            template_id = CASE WHEN r.waits THEN e.template_id ELSE v.email_template_id END,
            fallback_variant = CASE WHEN r.waits THEN v.variant ELSE e.fallback_variant END, updated_at = now()
        FROM ranked r
        JOIN campaign_step_variants v ON v.campaign_id = :campaign_id AND v.revision = :revision
            AND v.step_number = :step_number
            AND v.variant = r.turns[1 + {place_of("r.rank", "r.head", "(cardinality(r.turns) - r.head)")}]
        WHERE e.id = r.id
        RETURNING r.waits
    )
    SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM moved WHERE waits), (SELECT max(id) FROM chunk)
""").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("has_won", type_=sa.Boolean),
    sa.bindparam("turns", type_=sa.ARRAY(sa.SmallInteger)),
    sa.bindparam("equal_turns", type_=sa.ARRAY(sa.SmallInteger)),
    sa.bindparam("head", type_=sa.Integer),
    sa.bindparam("others_done", type_=sa.BigInteger),
    sa.bindparam("waiting_done", type_=sa.BigInteger),
)
_EMAILS = sa.text("""
    SELECT step_number, variant, CAST(sum(count) AS bigint) FROM result_counts
    WHERE campaign_id = :campaign_id AND revision = :revision AND what = 'emails' AND variant > 0 GROUP BY 1, 2
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


def kept_variants(
    connection: sa.Connection, campaign_id: uuid.UUID, revision: int | None = None
) -> Sequence[sa.RowMapping]:
    """The variants of each step that has several, as they are kept since the start, of one revision or of all."""
    query = sa.select(campaign_step_variants).where(_kept.campaign_id == campaign_id)
    query = query if revision is None else query.where(_kept.revision == revision)
    return connection.execute(query.order_by(_kept.revision, _kept.step_number, _kept.variant)).mappings().all()


def variants_of_step(
    connection: sa.Connection, campaign_id: uuid.UUID, revision: int, step_number: int
) -> list[sa.RowMapping]:
    """Those of one step."""
    kept = kept_variants(connection, campaign_id, revision)
    return [each for each in kept if each["step_number"] == step_number]


def splits(connection: sa.Connection, campaign: sa.RowMapping) -> tuple[str, list[int]]:
    """Parameters of the statement that writes rows: which variants the leads take in turn, and the turns of all steps.

    Of each step with variants, the lead with the rank r, from 0, takes the turn number r - `before` of those that begin
    at `first`: `head` of them once, then `length` ones without end. A negative number is of a lead that waits for the
    winner, and says what it gets if there is none. `templates` has the template of each variant, by its number. The
    turns may be many, so that no row of the statement may contain them.

    Ranks count from the first lead of the revision. Of a step of which a variant was retired they count from now, and
    the head evens out how many emails its variants have. Further such steps whose leads keep their variant follow the
    first one. A step that looks for a winner goes on by rank.
    """
    steps = _steps_of(connection, campaign)
    variants_by_step: dict[int, list[sa.RowMapping]] = {}
    for variant in kept_variants(connection, campaign["id"], campaign["revision"]):
        variants_by_step.setdefault(variant["step_number"], []).append(variant)
    evened_out = {
        number
        for number, variants in variants_by_step.items()
        if steps[number]["winner"] is None and any(each["retired_at"] for each in variants)
    }
    emails = _emails_by_variant(connection, campaign["id"], campaign["revision"]) if evened_out else {}
    turns: list[int] = []
    parts = []
    heads: dict[tuple[int, ...], list[int]] = {}
    for number, variants in variants_by_step.items():
        own_turns = _turns(variants, _test_share(steps[number], variants))
        head, before = list[int](), campaign["leads_before_revision"]
        if number in evened_out:
            head, before = _catch_up(variants, emails.get(number, {})), campaign["total_leads_targeted"]
            if steps[number]["keep_variant"]:
                head = heads.setdefault(tuple(own_turns), head)
        templates = [each["email_template_id"] and str(each["email_template_id"]) for each in variants]
        place = {"first": len(turns) + 1, "head": len(head), "length": len(own_turns), "before": before}
        parts.append({"step_number": number, **place, "templates": templates})
        turns += head + own_turns
    return json.dumps(parts), turns


def _steps_of(connection: sa.Connection, campaign: sa.RowMapping) -> dict[int, sa.RowMapping]:
    step = campaign_steps.c
    query = sa.select(step.step_number, step.keep_variant, step.winner, step.winner_decided_at, step.winner_variant)
    of_revision = sa.and_(step.campaign_id == campaign["id"], step.revision == campaign["revision"])
    return {row["step_number"]: row for row in connection.execute(query.where(of_revision)).mappings()}


def _emails_by_variant(connection: sa.Connection, campaign_id: uuid.UUID, revision: int) -> dict[int, dict[int, int]]:
    """How many emails each variant has, by step."""
    found: dict[int, dict[int, int]] = {}
    for number, variant, emails in connection.execute(_EMAILS, {"campaign_id": campaign_id, "revision": revision}):
        found.setdefault(number, {})[variant] = emails
    return found


def _catch_up(variants: Iterable[sa.RowMapping], emails: Mapping[int, int]) -> list[int]:
    """The turns that even out how many emails the variants in use have."""
    in_use = [(each["variant"], each["weight"]) for each in variants if each["retired_at"] is None]
    places = catch_up([weight for _, weight in in_use], [emails.get(variant, 0) for variant, _ in in_use])
    return [in_use[place][0] for place in places]


def _test_share(step: sa.RowMapping, variants: Iterable[sa.RowMapping]) -> int:
    """How many percent of the leads get a variant at once. A winner that is retired goes to nobody."""
    if step["winner"] is None:
        return 100
    if step["winner_decided_at"] is None:
        return int(step["winner"]["test_share"])
    return 100 if any(each["retired_at"] and each["variant"] == step["winner_variant"] for each in variants) else 0


def _turns(variants: Iterable[sa.RowMapping], test_share: int = 100) -> list[int]:
    """The order for these variants: `test_share` percent by the weights; the other leads wait, equally split."""
    in_use = [(each["variant"], each["weight"]) for each in variants if each["retired_at"] is None]
    total = sum(weight for _, weight in in_use)
    tested = [(variant, weight * test_share * len(in_use)) for variant, weight in in_use]
    waiting = [(-variant, total * (100 - test_share)) for variant, _ in in_use]
    return variants_in_turn([each for each in tested + waiting if each[1]])


def variant_of_template(
    connection: sa.Connection, campaign_id: uuid.UUID, revision: int, step_number: int, template_id: uuid.UUID
) -> int | None:
    """Which variant of the step sends this template; None if the step has no variants.

    Raises:
        Conflict: none of them does, or it is retired.
    """
    own = variants_of_step(connection, campaign_id, revision, step_number)
    in_use = {each["email_template_id"]: each["variant"] for each in own if each["retired_at"] is None}
    if own and template_id not in in_use:
        sent = ", ".join(str(each) for each in in_use)
        raise Conflict(f"The variants of step {step_number} of campaign {campaign_id} send the templates {sent}.")
    return in_use.get(template_id)


def retire(
    connection: sa.Connection,
    campaign_id: uuid.UUID,
    step_number: int,
    variant: int,
    actor: str,
    revision: int | None = None,
) -> sa.RowMapping:
    """Send this variant no more: its unsent emails are split over the others by background work, and later leads too.

    It is that of the newest revision, or of `revision`. Where other revisions have the same template as this variant,
    it is retired there too. An email that a sender has claimed already is rendered again, or is on its way. Returns the
    variant.

    Raises:
        NotFound: there is no such campaign, or no such variant.
        Conflict: it is neither running nor paused, the variant is retired already or the only one in use.
    """
    campaign = get_campaign(connection, campaign_id, lock=True)
    status = campaign["status"]
    if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        message = f"The campaign is {status}; a variant of one that is running or paused can be retired."
        raise Conflict(message, status=status)
    of_step: dict[int, dict[int, sa.RowMapping]] = {}
    for each in kept_variants(connection, campaign_id):
        if each["step_number"] == step_number:
            of_step.setdefault(each["revision"], {})[each["variant"]] = each
    revision = campaign["revision"] if revision is None else revision
    own = of_step.get(revision, {}).get(variant)
    if own is None:
        raise NotFound(f"variant of step {step_number} in revision {revision}", variant)
    if own["retired_at"] is not None:
        raise Conflict(f"Variant {variant} of step {step_number} is retired already.", status=status)
    if _heir(of_step[revision], variant) is None:
        raise Conflict(f"Variant {variant} of step {step_number} is the only one left; pause the campaign instead.")
    work: list[dict[str, Any]] = []
    for number, others in of_step.items():
        # By its template, as an edit may have changed its number.
        same = (each for each in others.values() if each["email_template_id"] == own["email_template_id"] is not None)
        there = own if number == revision else next(same, None)
        if there is None or there["retired_at"] is not None or (heir := _heir(others, there["variant"])) is None:
            continue
        _retire_in(connection, there, heir)
        work.append(_split_work(there))
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(
            background_work=[*campaign["background_work"], *work],
            content_changed_at=sa.func.now(),
            updated_at=sa.func.now(),
        )
    )
    detail = {"step_number": step_number, "variant": variant, "revisions": [each["revision"] for each in work]}
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_VARIANT_RETIRE, "campaign", campaign_id, detail)
    kept = variants_of_step(connection, campaign_id, revision, step_number)
    return next(each for each in kept if each["variant"] == variant)


def work_for_retired(connection: sa.Connection, campaign_id: uuid.UUID) -> list[dict[str, Any]]:
    """Background work that splits what retired variants of the campaign have got since, as failed emails put back."""
    return [_split_work(each) for each in kept_variants(connection, campaign_id) if each["retired_at"] is not None]


def _split_work(variant: sa.RowMapping) -> dict[str, Any]:
    what = {name: variant[name] for name in ("revision", "step_number", "variant")}
    return {"kind": "split_again", **what, "after_id": 0}


def _heir(variants: Mapping[int, sa.RowMapping], variant: int) -> int | None:
    """What goes out where a row still names this variant: of the others in use, the one with the greatest weight."""
    others = [each for each in variants.values() if each["retired_at"] is None and each["variant"] != variant]
    heaviest = max(others, key=lambda each: (each["weight"], -each["variant"]), default=None)
    return int(heaviest["variant"]) if heaviest is not None else None


def _retire_in(connection: sa.Connection, variant: sa.RowMapping, heir: int) -> None:
    """Retire it in its revision."""
    of_step = (_kept[name] == variant[name] for name in ("campaign_id", "revision", "step_number"))
    changed = sa.update(campaign_step_variants).where(*of_step)
    retired = changed.where(_kept.variant == variant["variant"])
    connection.execute(retired.values(retired_at=sa.func.now(), replaced_by=heir))
    connection.execute(changed.where(_kept.replaced_by == variant["variant"]).values(replaced_by=heir))


def split_again(connection: sa.Connection, campaign_id: uuid.UUID, work: dict[str, Any], limit: int) -> tuple[int, int]:
    """Split the next unsent rows of a retired variant over the others: so that their emails are evened out, in a step
    that looks for a winner by the weights, or equally those that wait for it. Notes in `work` how many of them wait.
    Returns how many there were, and the last id."""
    # Work that the version before has left is of the only revision.
    revision, step_number = work.get("revision", 1), work["step_number"]
    own = variants_of_step(connection, campaign_id, revision, step_number)
    step = campaign_steps.c
    of_step = sa.and_(step.campaign_id == campaign_id, step.revision == revision, step.step_number == step_number)
    looks_for_winner, winner = connection.execute(
        sa.select(step.winner.is_not(None), step.winner_variant).where(of_step)
    ).one()
    waiting_done, head = work.get("waiting_done", 0), list[int]()
    others_done = work.get("rows_done", 0) - waiting_done
    if not looks_for_winner:
        # These counts have what the chunks before have moved.
        head, others_done = (
            _catch_up(own, _emails_by_variant(connection, campaign_id, revision).get(step_number, {})),
            0,
        )
    changed, waiting, last = connection.execute(
        _SPLIT_AGAIN,
        {
            "has_won": winner == work["variant"],
            "equal_turns": [each["variant"] for each in own if each["retired_at"] is None],
            "waiting_done": waiting_done,
            "campaign_id": campaign_id,
            "revision": revision,
            "step_number": step_number,
            "variant": work["variant"],
            "after_id": work["after_id"],
            "others_done": others_done,
            "head": len(head),
            "turns": head + _turns(own),
            "limit": limit,
        },
    ).one()
    work["waiting_done"] = waiting_done + waiting
    return changed, last or work["after_id"]
