"""The input and the output of the simulation of the days ahead. Pure.

Emails that wait for the same thing are one number: a million of them cost no more than ten.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sendledger.core.vocabulary import Bottleneck
from sendledger.policy.business_days import Calendar
from sendledger.policy.caps import Ramp, Use, next_release, released
from sendledger.policy.openings import Opening


@dataclass(frozen=True)
class PlannedWinner:
    """The decision that a part of a step's emails waits for: all but `test_share` percent.

    A lead waits in all steps of one `split`, or in none of them.
    """

    decide_at: dt.datetime
    test_share: int
    split: str


@dataclass(frozen=True)
class PlannedStep:
    """A step of a campaign, and how long it waits after the one before."""

    number: int
    delay: dt.timedelta
    business_days: int | None = None
    winner: PlannedWinner | None = None


@dataclass(frozen=True)
class PlannedCampaign:
    """What a campaign sends by revision, in the order of the steps, and when it may; no calendar: at any time."""

    id: uuid.UUID
    steps: Mapping[int, Sequence[PlannedStep]]
    calendar: Calendar | None = None
    new_leads_per_day: int | None = None
    new_leads_per_company_per_day: int | None = None
    starts_at: dt.datetime | None = None
    """None: it runs."""


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
        use = self._use
        return released(use, hours, now) if self.spread else max(0, use.left)

    def next_release(self, hours: Sequence[Opening], now: dt.datetime) -> dt.datetime:
        """When it may send the next email, if it `is_spreading`."""
        return next_release(self._use, hours, now)

    @property
    def _use(self) -> Use:
        return Use(self.cap, self.used.total(), self.first, self.last)

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
class NewLeadsOfDay:
    """How many leads of a campaign have got their first email on a day. Those of no company count as None."""

    by_sender: Counter[uuid.UUID | None] = field(default_factory=Counter)
    by_company: Counter[int | None] = field(default_factory=Counter)

    def next_day(self) -> None:
        """Nobody has got one."""
        self.by_sender.clear()
        self.by_company.clear()


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
    companies: Sequence[int | None] = ()
    """The company of each lead, where a cap for each company counts. None: of no company."""
    waits: bool | None = None
    """Whether they wait for the winner of their step, if it has one; None: a part of them does."""
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
    is_cut: bool = False
    """Whether it ends before that, as there are too many lanes."""
