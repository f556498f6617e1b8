"""Time zones, from the tables of the package `tzdata`: names, rules, and the one zone of a country. No database.

The machine's own tables are not used: Lambda images may have none, and two machines could disagree.
https://data.iana.org/time-zones/theory.html
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from zoneinfo import ZoneInfo

from sendledger.core.vocabulary import TimeZoneSource

_TABLES = resources.files("tzdata")
_FOLDER = _TABLES / "zoneinfo"
_EVERYDAY_NAMES = {
    "GB": ("UK", "United Kingdom", "Great Britain", "England", "Scotland", "Wales", "Northern Ireland"),
    "AE": ("UAE",),
    "CI": ("Ivory Coast",),
    "CV": ("Cabo Verde",),
    "CZ": ("Czechia",),
    "KR": ("Republic of Korea",),
    "NL": ("The Netherlands", "Holland"),
    "TR": ("Turkey",),
    "VA": ("Vatican",),
    "VN": ("Viet Nam",),
}
"""English names that tzdata's table of countries writes differently. Their zones come from its tables."""


class UnknownTimeZone(ValueError):
    """There is no such time zone; the text says what is expected."""


@dataclass(frozen=True)
class LeadZone:
    """Where the clock of a lead is; without a name it is that of the sending schedule."""

    name: str | None
    source: TimeZoneSource


def zone_name(text: str) -> str:
    """The name as the IANA database spells it. Case does not matter, nor a blank in place of an underscore.

    Raises:
        UnknownTimeZone: the database does not have it.
    """
    # HubSpot exports america_slash_new_york.
    key = re.sub(r"\s+", "_", text.strip().lower().replace("_slash_", "/"))
    if (name := _names().get(key)) is None:
        raise UnknownTimeZone(
            f"{text.strip()[:50]!r} is no time zone of the IANA database; write one such as Europe/Berlin or"
            " America/New_York."
        )
    return name


@functools.cache
def zone(name: str) -> ZoneInfo:
    """The rules of a zone with this exact name.

    Raises:
        UnknownTimeZone: the database does not have it.
    """
    if name not in _names().values():
        raise UnknownTimeZone(f"{name!r} is no time zone of the IANA database.")
    with _FOLDER.joinpath(*name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def all_zones() -> list[str]:
    """The names of all zones, aliases included."""
    return sorted(_names().values())


def zone_of_lead(time_zone: str | None, country: str | None) -> LeadZone:
    """The lead's own zone; else that of its country, where it has exactly one; else the schedule's."""
    if time_zone:
        return LeadZone(time_zone, TimeZoneSource.LEAD)
    if country and (name := zones_by_country().get(country.strip().lower().replace("\u2019", "'"))):
        return LeadZone(name, TimeZoneSource.COUNTRY)
    return LeadZone(None, TimeZoneSource.SCHEDULE)


@functools.cache
def zones_by_country() -> Mapping[str, str]:
    """Code and English names, in lower case, of each country with exactly one zone → its zone.

    Zones with the same rules from now on count as one: Germany and its enclave Büsingen have the same time. A name of
    two countries (Samoa) stands for neither.
    """
    codes: dict[str, set[str]] = {}
    for code, english in _rows("iso3166.tab"):
        for name in (code, *_spellings(english)):
            codes.setdefault(name.lower(), set()).add(code)
    codes |= {name.lower(): {code} for code, names in _EVERYDAY_NAMES.items() for name in names}
    zones: dict[str, list[str]] = {}
    for code, _, name, *_ in _rows("zone.tab"):
        zones.setdefault(code, []).append(name)
    single = {code: names[0] for code, names in zones.items() if len({_future(name) for name in names}) == 1}
    return {name: single[code] for name, found in codes.items() for code in found if len(found) == 1 and code in single}


def _spellings(english: str) -> Iterator[str]:
    """How a name of the table is written: ``Korea (South)`` is ``South Korea``, & is ``and``, ``St`` is ``Saint``."""
    names = [english]
    if found := re.fullmatch(r"([^()]+) \(([^()]+)\)", english):
        place, detail = found.groups()
        names += [place, detail, f"{detail} {place}"]
    for name in names:
        for text in (name, name.replace("&", "and"), re.sub(r"^St ", "Saint ", name).replace("&", "and")):
            yield text.replace("\u2019", "'")
            letters = unicodedata.normalize("NFKD", text)
            yield "".join(letter for letter in letters if not unicodedata.combining(letter)).replace("\u2019", "'")


@functools.cache
def _future(name: str) -> bytes:
    """The rule that a zone's file ends with: it holds for all time to come. https://www.rfc-editor.org/rfc/rfc9636"""
    return _FOLDER.joinpath(*name.split("/")).read_bytes().rsplit(b"\n", 2)[1]


@functools.cache
def _names() -> Mapping[str, str]:
    # Factory is the zone of a clock that was not set.
    names = _TABLES.joinpath("zones").read_text(encoding="ascii").split()
    return {name.lower(): name for name in names if name != "Factory"}


def _rows(table: str) -> Iterator[list[str]]:
    for line in _FOLDER.joinpath(table).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")
