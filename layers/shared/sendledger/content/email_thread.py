"""What an answer takes over from the emails before it: their subject and, if wanted, the text that it answers.

Uses no table.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from markupsafe import escape

from sendledger.content.render_email import MAX_SUBJECT, RenderedEmail

MAX_QUOTED = 50_000
"""Characters of a text that are quoted; a thread of many steps quotes what was quoted before."""

# "Re:" as mail programs write it: numbered, in German, Danish, Norwegian, Swedish, Dutch, Polish and Chinese. The
# colon may be a wide one.
_IS_ANSWER = re.compile(r"\s*(re|aw|sv|antw|odp|回复|答复|回覆)\s*(\[\d{1,3}\])?\s*[:\uff1a]", re.IGNORECASE)
_END_OF_BODY = re.compile(r"</body\s*>", re.IGNORECASE)
_BLOCK_STYLE = "margin:0 0 0 .8ex;border-left:1px solid #ccc;padding-left:1ex"


@dataclass(frozen=True)
class QuotedEmail:
    """An email whose text is shown below its answer."""

    sent_at: dt.datetime
    sender: str
    text: str


def answer_subject(subject: str) -> str:
    """The subject of an answer. Mail programs join emails by it, so that it is never marked twice."""
    return subject if _IS_ANSWER.match(subject) else f"Re: {subject}"[:MAX_SUBJECT]


def with_quote(answer: RenderedEmail, quoted: QuotedEmail) -> RenderedEmail:
    """The answer with the quoted text below, as mail programs write it."""
    line = f"On {quoted.sent_at.astimezone(dt.UTC):%a, %d %b %Y at %H:%M} UTC, {quoted.sender} wrote:"
    lines = quoted.text[:MAX_QUOTED].strip("\n").splitlines()
    marked = "\n".join(f">{each}" if each.startswith(">") else f"> {each}".rstrip() for each in lines)
    text = f"{answer.body_text.rstrip()}\n\n{line}\n{marked}\n" if answer.body_text.strip() else answer.body_text
    html = answer.body_html
    if html is not None:
        block = "<br>\n".join(str(escape(each)) for each in lines)
        html = insert_at_end(
            html, f'<div>{escape(line)}</div>\n<blockquote type="cite" style="{_BLOCK_STYLE}">{block}</blockquote>\n'
        )
    return RenderedEmail(answer.subject, text, html)


def insert_at_end(html: str, addition: str) -> str:
    """The HTML with `addition` as the last thing in its body."""
    end = html.rfind("</body>")  # nearly all HTML spells it like this, and finding that takes a tenth
    if end < 0:
        found = _END_OF_BODY.search(html)
        if found is None:
            return f"{html}\n{addition}"
        end = found.start()
    return f"{html[:end]}{addition}{html[end:]}"
