"""Reading the content of a started campaign again: what is not sent yet gets the texts that the templates have now.

Each variant gets the texts of its own template, wherever that stands in the workflow now. So an edit that moves the
variants gives no lead another one, and a retired variant stays the one that is retired. Reads what a start would copy
and the unsettled rows of `scheduled_emails`; writes the content in `campaign_steps` and `campaign_step_variants`, and
what `campaigns` say of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.campaigns.campaign_steps import (
    CONTENT,
    compile_steps,
    contents_of,
    planned_steps,
    revision_digest,
    step_rows,
    variant_rows,
)
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.ledger_rules import LAST_STEP, is_sending, is_variant_of
from sendledger.core.tables import campaign_step_variants, campaign_steps, campaigns

Steps = list[dict[str, Any]]

_UNSETTLED = sa.text(f"""
    SELECT (SELECT count(*) FROM scheduled_emails e
            WHERE campaign_id = :campaign_id AND {is_sending("e")} AND send_started_at IS NOT NULL)
         + (SELECT count(*) FROM scheduled_emails
            WHERE campaign_id = :campaign_id AND failed_at IS NOT NULL AND error_code = 'outcome_unknown')
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
# Steps above the last one are of answers that people have written.
_KEPT = sa.text(f"""
    SELECT s.revision, s.step_number, v.variant, v.weight, v.email_template_id, v.retired_at
    FROM campaign_steps s LEFT JOIN campaign_step_variants v ON {is_variant_of("v", "s")}
    WHERE s.campaign_id = :campaign_id AND s.step_number <= {LAST_STEP} ORDER BY 1, 2, 3
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


class _DoesNotFit(Exception):
    """Why the workflow as it is now cannot take the place of a revision."""


def refreshed_steps(connection: sa.Connection, campaign: sa.RowMapping) -> dict[int, Steps]:
    """What a refresh would put in place of the content that a started campaign has now, by revision.

    These are the revisions whose steps and variants the workflow still has; the newest one must be among them.

    Raises:
        InvalidInput: there is nothing to send any more, or the workflow has other steps or variants than the campaign.
    """
    steps = planned_steps(connection, campaign)
    kept: dict[int, dict[int, list[sa.RowMapping]]] = {}
    for row in connection.execute(_KEPT, {"campaign_id": campaign["id"]}).mappings():
        variants = kept.setdefault(row["revision"], {}).setdefault(row["step_number"], [])
        variants += [row] if row["variant"] is not None else []
    found: dict[int, Steps] = {}
    for revision, own in kept.items():
        try:
            found[revision] = _fitted(steps, own)
        except _DoesNotFit as problem:
            if revision == campaign["revision"]:
                errors = [FieldError("workflow_id", f"{problem}; make a new campaign")]
                raise InvalidInput("The content cannot be read again.", errors) from problem
    return found


def refresh_steps(connection: sa.Connection, campaign: sa.RowMapping) -> list[int]:
    """Take subject, texts and attachments of each step from the templates as they are now.

    The caller has locked the campaign. Delays, threads and weights stay as they are, as the emails are scheduled by
    them. Returns the steps that have changed.

    Raises:
        InvalidInput: as `refreshed_steps`, or a template is not valid.
        Conflict: for some emails it is not known yet whether they went out, with the content that is there now.
    """
    if unsettled := connection.scalar(_UNSETTLED, {"campaign_id": campaign["id"]}):
        raise Conflict(
            f"{unsettled} emails of this campaign are on their way or of unknown outcome, and their content would be "
            "lost. Wait six minutes for those on their way; settle the others (mark-sent or requeue).",
            status=campaign["status"],
        )
    changed: set[int] = set()
    for revision, steps in refreshed_steps(connection, campaign).items():
        compile_steps(steps)
        changed |= _refresh(connection, campaign_steps, step_rows(campaign["id"], revision, steps))
        changed |= _refresh(connection, campaign_step_variants, variant_rows(campaign["id"], revision, steps))
    steps, which = planned_steps(connection, campaign), (campaign["id"], campaign["revision"])
    if _has(connection, campaign_steps, step_rows(*which, steps)) and _has(
        connection, campaign_step_variants, variant_rows(*which, steps)
    ):
        # Leads that come in later get this revision: it is the workflow as it is now.
        own = sa.update(campaigns).where(campaigns.c.id == campaign["id"])
        connection.execute(own.values(revision_digest=revision_digest(steps)))
    return sorted(changed)


def _fitted(steps: Steps, kept: Mapping[int, Sequence[sa.RowMapping]]) -> Steps:
    """The steps of the workflow with the variants of a revision, by its numbers and weights."""
    if kept.keys() != {step["step_number"] for step in steps}:
        raise _DoesNotFit(f"it has {len(steps)} steps and the campaign was started with {len(kept)}")
    fitted = []
    for step in steps:
        contents = [content for _, content in contents_of(step)]
        variants = kept[step["step_number"]]
        of_variant = _matched(variants, contents)
        in_use = {each["variant"] for each in variants if each["retired_at"] is None}
        if len(contents) > max(1, len(variants)) or not in_use <= of_variant.keys():
            has = f"step {step['step_number']} has {len(contents)} variants"
            raise _DoesNotFit(f"{has} and was started with {len(variants) or 1}")
        own = [
            {"variant": each["variant"], "weight": each["weight"]}
            | {name: of_variant[each["variant"]][name] for name in CONTENT}
            for each in variants
            if each["variant"] in of_variant
        ]
        fitted.append({**step, "variants": own})
    return fitted


def _matched(variants: Sequence[sa.RowMapping], contents: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The content of each variant: that of its template, else the one with its number, else the next one that is left.

    A retired variant has that of its template or none, as another one would be sent no more.
    """

    found: dict[int, dict[str, Any]] = {}
    left = list(contents)
    for fits in (_has_its_template, _has_its_number, _is_left):
        for variant in variants:
            content = next((each for each in left if fits(variant, each)), None)
            if content is not None and variant["variant"] not in found:
                found[variant["variant"]] = content
                left.remove(content)
    return found


def _has_its_template(variant: sa.RowMapping, content: dict[str, Any]) -> bool:
    own = variant["email_template_id"]
    return own is not None and bool(own == content["email_template_id"])


def _has_its_number(variant: sa.RowMapping, content: dict[str, Any]) -> bool:
    return variant["retired_at"] is None and bool(variant["variant"] == content.get("variant"))


def _is_left(variant: sa.RowMapping, _content: dict[str, Any]) -> bool:
    return variant["retired_at"] is None


def _has(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> bool:
    """Whether the table has these rows, with all their values."""
    for row in rows:
        key = sa.and_(*(column == row[column.name] for column in table.primary_key))
        kept = connection.execute(sa.select(*(table.c[name] for name in row)).where(key)).mappings().first()
        if kept is None or dict(kept) != row:
            return False
    return True


def _refresh(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> set[int]:
    """Replace what is sent by what these rows send. Returns the steps in which that is something else."""
    if not rows:
        return set()
    new = insert(table).values(rows)
    changed = new.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={name: new.excluded[name] for name in CONTENT},
        where=sa.or_(*(table.c[name].is_distinct_from(new.excluded[name]) for name in CONTENT)),
    )
    return set(connection.scalars(changed.returning(table.c.step_number)))
