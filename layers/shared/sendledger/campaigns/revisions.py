"""Revisions: leads that come into a campaign after its workflow was edited get it as it is now; the others keep theirs.

A campaign under way goes in. Afterwards its newest revision is what a start would send now. Decisions about variants
that have not changed are kept. An edit that cannot be sent is noted in the campaign until it is fixed. Reads what a
start would copy; writes `campaign_steps`, `campaign_step_variants`, `campaigns` and `audit_log`. The caller has locked
the campaign.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from sendledger.campaigns.campaign_steps import (
    check_answers,
    check_conditions,
    compile_steps,
    keep_revision,
    planned_steps,
    revision_digest,
)
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core import audit_log
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.ledger_rules import is_variant_of
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import AuditAction

# A retired variant stays retired, unless no other variant would be left. It is recognised by its template, because its
# number changes when an edit removes a variant before it.
_KEEP_RETIRED = sa.text("""
    WITH retired AS (
        SELECT v.step_number, v.variant, old.retired_at
        FROM campaign_step_variants v
        JOIN campaign_step_variants old ON old.campaign_id = v.campaign_id AND old.revision = v.revision - 1
            AND old.step_number = v.step_number AND old.email_template_id = v.email_template_id
            AND old.retired_at IS NOT NULL
        WHERE v.campaign_id = :campaign_id AND v.revision = :revision
    ), heirs AS (
        SELECT DISTINCT ON (v.step_number) v.step_number, v.variant FROM campaign_step_variants v
        WHERE v.campaign_id = :campaign_id AND v.revision = :revision
          AND NOT EXISTS (SELECT FROM retired r WHERE r.step_number = v.step_number AND r.variant = v.variant)
        ORDER BY v.step_number, v.weight DESC, v.variant
    )
    UPDATE campaign_step_variants v SET retired_at = r.retired_at, replaced_by = h.variant
    FROM retired r JOIN heirs h ON h.step_number = r.step_number
    WHERE v.campaign_id = :campaign_id AND v.revision = :revision
      AND v.step_number = r.step_number AND v.variant = r.variant
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
# A decision is kept where the same contents were compared in the same way, in whatever order.
_CONTENTS = """
    SELECT coalesce(jsonb_agg(to_jsonb(v) - '{revision,variant,retired_at,replaced_by}'::text[]
                              ORDER BY v.email_template_id), '[]')
    FROM campaign_step_variants v
    WHERE v.campaign_id = s.campaign_id AND v.step_number = s.step_number
"""
_KEEP_WINNERS = sa.text(f"""
    UPDATE campaign_steps s
    SET winner_at = old.winner_at, winner_decided_at = old.winner_decided_at, winner_variant = (
        SELECT v.variant FROM campaign_step_variants won
        JOIN campaign_step_variants v ON {is_variant_of("v", "s")} AND v.email_template_id = won.email_template_id
        WHERE {is_variant_of("won", "old")} AND won.variant = old.winner_variant)
    FROM campaign_steps old
    WHERE s.campaign_id = :campaign_id AND s.revision = :revision
      AND old.campaign_id = s.campaign_id AND old.revision = s.revision - 1 AND old.step_number = s.step_number
      AND old.winner_decided_at IS NOT NULL AND old.winner = s.winner
      AND ({_CONTENTS} AND v.revision = s.revision) = ({_CONTENTS} AND v.revision = old.revision)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


def newest_revision(
    connection: sa.Connection, campaign: sa.RowMapping, actor: str
) -> tuple[sa.RowMapping, list[FieldError]]:
    """The campaign for leads that come in now. It gets a new revision if what a start would send was edited.

    An edit that a start would refuse makes no revision: the leads get the one before. Then the problems are returned,
    and `workflow_errors` of the campaign has them. For a campaign that was started before there were revisions, the
    first call only stores the digest.
    """
    try:
        steps = planned_steps(connection, campaign)
        is_newest = campaign["revision_digest"] == revision_digest(steps)
        if not is_newest:
            check_conditions(steps, campaign)
            check_answers(steps)
            compile_steps(steps)
    except InvalidInput as problem:
        _note_problems(connection, campaign, problem.errors, actor)
        return campaign, list(problem.errors)
    _note_problems(connection, campaign, [], actor)
    if is_newest:
        return campaign, []
    if campaign["revision_digest"] is None:
        own = sa.update(campaigns).where(campaigns.c.id == campaign["id"])
        connection.execute(own.values(revision_digest=revision_digest(steps)))
        return campaign, []
    which = {"campaign_id": campaign["id"], "revision": campaign["revision"] + 1}
    keep_revision(connection, campaign["id"], which["revision"], steps, campaign["total_leads_targeted"])
    connection.execute(_KEEP_RETIRED, which)
    connection.execute(_KEEP_WINNERS, which)
    detail = {"revision": which["revision"]}
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_REVISION, "campaign", campaign["id"], detail)
    return get_campaign(connection, campaign["id"]), []


def _note_problems(
    connection: sa.Connection, campaign: sa.RowMapping, problems: Sequence[FieldError], actor: str
) -> None:
    """Let the campaign say why its workflow cannot be sent as it is now. The audit log has each change to the worse."""
    errors = [{"field": each.field, "message": each.message} for each in problems]
    if errors == campaign["workflow_errors"]:
        return
    own = sa.update(campaigns).where(campaigns.c.id == campaign["id"])
    connection.execute(own.values(workflow_errors=errors))
    if errors:
        detail = {"errors": errors}
        action = AuditAction.CAMPAIGN_REVISION_REFUSED
        audit_log.record(connection, actor, action, "campaign", campaign["id"], detail)
