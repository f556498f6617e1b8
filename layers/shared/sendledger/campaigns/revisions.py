"""Revisions: leads that come into a campaign after its workflow was edited get it as it is now; the others keep theirs.

A campaign under way goes in. Afterwards its newest revision is what a start would send now. Decisions about variants
that have not changed are kept. Reads what a start would copy; writes `campaign_steps`, `campaign_step_variants`,
`campaigns` and `audit_log`. The caller has locked the campaign.
"""

from __future__ import annotations

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns.campaign_steps import (
    check_answers,
    check_conditions,
    compile_steps,
    keep_revision,
    planned_steps,
    revision_digest,
)
from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.winners import set_times
from sendledger.core import audit_log
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import AuditAction

logger = Logger(child=True)

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
# A decision is kept where the same contents were compared in the same way.
_CONTENTS = """
    SELECT coalesce(jsonb_agg(to_jsonb(v) - '{revision,retired_at,replaced_by}'::text[] ORDER BY v.variant), '[]')
    FROM campaign_step_variants v
    WHERE v.campaign_id = s.campaign_id AND v.step_number = s.step_number
"""
_KEEP_WINNERS = sa.text(f"""
    UPDATE campaign_steps s
    SET winner_at = old.winner_at, winner_decided_at = old.winner_decided_at, winner_variant = old.winner_variant
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

    An edit that a start would refuse makes no revision: the leads get the one before. Then the problems are returned.
    For a campaign that was started before there were revisions, the first call only stores the digest.
    """
    try:
        steps = planned_steps(connection, campaign)
        if campaign["revision_digest"] == revision_digest(steps):
            return campaign, []
        check_conditions(steps, campaign)
        check_answers(steps)
        compile_steps(steps)
    except InvalidInput as problem:
        logger.warning("An edited workflow cannot be sent", extra={"campaign_id": str(campaign["id"])})
        return campaign, list(problem.errors)
    if campaign["revision_digest"] is None:
        own = sa.update(campaigns).where(campaigns.c.id == campaign["id"])
        connection.execute(own.values(revision_digest=revision_digest(steps)))
        return campaign, []
    which = {"campaign_id": campaign["id"], "revision": campaign["revision"] + 1}
    keep_revision(connection, campaign["id"], which["revision"], steps)
    connection.execute(_KEEP_RETIRED, which)
    connection.execute(_KEEP_WINNERS, which)
    set_times(connection, campaign["id"])
    detail = {"revision": which["revision"]}
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_REVISION, "campaign", campaign["id"], detail)
    return get_campaign(connection, campaign["id"]), []
