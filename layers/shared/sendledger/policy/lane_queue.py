"""The lanes that a sender may claim from. They are found once, kept for a while, and offered to its claims in turn.

Finding them means looking at each lane of all running campaigns; a claim takes from a few hundred. What may change is
checked again for each claim: here the budgets of senders and new leads, and in the claim itself the campaign, the
revision of its schedule and the time. So a lane that is kept for too long gives nothing. Reads what lanes.py and
budgets.py read.
"""

from __future__ import annotations

import datetime as dt
import heapq
import json
import math
import random
import statistics
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain, islice, zip_longest
from operator import itemgetter
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
from sendledger.policy.caps import place_in_turn, zones_in_turn
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

_UNKNOWN = math.inf

_FIND = sa.text(LANES_BY_GROUP).bindparams(
    sa.bindparam("open_zones", type_=sa.Text), sa.bindparam("alone", type_=sa.Boolean)
)

_HAS_LANES = sa.text(f"""SELECT EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND {has_lanes("c")})""")


OFFERED = RowArrays(
    "offer",
    {"number": "integer", "campaign_id": "uuid", "lane": "smallint", "zone": "integer", "turn": "integer"},
)
"""The lanes that a claim may take from, numbered, with the number of their zone in its parameter `zones` (0: always
open), and the place of the zone among those of its campaign and sender that take turns."""


class LaneGroup:
    """Lanes of one campaign and sender, for first or later steps, in turn, each with the number of its zone.

    Both are texts, as they are found and offered.
    """

    def __init__(self, row: sa.RowMapping) -> None:
        self.campaign_id: uuid.UUID = row["campaign_id"]
        self.sender_id: uuid.UUID | None = row["sender_id"]
        self.follow_up: bool = row["follow_up"]
        self.counts_new_leads: bool = row["counts_new_leads"]
        self.counts_companies: bool = row["counts_companies"]
        self.campaign = str(self.campaign_id)
        lanes, zones = row["lanes"].split(","), row["zones"].split(",")
        # Overlapping senders begin with different ones.
        first = random.randrange(len(lanes))  # noqa: S311 (not a secret)
        self.lanes = dict(zip(lanes[first:] + lanes[:first], zones[first:] + zones[:first], strict=True))

    def in_turn(self, zones: Sequence[OpenZone], day: dt.date, sent: int) -> Iterator[OfferedLane]:
        """Its lanes, as their zones take turns on a day, after so many emails."""
        # Without a schedule no zone is known, and each is open.
        named = {zones[int(zone) - 1].lead_zone if zone != "0" else lane: lane for lane, zone in self.lanes.items()}
        turns = zones_in_turn(named, day, sent)
        for name in sorted(turns, key=turns.__getitem__):
            yield OfferedLane(self, named[name], turns[name])


class OfferedLane(NamedTuple):
    """A lane that a claim may take from, and its turn among those of its group."""

    group: LaneGroup
    lane: str
    turn: int = 0


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
        self._in_turn = 0
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
        self._few: Mapping[uuid.UUID, int] = {}
        """The campaigns of which fewer new leads than a batch may get an email today, and how many."""
        self._spread = SpreadBudgets()
        self._revisions = 0
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
        if look and left.revisions != self._revisions:
            self._find(connection, alone=alone)
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
        if not is_full:
            self._expect_less(Counter(row["offer"] for row in claimed))
        has_more = {row["offer"]: not row["is_last"] for row in claimed}
        for number, (group, lane, _) in enumerate(self._offered):
            zone = group.lanes.pop(lane)
            if has_more.get(number, is_full):
                group.lanes[lane] = zone
        for campaign in dict.fromkeys(offered.group.campaign for offered in self._offered):
            groups = self._campaigns.pop(campaign)
            if left := [group for group in groups if group.lanes]:
                self._campaigns[campaign] = left

    def _expect_less(self, given: Mapping[int, int]) -> None:
        """As little as the lanes of a claim have given on average, but half at least: others may have been faster."""
        whole = [given[number] for number, each in enumerate(self._offered) if not self._is_short(each.group)]
        if whole:
            self._depth = max(1.0, self._depth / 2, statistics.fmean(whole))

    def _is_short(self, group: LaneGroup) -> bool:
        """Whether a cap leaves less than its lanes may have."""
        return group.sender_id in self._used or self._has_few_leads(group)

    def _has_few_leads(self, group: LaneGroup) -> bool:
        return group.counts_new_leads and group.campaign_id in self._few

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
            {"number": number, "campaign_id": group.campaign, "lane": lane, "zone": group.lanes[lane], "turn": turn}
            for number, (group, lane, turn) in enumerate(self._offered)
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
        given = {"zones": zones, "senders": senders, "uses": uses, "new_leads": new_leads}
        return {
            **OFFERED.parameters(lanes),
            "in_turn": self._in_turn,
            **{name: json.dumps(values) for name, values in given.items()},
            "day": left.day.date,
            "day_until": left.day.ends_at - LAST_CALLS,
        }

    def _choose(self, connection: sa.Connection, left: Budgets) -> list[OfferedLane]:
        """As many lanes as are expected to give the batch. Campaigns take turns; lanes of later steps come first.

        To look at a lane costs as much as some emails of it. So a lane is to give the whole share of its campaign. If
        a claim shows that lanes have less, more lanes of each campaign are asked, and then more campaigns. Where a cap
        leaves little, all that take turns at it are asked.
        """
        campaigns = self._campaigns_with_budget(left)
        self._in_turn = 0
        share = max(1.0, self._batch / max(1, min(len(campaigns), CAMPAIGNS_AT_ONCE)))
        self._depth = min(self._depth, share)
        most = math.ceil(share / self._depth)
        self._find_short(connection, left, most * self._depth * len(campaigns))
        chosen, expected = list[OfferedLane](), 0.0
        is_short = bool(self._used or self._few)
        for offered in self._in_order_of_use(campaigns, most, left) if is_short else _in_turn(campaigns, most):
            if expected >= self._batch:
                self._in_turn = len(campaigns)
                break
            chosen.append(offered)
            expected += 1 if self._is_short(offered.group) else self._depth
        return chosen

    def _find_short(self, connection: sa.Connection, left: Budgets, turn: float) -> None:
        """Find the budgets that are less than a batch, and those of senders that are less than a `turn`, in which each
        campaign is offered: each is to get an equal part."""
        enough = max(self._batch, turn)
        short = [each.sender_id for each in left.senders if 0 < each.remaining < enough]
        self._used = used_by_campaign(connection, short, left.day) if short else {}
        self._few = {
            each.campaign_id: each.remaining
            for each in left.new_leads
            if each.remaining is not None and 0 < each.remaining < self._batch
        }

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

    def _in_order_of_use(
        self, campaigns: Mapping[str, list[LaneGroup]], most: int, left: Budgets
    ) -> Iterator[OfferedLane]:
        """Later steps of senders whose budget is short, then the rest: the same number of each campaign.

        Of such a sender as many lanes as it may send emails, and no first steps while it has later ones: nobody knows
        how many these are. Of a campaign with few new leads as many of their lanes, of the others `most` of each
        campaign.
        """
        day = left.day.date
        found: dict[str, list[OfferedLane]] = {}
        short: dict[uuid.UUID | None, list[LaneGroup]] = defaultdict(list)
        for campaign, groups in campaigns.items():
            others = [group for group in groups if group.sender_id not in self._used]
            of_few = [group for group in others if self._has_few_leads(group)]
            rest = [group for group in others if group not in of_few]
            found[campaign] = [*islice(_later_steps_first(rest), most)]
            if of_few:
                of_few.sort(key=lambda group: str(group.sender_id))
                rounds = zip_longest(*(group.in_turn(self._zones, day, 0) for group in of_few))
                in_turn = (offered for of_each in rounds for offered in of_each if offered is not None)
                found[campaign] += islice(in_turn, self._few[of_few[0].campaign_id])
            for group in groups:
                if group.sender_id in self._used:
                    short[group.sender_id].append(group)
        remaining: dict[uuid.UUID | None, int] = {each.sender_id: each.remaining for each in left.senders}
        for sender_id, groups in short.items():
            # One more than a batch, if it may send more: the campaigns that wait share in the claim then.
            at_most = min(remaining[sender_id], self._batch + 1)
            in_order = _least_used_first(groups, self._used[sender_id], self._zones, day)
            for offered in islice(in_order, at_most):
                found[offered.group.campaign].append(offered)
        for campaign in {group.campaign for groups in short.values() for group in groups}:
            random.shuffle(found[campaign])
            found[campaign].sort(key=_is_first_step)
        places = [
            (_is_first_step(offered) or offered.group.sender_id not in self._used, place, offered)
            for of_campaign in found.values()
            for place, offered in enumerate(of_campaign)
        ]
        places.sort(key=itemgetter(0, 1))
        return (offered for *_, offered in places)


def _is_first_step(offered: OfferedLane) -> bool:
    return not offered.group.follow_up


def _in_turn(campaigns: Mapping[str, list[LaneGroup]], most: int) -> Iterator[OfferedLane]:
    """Up to `most` lanes of a campaign, then as many of the next one."""
    return chain.from_iterable(islice(_later_steps_first(groups), most) for groups in campaigns.values())


def _later_steps_first(groups: Sequence[LaneGroup]) -> Iterator[OfferedLane]:
    """The lanes of a campaign: those of one sender after those of another one, in any order."""
    in_any_order = random.sample(groups, len(groups))
    for follow_up in (True, False):
        for group in in_any_order:
            if group.follow_up == follow_up:
                yield from (OfferedLane(group, lane) for lane in group.lanes)


def _least_used_first(
    groups: Sequence[LaneGroup], used_by: Counter[uuid.UUID], zones: Sequence[OpenZone], day: dt.date
) -> Iterator[OfferedLane]:
    """The lanes of a sender, first of the campaign that it has sent least of: those of later steps, if it has any."""
    has_later_steps = any(group.follow_up for group in groups)
    heap = [
        (used_by[group.campaign_id], place_in_turn(group.campaign_id, day), number, group)
        for number, group in enumerate(groups)
        if group.follow_up == has_later_steps
    ]
    heapq.heapify(heap)
    lanes = {number: group.in_turn(zones, day, used_by[group.campaign_id]) for *_, number, group in heap}
    while heap:
        count, tie, number, group = heap[0]
        if (offered := next(lanes[number], None)) is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (count + 1, tie, number, group))
            yield offered
