"""What SES makes of an HTML part before it sends it: a picture that reports opens, links that report clicks.

What tracks is what the message says, and without a word of it the configuration set, which the template subscribes to
both. Links with `ses:no-track` and links to other things than web pages stay as they are.
https://docs.aws.amazon.com/ses/latest/dg/faqs-metrics.html
"""

import re
from urllib.parse import quote

from local.ses_simulator.ledger import AcceptedEmail

_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*(["'])(https?://[^"']*)\1[^>]*>""", re.IGNORECASE)
_NO_TRACK = re.compile(r"\s+ses:no-track(\s*=\s*(\"[^\"]*\"|'[^']*'))?(?=[\s>])", re.IGNORECASE)
_END_OF_BODY = re.compile(r"</body\s*>", re.IGNORECASE)


def tracks(email: AcceptedEmail, what: str) -> bool:
    """Whether an email tracks `what`, Open or Click."""
    overrides = (email.request.get("ConfigurationOverrides") or {}).get("Tracking") or {}
    said = overrides.get(f"{what}TrackingEnabled")
    return said == "ENABLED" if said is not None else email.configuration_set is not None


def delivered_html(email: AcceptedEmail, region: str) -> str | None:
    """The HTML part as its recipient gets it."""
    html = email.html
    if html is None:
        return None
    if tracks(email, "Click"):
        html = _LINK.sub(lambda link: _rewritten(link, email, region), html)
    html = _NO_TRACK.sub("", html)
    if tracks(email, "Open"):
        source = f"https://{_host(email, region)}/I0/{email.message_id}/{'0' * 28}"
        picture = f'<img alt="" src="{source}" style="display:none" width="1" height="1">'
        end = max((found.start() for found in _END_OF_BODY.finditer(html)), default=len(html))
        html = f"{html[:end]}{picture}{html[end:]}"
    return html


def _rewritten(link: re.Match[str], email: AcceptedEmail, region: str) -> str:
    tag, target = link[0], link[2]
    if _NO_TRACK.search(tag):
        return tag
    tracked = f"https://{_host(email, region)}/L0/{quote(target, safe='')}/1/{email.message_id}/{'0' * 28}"
    return tag.replace(target, tracked, 1)


def _host(email: AcceptedEmail, region: str) -> str:
    return f"{email.message_id[-8:]}.r.{region}.awstrack.me"
