"""What would go out on which day: counts of waiting emails in, emails by day, step and sender out. Pure.

Time goes from one event to the next: emails fall due, a schedule opens or closes, a sender that spreads its cap may
send the next email, a day begins. Only what an event changes is looked at. Where a rate limits, it goes in `STEP`s.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from sendledger.core.vocabulary import Bottleneck
from sendledger.policy.caps import merged, place_in_turn, sending_day, share, zones_in_turn
from sendledger.policy.openings import Opening
from sendledger.policy.planned_campaigns import (
    Forecast,
    NewLeadsOfDay,
    PlannedCampaign,
    PlannedDay,
    PlannedSender,
    SesLimits,
    WaitingLeads,
)
from sendledger.policy.simulated_lanes import ALWAYS, Batch, Companies, Gate, Kind, Lane

STEP = dt.timedelta(minutes=30)
"""How long an instant of the simulation lasts where a rate or a quota limits."""

LONGEST = dt.timedelta(days=400)
MOST_LOOKS = 4_000_000
"""How often lanes are looked at before the simulation gives up, so that its cost has a limit: some ten seconds."""

EXACT_LOOKS = 100_000
"""After so many looks, a sender that spreads its cap goes in `STEP`s, too: it may have a thousand emails a day."""

_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)
_Senders = defaultdict[uuid.UUID | None, dict[Kind, Counter[uuid.UUID]]]


class Simulation:
    """Simulates the days until the last email of one campaign, `target`, with the campaigns beside it."""

    def __init__(
        self,
        target: uuid.UUID,
        campaigns: Mapping[uuid.UUID, PlannedCampaign],
        senders: Mapping[uuid.UUID, PlannedSender],
        ses: SesLimits,
        now: dt.datetime,
        zone: ZoneInfo,
        new_leads: Mapping[uuid.UUID, NewLeadsOfDay],
    ) -> None:
        """`zone` is that of the days; `new_leads` are those of today, of each campaign."""
        self._target, self._campaigns, self._senders, self._ses = target, campaigns, senders, ses
        self._now, self._begin = now, now
        self._spreading = {id_ for id_, sender in senders.items() if sender.spread}
        self._zone, self._today = zone, sending_day(now, zone)
        self._gates: dict[tuple[uuid.UUID, str], Gate] = {}
        self._lanes: dict[tuple[Gate, uuid.UUID | None], Lane] = {}
        self._of_sender = defaultdict[uuid.UUID | None, list[Lane]](list)
        self._of_target: list[Lane] = []
        self._ready: _Senders = defaultdict(lambda: {True: Counter(), False: Counter()})
        self._open = defaultdict[tuple[uuid.UUID, uuid.UUID | None], dict[str, Lane]](dict)
        self._hours: dict[uuid.UUID | None, list[Opening]] = {}
        self._new_leads = new_leads
        self._events: list[tuple[dt.datetime, int, Gate | Lane]] = []
        self._order = itertools.count()
        self._left = self._looks = 0
        self._day = PlannedDay(self._today.date)
        self._days: list[PlannedDay] = []
        self._last: dt.datetime | None = None
        self._sent: deque[tuple[dt.datetime, float]] = deque([(now - STEP, ses.used)])
        self._reason: Bottleneck | None = None
        self._limits: set[Bottleneck] = set()
        self._more_may_go = False

    def add(self, leads: WaitingLeads) -> bool:
        """Let these wait. False if their schedule never opens."""
        lane = self._lane(leads)
        if lane.gate.opening is None:
            return False
        step = next(each for each in lane.campaign.steps[leads.revision] if each.number == leads.step)
        known = ((step.winner.split, leads.waits),) if step.winner is not None and leads.waits is not None else ()
        done = 0
        for at, batch in lane.split(step, leads.due, Batch(leads.revision, leads.step, leads.count, known)):
            if leads.companies:
                batch.companies = Companies(leads.companies[done : (done := done + batch.count)])
            self._put(lane, at, batch)
        return True

    def _lane(self, leads: WaitingLeads) -> Lane:
        place = leads.campaign_id, leads.lead_zone
        if place not in self._gates:
            campaign = self._campaigns[leads.campaign_id]
            calendar = campaign.calendar
            opening = calendar.opening_from(leads.lead_zone, self._now) if calendar is not None else ALWAYS
            self._gates[place] = Gate(campaign, leads.lead_zone, opening)
        gate = self._gates[place]
        if (gate, leads.sender_id) not in self._lanes:
            lane = self._lanes[gate, leads.sender_id] = Lane(gate, leads.sender_id)
            gate.lanes.append(lane)
            self._of_sender[leads.sender_id].append(lane)
            if leads.campaign_id == self._target:
                self._of_target.append(lane)
            if gate.campaign.starts_at is not None:
                self._remind(gate.campaign.starts_at, lane)  # then it counts for the hours of its sender
        return self._lanes[gate, leads.sender_id]

    def _put(self, lane: Lane, at: dt.datetime, batch: Batch) -> None:
        lane.put(at, batch)
        self._remind(at, lane)
        if lane.campaign.id == self._target:
            self._left += batch.count
        if at < self._today.ends_at:
            self._hours.pop(lane.sender_id, None)

    def _remind(self, at: dt.datetime, of: Gate | Lane) -> None:
        heapq.heappush(self._events, (at, next(self._order), of))

    def run(self) -> Forecast:
        """Until the last email of the campaign, for `LONGEST`, or as far as `MOST_LOOKS` go."""
        while self._left:
            self._looks += 1 + len(self._lanes)
            if self._looks > MOST_LOOKS:
                return Forecast(self._days, None, is_cut=True)
            self._advance()
            while self._send():
                pass
            if not self._left:
                break
            following = self._next()
            if following is None or following - self._begin > LONGEST:
                self._end_days(self._begin + LONGEST)
                return Forecast(self._days, None)
            self._end_days(following)
            self._now = following
        self._days.append(self._day)
        return Forecast(self._days, self._last)

    def _advance(self) -> None:
        """Let everything happen that is due by now."""
        while self._events and self._events[0][0] <= self._now:
            _, _, what = heapq.heappop(self._events)
            if isinstance(what, Gate):
                gate, lanes = what, what.lanes
            else:
                gate, lanes = what.gate, [what]
                if not what.waits:
                    self._hours.pop(what.sender_id, None)
                what.move_to(self._now)
            if what is gate or not gate.is_watched:
                at = gate.look(self._now)
                gate.is_watched = gate.something_waits and at is not None
                if gate.is_watched and at is not None:
                    self._remind(at, gate)
            for lane in lanes:
                self._offer(lane)

    def _offer(self, lane: Lane) -> None:
        """Count what of a lane may go now."""
        campaign_id, sender_id = lane.campaign.id, lane.sender_id
        for kind in (True, False):
            count = lane.ready[kind] if lane.gate.is_open and (kind or not lane.is_exhausted) else 0
            if change := count - lane.offered[kind]:
                ready = self._ready[sender_id][kind]
                ready[campaign_id] += change
                if not ready[campaign_id]:
                    del ready[campaign_id]
                lane.offered[kind] = count
        lanes = self._open[campaign_id, sender_id]
        if lane.offered[True] or lane.offered[False]:
            lanes[lane.gate.lead_zone] = lane
        else:
            lanes.pop(lane.gate.lead_zone, None)

    def _send(self) -> bool:
        """Send what may go now. Returns whether more may go now: some was kept back that leaves room for others, by
        companies or by a sender with its part of the new leads, or the hours over which a cap is spread have changed.
        """
        self._limits, self._more_may_go = set(), False
        grants = self._grants()
        wanted = Counter[uuid.UUID]()
        for (campaign_id, _, _), count in grants.items():
            wanted[campaign_id] += count
        allowed = self._allowed_by_ses(wanted)
        is_short, total = False, 0
        for (campaign_id, sender_id, kind), granted in grants.items():
            count = min(granted, allowed[campaign_id])
            allowed[campaign_id] -= count
            sent = self._send_from(campaign_id, sender_id, kind, count)
            is_short, total = is_short or sent < count, total + sent
        if self._limits:
            # What keeps emails back in open lanes says more than that others are closed.
            first = list(Bottleneck).index
            self._reason = min(self._limits, key=lambda limit: (limit is Bottleneck.WINDOW, first(limit)))
        elif wanted[self._target]:
            self._reason = None
        return is_short or (self._more_may_go and total > 0)

    def _grants(self) -> dict[tuple[uuid.UUID, uuid.UUID | None, Kind], int]:
        """What senders may send of what is ready, later steps first."""
        if any(lane.waits and not lane.gate.is_open for lane in self._of_target):
            self._limits.add(Bottleneck.WINDOW)
        if any(lane.is_exhausted and lane.ready[False] and lane.gate.is_open for lane in self._of_target):
            self._limits.add(Bottleneck.NEW_LEADS_PER_COMPANY_PER_DAY)
        grants: dict[tuple[uuid.UUID, uuid.UUID | None, Kind], int] = {}
        budgets = {id_: self._left_of(id_) for id_, ready in self._ready.items() if ready[True] or ready[False]}
        new_leads = self._new_leads_by_sender(budgets)
        for sender_id, left in budgets.items():
            ready, sender = self._ready[sender_id], self._senders.get(sender_id) if sender_id is not None else None
            had = Counter(sender.used) if sender is not None else Counter[uuid.UUID]()
            for kind in (True, False):
                wanted = ready[kind] if kind else new_leads[sender_id]
                given = share(wanted.total() if left is None else left, wanted, had, self._turn)
                if given.get(self._target, 0) < wanted[self._target]:
                    self._limits.add(Bottleneck.SENDER_CAP)
                left = None if left is None else left - sum(given.values())
                had.update(given)
                grants |= {(campaign_id, sender_id, kind): count for campaign_id, count in given.items() if count}
        # Later steps of all senders go before first ones where the rate is short.
        return dict(sorted(grants.items(), key=lambda grant: not grant[0][2]))

    def _turn(self, whose: uuid.UUID | None) -> str:
        """Which campaign or sender gets today what cannot be divided."""
        return place_in_turn(whose, self._today.date)

    def _left_of(self, sender_id: uuid.UUID | None) -> int | None:
        """What a sender may send now; None: all."""
        sender = self._senders.get(sender_id) if sender_id is not None else None
        if sender is None:
            return None
        return sender.left(self._hours_of(sender_id) if sender.is_spreading else [], self._now)

    def _new_leads_by_sender(
        self, budgets: Mapping[uuid.UUID | None, int | None]
    ) -> dict[uuid.UUID | None, Counter[uuid.UUID]]:
        """The first steps that are ready, by sender and campaign. The cap of a campaign is divided over its senders."""
        found = {sender_id: Counter(self._ready[sender_id][False]) for sender_id in budgets}
        for campaign_id in {id_ for ready in found.values() for id_ in ready}:
            most = self._campaigns[campaign_id].new_leads_per_day
            if most is None:
                continue
            had = self._new_leads[campaign_id].by_sender
            left = max(0, most - had.total())
            wanted = {
                id_: own[campaign_id] if (budget := budgets[id_]) is None else min(own[campaign_id], budget)
                for id_, own in found.items()
                if own[campaign_id]
            }
            if sum(wanted.values()) > left:
                if campaign_id == self._target:
                    self._limits.add(Bottleneck.NEW_LEADS_PER_DAY)
                self._more_may_go = self._more_may_go or len(wanted) > 1
                for id_, part in share(left, wanted, had, self._turn).items():
                    found[id_][campaign_id] = part
        return found

    def _hours_of(self, sender_id: uuid.UUID | None) -> list[Opening]:
        """The times of today at which a sender has something to send."""
        if sender_id not in self._hours:
            today, found = self._today, set[Opening]()
            gates = {lane.gate for lane in self._of_sender[sender_id] if lane.is_busy(today.ends_at)}
            for gate in gates:
                calendar, starts_at = gate.campaign.calendar, gate.campaign.starts_at
                if starts_at is not None and starts_at > self._now:
                    continue
                whole = [Opening(today.starts_at, today.ends_at)]
                found |= set(
                    calendar.openings(gate.lead_zone, today.starts_at, today.ends_at) if calendar is not None else whole
                )
            self._hours[sender_id] = merged(found, today)
        return self._hours[sender_id]

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
        allowed = share(capacity, wanted, {}, self._turn)
        if allowed.get(self._target, 0) < wanted[self._target]:
            self._limits.add(limit)
        return allowed

    def _sent_of(self, campaign_id: uuid.UUID, sender_id: uuid.UUID | None, kind: Kind) -> int:
        """What a sender has sent of a campaign today, on which the turns of zones go on: new leads, where their number
        has a cap, or all emails, where the sender has one."""
        if not kind and self._campaigns[campaign_id].new_leads_per_day is not None:
            return self._new_leads[campaign_id].by_sender[sender_id]
        sender = self._senders.get(sender_id) if sender_id is not None else None
        return sender.used[campaign_id] if sender is not None and sender.cap is not None else 0

    def _send_from(self, campaign_id: uuid.UUID, sender_id: uuid.UUID | None, kind: Kind, count: int) -> int:
        lanes = dict(self._open[campaign_id, sender_id])
        sent, new_leads = 0, self._new_leads[campaign_id]
        wanted = {zone: lane.offered[kind] for zone, lane in lanes.items() if lane.offered[kind]}
        turns = zones_in_turn(wanted, self._today.date, self._sent_of(campaign_id, sender_id, kind))
        for zone, part in share(count, wanted, {}, turns.__getitem__).items():
            lane = lanes[zone]
            if not part:
                continue
            for batch in lane.take(kind, part, new_leads.by_company):
                sent += batch.count
                for at, next_one in lane.following(batch, self._now):
                    self._put(lane, at, next_one)
                if campaign_id == self._target:
                    self._day.emails[batch.step, sender_id] += batch.count
                    self._left -= batch.count
                    self._last = self._now
            self._offer(lane)
            if not lane.waits:
                self._hours.pop(sender_id, None)
                self._more_may_go = self._more_may_go or sender_id in self._spreading
        if not kind:
            new_leads.by_sender[sender_id] += sent
        if sent and self._sent and self._sent[-1][0] == self._now:
            sent_before = self._sent.pop()[1]
            self._sent.append((self._now, sent_before + sent))
        elif sent:
            self._sent.append((self._now, sent))
        if sender_id is not None and sender_id in self._senders:
            self._senders[sender_id].note(campaign_id, sent, self._now)
        return sent

    def _next(self) -> dt.datetime | None:
        """The next instant at which something may change. None: never."""
        moments = [self._events[0][0]] if self._events else []
        by_ses = bool(self._limits & {Bottleneck.SES_RATE, Bottleneck.SES_DAILY_QUOTA})
        waiting = [sender_id for sender_id, ready in self._ready.items() if ready[True] or ready[False]]
        if waiting or any(lane.is_exhausted for lane in self._lanes.values()):
            moments.append(self._today.ends_at)
        if waiting and by_ses:
            moments.append(self._now + STEP)
        for sender_id in waiting:
            sender = self._senders.get(sender_id) if sender_id is not None else None
            if sender is not None and sender.is_spreading:
                hours = self._hours_of(sender_id)
                release = sender.next_release(hours, self._now)
                if self._looks < EXACT_LOOKS and release > self._now:
                    moments.append(release)
                    continue
                # Smaller steps at the end of a day, where the rest of its cap is released.
                is_early = bool(hours) and self._now < hours[-1].closes_at - 4 * STEP
                moments.append(self._now + (2 * STEP if is_early else STEP))
        return max(min(moments), self._now + _SECOND) if moments else None

    def _end_days(self, until: dt.datetime) -> None:
        """End each day that is over by then."""
        while self._today.ends_at <= until:
            if any(lane.waits for lane in self._of_target):
                self._day.bottleneck = self._reason
            self._days.append(self._day)
            self._today = sending_day(self._today.ends_at, self._zone)
            self._day = PlannedDay(self._today.date)
            self._hours.clear()
            for new_leads in self._new_leads.values():
                new_leads.next_day()
            for sender in self._senders.values():
                sender.next_day()
            for lane in self._lanes.values():
                lane.next_day()
                self._offer(lane)
            self._reason = Bottleneck.WINDOW if Bottleneck.WINDOW in self._limits else None
