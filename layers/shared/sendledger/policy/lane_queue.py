"""The lanes that a sender may claim from. They are found once, kept for a while, and offered to its claims in turn.

Finding them means looking at each lane of all running campaigns; a claim takes from a few hundred. What may change is
checked again for each claim: here the budgets of senders and new leads, and in the claim itself the campaign, the
revision of its schedule and the time. So a lane that is kept for too long gives nothing. Reads what lanes.py and
budgets.py read.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.core.ledger_rules import has_lanes
from sendledger.core.row_arrays import RowArrays
from sendledger.policy.budgets import (
    LAST_CALLS,
    Budgets,
    SpreadBudgets,
    budgets,
    fold,
    schedule_revisions,
    used_by_campaign,
)
from sendledger.policy.caps import place_in_turn
from sendledger.policy.lane_turns import LaneGroup, Turns
from sendledger.policy.lanes import LANES_BY_GROUP, OpenZone, open_zones, zones_parameter

KEPT_SECONDS = 60.0
"""How long lanes are kept. What becomes due or opens meanwhile is found then, or when these have nothing left.

The next tick, which starts within a minute, finds it, too: what becomes due between two ticks waits as long.
"""
LOOK_AGAIN_SECONDS = 1.0
"""How long until they are looked for again if there are none, or none of them may give anything."""

CAMPAIGNS_AT_ONCE = 64
"""From how many campaigns a claim takes, if these have enough. The next claims take from the others.

Each campaign of a claim costs the lock of its row, a look at its lanes and a sum of what it has used of the caps.
"""

LITTLE = 1_000
"""Where a cap leaves less, lanes take turns at it, however few of it a claim takes. To put them in order costs time."""

_UNKNOWN = math.inf

_FIND = sa.text(LANES_BY_GROUP).bindparams(
    sa.bindparam("open_zones", type_=sa.Text), sa.bindparam("alone", type_=sa.Boolean)
)

_HAS_LANES = sa.text(f"""SELECT EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND {has_lanes("c")})""")


OFFERED = RowArrays(
    "offer",
    {
        "number": "integer",
        "campaign_id": "uuid",
        "lane": "smallint",
        "zone": "integer",
        "turns": "integer",
        "zone_place": "integer",
        "given": "integer",
        "given_by_sender": "integer",
    },
)
"""The lanes that a claim may take from, numbered, with the number of their zone in its parameter `zones` (0: always
open). Of those that take turns: how many each has, its place among those of its campaign and sender, and how many
emails it and all of these have given already."""


class OfferedLane(NamedTuple):
    """A lane that a claim may take from; where lanes take turns, `turns` is how many emails it may give.

    `before` is how many come before of its campaign and sender, of first or later steps.
    """

    group: LaneGroup
    lane: str
    turns: int | None
    before: int


class Limits(Enum):
    """Which caps a claim may reach. It checks no others, as each check sorts what it has found."""

    NONE = "each sender may send the whole batch, and no cap counts new leads"
    CAPS = "those of senders and of new leads"
    COMPANIES = "those of new leads for each company, too"


class LaneQueue:
    """One for each tick. A claim beside a tick has one of its own."""

    def __init__(self) -> None:
        self._campaigns: dict[str, list[LaneGroup]] = {}
        """In turn: those that were offered last are at the end."""
        self._sharing = 0
        """How many of them share in the last claim and the next ones; 0: only those that it was offered."""
        self._zones: list[OpenZone] = []
        self._offered: list[OfferedLane] = []
        self.limits = Limits.NONE
        """Those of the last offer."""
        self._batch = 0
        self._depth = _UNKNOWN
        """How many emails a lane is expected to give, on average."""
        self._used: Mapping[uuid.UUID | None, Counter[uuid.UUID]] = {}
        """What senders whose budget is short have sent today."""
        self._spread = SpreadBudgets()
        self._revisions = 0
        self._day: dt.date | None = None
        """That of the last offer. On another one turns begin anew."""
        self._found_at = float("-inf")

    def offer(self, connection: sa.Connection, batch: int, *, alone: bool, look: bool = True) -> dict[str, Any] | None:
        """The parameters of a claim of `batch` emails, or None if no lane may give any. It locks the budgets.

        Without `look`, only lanes that are kept are offered.
        """
        if look and self._age() > (KEPT_SECONDS if self._campaigns else LOOK_AGAIN_SECONDS):
            self._find(connection, alone=alone)
        if not self._campaigns:
            return None
        self._batch = batch
        left = budgets(connection, lock=True, spread=self._spread)
        is_new_day = self._day not in (None, left.day.date)
        if look and (is_new_day or left.revisions != self._revisions):
            self._find(connection, alone=alone)
        self._day = left.day.date
        self._offered = self._choose(connection, left)
        if look and not self._offered and self._age() > LOOK_AGAIN_SECONDS:
            self._find(connection, alone=alone)
            self._offered = self._choose(connection, left)
        self.limits = self._limits(left)
        return self._parameters(left) if self._offered else None

    def note(self, claimed: Sequence[Mapping[str, Any]]) -> None:
        """Move the lanes that have given all that was asked for behind the others. Those that gave less are done, but
        not those of which a full claim took nothing: others came first by chance."""
        is_full = len(claimed) >= self._batch
        given = Counter(row["offer"] for row in claimed)
        if not is_full:
            self._expect_less(given)
        done = {row["offer"] for row in claimed if row["is_last"]}
        for number, (group, lane, *_) in enumerate(self._offered):
            zone = group.lanes.pop(lane)
            group.given[lane] += given[number]
            if number not in done and (given[number] or is_full):
                group.lanes[lane] = zone
        for campaign in dict.fromkeys(offered.group.campaign for offered in self._offered):
            groups = self._campaigns.pop(campaign)
            if left := [group for group in groups if group.lanes]:
                self._campaigns[campaign] = left

    def _expect_less(self, given: Mapping[int, int]) -> None:
        """As little as the lanes of a claim have given on average, but half at least: others may have been faster."""
        whole = [given[number] for number, each in enumerate(self._offered) if each.turns is None]
        if whole:
            self._depth = max(1.0, self._depth / 2, statistics.fmean(whole))

    def _age(self) -> float:
        return time.monotonic() - self._found_at

    def _find(self, connection: sa.Connection, *, alone: bool) -> None:
        self._campaigns, self._found_at, self._depth = {}, time.monotonic(), _UNKNOWN
        self._spread.hours.clear()
        if not connection.scalar(_HAS_LANES):
            return
        # Each claim sums up what has changed since.
        fold(connection)
        self._revisions = schedule_revisions(connection)
        self._zones = open_zones(connection)
        rows = connection.execute(_FIND, {"open_zones": zones_parameter(self._zones), "alone": alone}).mappings()
        found = [LaneGroup(row) for row in rows]
        # Overlapping senders begin with different campaigns.
        random.shuffle(found)
        for group in found:
            self._campaigns.setdefault(group.campaign, []).append(group)

    def _limits(self, left: Budgets) -> Limits:
        first_steps = [offered.group for offered in self._offered if not offered.group.follow_up]
        if any(group.counts_companies for group in first_steps):
            return Limits.COMPANIES
        # Also of a campaign that has got such a cap since its lanes were found.
        counting = {each.campaign_id for each in left.new_leads}
        if self._used or any(group.campaign_id in counting for group in first_steps):
            return Limits.CAPS
        return Limits.NONE

    def _parameters(self, left: Budgets) -> dict[str, Any]:
        """What the claim must know of the lanes that it is offered."""
        lanes = [
            {"number": number, "campaign_id": group.campaign, "lane": lane, "zone": group.lanes[lane], "turns": turns}
            | {"zone_place": group.zone_places.get(lane, 0)}
            | {"given": group.given[lane], "given_by_sender": before}
            for number, (group, lane, turns, before) in enumerate(self._offered)
        ]
        numbers = {lane["zone"] for lane in lanes}
        zones = [
            {
                "number": number,
                "schedule_id": str(zone.schedule_id),
                "revision": zone.revision,
                "until": (zone.opening.closes_at - LAST_CALLS).isoformat(),
            }
            for number, zone in enumerate(self._zones, 1)
            if str(number) in numbers
        ]
        senders = [
            {"sender_id": str(each.sender_id), "remaining": each.remaining}
            | {"tie": place_in_turn(each.sender_id, left.day.date)}
            for each in left.senders
            if each.remaining > 0
        ]
        short = {
            (offered.group.sender_id, offered.group.campaign_id)
            for offered in self._offered
            if self._used and offered.group.sender_id in self._used
        }
        uses = [
            {
                "sender_id": str(sender_id),
                "campaign_id": str(campaign_id),
                "used": self._used[sender_id][campaign_id],
                "tie": place_in_turn(campaign_id, left.day.date),
            }
            for sender_id, campaign_id in short
        ]
        new_leads = [
            {"campaign_id": str(each.campaign_id), "remaining": each.remaining}
            for each in left.new_leads
            if each.has_some
        ]
        tables = {"zones": zones, "senders": senders, "uses": uses, "new_leads": new_leads}
        return {
            **OFFERED.parameters(lanes),
            "sharing": self._sharing,
            **{name: json.dumps(values) for name, values in tables.items()},
            "day": left.day.date,
            "day_until": left.day.ends_at - LAST_CALLS,
        }

    def _choose(self, connection: sa.Connection, left: Budgets) -> list[OfferedLane]:
        """As many lanes as are expected to give the batch.

        To look at a lane costs as much as some emails of it. So a lane is to give the whole share of its campaign. If
        a claim shows that lanes have less, more lanes of each campaign are asked, and then more campaigns. Where a cap
        leaves little, lanes take turns at it, and each is to give as many emails as it has turns.
        """
        campaigns = self._campaigns_with_budget(left)
        share = max(1.0, self._batch / max(1, min(len(campaigns), CAMPAIGNS_AT_ONCE)))
        self._depth = min(self._depth, share)
        self._used = self._used_of_short_senders(connection, left, share * len(campaigns))
        turns = Turns(campaigns, left, self._used, self._zones, max(self._batch, LITTLE))
        self._sharing = 0
        offered: dict[tuple[LaneGroup, str], int | None] = {}
        expected = 0.0
        for group, lane, _, whole in turns.in_order(share, self._depth):
            if expected >= self._batch:
                self._sharing = len(campaigns)
                break
            offered[group, lane] = (offered.get((group, lane)) or 0) + 1 if whole is None else None
            expected += whole or 1
        return [OfferedLane(group, lane, count, turns.before(group)) for (group, lane), count in offered.items()]

    def _used_of_short_senders(
        self, connection: sa.Connection, left: Budgets, turn: float
    ) -> Mapping[uuid.UUID | None, Counter[uuid.UUID]]:
        """What senders have sent today whose budget is less than a batch, `LITTLE`, or a `turn` in which each campaign
        is offered: each is to get an equal part."""
        enough = max(self._batch, turn, LITTLE)
        short = [each.sender_id for each in left.senders if 0 < each.remaining < enough]
        return used_by_campaign(connection, short, left.day) if short else {}

    def _campaigns_with_budget(self, left: Budgets) -> dict[str, list[LaneGroup]]:
        """The lanes that may give something, by campaign."""
        senders = {None, *(each.sender_id for each in left.senders if each.remaining > 0)}
        new_leads = {each.campaign_id for each in left.new_leads if each.has_some}
        found = {}
        for campaign, groups in self._campaigns.items():
            may_give = [
                group
                for group in groups
                if group.sender_id in senders and (not group.counts_new_leads or group.campaign_id in new_leads)
            ]
            if may_give:
                found[campaign] = may_give
        return found
