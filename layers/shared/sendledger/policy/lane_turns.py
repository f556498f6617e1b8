"""Turns: which lane gives the next email of a claim. Reads and writes no table.

Campaigns take turns at each claim. However many claims take what a cap leaves, together they take what one claim would.
So each goes on where the last one ended: by what each campaign has used of a sender today, what each sender has used of
the new leads of a campaign, and what each lane has given since the lanes were found. The plan counts on it.
"""

from __future__ import annotations

import datetime as dt
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
        self._remaining: dict[uuid.UUID | None, int] = {each.sender_id: each.remaining for each in left.senders}
        self._counted = {each.campaign_id: each for each in left.new_leads if each.remaining is not None}
        self._few = {id_: each.remaining or 0 for id_, each in self._counted.items() if (each.remaining or 0) < enough}
        self._parts: dict[LaneGroup, int] = {}

    def in_order(self, share_of_each: float, depth: float) -> Iterator[Turn]:
        """The campaigns take turns at a share of the claim. In a campaign, later steps go first, then those of the
        sender that has given least. A whole lane is expected to give `depth` emails."""
        places = {campaign: place for place, campaign in enumerate(self._campaigns)}
        given = dict.fromkeys(places, 0.0)
        rounds = [(0, place, campaign) for campaign, place in places.items()]
        waiting, numbers = {campaign: list[Any]() for campaign in places}, itertools.count()
        unknown, listed = set(places), set(places)

        def list_campaign(campaign: str) -> None:
            if campaign not in listed:
                listed.add(campaign)
                heapq.heappush(rounds, (int(given[campaign] / int(share_of_each)), places[campaign], campaign))

        def wait(turns: Iterator[Turn]) -> None:
            for turn in turns:
                group = turn.group
                heapq.heappush(waiting[group.campaign], (not group.follow_up, turn.before, next(numbers), turn, turns))
                list_campaign(group.campaign)
                break

        for sender_id, groups in self._groups_by_short_sender().items():
            wait(self._of_sender(sender_id, groups))
        while rounds:
            *_, campaign = heapq.heappop(rounds)
            if campaign in unknown:
                unknown.remove(campaign)
                for turns in self._of_campaign(self._campaigns[campaign], math.ceil(share_of_each / depth), depth):
                    wait(turns)
            listed.discard(campaign)
            if not waiting[campaign]:
                continue
            *_, turn, turns = heapq.heappop(waiting[campaign])
            given[campaign] += turn.whole or 1
            yield turn
            if waiting[campaign]:
                list_campaign(campaign)
            wait(turns)

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

    def _part(self, group: LaneGroup) -> int:
        """How many of the few new leads of its campaign a sender may write to. The plan divides them in this way."""
        if group not in self._parts:
            few, counted = self._few[group.campaign_id], self._counted[group.campaign_id]
            own = {each.sender_id: each for each in self._campaigns[group.campaign] if each.counts_new_leads}
            wanted = {sender_id: min(few, self._remaining.get(sender_id, few)) for sender_id in own}
            parts = share(few, wanted, {sender_id: counted.sent_by(sender_id) for sender_id in own})
            self._parts |= {own[sender_id]: part for sender_id, part in parts.items()}
        return self._parts[group]

    def _groups_by_short_sender(self) -> dict[uuid.UUID | None, list[LaneGroup]]:
        found = defaultdict[uuid.UUID | None, list[LaneGroup]](list)
        if self._used:
            for group in itertools.chain.from_iterable(self._campaigns.values()):
                if group.sender_id in self._used:
                    found[group.sender_id].append(group)
        return found

    def _of_campaign(self, groups: Sequence[LaneGroup], most: int, depth: float) -> Iterator[Iterator[Turn]]:
        """Of the senders whose budget is not short: at few new leads, and `most` of the other lanes."""
        own = [group for group in groups if group.sender_id not in self._used]
        for group in own:
            if self._has_few(group):
                yield self._of_group(group)
        rest = [group for group in own if not self._has_few(group)]
        before = {group: self.before(group) for group in random.sample(rest, len(rest))}
        in_order = sorted(before, key=lambda group: (not group.follow_up, before[group]))
        lanes = ((group, lane) for group in in_order for lane in group.lanes)
        yield (Turn(group, lane, before[group], depth) for group, lane in itertools.islice(lanes, most))

    def _of_sender(self, sender_id: uuid.UUID | None, groups: Sequence[LaneGroup]) -> Iterator[Turn]:
        """The next is of the campaign that the sender has sent least of: of its later steps, if the sender has any.

        No first steps while it has later ones: nobody knows how many these are.
        """
        used_by, has_later_steps = self._used[sender_id], any(group.follow_up for group in groups)
        heap = [
            (used_by.get(group.campaign_id, 0), place_in_turn(group.campaign_id, self._day), number)
            for number, group in enumerate(groups)
            if group.follow_up == has_later_steps
        ]
        heapq.heapify(heap)
        turns = {number: self._of_group(groups[number], used) for used, _, number in heap}
        remaining = self._remaining[sender_id]
        while heap and remaining:
            used, tie, number = heap[0]
            if (turn := next(turns[number], None)) is None:
                heapq.heappop(heap)
                continue
            heapq.heapreplace(heap, (used + 1, tie, number))
            remaining -= 1
            yield turn

    def _of_group(self, group: LaneGroup, used: int = 0) -> Iterator[Turn]:
        """Of one campaign and sender, which has `used` so much of its cap today. Where new leads count, these count."""
        sent, part = self._new_leads_sent(group), self._part(group) if self._has_few(group) else None
        lanes = group.lanes_in_turn(self._zones, self._day, used if sent is None else sent)
        for before, lane in enumerate(itertools.islice(lanes, part), self.before(group)):
            yield Turn(group, lane, before)
