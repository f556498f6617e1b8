"""Makes pages of the templates in `pages/`: values go in, HTML comes out. Every value is escaped.

The environment is the console's own and has nothing of that of email templates.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from console import assets
from sendledger.core import vocabulary

SECTIONS = (
    *("Campaigns", "Leads", "Import", "Templates", "Workflows"),
    *("Replies", "Suppressions", "Sending", "Settings"),
)
"""In lower case they are the names of their icons and the ends of their addresses."""

_IN_WORDS = {"later_until": "a date"}
"""What a field of the API is called on a page."""
_PAGES = Path(__file__).parent / "pages"


def render(template: str, /, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGES, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "duration": duration,
        "number": number,
        "percent": percent,
        "spans": spans,
        "plain_decimal": plain_decimal,
        "plain_time": plain_time,
        "time": time,
        "without_empty": without_empty,
        "words": words,
    }
    environment.globals |= {
        "asset": assets.path_of,
        "meaning": meaning,
        "sections": SECTIONS,
        "new_request": lambda: uuid.uuid4().hex,
    }
    return environment


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0")


def plain_decimal(value: float | str) -> str:
    """A number as people type it: 0.00001 and not 1e-05. A text is shown as it was typed."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """With as many digits as a rate of complaints needs."""
    return "–" if value is None else f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def words(value: str) -> str:
    """A value of the API as people write it."""
    return value.replace("_", " ").capitalize()


def meaning(kind: str, value: str | None) -> str:
    """What a word of the vocabulary means; empty for what SES or another application has written."""
    enum = getattr(vocabulary, kind)
    text = enum(value).meaning if value in set(enum) else ""
    return re.sub("`([^`]*)`", lambda code: _IN_WORDS.get(code[1], code[1].replace("_", " ")), text)


def spans(pairs: list[list[str]]) -> str:
    """Pairs of times as people write them: 09:00-12:00, 13:00-17:00. Anything else is shown as it was typed."""
    return ", ".join("-".join(pair) for pair in pairs)


def time(value: str | None, missing: str = "–") -> str:
    """A time in UTC. The console's module shows it in the browser's zone."""
    if not value:
        return missing
    at = _parsed(value).replace(tzinfo=None, microsecond=0)
    element = Markup('<time datetime="{}Z" title="{} UTC">{}</time>')
    # Not %Y: a year before 1000 would have fewer digits, with which a browser reads no date.
    return element.format(at.isoformat(), at.isoformat(" "), plain_time(value))


def plain_time(value: str) -> str:
    at = _parsed(value)
    year = "" if at.year == dt.datetime.now(dt.UTC).year else f" {at.year}"
    return f"{at:%b} {at.day}{year}, {at:%H:%M} UTC"


def duration(length: dt.timedelta) -> str:
    """The largest unit of which there are two or more, rounded down."""
    seconds = int(length.total_seconds())
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} seconds"


def without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """What an address need not say."""
    return {name: value for name, value in values.items() if value}


def _parsed(value: str) -> dt.datetime:
    return dt.datetime.fromisoformat(value).astimezone(dt.UTC)
