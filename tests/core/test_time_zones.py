"""Names of time zones, and the one zone of a country, come from the tables of tzdata."""

from __future__ import annotations

import datetime as dt

import pytest

from sendledger.core.time_zones import UnknownTimeZone, all_zones, zone, zone_name, zone_of_lead, zones_by_country


def test_every_zone_has_rules_and_is_found_in_any_case() -> None:
    for name in all_zones():
        assert zone_name(name.upper()) == name
        assert dt.datetime(2026, 7, 1, tzinfo=zone(name)).utcoffset() is not None


def test_zone_is_found_as_hubspot_writes_it() -> None:
    assert zone_name(" america_slash_new york ") == "America/New_York"


@pytest.mark.parametrize("name", ["Europe/Bielefeld", "CEST", "+02:00", "", "../../etc/passwd", "Europe", "Factory"])
def test_unknown_zone_is_refused_with_an_example_of_a_right_one(name: str) -> None:
    with pytest.raises(UnknownTimeZone, match="Europe/Berlin"):
        zone_name(name)
    with pytest.raises(UnknownTimeZone):
        zone(name)


@pytest.mark.parametrize(
    ("country", "name"),
    [
        ("JP", "Asia/Tokyo"),
        ("Japan", "Asia/Tokyo"),
        (" fr ", "Europe/Paris"),
        ("Norway", "Europe/Oslo"),
        ("United Kingdom", "Europe/London"),
        ("South Korea", "Asia/Seoul"),
        ("Trinidad and Tobago", "America/Port_of_Spain"),
        ("Saint Lucia", "America/St_Lucia"),
        ("Côte d'Ivoire", "Africa/Abidjan"),
        ("Côte d’Ivoire", "Africa/Abidjan"),
        # A second zone that will always have the same time.
        ("Germany", "Europe/Berlin"),
        ("Argentina", "America/Argentina/Buenos_Aires"),
        # Several.
        ("US", None),
        ("Australia", None),
        ("Spain", None),
        ("China", None),
        # Two countries.
        ("Samoa", None),
        ("Virgin Islands", None),
        ("Korea", None),
        # None.
        ("", None),
        ("Atlantis", None),
    ],
)
def test_country_with_exactly_one_zone_tells_the_zone(country: str, name: str | None) -> None:
    found = zone_of_lead(None, country)
    assert (found.name, found.source) == (name, "country" if name else "schedule")


def test_zone_of_the_lead_goes_before_that_of_its_country() -> None:
    found = zone_of_lead("Asia/Tokyo", "France")
    assert (found.name, found.source) == ("Asia/Tokyo", "lead")


def test_every_zone_of_a_country_is_one_that_there_is() -> None:
    assert set(zones_by_country().values()) <= set(all_zones())
