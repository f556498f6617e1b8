"""The late guard: after an outage, emails that are long overdue wait for a person and do not go out in a burst.

A campaign's own backlog is not an outage: at a low SES rate emails wait for hours while the sender works. An outage is
a time in which no sender was free to send. After an outage longer than the setting, what is overdue by more than the
setting is held: `late_hold_until` of its campaign is set, or in a campaign with a sending policy that of its lane
(policy/outages.py). Rows due up to that time are not claimed until an operator releases or skips them. Reads and writes
`sender_state`, `campaigns` and `campaign_lanes`.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns import background_work
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core import audit_log
from sendledger.core.errors import Conflict
from sendledger.core.ledger_rules import has_lanes, is_pending, lock_campaigns
from sendledger.core.tables import campaign_lanes, campaigns
from sendledger.core.vocabulary import AuditAction, CampaignStatus
from sendledger.policy.openings import Opening
from sendledger.policy.outages import late_lanes

_LAST_TICK = sa.text("SELECT last_tick_at, now() AS now FROM sender_state FOR UPDATE")
_ALIVE = sa.text("UPDATE sender_state SET last_tick_at = now()")
# ORDER BY and OFFSET 0: as in completion.py.
_LATE_CAMPAIGNS = sa.text(f"""
SELECT c.id FROM campaigns c
WHERE c.status = 'running' AND NOT {has_lanes("c")} AND EXISTS (
    SELECT FROM scheduled_emails e
    WHERE e.campaign_id = c.id AND {is_pending("e")} AND e.scheduled_for <= now() - :late_after
    ORDER BY e.scheduled_for OFFSET 0)
""").bindparams(sa.bindparam("late_after", type_=sa.Interval))
_HOLD = sa.text("""
UPDATE campaigns SET late_hold_until = greatest(late_hold_until, now() - :late_after), updated_at = now()
WHERE id = ANY(:ids) AND status = 'running'
""").bindparams(sa.bindparam("late_after", type_=sa.Interval), sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))
_HOLD_LANES = sa.text("""
UPDATE campaign_lanes l SET late_hold_until = greatest(l.late_hold_until, late.until)
FROM json_to_recordset(CAST(:lanes AS json)) AS late (campaign_id uuid, lane smallint, until timestamptz)
WHERE l.campaign_id = late.campaign_id AND l.lane = late.lane
""").bindparams(sa.bindparam("lanes", type_=sa.Text))


def hold_after_outage(connection: sa.Connection, late_after: dt.timedelta) -> int:
    """Hold what is late. Every tick that may send calls it. Returns the number of campaigns of which something is held.

    Of a campaign with a sending policy only those lanes are held that were open with budget for so long.
    """
    last_tick_at, now = connection.execute(_LAST_TICK).one()
    connection.execute(_ALIVE)
    if last_tick_at is None or last_tick_at >= now - late_after:
        return 0
    whole = list(connection.scalars(_LATE_CAMPAIGNS, {"late_after": late_after}))
    late = late_lanes(connection, Opening(last_tick_at, now), late_after)
    ids = {*whole, *(lane.campaign_id for lane in late)}
    # Together: the events of the outage are recorded beside this, each batch with its campaigns locked in this order.
    connection.execute(lock_campaigns("NO KEY UPDATE"), {"ids": list(ids)})
    connection.execute(_HOLD, {"ids": whole, "late_after": late_after})
    given = [
        {"campaign_id": str(each.campaign_id), "lane": each.lane, "until": each.until.isoformat()} for each in late
    ]
    connection.execute(_HOLD_LANES, {"lanes": json.dumps(given)})
    return len(ids)


def shift_holds(connection: sa.Connection, campaign_id: uuid.UUID, shift: dt.timedelta) -> None:
    """Move what is held by the time by which a resume moves its rows. Otherwise the resume would release them."""
    for table, key in ((campaigns, campaigns.c.id), (campaign_lanes, campaign_lanes.c.campaign_id)):
        until = table.c.late_hold_until
        connection.execute(
            sa.update(table).where(key == campaign_id, until.is_not(None)).values(late_hold_until=until + shift)
        )


def decide_late_emails(engine: sa.Engine, campaign_id: uuid.UUID, action: str, actor: str) -> None:
    """Release (`send`) or `skip` the held rows of a campaign, as background work.

    Released rows are due now and go out at the SES rate; later steps keep at least their gap. Those of a paused
    campaign are due when it is resumed.

    Raises:
        Conflict: nothing of this campaign is held.
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
        decided = {"kind": kind, **_take_holds(connection, campaign_id)}
        if status == CampaignStatus.PAUSED:
            paused_at = campaign["paused_at"] or connection.execute(sa.select(sa.func.now())).scalar_one()
            decided["paused_at"] = paused_at.isoformat()
        work = [*campaign["background_work"], decided]
        connection.execute(
            sa.update(campaigns)
            .where(campaigns.c.id == campaign_id)
            .values(background_work=work, updated_at=sa.func.now())
        )
        audit_log.record(connection, actor, deed, "campaign", campaign_id)
        if len(work) == 1:
            background_work.work_once(connection, campaign_id)


def _take_holds(connection: sa.Connection, campaign_id: uuid.UUID) -> dict[str, Any]:
    """What is held, of the whole campaign and by lane. It is not held any more."""
    found: dict[str, Any] = {}
    own = sa.select(campaigns.c.late_hold_until).where(campaigns.c.id == campaign_id)
    if (until := connection.scalar(own)) is not None:
        found["until"] = until.isoformat()
    held = campaign_lanes.c.campaign_id == campaign_id, campaign_lanes.c.late_hold_until.is_not(None)
    lanes = connection.execute(sa.select(campaign_lanes.c.lane, campaign_lanes.c.late_hold_until).where(*held)).all()
    if lanes:
        found["lanes"] = {str(lane): lane_until.isoformat() for lane, lane_until in lanes}
    connection.execute(sa.update(campaign_lanes).where(*held).values(late_hold_until=None))
    connection.execute(sa.update(campaigns).where(campaigns.c.id == campaign_id).values(late_hold_until=None))
    return found
