"""The lanes that a sender may claim from. They are found once, kept for a while, and offered to its claims in turn.

Finding them means looking at each lane of all running campaigns; a claim takes from a few hundred. What may change is
checked again for each claim: here the budgets of senders and new leads, and in the claim itself the campaign, the
revision of its schedule and the time. So a lane that is kept for too long gives nothing. Reads what lanes.py and
budgets.py read.
"""

from __future__ import annotations

import heapq
import json
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.core.ledger_rules import has_lanes
from sendledger.core.row_arrays import RowArrays
from sendledger.policy.budgets import (
    LAST_CALLS,
    Budget,
    Budgets,
    budgets,
    fold,
    schedule_revisions,
    used_by_campaign,
)
from sendledger.policy.caps import place_in_turn
from sendledger.policy.lanes import LANES_BY_GROUP, OpenZone, open_zones, zones_parameter
from sendledger.policy.openings import Opening

KEPT_SECONDS = 30.0
"""How long lanes are kept. What becomes due or opens meanwhile is found then, or when these have nothing left."""

LOOK_AGAIN_SECONDS = 1.0
"""How long until they are looked for again if there are none, or none of them may give anything."""

_UNKNOWN = 2**31

_FIND = sa.text(LANES_BY_GROUP).bindparams(
    sa.bindparam("open_zones", type_=sa.Text), sa.bindparam("alone", type_=sa.Boolean)
)

_HAS_LANES = sa.text(f"""SELECT EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND {has_lanes("c")})""")


OFFERED = RowArrays("offer", {"campaign_id": "uuid", "lane": "smallint", "zone": "integer"})
"""The lanes that a claim may take from, with the number of their zone in its parameter `zones`; 0: always open."""


class LaneGroup:
    """Lanes of one campaign and sender, for first or later steps, in turn, each with the number of its zone."""

    def __init__(self, row: sa.RowMapping) -> None:
        self.campaign_id: uuid.UUID = row["campaign_id"]
        self.sender_id: uuid.UUID | None = row["sender_id"]
        self.follow_up: bool = row["follow_up"]
        self.counts_new_leads: bool = row["counts_new_leads"]
        self.counts_companies: bool = row["counts_companies"]
        self.campaign = str(self.campaign_id)
        lanes, zones = ([int(each) for each in row[name].split(",")] for name in ("lanes", "zones"))
        # Overlapping senders begin with different ones.
        first = random.randrange(len(lanes))  # noqa: S311 (not a secret)
        self.lanes = dict(zip(lanes[first:] + lanes[:first], zones[first:] + zones[:first], strict=True))


class OfferedLane(NamedTuple):
    """A lane that a claim may take from, with the budget that limits it."""

    group: LaneGroup
    lane: int
    budget: Budget | None


class LaneQueue:
    """One for each tick. A claim beside a tick has one of its own."""

    def __init__(self) -> None:
        self._campaigns: dict[str, list[LaneGroup]] = {}
        self._zones: list[OpenZone] = []
        self._offered: list[OfferedLane] = []
        self._batch = 0
        self._depth = _UNKNOWN
        """How many emails a lane is expected to give."""
        self._used: Mapping[uuid.UUID | None, Counter[uuid.UUID]] = {}
        self._hours: dict[uuid.UUID, list[Opening]] = {}
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
        left = budgets(connection, lock=True, hours=self._hours)
        if look and left.revisions != self._revisions:
            self._find(connection, alone=alone)
        # Of a sender that may not send a whole batch, each campaign gets an equal part.
        short = [each.sender_id for each in left.senders if 0 < each.remaining < batch]
        self._used = used_by_campaign(connection, short, left.day) if short else {}
        self._offered = self._choose(left, batch)
        if look and not self._offered and self._age() > LOOK_AGAIN_SECONDS:
            self._find(connection, alone=alone)
            self._offered = self._choose(left, batch)
        return self._parameters(left) if self._offered else None

    @property
    def offers_companies(self) -> bool:
        """Whether the last offer has lanes of campaigns with a cap for each company."""
        return any(offered.group.counts_companies for offered in self._offered)

    def note(self, claimed: Sequence[Mapping[str, Any]]) -> None:
        """Move the lanes that have given all that was asked for behind the others. Those that gave less are done."""
        if len(claimed) < self._batch:
            self._depth = max(1, self._depth // 2)
        has_more = {(row["campaign_id"], row["lane"]) for row in claimed if not row["is_last"]}
        for group, lane, _ in self._offered:
            zone = group.lanes.pop(lane)
            if (group.campaign_id, lane) in has_more:
                group.lanes[lane] = zone
            elif not group.lanes:
                self._campaigns[group.campaign].remove(group)
                if not self._campaigns[group.campaign]:
                    del self._campaigns[group.campaign]

    def _age(self) -> float:
        return time.monotonic() - self._found_at

    def _find(self, connection: sa.Connection, *, alone: bool) -> None:
        self._campaigns, self._found_at, self._depth = {}, time.monotonic(), _UNKNOWN
        self._hours.clear()
        if not connection.scalar(_HAS_LANES):
            return
        # Each claim sums up what has changed since.
        fold(connection)
        self._revisions = schedule_revisions(connection)
        self._zones = open_zones(connection)
        found = connection.execute(_FIND, {"open_zones": zones_parameter(self._zones), "alone": alone}).mappings()
        for group in map(LaneGroup, found):
            self._campaigns.setdefault(group.campaign, []).append(group)

    def _parameters(self, left: Budgets) -> dict[str, Any]:
        """What the claim must know of the lanes that it is offered."""
        lanes = [
            {"campaign_id": group.campaign, "lane": lane, "zone": group.lanes[lane]} for group, lane, _ in self._offered
        ]
        numbers = {group.lanes[lane] for group, lane, _ in self._offered} - {0}
        zones = [
            {
                "number": number,
                "schedule_id": str(zone.schedule_id),
                "revision": zone.revision,
                "until": (zone.opening.closes_at - LAST_CALLS).isoformat(),
            }
            for number, zone in enumerate(self._zones, 1)
            if number in numbers
        ]
        senders = [
            {"sender_id": str(each.sender_id), "remaining": each.remaining}
            for each in left.senders
            if each.remaining > 0
        ]
        short = {
            (group.sender_id, group.campaign_id)
            for group, *_ in self._offered
            if self._used and group.sender_id in self._used
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
            **{name: json.dumps(values) for name, values in given.items()},
            "day": left.day.date,
            "day_until": left.day.ends_at - LAST_CALLS,
        }

    def _choose(self, left: Budgets, batch: int) -> list[OfferedLane]:
        """The same number of lanes of each campaign, those of later steps first.

        To look at a lane costs as much as some emails of it. So a lane is to give the whole share of its campaign. If
        a claim shows that lanes have less, more of them are offered.
        """
        share = -(-batch // max(1, len(self._campaigns)))
        self._depth = min(self._depth, share)
        # By their place in their campaign; later steps of a sender that cannot send a whole batch come before all.
        first, others = defaultdict[int, list[OfferedLane]](list), defaultdict[int, list[OfferedLane]](list)
        for of_campaign in self._with_budget(left, -(-share // self._depth)).values():
            for place, offered in enumerate(of_campaign):
                is_urgent = offered.group.follow_up and offered.group.sender_id in self._used
                (first if is_urgent else others)[place].append(offered)
        chosen, expected = list[OfferedLane](), 0
        for queue in (first, others):
            for _, same_place in sorted(queue.items()):
                if expected >= batch:
                    break
                random.shuffle(same_place)
                chosen += same_place
                expected += sum(1 if each.group.sender_id in self._used else self._depth for each in same_place)
        return chosen[:batch]

    def _with_budget(self, left: Budgets, most: int) -> dict[str, list[OfferedLane]]:
        """Of each campaign so many lanes at most, but of a sender that is short as many as it may send emails."""
        senders = {each.sender_id: each for each in left.senders if each.remaining > 0}
        new_leads = {each.campaign_id for each in left.new_leads if each.has_some}
        found: dict[str, list[OfferedLane]] = {}
        short: dict[uuid.UUID, list[LaneGroup]] = defaultdict(list)
        for campaign, groups in self._campaigns.items():
            open_: list[tuple[LaneGroup, Budget | None]] = []
            for group in groups:
                budget = senders.get(group.sender_id) if group.sender_id is not None else None
                if (group.sender_id is not None and budget is None) or (
                    group.counts_new_leads and group.campaign_id not in new_leads
                ):
                    continue
                if budget is not None and budget.sender_id in self._used:
                    short[budget.sender_id].append(group)
                else:
                    open_.append((group, budget))
            found[campaign] = [*islice(_later_steps_first(open_), most)]
        for sender_id, groups in short.items():
            for group, lane in _in_turn(groups, senders[sender_id], self._used[sender_id], left):
                found[group.campaign].append(OfferedLane(group, lane, senders[sender_id]))
        for campaign in {group.campaign for groups in short.values() for group in groups}:
            random.shuffle(found[campaign])
            found[campaign].sort(key=_is_first_step)
        return found


def _is_first_step(offered: OfferedLane) -> bool:
    return not offered.group.follow_up


def _later_steps_first(groups: list[tuple[LaneGroup, Budget | None]]) -> Iterator[OfferedLane]:
    """The lanes of a campaign. Its senders take turns, in any order."""
    random.shuffle(groups)
    for follow_up in (True, False):
        turns = [(group, budget, iter(group.lanes)) for group, budget in groups if group.follow_up == follow_up]
        while turns:
            left = []
            for group, budget, lanes in turns:
                if (lane := next(lanes, None)) is not None:
                    yield OfferedLane(group, lane, budget)
                    left.append((group, budget, lanes))
            turns = left


def _in_turn(
    groups: Iterable[LaneGroup], budget: Budget, used_by: Counter[uuid.UUID], left: Budgets
) -> Iterator[tuple[LaneGroup, int]]:
    """As many lanes as a sender may send emails: later steps first, then the campaign that it has sent least of."""
    heap = []
    for number, group in enumerate(groups):
        used = used_by[group.campaign_id]
        tie = place_in_turn(group.campaign_id, left.day.date)
        heap.append((not group.follow_up, used, tie, number, group, iter(group.lanes)))
    heapq.heapify(heap)
    for _ in range(budget.remaining):
        while heap:
            first_step, used, tie, number, group, lanes = heap[0]
            if (lane := next(lanes, None)) is not None:
                heapq.heapreplace(heap, (first_step, used + 1, tie, number, group, lanes))
                yield group, lane
                break
            heapq.heappop(heap)
