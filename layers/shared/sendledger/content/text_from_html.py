"""The text part of an email: its rendered HTML goes in, plain text comes out, in linear time.

lxml reads the HTML as a stream, without a tree. Tables in emails are nearly always layout, so cells are only separated.
The address of a link follows its text in angle brackets, so that no program reads a following character as part of it
(RFC 3986, appendix C). Hidden elements are left out. docs/decisions/text-from-html.md has the alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

_PARAGRAPHS = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "blockquote", "pre", "figure"))
_LINES = frozenset(
    (
        *("div", "table", "caption", "thead", "tbody", "tfoot", "tr", "li", "dt", "dd", "section", "article", "header"),
        *("footer", "main", "nav", "aside", "address", "center", "form", "fieldset", "legend", "figcaption", "body"),
        *("html", "details", "summary"),
    )
)
_CELLS = frozenset(("td", "th"))
_LEFT_OUT = frozenset(
    (
        *("head", "style", "script", "title", "template", "svg", "math", "select", "textarea", "xml", "object"),
        *("video", "audio"),
    )
)
_HIDING = re.compile(r"(?:^|;)(?:display:none|visibility:hidden|(?:max-height|opacity):0(?:px|em|%|pt)?(?:[;!]|$))")
_LINK = re.compile(r"(?:https?|mailto|tel|sms):", re.IGNORECASE)
# Soft hyphens and other characters without width, which fill preheaders.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u034f\u200b\u200c\u2007\u2060\ufeff"), "")
_SPACES = re.compile(r"[\s\u00a0\u200c]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

MAX_INDENTS = 5
"""Nested lists and quotations that are indented. More would make the text longer than the HTML."""

RULE = "-" * 20


def text_from_html(html: str) -> str:
    """The text of an HTML document or fragment; empty if it shows nothing."""
    if not html.strip():
        return ""
    parser = etree.HTMLParser(target=_Text(), encoding="utf-8")
    source = _UNSTORABLE.sub("", html).encode("utf-8", "replace")
    try:
        parser.feed(source)
        text: str = parser.close()
    except etree.XMLSyntaxError:
        return ""  # nothing but comments
    return text


class _Text:
    """Receives what lxml reads, in the order of the document."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._breaks = 0
        """Line breaks that are due before the next text."""
        self._at_start = True
        self._space = ""
        """Between the last text and the next one, on the same line."""
        self._left_out = 0
        """Elements open since the one that is left out, with that one."""
        self._link: tuple[str, int] | None = None
        """The address of the open link, and how many parts there were before its text. HTML has no links in links."""
        self._indents: list[str] = []
        self._numbers: list[int | None] = []
        """For each list around: the number of its last item, or None for one without numbers."""
        self._marker = ""
        self._preformatted = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._left_out or tag in _LEFT_OUT or _is_hidden(attributes):
            self._left_out += 1
            return
        if tag in _LINES:
            self._break(1)
        elif tag in _PARAGRAPHS:
            self._break(1 if self._numbers and tag in ("ul", "ol") else 2)
        elif tag in _CELLS:
            self._space = "  "
        if tag == "br":
            self._breaks = min(self._breaks + 1, 2) if self._parts else 0
        elif tag == "hr":
            self._break(1)
            self._write(RULE)
            self._break(1)
        elif tag == "img":
            self.data(attributes.get("alt", ""))
        elif tag == "a":
            self._end_link()
            self._link = (attributes.get("href", "").strip(), len(self._parts))
        elif tag in ("ul", "ol"):
            self._numbers.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._item()
        elif tag == "blockquote":
            self._indents.append("> ")
        elif tag == "pre":
            self._preformatted += 1

    def end(self, tag: str) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        if tag == "a":
            self._end_link()
        elif tag in ("ul", "ol") and self._numbers:
            self._numbers.pop()
        elif tag in ("li", "blockquote"):
            if self._indents:
                self._indents.pop()
            self._marker = ""
        elif tag == "pre":
            self._preformatted -= 1
        if tag in _LINES:
            self._break(1)
        elif tag in _PARAGRAPHS:
            self._break(1 if self._numbers and tag in ("ul", "ol") else 2)
        elif tag in _CELLS:
            self._space = "  "

    def data(self, text: str) -> None:
        if self._left_out or not text:
            return
        text = text.translate(_INVISIBLE)
        if self._preformatted:
            for number, line in enumerate(text.split("\n")):
                self._breaks = max(self._breaks, 1) if number and not self._breaks else self._breaks
                if line.strip():
                    self._write(line.rstrip(), keep=True)
            return
        words = _SPACES.sub(" ", text)
        if words.startswith(" "):
            self._space = self._space or " "
        if stripped := words.strip(" "):
            self._write(stripped)
            self._space = " " if words.endswith(" ") else ""

    def comment(self, text: str) -> None:
        """Comments, among them conditions for Outlook, are left out."""

    def pi(self, target: str, data: str | None = None) -> None:
        """`<![if !mso]>` and other instructions."""

    def close(self) -> str:
        text = "".join(self._parts)
        return _BLANK_LINES.sub("\n\n", text) + "\n" if text else ""

    def _break(self, count: int) -> None:
        if not self._at_start:
            self._breaks = max(self._breaks, count)

    def _write(self, text: str, keep: bool = False) -> None:
        if self._breaks or self._at_start:
            prefix = "".join(self._indents[:MAX_INDENTS])
            if self._marker:
                prefix = "".join(self._indents[:MAX_INDENTS][:-1]) + self._marker
                self._marker = ""
            self._parts.append("\n" * (0 if self._at_start else self._breaks) + prefix)
        elif self._space and not keep:
            self._parts.append(self._space)
        self._parts.append(text)
        self._breaks, self._space, self._at_start = 0, "", False

    def _item(self) -> None:
        if self._numbers and self._numbers[-1] is not None:
            self._numbers[-1] += 1
            self._marker = f"{self._numbers[-1]}. "
        else:
            self._marker = "- "
        self._indents.append(" " * len(self._marker))

    def _end_link(self) -> None:
        if self._link is None:
            return
        (address, parts_before), self._link = self._link, None
        if not _LINK.match(address):
            return
        shown = "".join(self._parts[parts_before:]).strip()
        address = re.sub(r"[\s<>]", lambda sign: f"%{ord(sign.group()):02X}", address)
        if _is_same(shown, address):
            if shown.lower().startswith("http"):
                self._parts[parts_before:] = [*self._parts[parts_before:-1], f"<{self._parts[-1]}>"]
            return
        breaks, space = self._breaks, self._space
        # Behind the text of the link, also where that ends with a paragraph.
        if shown:
            self._breaks, self._space = 0, " "
        self._write(f"<{address}>")
        self._breaks = breaks if shown else 0
        self._space = space if shown else ""


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    if not attributes:
        return False
    if "hidden" in attributes:
        return True
    style = attributes.get("style") or ""
    return _HIDING.search("".join(style.split()).lower()) is not None


def _is_same(shown: str, address: str) -> bool:
    """Whether the text of the link is the address already."""
    plain = re.sub(r"^(?:https?://|mailto:|tel:|sms:)", "", address, flags=re.IGNORECASE).rstrip("/").lower()
    seen = re.sub(r"^https?://", "", shown, flags=re.IGNORECASE).rstrip("/").lower()
    return seen == plain or (address.lower().startswith("tel:") and re.sub(r"\D", "", seen) == re.sub(r"\D", "", plain))
