"""Links that SES leaves alone although a campaign tracks clicks. Uses no table.

A person who wants to opt out should not have to follow a link through a tracking domain, and blockers open none. SES
takes the attribute out again: https://docs.aws.amazon.com/ses/latest/dg/faqs-metrics.html
"""

from __future__ import annotations

from markupsafe import escape

NO_TRACK = "ses:no-track"
_LONGEST_TAG = 4000


def without_tracking(html: str, url: str) -> str:
    """The HTML with the mark in each link to `url`; a URL outside of a link is left as it is."""
    parts: list[str] = []
    done = 0
    written = str(escape(url))
    at = html.find(written)
    while at >= 0:
        end = at + len(written)
        link = _link_before(html, max(done, at - _LONGEST_TAG), at)
        if link >= 0 and NO_TRACK not in html[link : html.find(">", end) + 1 or end]:
            parts += [html[done:link], f" {NO_TRACK}"]
            done = link
        at = html.find(written, end)
    return "".join((*parts, html[done:]))


def _link_before(html: str, begin: int, at: int) -> int:
    """Where the name of the link ends whose tag goes on at `at`, or -1. (Two searches are fast.)"""
    end = at
    while (link := max(html.rfind("<a", begin, end), html.rfind("<A", begin, end))) >= 0:
        if html[link + 2].isspace():
            return link + 2 if ">" not in html[link:at] else -1
        end = link
    return -1
