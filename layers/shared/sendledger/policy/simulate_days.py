"""What would go out on which day: counts of waiting emails in, emails by day, step and sender out. Pure.

Emails that wait for the same thing are one number: a million of them cost no more than ten. Time goes from one event to
the next: an email falls due, a lane opens, a day begins. Where a rate limits, it goes in `STEP`s.
"""

from __future__ import annotations

import datetime as dt
import heapq
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from zoneinfo import ZoneInfo

from sendledger.core.vocabulary import Bottleneck
from sendledger.policy.business_days import Calendar
from sendledger.policy.caps import Ramp, SendingDay, Use, merged, released, sending_day
from sendledger.policy.openings import Opening

STEP = dt.timedelta(minutes=30)
"""How long an instant of the simulation lasts where a rate or a quota limits."""

TICK = dt.timedelta(minutes=1)
"""How long after it could go an email has gone: what follows on an opening comes after the same one of another day."""

LONGEST = dt.timedelta(days=400)
_DAY = dt.timedelta(days=1)
_ALWAYS = Opening(dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))
_Key = TypeVar("_Key", bound=Hashable)
Kind = bool
"""Whether a step is a later one."""
StepKey = tuple[int, int]  # a revision and a step of it


@dataclass(frozen=True)
class PlannedStep:
    """A step of a campaign, and how long it waits after the one before."""

    number: int
    delay: dt.timedelta
    business_days: int | None = None


@dataclass(frozen=True)
class PlannedCampaign:
    """What a campaign sends by revision, in the order of the steps, and when it may; no calendar: at any time."""

    id: uuid.UUID
    steps: Mapping[int, Sequence[PlannedStep]]
    calendar: Calendar | None = None
    new_leads_per_day: int | None = None


@dataclass
class PlannedSender:
    """A sender address; `cap` is what it may send today (None: no limit), `used` what it has sent today."""

    cap: int | None = None
    used: Counter[uuid.UUID] = field(default_factory=Counter)
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    daily_cap: int | None = None
    ramp: Ramp | None = None
    spread: bool = False

    def left(self, hours: Sequence[Opening], now: dt.datetime) -> int | None:
        """What it may send now; `hours` are the times of today at which it has something to send."""
        if self.cap is None:
            return None
        use = Use(self.cap, self.used.total(), self.first, self.last, self.used)
        return released(use, hours, now) if self.spread else max(0, use.left)

    @property
    def is_spreading(self) -> bool:
        """Whether it keeps back what it may send later today."""
        return self.spread and self.cap is not None and self.used.total() < self.cap

    def note(self, campaign_id: uuid.UUID, count: int, now: dt.datetime) -> None:
        """So many emails of a campaign have gone."""
        self.used[campaign_id] += count
        if count:
            self.first, self.last = self.first or now, now

    def next_day(self) -> None:
        """Begin a day. A day on which it has sent counts for its ramp."""
        if self.ramp is not None and self.cap is not None and self.used.total():
            grown = min(self.ramp.ceiling, self.cap + self.ramp.step)
            self.cap = grown if self.daily_cap is None else min(self.daily_cap, grown)
        self.used.clear()
        self.first = self.last = None


@dataclass
class SesLimits:
    """What SES takes: emails a second, and in 24 hours (None: no limit), of which some are used."""

    rate: float
    per_day: float | None = None
    used: float = 0.0


@dataclass(frozen=True)
class WaitingLeads:
    """Leads of a campaign whose next step is the same, due at the same time, from the same sender."""

    campaign_id: uuid.UUID
    lead_zone: str
    sender_id: uuid.UUID | None
    step: int
    due: dt.datetime
    count: int
    revision: int = 1


@dataclass
class PlannedDay:
    """What goes out on a day, by step and sender, and what keeps more from going out on it."""

    date: dt.date
    emails: Counter[tuple[int, uuid.UUID | None]] = field(default_factory=Counter)
    bottleneck: Bottleneck | None = None


@dataclass(frozen=True)
class Forecast:
    """The days until the last email of a campaign. `finished_at` is None if there are more days than are looked at."""

    days: list[PlannedDay]
    finished_at: dt.datetime | None


@dataclass
class _Lane:
    campaign: PlannedCampaign
    lead_zone: str
    sender_id: uuid.UUID | None
    opening: Opening | None
    later: list[tuple[dt.datetime, StepKey, int]] = field(default_factory=list)
    """When so many emails of a step fall due."""
    due: dict[Kind, deque[tuple[StepKey, int]]] = field(default_factory=lambda: {False: deque(), True: deque()})
    ready: dict[Kind, int] = field(default_factory=lambda: {False: 0, True: 0})
    hours: tuple[SendingDay, list[Opening]] | None = None

    @property
    def waits(self) -> bool:
        return self.ready[False] + self.ready[True] > 0

    def move_to(self, now: dt.datetime) -> None:
        while self.later and self.later[0][0] <= now:
            _, step, count = heapq.heappop(self.later)
            kind = step[1] > self.campaign.steps[step[0]][0].number
            self.due[kind].append((step, count))
            self.ready[kind] += count
        if self.opening is not None and self.opening.closes_at <= now:
            assert self.campaign.calendar is not None  # noqa: S101 (for the type checker; without one it never closes)
            self.opening = self.campaign.calendar.opening_from(self.lead_zone, now)

    def is_open(self, now: dt.datetime) -> bool:
        return self.opening is not None and now in self.opening

    def hours_of(self, day: SendingDay) -> list[Opening]:
        """When it is open on a day; remembered for that day."""
        if self.hours is None or self.hours[0] != day:
            calendar, whole = self.campaign.calendar, (day.starts_at, day.ends_at)
            hours = calendar.openings(self.lead_zone, *whole) if calendar is not None else [Opening(*whole)]
            self.hours = day, hours
        return self.hours[1]

    def take(self, kind: Kind, count: int) -> Counter[StepKey]:
        """Take the emails that have been due for the longest; returns how many of each step."""
        taken: Counter[StepKey] = Counter()
        self.ready[kind] -= count
        while count:
            step, there = self.due[kind].popleft()
            taken[step] += min(there, count)
            if there > count:
                self.due[kind].appendleft((step, there - count))
            count -= min(there, count)
        return taken

    def plan_next(self, step: StepKey, count: int, now: dt.datetime) -> None:
        """The next step of those that have just got one."""
        following = next((each for each in self.campaign.steps[step[0]] if each.number > step[1]), None)
        if following is None:
            return
        sent_at = now + TICK
        at = sent_at + following.delay
        if following.business_days is not None and self.campaign.calendar is not None:
            at = self.campaign.calendar.after(self.lead_zone, sent_at, following.business_days)
        heapq.heappush(self.later, (at, (step[0], following.number), count))


def share(total: int, wanted: Mapping[_Key, int], had: Mapping[_Key, int]) -> dict[_Key, int]:
    """Divide a total so that those who have had least come first, and nobody gets more than is wanted."""
    given = dict.fromkeys(wanted, 0)
    total = min(total, sum(wanted.values()))
    while total > 0:
        open_ = [each for each in wanted if given[each] < wanted[each]]
        level = {each: had.get(each, 0) + given[each] for each in open_}
        lowest = min(level.values())
        first = sorted((each for each in open_ if level[each] == lowest), key=str)
        if total < len(first):
            given |= {each: given[each] + 1 for each in first[:total]}
            break
        above = min((value for value in level.values() if value > lowest), default=lowest + total)
        more = min(above - lowest, total // len(first), *(wanted[each] - given[each] for each in first))
        given |= {each: given[each] + more for each in first}
        total -= more * len(first)
    return given


class Simulation:
    """Lives through the days until the last email of one campaign, `target`, with the campaigns beside it."""

    def __init__(
        self,
        target: uuid.UUID,
        campaigns: Mapping[uuid.UUID, PlannedCampaign],
        senders: Mapping[uuid.UUID, PlannedSender],
        ses: SesLimits,
        now: dt.datetime,
        zone: ZoneInfo,
        new_leads: Mapping[uuid.UUID, int],
    ) -> None:
        """`zone` is that of the days; `new_leads` says how many got their first email today, by campaign."""
        self._target, self._campaigns, self._senders, self._ses = target, campaigns, senders, ses
        self._now, self._begin = now, now
        self._lanes: dict[tuple[uuid.UUID, str, uuid.UUID | None], _Lane] = {}
        self._of_sender = defaultdict[uuid.UUID | None, list[_Lane]](list)
        self._zone, self._today = zone, sending_day(now, zone)
        self._new_leads = Counter(new_leads)
        self._day = PlannedDay(self._today.date)
        self._days: list[PlannedDay] = []
        self._last: dt.datetime | None = None
        self._sent: deque[tuple[dt.datetime, float]] = deque([(now - STEP, ses.used)])
        self._reason: Bottleneck | None = None
        self._limits: set[Bottleneck] = set()

    def add(self, leads: WaitingLeads) -> bool:
        """Let these wait. False if their schedule never opens."""
        key = leads.campaign_id, leads.lead_zone, leads.sender_id
        if key not in self._lanes:
            campaign = self._campaigns[leads.campaign_id]
            calendar = campaign.calendar
            opening = calendar.opening_from(leads.lead_zone, self._now) if calendar is not None else _ALWAYS
            self._lanes[key] = _Lane(campaign, leads.lead_zone, leads.sender_id, opening)
            self._of_sender[leads.sender_id].append(self._lanes[key])
        lane = self._lanes[key]
        if lane.opening is not None:
            heapq.heappush(lane.later, (leads.due, (leads.revision, leads.step), leads.count))
        return lane.opening is not None

    def run(self) -> Forecast:
        """Until the last email of the campaign, or for `LONGEST`."""
        while self._is_unfinished():
            for lane in self._lanes.values():
                lane.move_to(self._now)
            self._send()
            if not self._is_unfinished():
                break
            following = self._next()
            if following is None or following - self._begin > LONGEST:
                self._end_days(self._begin + LONGEST)
                return Forecast(self._days, None)
            self._end_days(following)
            self._now = following
        self._days.append(self._day)
        return Forecast(self._days, self._last)

    def _is_unfinished(self) -> bool:
        return any(lane.waits or lane.later for lane in self._lanes.values() if lane.campaign.id == self._target)

    def _send(self) -> None:
        self._limits = set()
        grants = self._grants()
        wanted = Counter[uuid.UUID]()
        for (campaign_id, _, _), count in grants.items():
            wanted[campaign_id] += count
        allowed = self._allowed_by_ses(wanted)
        for (campaign_id, sender_id, kind), granted in grants.items():
            count = min(granted, allowed[campaign_id])
            allowed[campaign_id] -= count
            if not kind:
                self._new_leads[campaign_id] -= granted - count
            self._send_from(campaign_id, sender_id, kind, count)
        if self._limits:
            # What keeps emails back in open lanes says more than that others are closed.
            self._reason = max(self._limits, key=lambda limit: limit is not Bottleneck.WINDOW)
        elif wanted[self._target]:
            self._reason = None

    def _grants(self) -> dict[tuple[uuid.UUID, uuid.UUID | None, Kind], int]:
        """What senders may send of what is due in open lanes, later steps first."""
        due: dict[tuple[uuid.UUID | None, Kind], Counter[uuid.UUID]] = defaultdict(Counter)
        for lane in self._lanes.values():
            if lane.waits and lane.is_open(self._now):
                for kind in (kind for kind in (True, False) if lane.ready[kind]):
                    due[lane.sender_id, kind][lane.campaign.id] += lane.ready[kind]
            elif lane.waits and lane.campaign.id == self._target:
                self._limits.add(Bottleneck.WINDOW)
        grants: dict[tuple[uuid.UUID, uuid.UUID | None, Kind], int] = {}
        for sender_id in {sender_id for sender_id, _ in due}:
            sender = self._senders.get(sender_id) if sender_id is not None else None
            left = sender.left(self._hours(sender_id), self._now) if sender is not None else None
            had = Counter(sender.used) if sender is not None else Counter[uuid.UUID]()
            for kind in (True, False):
                wanted = due[sender_id, kind] if kind else self._capped_by_new_leads(due[sender_id, kind])
                given = share(wanted.total() if left is None else left, wanted, had)
                if given.get(self._target, 0) < wanted[self._target]:
                    self._limits.add(Bottleneck.SENDER_CAP)
                left = None if left is None else left - sum(given.values())
                if not kind:
                    self._new_leads.update(given)
                had.update(given)
                grants |= {(campaign_id, sender_id, kind): count for campaign_id, count in given.items() if count}
        # Later steps of all senders go before first ones where the rate is short.
        return dict(sorted(grants.items(), key=lambda grant: not grant[0][2]))

    def _capped_by_new_leads(self, wanted: Counter[uuid.UUID]) -> Counter[uuid.UUID]:
        capped = Counter(wanted)
        for campaign_id, count in wanted.items():
            most = self._campaigns[campaign_id].new_leads_per_day
            if most is not None and count > (left := max(0, most - self._new_leads[campaign_id])):
                capped[campaign_id] = left
                if campaign_id == self._target:
                    self._limits.add(Bottleneck.NEW_LEADS_PER_DAY)
        return capped

    def _hours(self, sender_id: uuid.UUID | None) -> list[Opening]:
        """The times of today at which a sender has something to send."""
        ends_at, lanes = self._today.ends_at, self._of_sender[sender_id]
        busy = (lane for lane in lanes if lane.waits or (lane.later and lane.later[0][0] < ends_at))
        return merged({each for lane in busy for each in lane.hours_of(self._today)}, self._today)

    def _allowed_by_ses(self, wanted: Counter[uuid.UUID]) -> dict[uuid.UUID, int]:
        while self._sent and self._sent[0][0] <= self._now - _DAY:
            self._sent.popleft()
        lately = sum(count for moment, count in self._sent if moment > self._now - STEP)
        capacity = max(0, int(self._ses.rate * STEP.total_seconds() - lately))
        limit = Bottleneck.SES_RATE
        if self._ses.per_day is not None:
            left = int(self._ses.per_day - sum(count for _, count in self._sent))
            if left < capacity:
                capacity, limit = max(0, left), Bottleneck.SES_DAILY_QUOTA
        allowed = share(capacity, wanted, {})
        if allowed.get(self._target, 0) < wanted[self._target]:
            self._limits.add(limit)
        if total := sum(allowed.values()):
            self._sent.append((self._now, total))
        return allowed

    def _send_from(self, campaign_id: uuid.UUID, sender_id: uuid.UUID | None, kind: Kind, count: int) -> None:
        lanes = {
            lane.lead_zone: lane
            for lane in self._of_sender[sender_id]
            if lane.campaign.id == campaign_id and lane.is_open(self._now)
        }
        given = share(count, {key: lane.ready[kind] for key, lane in lanes.items()}, {})
        for key, lane in lanes.items():
            for step, taken in lane.take(kind, given[key]).items():
                lane.plan_next(step, taken, self._now)
                if campaign_id == self._target:
                    self._day.emails[step[1], sender_id] += taken
                    self._last = self._now
        if sender_id is not None and sender_id in self._senders:
            self._senders[sender_id].note(campaign_id, count, self._now)

    def _next(self) -> dt.datetime | None:
        """The next instant at which something may change. None: never."""
        moments = list[dt.datetime]()
        by_ses = bool(self._limits & {Bottleneck.SES_RATE, Bottleneck.SES_DAILY_QUOTA})
        for lane in self._lanes.values():
            if lane.later:
                moments.append(lane.later[0][0])
            if not lane.waits or lane.opening is None:
                continue
            if not lane.is_open(self._now):
                moments.append(lane.opening.opens_at)
                continue
            moments += [self._today.ends_at, lane.opening.closes_at]
            sender = self._senders.get(lane.sender_id) if lane.sender_id is not None else None
            if by_ses or (sender is not None and sender.is_spreading):
                moments.append(self._now + STEP)
        return max(min(moments), self._now + dt.timedelta(seconds=1)) if moments else None

    def _end_days(self, until: dt.datetime) -> None:
        """End each day that is over by then."""
        while self._today.ends_at <= until:
            if any(lane.waits for lane in self._lanes.values() if lane.campaign.id == self._target):
                self._day.bottleneck = self._reason
            self._days.append(self._day)
            self._today = sending_day(self._today.ends_at, self._zone)
            self._day = PlannedDay(self._today.date)
            self._new_leads.clear()
            for sender in self._senders.values():
                sender.next_day()
            self._reason = Bottleneck.WINDOW if Bottleneck.WINDOW in self._limits else None
