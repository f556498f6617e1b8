"""Turns: which lane gives the next email of a claim. Reads and writes no table.

Campaigns take turns at each claim. However many claims take what a cap leaves, together they take what one claim would.
So each goes on where the last one ended: by what each campaign has used of a sender today, what each sender has used of
the new leads of a campaign, and what each lane has given since the lanes were found. The plan counts on it.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sendledger.policy.budgets import NewLeads
from sendledger.policy.caps import place_in_turn, zones_in_turn
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


@dataclass
class LittleLeft:
    """What a claim may still take where that is little: of senders whose budget is short, and of few new leads."""

    senders: dict[uuid.UUID | None, int]
    new_leads: dict[uuid.UUID, int]
    of_day: Mapping[uuid.UUID, NewLeads]
    """Of the campaigns with a cap of new leads on a day, also where they are many."""

    def has_few_leads(self, group: LaneGroup) -> bool:
        return group.counts_new_leads and group.campaign_id in self.new_leads

    def new_leads_sent(self, group: LaneGroup) -> int | None:
        """To how many new leads the sender of these lanes has sent today. None: no cap of a day counts them."""
        counted = self.of_day.get(group.campaign_id) if group.counts_new_leads else None
        return counted.sent_by(group.sender_id) if counted is not None else None

    def before(self, group: LaneGroup) -> int:
        """How many emails of these lanes come before the first one of this claim: those of today, or of this tick."""
        sent = self.new_leads_sent(group)
        return group.given.total() if sent is None else sent

    def allows(self, group: LaneGroup) -> bool:
        """Whether a lane of these may give one more."""
        if self.has_few_leads(group) and self.new_leads[group.campaign_id] <= 0:
            return False
        return self.senders.get(group.sender_id, 1) > 0

    def take(self, group: LaneGroup) -> None:
        """A lane of these gives one."""
        if self.has_few_leads(group):
            self.new_leads[group.campaign_id] -= 1
        if group.sender_id in self.senders:
            self.senders[group.sender_id] -= 1


def fair_turns(
    campaigns: Mapping[str, list[LaneGroup]],
    own: Callable[[list[LaneGroup]], Iterable[Iterator[Turn]]],
    of_senders: Iterable[Iterator[Turn]],
    share: int,
    little: LittleLeft,
) -> Iterator[Turn]:
    """The campaigns take turns, in this order, at `share` emails each.

    `own` are the turns of a campaign, which are asked for when it is the next; those `of_senders` go from one campaign
    to the other. In a campaign, later steps go first, then the sender that has given least.
    """
    places = {campaign: place for place, campaign in enumerate(campaigns)}
    given = dict.fromkeys(campaigns, 0.0)
    rounds = [(0, place, campaign) for campaign, place in places.items()]
    waiting, numbers = {campaign: list[Any]() for campaign in campaigns}, itertools.count()
    unknown, listed = dict(campaigns), set(campaigns)

    def list_campaign(campaign: str) -> None:
        if campaign not in listed:
            listed.add(campaign)
            heapq.heappush(rounds, (int(given[campaign] / share), places[campaign], campaign))

    def wait(turns: Iterator[Turn]) -> None:
        if (turn := next(turns, None)) is None:
            return
        group = turn.group
        # The claim and the plan divide new leads in this order, too.
        tie = str(group.sender_id) if little.new_leads_sent(group) is not None else ""
        rank = (not group.follow_up, turn.before, tie, next(numbers))
        heapq.heappush(waiting[group.campaign], (rank, turn, turns))
        list_campaign(group.campaign)

    for turns in of_senders:
        wait(turns)
    while rounds:
        *_, campaign = heapq.heappop(rounds)
        if campaign in unknown:
            for turns in own(unknown.pop(campaign)):
                wait(turns)
        listed.discard(campaign)
        if not waiting[campaign]:
            continue
        _, turn, turns = heapq.heappop(waiting[campaign])
        # Another sender may have taken the last new lead.
        if little.allows(turn.group):
            little.take(turn.group)
            given[campaign] += turn.whole or 1
            yield turn
        if waiting[campaign]:
            list_campaign(campaign)
        wait(turns)


def turns_of_sender(
    groups: Sequence[LaneGroup],
    used_by: Mapping[uuid.UUID, int],
    little: LittleLeft,
    zones: Sequence[OpenZone],
    day: dt.date,
) -> Iterator[Turn]:
    """The next is of the campaign that the sender has sent least of: of its later steps, if the sender has any.

    No first steps while it has later ones: nobody knows how many these are.
    """
    has_later_steps = any(group.follow_up for group in groups)
    heap = [
        (used_by[group.campaign_id], place_in_turn(group.campaign_id, day), number)
        for number, group in enumerate(groups)
        if group.follow_up == has_later_steps
    ]
    heapq.heapify(heap)
    turns = {number: turns_of_group(groups[number], little, zones, day, used) for used, _, number in heap}
    while heap:
        used, tie, number = heap[0]
        if (turn := next(turns[number], None)) is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (used + 1, tie, number))
            yield turn


def turns_of_group(
    group: LaneGroup, little: LittleLeft, zones: Sequence[OpenZone], day: dt.date, used: int = 0
) -> Iterator[Turn]:
    """Of one campaign and sender, which has `used` so much of its cap today. Where new leads count, these count."""
    sent = little.new_leads_sent(group)
    lanes = group.lanes_in_turn(zones, day, used if sent is None else sent)
    for before, lane in enumerate(lanes, little.before(group)):
        if not little.allows(group):
            return
        yield Turn(group, lane, before)


def whole_lanes(groups: Sequence[LaneGroup], most: int, depth: float, little: LittleLeft) -> Iterator[Turn]:
    """Up to `most` lanes of a campaign, in any order: those of one sender after those of another one."""
    before = {group: little.before(group) for group in random.sample(groups, len(groups))}
    in_order = sorted(before, key=lambda group: (not group.follow_up, before[group]))
    lanes = ((group, lane) for group in in_order for lane in group.lanes)
    return (Turn(group, lane, before[group], depth) for group, lane in itertools.islice(lanes, most))
