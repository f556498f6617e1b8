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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.core.ledger_rules import has_lanes
from sendledger.policy.budgets import LAST_CALLS, Budget, Budgets, NewLeads, budgets, fold, schedule_revisions
from sendledger.policy.caps import place_in_turn
from sendledger.policy.lanes import LANES_BY_GROUP, open_zones, zones_parameter
from sendledger.policy.openings import Opening

KEPT_SECONDS = 15.0
"""How long lanes are kept. What becomes due or opens meanwhile is found then, or when these have nothing left."""

LOOK_AGAIN_SECONDS = 1.0
"""How long until they are looked for again if there are none, or none of them may give anything."""

_FIND = sa.text(LANES_BY_GROUP).bindparams(
    sa.bindparam("open_zones", type_=sa.Text), sa.bindparam("alone", type_=sa.Boolean)
)

_HAS_LANES = sa.text(f"""SELECT EXISTS (SELECT FROM campaigns c WHERE c.status = 'running' AND {has_lanes("c")})""")


class LaneGroup:
    """Lanes of one campaign and sender, for first or later steps, in turn, each with the end of its opening."""

    def __init__(self, row: sa.RowMapping) -> None:
        self.campaign_id: uuid.UUID = row["campaign_id"]
        self.sender_id: uuid.UUID | None = row["sender_id"]
        self.follow_up: bool = row["follow_up"]
        self.counts_new_leads: bool = row["counts_new_leads"]
        self.counts_companies: bool = row["counts_companies"]
        self.lanes: dict[int, str | None] = dict(row["lanes"])
        same = {name: row[name] for name in ("campaign_id", "sender_id", "follow_up", "schedule_id", "revision")}
        self.parameters = {
            name: str(value) if isinstance(value, uuid.UUID) else value
            for name, value in same.items()
            if value is not None
        }


class OfferedLane(NamedTuple):
    """A lane that a claim may take from, with the budgets that limit it."""

    group: LaneGroup
    lane: int
    budget: Budget | None
    new_leads: NewLeads | None

    def parameters(self, batch: int, left: Budgets) -> dict[str, Any]:
        """What the claim must know; what is missing is NULL there."""
        group, budget, new_leads = self.group, self.budget, self.new_leads
        found = {**group.parameters, "lane": self.lane, "counted": new_leads is not None}
        if (until := group.lanes[self.lane]) is not None:
            found["until"] = until
        if new_leads is not None and new_leads.remaining is not None:
            found["new_leads"] = new_leads.remaining
        if budget is not None:
            found["remaining"] = budget.remaining
            if budget.remaining < batch:
                found["used"] = budget.used_by_campaign.get(group.campaign_id, 0)
                found["tie"] = place_in_turn(group.campaign_id, left.day.date)
        return found


class LaneQueue:
    """One for each tick. A claim beside a tick has one of its own."""

    def __init__(self) -> None:
        self._groups: list[LaneGroup] = []
        self._offered: list[OfferedLane] = []
        self._hours: dict[uuid.UUID, list[Opening]] = {}
        self._revisions = 0
        self._found_at = float("-inf")

    def offer(self, connection: sa.Connection, batch: int, *, alone: bool) -> dict[str, Any] | None:
        """The parameters of a claim of `batch` emails, or None if no lane may give any. It locks the budgets."""
        if self._age() > (KEPT_SECONDS if self._groups else LOOK_AGAIN_SECONDS):
            self._find(connection, alone=alone)
        if not self._groups:
            return None
        left = budgets(connection, lock=True, hours=self._hours)
        if left.revisions != self._revisions:
            self._find(connection, alone=alone)
        self._offered = self._choose(left, batch)
        if not self._offered and self._age() > LOOK_AGAIN_SECONDS:
            self._find(connection, alone=alone)
            self._offered = self._choose(left, batch)
        if not self._offered:
            return None
        lanes = [offered.parameters(batch, left) for offered in self._offered]
        return {"lanes": json.dumps(lanes), "day": left.day.date, "day_until": left.day.ends_at - LAST_CALLS}

    @property
    def offers_companies(self) -> bool:
        """Whether the last offer has lanes of campaigns with a cap for each company."""
        return any(offered.group.counts_companies for offered in self._offered)

    def note(self, claimed: Iterable[Mapping[str, Any]]) -> None:
        """Move the lanes that have given all that was asked for behind the others. Those that gave less are done."""
        has_more = {(row["campaign_id"], row["lane"]) for row in claimed if not row["is_last"]}
        for offered in self._offered:
            until = offered.group.lanes.pop(offered.lane)
            if (offered.group.campaign_id, offered.lane) in has_more:
                offered.group.lanes[offered.lane] = until
        self._groups = [group for group in self._groups if group.lanes]

    def _age(self) -> float:
        return time.monotonic() - self._found_at

    def _find(self, connection: sa.Connection, *, alone: bool) -> None:
        self._groups, self._found_at = [], time.monotonic()
        self._hours.clear()
        if not connection.scalar(_HAS_LANES):
            return
        # Each claim sums up what has changed since.
        fold(connection)
        self._revisions = schedule_revisions(connection)
        zones = zones_parameter(open_zones(connection))
        found = connection.execute(_FIND, {"open_zones": zones, "alone": alone}).mappings()
        self._groups = [LaneGroup(row) for row in found]

    def _choose(self, left: Budgets, batch: int) -> list[OfferedLane]:
        """The same number of lanes of each campaign, those of later steps first."""
        by_campaign: dict[uuid.UUID, list[OfferedLane]] = defaultdict(list)
        for offered in self._with_budget(left, batch):
            by_campaign[offered.group.campaign_id].append(offered)
        queue = []
        for of_campaign in by_campaign.values():
            random.shuffle(of_campaign)
            of_campaign.sort(key=lambda offered: not offered.group.follow_up)
            for place, offered in enumerate(of_campaign):
                is_short = offered.budget is not None and offered.budget.remaining < batch
                goes_first = is_short and offered.group.follow_up
                queue.append((not goes_first, place, random.random(), offered))  # noqa: S311 (not a secret)
        queue.sort(key=itemgetter(0, 1, 2))
        return [offered for *_, offered in queue[:batch]]

    def _with_budget(self, left: Budgets, batch: int) -> Iterator[OfferedLane]:
        """Of each campaign as many lanes as its share of the batch may need, of each sender as many as it may send."""
        senders = {each.sender_id: each for each in left.senders if each.remaining > 0}
        new_leads = {each.campaign_id: each for each in left.new_leads if each.remaining is None or each.remaining > 0}
        share = -(-batch // max(1, len({group.campaign_id for group in self._groups})))
        short: dict[uuid.UUID, list[LaneGroup]] = defaultdict(list)
        for group in self._groups:
            cap = None if group.follow_up else new_leads.get(group.campaign_id)
            if (group.sender_id is not None and group.sender_id not in senders) or (
                group.counts_new_leads and cap is None
            ):
                continue
            budget = senders[group.sender_id] if group.sender_id is not None else None
            if budget is not None and budget.remaining < batch:
                short[budget.sender_id].append(group)
                continue
            for lane in islice(group.lanes, share):
                yield OfferedLane(group, lane, budget, cap)
        for sender_id, groups in short.items():
            for group, lane in _in_turn(groups, senders[sender_id], left):
                cap = None if group.follow_up else new_leads.get(group.campaign_id)
                yield OfferedLane(group, lane, senders[sender_id], cap)


def _in_turn(groups: Iterable[LaneGroup], budget: Budget, left: Budgets) -> Iterator[tuple[LaneGroup, int]]:
    """As many lanes as a sender may send emails: later steps first, then the campaign that it has sent least of."""
    heap = []
    for number, group in enumerate(groups):
        used = budget.used_by_campaign.get(group.campaign_id, 0)
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
