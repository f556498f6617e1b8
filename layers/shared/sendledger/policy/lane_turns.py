"""Turns at a cap: which emails go where less may go than waits, one after the other. Pure.

However many claims take them, together they take what one claim would. So each goes on where the last one ended: by
what each campaign has used of a sender, and what each lane and sender has given since the lanes were found. The plan
counts on it.
"""

from __future__ import annotations

import datetime as dt
import heapq
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from sendledger.policy.caps import place_in_turn, zones_in_turn
from sendledger.policy.lanes import OpenZone


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
        self.given = Counter[str]()
        """How many emails each lane has given."""
        self.turns: dict[str, int] = {}
        """The places of its lanes in the turns that have begun."""

    def in_turn(self, zones: Sequence[OpenZone], day: dt.date, sent: int) -> Iterator[str]:
        """The lanes that give one email after the other, without end. The first turn begins after `sent` emails."""
        if not self.turns:
            # Without a schedule no zone is known, and each is open.
            named = {lane: zones[int(zone) - 1].lead_zone if zone != "0" else lane for lane, zone in self.lanes.items()}
            places = zones_in_turn(named.values(), day, sent)
            self.turns = {lane: places[name] for lane, name in named.items()}
        heap = [(self.given[lane], self.turns[lane], lane) for lane in self.lanes]
        heapq.heapify(heap)
        while heap:
            given, turn, lane = heap[0]
            heapq.heapreplace(heap, (given + 1, turn, lane))
            yield lane


class Turn(NamedTuple):
    """A lane whose turn it is to give an email, and how many of its campaign and sender came before."""

    group: LaneGroup
    lane: str
    place: int


def turns_of_sender(
    groups: Sequence[LaneGroup],
    used_by: Mapping[uuid.UUID, int],
    new_leads: Mapping[uuid.UUID, int],
    zones: Sequence[OpenZone],
    day: dt.date,
) -> Iterator[Turn]:
    """The next is of the campaign that the sender has sent least of: of its later steps, if the sender has any.

    `new_leads` are the campaigns that have few left, and how many.
    """
    has_later_steps = any(group.follow_up for group in groups)
    heap = [
        (used_by[group.campaign_id], place_in_turn(group.campaign_id, day), number, 0)
        for number, group in enumerate(groups)
        if group.follow_up == has_later_steps
    ]
    heapq.heapify(heap)
    lanes = {number: groups[number].in_turn(zones, day, used) for used, _, number, _ in heap}
    while heap:
        used, tie, number, place = heap[0]
        group = groups[number]
        if group.counts_new_leads and place >= new_leads.get(group.campaign_id, place + 1):
            heapq.heappop(heap)
            continue
        heapq.heapreplace(heap, (used + 1, tie, number, place + 1))
        yield Turn(group, next(lanes[number]), place)


def turns_at_new_leads(group: LaneGroup, zones: Sequence[OpenZone], day: dt.date) -> Iterator[Turn]:
    """The new leads of a campaign that a sender without a short budget writes to."""
    for place, lane in enumerate(group.in_turn(zones, day, 0)):
        yield Turn(group, lane, place)
