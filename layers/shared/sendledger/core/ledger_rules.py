"""The rules of the ledger as pieces of SQL. Each rule is written here once; the statements of all rooms are made of it.

Arguments are the names of tables in the statement. Nothing in here comes from a caller's input.

Locks are taken in this order, so that no two transactions wait for each other: campaigns, then leads, then the rows of
`scheduled_emails`. Several campaigns, and several leads, are locked in the order of their ids. Senders lock campaigns
FOR KEY SHARE, recording FOR NO KEY UPDATE, and a change of status FOR UPDATE: so a pause waits for a fence under way,
and counters only block each other.
"""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.core.vocabulary import LEAD_STATUSES_WITHOUT_MAIL, quoted

LAST_STEP = 1000
"""Step numbers above it are of answers that people have written to replies: 1001 is the first one to a lead."""


def is_answer(row: str) -> str:
    """Whether an email is a person's answer, which does not depend on the steps and on what the lead has replied."""
    return f"{row}.workflow_step_number > {LAST_STEP}"


def still_planned(row: str) -> str:
    """Whether an email may still go out and no sender has claimed it. Emails that a pause has cancelled count, as a
    resume makes them pending again. It is a CASE because of the planner: with a plain condition that expects few
    `pending` rows, it would scan all of them for each lead.
    """
    return f"CASE {row}.status WHEN 'pending' THEN true WHEN 'cancelled' THEN {row}.reason = 'paused' END"


def is_open(row: str = "") -> str:
    """Whether a row has no final status yet, written as in the conditions of the partial indexes.

    It follows from the status, by a CHECK. The indexes do not name the status: a claim and a fence change it, and would
    have to write to every index of the row. Said beside `status = …` it lets the planner take the index.
    """
    return " AND ".join(f"{_column(row, marker)} IS NULL" for marker in ("sent_at", "failed_at", "reason"))


def went_at(row: str) -> str:
    """When an email went out, or may have gone; NULL where it has not."""
    unknown = f"CASE {row}.error_code WHEN 'outcome_unknown' THEN coalesce({row}.send_started_at, {row}.failed_at) END"
    return f"coalesce({row}.sent_at, {unknown})"


def is_pending(row: str) -> str:
    """Whether a row waits for its time, found by the index of open rows.

    It is a CASE because of the planner, which would multiply the share of pending rows with the share of open ones, and
    take a long queue for a short one.
    """
    return f"{is_open(row)} AND CASE {row}.status WHEN 'pending' THEN true END"


def ended_as(row: str = "") -> str:
    """How a row ended: `sent`, `failed`, or its reason. NULL while it is open."""
    sent_at, failed_at, reason = (_column(row, name) for name in ("sent_at", "failed_at", "reason"))
    # In lines as PostgreSQL prints it, which is what Alembic compares.
    return f"""
CASE
    WHEN {sent_at} IS NOT NULL THEN 'sent'
    WHEN {failed_at} IS NOT NULL THEN 'failed'
    ELSE {reason}
END"""


def is_paused(row: str) -> str:
    """Whether a pause has cancelled a row, found by the index of ended rows. A resume makes it pending again."""
    return f"NOT ({is_open(row)}) AND ({ended_as(row)}) = 'paused' AND {row}.status = 'cancelled'"


def _column(row: str, name: str) -> str:
    return f"{row}.{name}" if row else name


def is_sending(row: str) -> str:
    """Whether a sender has claimed a row. No index has these rows: their ids are in `claims`."""
    return f"{row}.id = ANY(ARRAY(SELECT unnest(row_ids) FROM claims)) AND {row}.status = 'sending'"


def takes_in_leads(campaign: str) -> str:
    """Whether leads can still be added to a campaign that is under way. Such a campaign does not complete."""
    return (
        f"{campaign}.evergreen AND {campaign}.intake_ended_at IS NULL "
        f"AND ({campaign}.end_at IS NULL OR {campaign}.end_at > now())"
    )


def may_send(campaign: str) -> str:
    """Whether emails of a campaign may be claimed at all.

    While the decision of a winner is overdue, they may not: those that wait for it are due.
    """
    undecided = f"coalesce({campaign}.winner_at <= now(), false)"
    return f"{campaign}.status = 'running' AND {campaign}.background_work = '[]' AND NOT {undecided}"


def is_step_of(step: str, row: str) -> str:
    """Whether a row of `campaign_steps` says what an email sends. A lead keeps the revision that it came in with."""
    return (
        f"{step}.campaign_id = {row}.campaign_id AND {step}.revision = {row}.revision "
        f"AND {step}.step_number = {row}.workflow_step_number"
    )


def is_variant_of(variant: str, step: str) -> str:
    """Whether a row of `campaign_step_variants` belongs to a row of `campaign_steps`."""
    return (
        f"{variant}.campaign_id = {step}.campaign_id AND {variant}.revision = {step}.revision "
        f"AND {variant}.step_number = {step}.step_number"
    )


def is_undecided(step: str) -> str:
    """Whether the emails of a step that have no variant wait for its winner."""
    return f"({step}.winner_at IS NOT NULL AND {step}.winner_decided_at IS NULL)"


def has_lanes(campaign: str) -> str:
    """Whether a campaign has a sending policy, so that its emails wait in lanes; see policy/lanes.py."""
    return f"""(
        {campaign}.sending_schedule_id IS NOT NULL OR {campaign}.sender_ids <> '{{}}'
        OR {campaign}.new_leads_per_day IS NOT NULL OR {campaign}.new_leads_per_company_per_day IS NOT NULL
    )"""


def held_until(*holders: str) -> str:
    """The time up to which due rows wait for a person. It is the latest that the campaign and its lane say."""
    return f"coalesce(greatest({', '.join(f'{each}.late_hold_until' for each in holders)}), '-infinity')"


def due(row: str, *holders: str) -> str:
    """Whether a row is due. Rows that the late guard holds are not; `holders` are the campaign and its lane."""
    return f"{is_pending(row)} AND {row}.scheduled_for <= now() AND {row}.scheduled_for > {held_until(*holders)}"


def waits_in_lane(row: str) -> str:
    """Whether a claim may look at a row of a campaign with a sending policy. The index of lanes says the same.

    While an earlier step of the lead is open, the later ones are behind it and in no lane.
    """
    return f"{row}.lane > 0 AND {row}.is_behind IS NOT TRUE"


def returned_status(campaign: str) -> str:
    """The status of a row that is returned unsent. It follows from the status of the campaign."""
    return f"CASE {campaign}.status WHEN 'running' THEN 'pending' ELSE 'cancelled' END"


def returned_reason(campaign: str) -> str:
    """The reason that belongs to `returned_status`."""
    return f"CASE {campaign}.status WHEN 'running' THEN NULL WHEN 'paused' THEN 'paused' ELSE 'campaign_cancelled' END"


def no_mail_for_lead(lead: str, address: str, campaign_id: str, is_answer: str = "false") -> str:
    """WHEN clauses of a CASE: why a lead gets no mail from a campaign. The first that applies counts.

    `address` is the lead's `address_of`. Its pattern is what SES takes: ASCII, and no display name.
    """
    return f"""
        WHEN coalesce({address}, '') = '' THEN 'no_address'
        WHEN {address} !~ '^[^@\\s,;:<>()"\\\\[\\]]+@[a-z0-9.-]+\\.[a-z0-9-]{{2,}}$' OR {address} !~ '^[!-~]+$'
            THEN 'invalid_address'
        WHEN NOT {is_answer} AND {lead}.status IN ({quoted(LEAD_STATUSES_WITHOUT_MAIL)})
            THEN 'lead_' || {lead}.status::text
        WHEN EXISTS (SELECT FROM suppressions s WHERE {suppresses("s", address, campaign_id)}) THEN 'suppressed'
    """


def covers(suppression: str, address: str) -> str:
    """Whether a suppression, in force or removed, is of this address or of its domain."""
    return f"{suppression}.value IN ({address}, split_part({address}, '@', 2))"


def suppresses(suppression: str, address: str, campaign_id: str) -> str:
    """Whether a suppression keeps the mail of a campaign from an address."""
    in_force = f"{suppression}.removed_at IS NULL"
    of_campaign = f"({suppression}.campaign_id IS NULL OR {suppression}.campaign_id = {campaign_id})"
    return f"{covers(suppression, address)} AND {in_force} AND {of_campaign}"


def condition_is_met(step: str, row: str) -> str:
    """Whether a lead gets a step that depends on an earlier one; true of a step that depends on none.

    Opens and clicks of machines have left no time in `emails`. Who clicked has opened, with pictures or without.
    """
    return f"""
        CASE WHEN {step}.only_if_event IS NULL THEN true ELSE EXISTS (
            SELECT FROM scheduled_emails p JOIN emails m ON m.id = p.email_id
            WHERE p.lead_id = {row}.lead_id AND p.campaign_id = {row}.campaign_id
              AND p.workflow_step_number = {step}.only_if_step AND p.status = 'sent'
              AND CASE {step}.only_if_event
                  WHEN 'delivered' THEN m.delivered_at IS NOT NULL
                  WHEN 'opened' THEN coalesce(m.opened_at, m.clicked_at) IS NOT NULL
                  WHEN 'clicked' THEN m.clicked_at IS NOT NULL
                  WHEN 'not_opened' THEN coalesce(m.opened_at, m.clicked_at) IS NULL
                  ELSE m.clicked_at IS NULL END) END
    """


def address_of(lead: str) -> str:
    """A lead's address as it is compared."""
    return f"lower(btrim({lead}.email))"


def lock_campaigns(strength: str) -> sa.TextClause:
    """Lock the campaigns `ids` in the order of their ids.

    It is a separate statement because a statement that waits for a lock keeps its snapshot from before the wait.
    """
    return _lock("campaigns", strength)


def lock_leads() -> sa.TextClause:
    """Lock the leads `ids` in the order of their ids, against changes by others."""
    return _lock("leads", "NO KEY UPDATE")


def _lock(table: str, strength: str) -> sa.TextClause:
    return sa.text(f"""{KEPT}
        SELECT count(*) FROM (SELECT FROM {table} WHERE id = ANY(:ids) ORDER BY id FOR {strength}) locked
    """).bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))
