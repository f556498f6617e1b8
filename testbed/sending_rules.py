"""The sending policy as a second program works it out, from what SES accepted.

A test tells it what schedules, senders and campaigns say now, and after each step which emails SES has accepted since.
It raises AssertionError for an email that went at a closed hour, above a cap, too early or from another sender.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

FREE_MAIL = "gmail.com"
"""Its users share no company."""

EVENING = 20
"""Before this hour of a day without closed hours, a sender that spreads its cap begins with one email."""


@dataclass
class ScheduleRules:
    """Open from the first to before the second whole hour of these days; Monday is 0."""

    time_zone: str
    goes_by_lead: bool
    hours: Mapping[int, Sequence[tuple[int, int]]]
    holidays: Sequence[dt.date] = ()

    def is_open(self, lead_zone: str | None, now: dt.datetime) -> bool:
        local = now.astimezone(ZoneInfo((self.goes_by_lead and lead_zone) or self.time_zone))
        is_within = any(first <= local.hour < past for first, past in self.hours.get(local.weekday(), ()))
        return is_within and local.date() not in self.holidays


@dataclass
class SenderRules:
    """What a sender may send; `ramp` is start, step and ceiling."""

    daily_cap: int | None = None
    ramp: tuple[int, int, int] | None = None
    spread: bool = False
    is_active: bool = True

    def cap(self, days_sent: int) -> int | None:
        """What it may send on a day, with the earlier days on which it sent."""
        caps = [] if self.daily_cap is None else [self.daily_cap]
        if self.ramp is not None:
            start, step, ceiling = self.ramp
            caps.append(min(ceiling, start + step * days_sent))
        return min(caps, default=None)


@dataclass
class CampaignRules:
    """What a campaign may send, and how long its steps wait after the one before. `senders` are addresses."""

    delays: Sequence[dt.timedelta]
    schedule: ScheduleRules | None = None
    senders: Sequence[str] = ()
    new_leads_per_day: int | None = None
    new_leads_per_company_per_day: int | None = None


@dataclass(frozen=True)
class Sent:
    """An email that SES has accepted, or may have. `sender` and `lead` are addresses."""

    campaign_id: str
    step: int
    sender: str
    lead: str
    at: dt.datetime
    until: dt.datetime
    """The clock goes on while a sender works: it went at `at` or later, at `until` at the latest."""
    by_hand: bool = False
    """An operator has sent it now: no cap and no schedule counts."""
    again: bool = False
    """An operator has let it go again, as its outcome was unknown."""

    @property
    def company(self) -> str:
        return self.lead.partition("@")[2]


@dataclass
class SendingRules:
    """All rules of a deployment whose days are those of `day_zone`."""

    day_zone: ZoneInfo
    campaigns: dict[str, CampaignRules] = field(default_factory=dict)
    senders: dict[str, SenderRules] = field(default_factory=dict)
    lead_zones: dict[str, str | None] = field(default_factory=dict)
    _sent: list[Sent] = field(default_factory=list)
    _days: set[tuple[str, dt.date]] = field(default_factory=set)

    def check(self, accepted: Iterable[Sent], unknown: Sequence[Sent]) -> None:
        """Look at what SES has accepted since the last check; `unknown` may have gone before, without an answer."""
        self._days |= {(each.sender, self._day(each.at)) for each in unknown}
        before = [*self._sent, *unknown]
        for each in accepted:
            today = self._day(each.at)
            counted = [other for other in (*self._sent, *unknown) if self._day(other.at) == today]
            self._check_lead(each)
            if not each.by_hand:
                rules = self.campaigns[each.campaign_id]
                zone = self.lead_zones[each.lead]
                assert rules.schedule is None or rules.schedule.is_open(zone, each.at), f"closed in {zone}: {each}"
                self._check_sender(each, counted, before)
                self._check_new_lead(each, rules, counted)
            self._sent.append(each)
            self._days.add((each.sender, today))

    def _day(self, instant: dt.datetime) -> dt.date:
        return instant.astimezone(self.day_zone).date()

    def _check_lead(self, each: Sent) -> None:
        """It keeps its sender, and no step comes earlier than its delay after the one before."""
        earlier = [other for other in self._sent if (other.campaign_id, other.lead) == (each.campaign_id, each.lead)]
        assert all(other.sender == each.sender for other in earlier), f"another sender: {earlier}, {each}"
        if earlier and not (each.by_hand or each.again):
            delay = self.campaigns[each.campaign_id].delays[each.step - 1]
            assert each.until >= max(other.at for other in earlier) + delay, f"too early: {earlier}, {each}"

    def _check_sender(self, each: Sent, counted: Sequence[Sent], before: Sequence[Sent]) -> None:
        chosen = self.campaigns[each.campaign_id].senders
        assert not chosen or each.sender in chosen, f"a sender of other campaigns: {each}"
        rules = self.senders.get(each.sender, SenderRules())
        assert rules.is_active, f"a disabled sender: {each}"
        cap = rules.cap(len({day for sender, day in self._days if sender == each.sender and day < self._day(each.at)}))
        if cap is None:
            return
        used = sum(other.sender == each.sender for other in counted)
        assert used < cap, f"more than the cap of {cap}: {each}"
        never_closed = not any(campaign.schedule for campaign in self.campaigns.values())
        if rules.spread and never_closed and each.at.astimezone(self.day_zone).hour < EVENING:
            begins = not any(other.sender == each.sender and other in counted for other in before)
            assert not (begins and used), f"a burst at the beginning of a day: {each}"

    def _check_new_lead(self, each: Sent, rules: CampaignRules, counted: Sequence[Sent]) -> None:
        if each.step > 1:
            return
        first = [other for other in counted if other.campaign_id == each.campaign_id and other.step == 1]
        if rules.new_leads_per_day is not None:
            assert len(first) < rules.new_leads_per_day, f"more new leads than {rules.new_leads_per_day}: {each}"
        if rules.new_leads_per_company_per_day is not None and each.company != FREE_MAIL:
            same = sum(other.company == each.company for other in first)
            most = rules.new_leads_per_company_per_day
            assert same < most, f"more new leads of a company than {most}: {each}"
