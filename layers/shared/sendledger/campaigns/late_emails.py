"""The late guard: after an outage, emails that are long overdue wait for a person and do not go out in a burst.

A campaign's own backlog is not an outage: at a low SES rate emails wait for hours while the sender works. An outage is
a time in which no sender was free to send. After an outage longer than the setting, every running campaign with rows
that are overdue by more than the setting is held: `campaigns.late_hold_until` is set, and rows due up to that time are
not claimed until an operator releases or skips them. Reads and writes `sender_state` and `campaigns`.
"""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from sendledger.campaigns import background_work
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core import audit_log
from sendledger.core.errors import Conflict
from sendledger.core.ledger_rules import has_lanes, is_pending, waits_in_lane
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import AuditAction, CampaignStatus
from sendledger.policy.budgets import HAS_CAP
from sendledger.policy.lanes import missed_zones, zones_parameter

_LAST_TICK = sa.text("SELECT last_tick_at, now() AS now FROM sender_state FOR UPDATE")
_ALIVE = sa.text("UPDATE sender_state SET last_tick_at = now()")
# ORDER BY and OFFSET 0: as in completion.py.
_OVERDUE = f"e.campaign_id = c.id AND {is_pending('e')} AND e.scheduled_for <= now() - :late_after"
_HOLD = sa.text(f"""
UPDATE campaigns c SET late_hold_until = greatest(c.late_hold_until, now() - :late_after), updated_at = now()
WHERE c.status = 'running' AND CASE
    WHEN NOT {has_lanes("c")} THEN EXISTS (
        SELECT FROM scheduled_emails e WHERE {_OVERDUE} ORDER BY e.scheduled_for OFFSET 0)
    ELSE EXISTS (
        SELECT FROM campaign_lanes l LEFT JOIN sender_addresses a ON a.id = l.sender_id
        JOIN scheduled_emails e ON e.lane = l.lane AND {waits_in_lane("e")} AND {_OVERDUE}
        WHERE l.campaign_id = c.id AND (a.id IS NULL OR NOT {HAS_CAP})
          AND (l.follow_up OR coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NULL)
          AND (c.sending_schedule_id IS NULL
               OR EXISTS (SELECT FROM json_to_recordset(CAST(:zones AS json)) AS z (schedule_id uuid, lead_zone text)
                          WHERE z.schedule_id = c.sending_schedule_id AND z.lead_zone = coalesce(l.time_zone, '')))
        OFFSET 0) END
""").bindparams(sa.bindparam("late_after", type_=sa.Interval), sa.bindparam("zones", type_=sa.Text))


def hold_after_outage(connection: sa.Connection, late_after: dt.timedelta) -> int:
    """Hold late campaigns. Every tick that may send calls it. Returns the number of campaigns held.

    For a campaign with a sending schedule only the time counts in which it was open for the leads of a time zone.
    Emails that wait for a cap, of a sender or of new leads, are not held: the cap prevents a burst, and they may wait
    for days.
    """
    last_tick_at, now = connection.execute(_LAST_TICK).one()
    connection.execute(_ALIVE)
    if last_tick_at is None or last_tick_at >= now - late_after:
        return 0
    zones = zones_parameter(missed_zones(connection, last_tick_at, late_after))
    return connection.execute(_HOLD, {"late_after": late_after, "zones": zones}).rowcount


def decide_late_emails(engine: sa.Engine, campaign_id: uuid.UUID, action: str, actor: str) -> None:
    """Release (`send`) or `skip` the held rows of a campaign, as background work.

    Released rows are due now and go out at the SES rate; later steps keep at least their gap.

    Raises:
        Conflict: nothing of this campaign is held, or it is paused, so that its rows are not pending.
    """
    kind, deed = {
        "send": ("release_late", AuditAction.LATE_EMAILS_SEND),
        "skip": ("skip_late", AuditAction.LATE_EMAILS_SKIP),
    }[action]
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status, until = campaign["status"], campaign["late_hold_until"]
        if until is None or status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
            raise Conflict("No emails of this campaign are held.", status=status)
        if status == CampaignStatus.PAUSED:
            message = "The campaign is paused. What is held stays so when it is resumed: decide then."
            raise Conflict(message, status=status)
        work = [*campaign["background_work"], {"kind": kind, "until": until.isoformat()}]
        connection.execute(
            sa.update(campaigns)
            .where(campaigns.c.id == campaign_id)
            .values(background_work=work, late_hold_until=None, updated_at=sa.func.now())
        )
        audit_log.record(connection, actor, deed, "campaign", campaign_id)
        if len(work) == 1:
            background_work.work_once(connection, campaign_id)
