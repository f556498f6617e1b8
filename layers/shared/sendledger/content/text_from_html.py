"""The text part of an email: its rendered HTML goes in, plain text comes out, in linear time.

lxml reads the HTML as a stream, without a tree. Tables in emails are nearly always layout, so cells are only separated.
The address of a link follows its text in angle brackets, so that no program reads a following character as part of it
(RFC 3986, appendix C). Hidden elements are left out. docs/decisions/text-from-html.md has the alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

from sendledger.content.hidden_elements import HiddenElements

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
_LINK = re.compile(r"(?:https?|mailto|tel|sms):", re.IGNORECASE)
# Soft hyphens and other characters without width, which fill preheaders.
_INVISIBLE = dict.fromkeys(
    map(ord, "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060\u2061\u2062\u2063\u2064\u3164\ufeff\uffa0\u2800"),
    "",
)
# Within words of some languages these two have a meaning; beside blanks they fill.
_JOINERS = "\u200c\u200d"
_SPACES = re.compile(r"\s+")
_SPACES_AND_JOINERS = re.compile(rf"[\s{_JOINERS}]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_PIXEL = ("0", "1", "0px", "1px")

MAX_INDENTS = 5
"""Nested lists and quotations that are indented. More would make the text longer than the HTML."""

RULE = "-" * 20


def text_from_html(html: str) -> str:
    """The text of an HTML document or fragment; empty if it shows nothing.

    If all of it is hidden, the hidden text is better than none.
    """
    if not html.strip():
        return ""
    source = _UNSTORABLE.sub("", html).encode("utf-8", "replace")
    shown = _Text(HiddenElements())
    return _read(source, shown) or (_read(source, _Text(None)) if shown.has_hidden else "")


def _read(source: bytes, target: _Text) -> str:
    parser = etree.HTMLParser(target=target, encoding="utf-8")
    try:
        parser.feed(source)
        text: str = parser.close()
    except etree.XMLSyntaxError:
        return ""  # nothing but comments
    return text


class _Text:
    """Receives what lxml reads, in the order of the document."""

    def __init__(self, hidden: HiddenElements | None) -> None:
        self._hidden = hidden
        self.has_hidden = False
        self._letters = [True]
        """For each open element: whether its letters have a size."""
        self._preheader: int | None = None
        """How many elements were open before the one that may be a preheader: at the start, hidden in Outlook."""
        self._style_sheet: list[str] | None = None
        self._waiting: list[str] = []
        """Text since the last tag: entities come one by one."""
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
        self._flush()
        if tag == "style":
            self._style_sheet = []
        if self._left_out or tag in _LEFT_OUT or self._is_hidden(tag, attributes):
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
        elif tag in ("img", "area"):
            self._picture(tag, attributes)
        elif tag == "a":
            self._end_link()
            self._link = ((attributes.get("href") or "").strip(), len(self._parts))
        elif tag in ("ul", "ol"):
            self._numbers.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._item()
        elif tag == "blockquote":
            self._indents.append("> ")
        elif tag == "pre":
            self._preformatted += 1

    def end(self, tag: str) -> None:
        self._flush()
        if tag == "style" and self._style_sheet is not None:
            if self._hidden:
                self._hidden.learn("".join(self._style_sheet))
            self._style_sheet = None
        if self._left_out:
            self._left_out -= 1
            return
        self._close_element()
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
        if self._style_sheet is not None:
            self._style_sheet.append(text)
        elif not self._left_out and self._letters[-1]:
            self._waiting.append(text)

    def _flush(self) -> None:
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._show(text)

    def _show(self, text: str) -> None:
        text = text.translate(_INVISIBLE)
        if self._preformatted:
            for number, line in enumerate(text.split("\n")):
                self._breaks = max(self._breaks, 1) if number and not self._breaks else self._breaks
                if line.strip():
                    self._write(line.rstrip(), keep=True)
            return
        if "\u200c" in text or "\u200d" in text:
            text = _SPACES_AND_JOINERS.sub(_space_or_joiners, text).strip(_JOINERS)
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
        self._flush()
        text = "".join(self._parts)
        return _BLANK_LINES.sub("\n\n", text) + "\n" if text else ""

    def _is_hidden(self, tag: str, attributes: Mapping[str, str]) -> bool:
        """Whether the element is left out; if not, it is open now."""
        letters, not_in_outlook = self._letters[-1], False
        if self._hidden is not None:
            look = self._hidden.look(tag, attributes)
            if look.is_hidden:
                self.has_hidden = True
                return True
            letters = letters if look.letters is None else look.letters
            self.has_hidden = self.has_hidden or not letters
            not_in_outlook = look.not_in_outlook
        if tag in ("a", "img", "table"):
            self._preheader = None  # a button or a layout that Outlook gets in another form
        elif not_in_outlook and self._preheader is None and self._at_start:
            self._preheader = len(self._letters)
        self._letters.append(letters)
        return False

    def _close_element(self) -> None:
        if len(self._letters) > 1:
            self._letters.pop()
        if self._preheader == len(self._letters):
            if self._parts:
                self._parts, self._breaks, self._space, self._at_start = [], 0, "", True
                self.has_hidden = True
            self._preheader = None

    def _picture(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Its text is seen in letters of its own, also where the letters around have no size."""
        if tag == "area":
            self._break(1)
        if not (attributes.get("width") in _PIXEL and attributes.get("height") in _PIXEL):
            self._show(attributes["alt"] if "alt" in attributes else attributes.get("title", ""))
        if tag == "area" and _LINK.match(address := (attributes.get("href") or "").strip()):
            self._space = " "
            self._write(f"<{_encoded(address)}>")
            self._break(1)

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
        address = _encoded(address)
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


def _encoded(address: str) -> str:
    return re.sub(r"[\s<>]", lambda sign: f"%{ord(sign.group()):02X}", address)


def _space_or_joiners(run: re.Match[str]) -> str:
    return " " if run.group().strip(_JOINERS) else run.group()


def _is_same(shown: str, address: str) -> bool:
    """Whether the text of the link is the address already."""
    plain = re.sub(r"^(?:https?://|mailto:|tel:|sms:)", "", address, flags=re.IGNORECASE).rstrip("/").lower()
    seen = re.sub(r"^https?://", "", shown, flags=re.IGNORECASE).rstrip("/").lower()
    return seen == plain or (address.lower().startswith("tel:") and re.sub(r"\D", "", seen) == re.sub(r"\D", "", plain))
