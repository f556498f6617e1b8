"""The lanes of the simulation: emails that wait for the same opening, from the same sender. Pure.

A lane says how many of its emails are due. All lanes of a campaign and a zone share one gate, which is open or closed.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from sendledger.policy.caps import TICK, minute_of
from sendledger.policy.openings import Opening
from sendledger.policy.planned_campaigns import PlannedCampaign, PlannedStep

ALWAYS = Opening(dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))
"""The opening of a campaign without a sending schedule."""

Kind = bool
"""Whether a step is a later one."""


class Companies:
    """Leads by company. The companies take turns; one that has used up its cap is passed over until the next day."""

    def __init__(self, companies: Sequence[int | None]) -> None:
        self._places: dict[int | None, deque[int]] = {}
        for place, company in enumerate(companies):
            self._places.setdefault(company, deque()).append(place)
        self._next = [(0, places[0], company) for company, places in self._places.items()]
        heapq.heapify(self._next)
        self._full: list[tuple[int, int, int | None]] = []

    def take(self, count: int, used: Counter[int | None], cap: int) -> int:
        """Take leads whose companies have something left of the `cap`; returns how many there were."""
        taken = 0
        while taken < count and self._next:
            turn, _, company = self._next[0]
            if company is not None and used[company] >= cap:
                self._full.append(heapq.heappop(self._next))
                continue
            taken += 1
            used[company] += 1
            places = self._places[company]
            places.popleft()
            if places:
                heapq.heapreplace(self._next, (turn + (company is not None), places[0], company))
            else:
                heapq.heappop(self._next)
        return taken

    def next_day(self) -> None:
        """No company has used up anything."""
        for each in self._full:
            heapq.heappush(self._next, each)
        self._full.clear()


@dataclass
class Batch:
    """Emails of one step that fall due together. `waits` says of each split whether these leads wait for winners."""

    revision: int
    step: int
    count: int
    waits: tuple[tuple[str, bool], ...] = ()
    companies: Companies | None = None


@dataclass(eq=False)
class Gate:
    """Whether emails of a campaign may go to a zone. `opening` is the present or the next one; None: none comes."""

    campaign: PlannedCampaign
    lead_zone: str
    opening: Opening | None
    is_open: bool = False
    is_watched: bool = False
    """Whether something waits, so that its opening or closing is an event of the simulation."""
    lanes: list[Lane] = field(default_factory=list)

    @property
    def something_waits(self) -> bool:
        return any(lane.waits for lane in self.lanes)

    def look(self, now: dt.datetime) -> dt.datetime | None:
        """Is it open now? Returns when that changes; None: never."""
        calendar = self.campaign.calendar
        if calendar is not None and self.opening is not None and self.opening.closes_at <= now:
            self.opening = calendar.opening_from(self.lead_zone, now)
        self.is_open = self.opening is not None and now in self.opening
        if self.opening is None or calendar is None:
            return None
        return self.opening.closes_at if self.is_open else self.opening.opens_at


@dataclass(eq=False)
class Lane:
    """Emails of a campaign to leads of one zone, from one sender."""

    gate: Gate
    sender_id: uuid.UUID | None
    ready: dict[Kind, int] = field(default_factory=lambda: {False: 0, True: 0})
    offered: dict[Kind, int] = field(default_factory=lambda: {False: 0, True: 0})
    """What the simulation counts as ready to go now."""
    is_exhausted: bool = False
    """Whether its first steps wait for the next day, as all companies have used up their cap."""
    _later: list[tuple[dt.datetime, int, int, Batch]] = field(default_factory=list)
    _due: dict[Kind, deque[Batch]] = field(default_factory=lambda: {False: deque(), True: deque()})
    _split: Counter[str] = field(default_factory=Counter)
    _order: Iterator[int] = field(default_factory=itertools.count)

    @property
    def campaign(self) -> PlannedCampaign:
        return self.gate.campaign

    @property
    def waits(self) -> bool:
        return self.ready[False] + self.ready[True] > 0

    def is_busy(self, until: dt.datetime) -> bool:
        """Whether something is due before then."""
        return self.waits or bool(self._later and self._later[0][0] < until)

    def put(self, at: dt.datetime, batch: Batch) -> None:
        """Let these fall due then. Of what falls due together, the earlier step comes first, as in the ledger."""
        heapq.heappush(self._later, (at, batch.step, next(self._order), batch))

    def move_to(self, now: dt.datetime) -> None:
        """What is due by now is ready."""
        while self._later and self._later[0][0] <= now:
            *_, batch = heapq.heappop(self._later)
            kind = batch.step > self.campaign.steps[batch.revision][0].number
            self._due[kind].append(batch)
            self.ready[kind] += batch.count
            self.is_exhausted = self.is_exhausted and kind

    def next_day(self) -> None:
        """No company has used up its cap."""
        self.is_exhausted = False
        for batch in self._due[False]:
            if batch.companies is not None:
                batch.companies.next_day()

    def take(self, kind: Kind, count: int, used_by_company: Counter[int | None]) -> list[Batch]:
        """Take the emails that have been due for the longest. With a cap for each company there may be fewer."""
        taken, passed_over = list[Batch](), deque[Batch]()
        due, cap = self._due[kind], self.campaign.new_leads_per_company_per_day
        while count and due:
            batch = due.popleft()
            part = min(count, batch.count)
            if batch.companies is not None and cap is not None:
                part = batch.companies.take(part, used_by_company, cap)
            if part:
                taken.append(replace(batch, count=part, companies=None))
            count -= part
            batch.count -= part
            self.ready[kind] -= part
            if batch.count:
                (due.appendleft if not count else passed_over.append)(batch)
        due.extendleft(reversed(passed_over))
        self.is_exhausted = self.is_exhausted or count > 0
        return taken

    def following(self, sent: Batch, now: dt.datetime) -> list[tuple[dt.datetime, Batch]]:
        """When the leads that have just got an email get the next one."""
        step = next((each for each in self.campaign.steps[sent.revision] if each.number > sent.step), None)
        if step is None:
            return []
        # It has gone before the minute ends in which it could go.
        sent_at = minute_of(now) + TICK
        at = sent_at + step.delay
        if step.business_days is not None and self.campaign.calendar is not None:
            at = self.campaign.calendar.after(self.gate.lead_zone, sent_at, step.business_days)
        return self.split(step, at, Batch(sent.revision, step.number, sent.count, sent.waits))

    def split(self, step: PlannedStep, at: dt.datetime, batch: Batch) -> list[tuple[dt.datetime, Batch]]:
        """Part the leads that wait for the winner of a step from those that test its variants."""
        winner = step.winner
        if winner is None:
            return [(at, batch)]
        later = max(at, winner.decide_at)
        known = dict(batch.waits).get(winner.split)
        if known is not None:
            return [(later if known else at, batch)]
        before = self._split[winner.split] * winner.test_share // 100
        self._split[winner.split] += batch.count
        tested = self._split[winner.split] * winner.test_share // 100 - before
        tests = replace(batch, count=tested, waits=(*batch.waits, (winner.split, False)))
        waiting = replace(batch, count=batch.count - tested, waits=(*batch.waits, (winner.split, True)))
        return [(when, each) for when, each in ((at, tests), (later, waiting)) if each.count]
