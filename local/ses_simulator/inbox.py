"""The inbox as web pages: what the simulator has accepted, newest first, and each message as its recipient sees it.

Everything that a sender wrote is escaped. A message's HTML is shown in a sandboxed frame: no script, no form and no
resource from the net; its links open in a new tab, so that an unsubscribe link can be tried. Where the inbox knows who
takes replies, a message can be answered as its recipient would.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from html import escape
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from local.ses_simulator.http_server import HttpResponse, Request
from local.ses_simulator.ledger import AcceptedEmail, AttachedFile, Ledger
from local.ses_simulator.tracking import delivered_html, tracks

PAGE_SIZE = 50

# The frame's document (srcdoc) inherits this policy. Inline styles are allowed for the emails.
_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_SECURITY_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


_ATTACHMENT_PATH = re.compile(r"/messages/([^/]+)/attachments/([0-9]{1,4})")
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_TRACKED = (("opens", "Open"), ("clicks", "Click"))

Describe = Callable[[Sequence[AcceptedEmail]], Mapping[str, str]]
"""What the sender knows of some emails, by message id: their campaign and step."""
Reply = Callable[[AcceptedEmail, str], None]
"""Takes the text of a reply to an email. Raises ValueError with what is wrong, if it is not taken."""
MOST_REPLY = 100_000
"""Bytes of a form with a reply."""


class Inbox:
    def __init__(self, ledger: Ledger, region: str) -> None:
        self.describe: Describe = lambda emails: {}
        self.reply: Reply | None = None
        self._ledger = ledger
        self._region = region
        self._style = Path(__file__).with_name("inbox.css").read_bytes()

    def handle(self, request: Request) -> HttpResponse:
        path = request.path
        if request.method == "POST" and path.startswith("/messages/") and path.endswith("/reply"):
            return self._take_reply(request, path.removeprefix("/messages/").removesuffix("/reply"))
        if request.method != "GET":
            return _page("Not allowed", "<p>This page can only be read.</p>", status=405)
        if path == "/":
            return self._list(request)
        if path == "/inbox.css":
            return HttpResponse(body=self._style, content_type="text/css", headers=_SECURITY_HEADERS)
        if found := _ATTACHMENT_PATH.fullmatch(path):
            return self._attachment(found[1], int(found[2]))
        if path.startswith("/messages/") and (email := self._ledger.find(path.removeprefix("/messages/"))):
            return self._message(email, "It has arrived." if "replied" in request.query else "")
        return _not_found()

    def _message(self, email: AcceptedEmail, said: str, status: int = 200) -> HttpResponse:
        content = _message(email, self.describe([email]), self._region)
        form = _reply_form(email, said) if self.reply is not None else ""
        return _page(email.subject or "(no subject)", content + form, status=status)

    def _take_reply(self, request: Request, message_id: str) -> HttpResponse:
        """A form of this very page only: another site must not write as a recipient."""
        email = self._ledger.find(message_id)
        if email is None or self.reply is None:
            return _not_found()
        if request.header("sec-fetch-site") not in ("same-origin", "") or len(request.body) > MOST_REPLY:
            return _page("Refused", "<p>Send a short text with the form of the message.</p>", status=400)
        text = parse_qs(request.body.decode("utf-8", "replace")).get("text", [""])[0]
        try:
            self.reply(email, text)
        except ValueError as error:
            return self._message(email, f"It was not taken: {error}", 422)
        target = f"/messages/{quote(email.message_id)}?replied=yes#reply"
        return HttpResponse(303, headers=(*_SECURITY_HEADERS, ("Location", target)))

    def _attachment(self, message_id: str, number: int) -> HttpResponse:
        """As a download of no type: a browser shows nothing of it."""
        email = self._ledger.find(message_id)
        files = email.attachments if email else []
        if number >= len(files):
            return _page(
                "Not found", '<p>There is no such attachment. <a href="/">Back to the inbox</a></p>', status=404
            )
        name = quote(files[number].file_name, safe="")
        headers = (*_SECURITY_HEADERS, ("Content-Disposition", f"attachment; filename*=UTF-8''{name}"))
        return HttpResponse(body=files[number].content, content_type="application/octet-stream", headers=headers)

    def _list(self, request: Request) -> HttpResponse:
        recipient = request.query.get("to", [""])[0].strip()
        given_page = request.query.get("page", ["1"])[0]
        page = max(int(given_page), 1) if given_page.isdecimal() and len(given_page) < 10 else 1
        first = (page - 1) * PAGE_SIZE
        found = list(islice(self._ledger.newest_first(recipient), first, first + PAGE_SIZE + 1))
        shown = found[:PAGE_SIZE]
        table = _table(shown, self.describe(shown), recipient, len(self._ledger))
        return _page("Inbox", table + _pages(page, len(found), recipient), search=recipient)


def _not_found() -> HttpResponse:
    return _page("Not found", '<p>There is no such message. <a href="/">Back to the inbox</a></p>', status=404)


def _reply_form(email: AcceptedEmail, said: str) -> str:
    return (
        f'<h2 id="reply">Reply as {_readable(email.destination[0])}</h2><p role="status">{escape(said)}</p>'
        f'<form method="post" action="/messages/{quote(email.message_id)}/reply"><label for="text">Text</label>'
        '<textarea id="text" name="text" rows="5" required maxlength="20000"></textarea>'
        "<button>Send the reply</button></form>"
    )


def _table(emails: list[AcceptedEmail], known: Mapping[str, str], recipient: str, total: int) -> str:
    if not emails:
        nothing = f"No message to “{escape(recipient)}”." if recipient else "No message yet."
        return f'<p class="soft">{nothing}</p>'
    messages = f"{total:,} message{'' if total == 1 else 's'}"
    caption = f"Newest messages to “{escape(recipient)}”" if recipient else f"{messages} accepted, newest first"
    rows = "".join(
        f'<tr><td class="when">{_time(email.accepted_at)}</td>'
        f'<td class="to">{_readable(", ".join(email.destination))}</td>'
        f'<td><a href="/messages/{quote(email.message_id)}">{_readable(email.subject) or "(no subject)"}</a></td>'
        f'<td class="soft">{_breakable(known.get(email.message_id, ""))}</td>'
        f'<td class="sender soft">{_readable(email.from_address)}</td></tr>'
        for email in emails
    )
    return (
        f'<table class="list"><caption>{caption}</caption><thead><tr><th scope="col">Accepted (UTC)</th>'
        '<th scope="col">To</th><th scope="col">Subject</th><th scope="col">Campaign</th>'
        f'<th scope="col" class="sender">From</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _pages(page: int, found: int, recipient: str) -> str:
    def link(to_page: int, text: str, relation: str) -> str:
        target = "/?" + urlencode(({"to": recipient} if recipient else {}) | {"page": str(to_page)})
        return f'<a rel="{relation}" href="{escape(target)}">{text}</a>'

    links = [link(page - 1, "Newer", "prev")] if page > 1 else []
    links += [link(page + 1, "Older", "next")] if found > PAGE_SIZE else []
    return f'<nav class="pages" aria-label="Pages">{"".join(links)}</nav>' if links else ""


def _message(email: AcceptedEmail, known: Mapping[str, str], region: str) -> str:
    facts = [
        ("Campaign", known.get(email.message_id, "")),
        ("From", email.from_address),
        ("To", ", ".join(email.to)),
        ("Cc", ", ".join(email.cc)),
        ("Bcc", ", ".join(email.bcc)),
        ("Reply-To", ", ".join(email.reply_to)),
        ("Message id", email.message_id),
        ("Configuration set", email.configuration_set or ""),
        ("Tracked", ", ".join(name for name, what in _TRACKED if tracks(email, what)) or "nothing"),
        ("Not delivered, suppressed", ", ".join(email.suppressed)),
    ]
    download = f"/_simulator/ledger/{quote(email.message_id)}.eml"
    links = f'<a href="{download}">Download as .eml</a> · <a href="/">Back to the inbox</a>'
    sections = [
        f'<p class="soft">Accepted {_time(email.accepted_at)} UTC · {links}</p>',
        _facts([(name, value) for name, value in facts if value]),
    ]
    if email.html is not None:
        # The base element makes links open in a new tab: within the frame they would be blocked.
        document = escape(f'<base target="_blank">{_with_pictures(email.html, email.attachments)}')
        sections.append(
            '<h2 id="html">HTML</h2><iframe sandbox="allow-popups allow-popups-to-escape-sandbox" '
            f'referrerpolicy="no-referrer" aria-labelledby="html" title="HTML part" srcdoc="{document}"></iframe>'
        )
        delivered = delivered_html(email, region) or ""
        if delivered != email.html:
            sections.append(f"<h2>HTML as it was sent</h2><pre>{escape(email.html)}</pre>")
            sections.append(f"<h2>HTML as it is delivered</h2><pre>{escape(delivered)}</pre>")
    if email.text is not None:
        sections.append(f"<h2>Text</h2><pre>{escape(email.text)}</pre>")
    if email.attachments:
        sections.append(f"<h2>Attachments</h2><ul>{_attachments(email)}</ul>")
    if email.headers:
        sections.append(f"<h2>Headers</h2>{_facts(list(email.headers))}")
    if email.tags:
        sections.append(f"<h2>Tags</h2>{_facts(list(email.tags.items()))}")
    return "".join(sections)


def _facts(facts: list[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{_readable(value)}</td></tr>' for name, value in facts)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _readable(header: str) -> str:
    """A header's value for the page, escaped, with its encoded-words decoded where that is possible."""
    try:
        return _breakable(str(make_header(decode_header(header))))
    except (HeaderParseError, LookupError, UnicodeError):
        return _breakable(header)


def _with_pictures(html: str, files: Sequence[AttachedFile]) -> str:
    """The HTML with its attached pictures, as the page may load nothing else. Those that could hold a script are left
    out."""
    for file in files:
        if file.content_id is not None and file.content_type in _PICTURES:
            source = f"data:{file.content_type};base64,{base64.b64encode(file.content).decode()}"
            html = re.sub(rf"(?i)\bcid:{re.escape(file.content_id)}(?=[\s\"'>)])", source, html)
    return html


def _attachments(email: AcceptedEmail) -> str:
    return "".join(
        f'<li><a href="/messages/{quote(email.message_id)}/attachments/{number}">{escape(file.file_name)}</a> '
        f'<span class="soft">{escape(file.content_type)}, {len(file.content):,} bytes'
        f"{f', shown as cid:{escape(file.content_id)}' if file.content_id else ''}</span></li>"
        for number, file in enumerate(email.attachments)
    )


def _breakable(text: str) -> str:
    """The text, escaped; a long address in it may be broken where its parts meet, and nowhere else."""
    return re.sub(r"(?<=\w)(?=[@.])(?=\S)", "<wbr>", escape(text))


def _time(at: datetime) -> str:
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M:%S}</time>'


def _page(title: str, content: str, *, status: int = 200, search: str = "") -> HttpResponse:
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} · SES simulator</title><link rel="stylesheet" href="/inbox.css"></head><body>'
        f'<header><h1>{escape(title)}</h1><form action="/" role="search"><label for="to">Recipient</label>'
        f'<input id="to" name="to" type="search" value="{escape(search)}"><button>Search</button></form></header>'
        f"<main>{content}</main></body></html>"
    )
    return HttpResponse(status, document.encode("utf-8", "replace"), "text/html; charset=utf-8", _SECURITY_HEADERS)
