"""Turns: which lane gives the next email of a claim. Reads and writes no table.

Campaigns take turns at each claim. However many claims take what a cap leaves, together they take what one claim would.
So each goes on where the last one ended: by what each campaign has used of a sender today, what each sender has used of
the new leads of a campaign, and what each lane has given since the lanes were found. The plan counts on it.
"""

from __future__ import annotations

import datetime as dt
import functools
import heapq
import itertools
import math
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sendledger.policy.budgets import Budgets
from sendledger.policy.caps import place_in_turn, share, zones_in_turn
from sendledger.policy.lanes import OpenZone


class LaneGroup:
    """Lanes of one campaign and sender, for first or later steps, in turn, each with the number of its zone.

    Both are texts, as they are found and offered.
    """

    def __init__(self, row: Mapping[Any, Any]) -> None:
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
        self.given = Counter[str]()
        """How many emails each lane has given."""
        self.zone_places: dict[str, int] = {}
        """The places of its lanes among each other, since they take turns."""

    def lanes_in_turn(self, zones: Sequence[OpenZone], day: dt.date, sent: int) -> Iterator[str]:
        """The lanes that give one email after the other, without end. The first turn begins after `sent` emails."""
        if not self.zone_places:
            # Without a schedule no zone is known, and each is open.
            named = {lane: zones[int(zone) - 1].lead_zone if zone != "0" else lane for lane, zone in self.lanes.items()}
            places = zones_in_turn(named.values(), day, sent)
            self.zone_places = {lane: places[name] for lane, name in named.items()}
        heap = [(self.given[lane], self.zone_places[lane], lane) for lane in self.lanes]
        heapq.heapify(heap)
        while heap:
            given, place, lane = heap[0]
            heapq.heapreplace(heap, (given + 1, place, lane))
            yield lane


class Turn(NamedTuple):
    """A lane that is to give one email; a `whole` one is to give what it has, about so many."""

    group: LaneGroup
    lane: str
    before: int
    """How many emails of its campaign and sender, of first or later steps, come before."""
    whole: float | None = None


class Turns:
    """The turns of one claim."""

    def __init__(
        self,
        campaigns: Mapping[str, list[LaneGroup]],
        left: Budgets,
        used: Mapping[uuid.UUID | None, Mapping[uuid.UUID, int]],
        zones: Sequence[OpenZone],
        enough: int,
    ) -> None:
        """`campaigns` may give something, and take turns in this order. `used` is what those of the senders whose
        budget is short have sent today, by campaign. New leads of a campaign are few if they are not `enough`."""
        self._campaigns, self._used, self._zones, self._day = campaigns, used, zones, left.day.date
        self._turn = functools.partial(place_in_turn, day=self._day)
        self._remaining: dict[uuid.UUID | None, int] = {each.sender_id: each.remaining for each in left.senders}
        self._counted = {each.campaign_id: each for each in left.new_leads if each.remaining is not None}
        self._few = {id_: each.remaining or 0 for id_, each in self._counted.items() if (each.remaining or 0) < enough}
        self._parts_of_new_leads: dict[LaneGroup, int] = {}
        self._parts_of_senders = self._divide_senders()

    def in_order(self, share_of_each: float, depth: float) -> Iterator[Turn]:
        """The campaigns take turns at a share of the claim. In a campaign, later steps go first, then those of the
        sender that has given least. A whole lane is expected to give `depth` emails."""
        places = {campaign: place for place, campaign in enumerate(self._campaigns)}
        given = dict.fromkeys(places, 0.0)
        rounds = [(0, place, campaign) for campaign, place in places.items()]
        waiting, numbers = dict[str, list[Any]](), itertools.count()

        def wait(turns: Iterator[Turn]) -> None:
            for turn in turns:
                group = turn.group
                heapq.heappush(waiting[group.campaign], (not group.follow_up, turn.before, next(numbers), turn, turns))
                break

        while rounds:
            *_, campaign = heapq.heappop(rounds)
            if campaign not in waiting:
                waiting[campaign] = []
                for turns in self._of_campaign(self._campaigns[campaign], math.ceil(share_of_each / depth), depth):
                    wait(turns)
            if not waiting[campaign]:
                continue
            *_, turn, turns = heapq.heappop(waiting[campaign])
            given[campaign] += turn.whole or 1
            yield turn
            wait(turns)
            heapq.heappush(rounds, (int(given[campaign] / int(share_of_each)), places[campaign], campaign))

    def before(self, group: LaneGroup) -> int:
        """How many emails of these lanes come before this claim: new leads of today where a cap counts them, else those
        since the lanes were found."""
        sent = self._new_leads_sent(group)
        return group.given.total() if sent is None else sent

    def _new_leads_sent(self, group: LaneGroup) -> int | None:
        counted = self._counted.get(group.campaign_id) if group.counts_new_leads else None
        return counted.sent_by(group.sender_id) if counted is not None else None

    def _has_few(self, group: LaneGroup) -> bool:
        return group.counts_new_leads and group.campaign_id in self._few

    def _part_of_new_leads(self, group: LaneGroup) -> int:
        """How many of the few new leads of its campaign a sender may write to. The plan divides them in this way."""
        if group not in self._parts_of_new_leads:
            few, counted = self._few[group.campaign_id], self._counted[group.campaign_id]
            own = {each.sender_id: each for each in self._campaigns[group.campaign] if each.counts_new_leads}
            wanted = {sender_id: min(few, self._remaining.get(sender_id, few)) for sender_id in own}
            parts = share(few, wanted, {sender_id: counted.sent_by(sender_id) for sender_id in own}, self._turn)
            self._parts_of_new_leads |= {own[sender_id]: part for sender_id, part in parts.items()}
        return self._parts_of_new_leads[group]

    def _divide_senders(self) -> dict[LaneGroup, int]:
        """How many emails each campaign may send of what is left to a sender whose budget is short. The plan divides it
        in this way.

        No first steps while the sender has later ones: nobody knows how many these are.
        """
        parts: dict[LaneGroup, int] = {}
        for sender_id, groups in self._groups_by_short_sender().items():
            remaining, has_later_steps = self._remaining[sender_id], any(group.follow_up for group in groups)
            own = {group.campaign_id: group for group in groups if group.follow_up == has_later_steps}
            wanted = {
                campaign_id: self._part_of_new_leads(group) if self._has_few(group) else remaining
                for campaign_id, group in own.items()
            }
            divided = share(remaining, wanted, self._used[sender_id], self._turn)
            parts |= {own[campaign_id]: part for campaign_id, part in divided.items()}
        return parts

    def _groups_by_short_sender(self) -> dict[uuid.UUID | None, list[LaneGroup]]:
        found = defaultdict[uuid.UUID | None, list[LaneGroup]](list)
        if self._used:
            for group in itertools.chain.from_iterable(self._campaigns.values()):
                if group.sender_id in self._used:
                    found[group.sender_id].append(group)
        return found

    def _of_campaign(self, groups: Sequence[LaneGroup], most: int, depth: float) -> Iterator[Iterator[Turn]]:
        """Its parts of short senders and of few new leads, and `most` of the other lanes."""
        rest = list[LaneGroup]()
        for group in groups:
            if group.sender_id in self._used:
                yield self._of_group(group, self._parts_of_senders.get(group, 0))
            elif self._has_few(group):
                yield self._of_group(group, self._part_of_new_leads(group))
            else:
                rest.append(group)
        before = {group: self.before(group) for group in random.sample(rest, len(rest))}
        in_order = sorted(before, key=lambda group: (not group.follow_up, before[group]))
        lanes = ((group, lane) for group in in_order for lane in group.lanes)
        yield (Turn(group, lane, before[group], depth) for group, lane in itertools.islice(lanes, most))

    def _of_group(self, group: LaneGroup, part: int) -> Iterator[Turn]:
        """So many of one campaign and sender, after what it has used today: of its cap, or of the new leads where these
        count."""
        sent = self._new_leads_sent(group)
        if sent is None:
            sent = self._used[group.sender_id].get(group.campaign_id, 0)
        lanes = group.lanes_in_turn(self._zones, self._day, sent)
        for before, lane in enumerate(itertools.islice(lanes, part), self.before(group)):
            yield Turn(group, lane, before)
