"""Which elements of an HTML email nobody sees: their attributes and the style sheets go in, a `Look` comes out.

Preheaders and other hidden texts do not belong in the text part. Only what hides an element in every mail program
counts: the element's own style, and simple rules of style sheets (`.preheader`, `span.preheader`, `#preheader`)
outside of `@media`. Everything takes linear time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MAX_STYLE = 2_000
"""Characters of one style attribute or rule that are read."""

MAX_STYLE_SHEETS = 200_000
"""Characters of all style sheets of an email that are read."""

_SELECTOR = re.compile(r"[a-z0-9]*[.#][\w-]+")
_BRACES = re.compile(r"[{};]")
_NUMBER = re.compile(r"-?[0-9]*\.?[0-9]+")
_NO_SIZE = re.compile(r"(?:0+(?:\.0+)?|\.0+)[a-z%]*|(?:0?\.[0-9]+|1(?:\.0+)?)(?:px|pt|%)?")
_CLIPPED = ("height", "width", "max-height", "max-width")
_PLACED = ("left", "top", "text-indent", "margin-left", "margin-top")
_FAR_AWAY = -500
_SEEN_THROUGH = 0.01


class Look(NamedTuple):
    """How an element is shown. `letters` is False where its letters have no size, None if it does not say."""

    is_hidden: bool
    letters: bool | None
    not_in_outlook: bool
    """Hidden in Outlook only: a preheader, or what Outlook gets in another form, such as a button."""


_PLAIN = Look(False, None, False)

Declarations = Mapping[str, tuple[str, bool]]
"""Property → its value, and whether that is important."""


class HiddenElements:
    """Learns the style sheets of one email, and looks at its elements."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, tuple[str, bool]]] = {}
        self._left = MAX_STYLE_SHEETS

    def learn(self, style_sheet: str) -> None:
        style_sheet, self._left = style_sheet[: self._left], max(0, self._left - len(style_sheet))
        for selector, body in _rules(style_sheet):
            if declarations := _declarations(body[:MAX_STYLE]):
                _add(self._rules.setdefault(selector, {}), declarations)

    def look(self, tag: str, attributes: Mapping[str, str]) -> Look:
        if not attributes:
            return _PLAIN
        if "hidden" in attributes:
            return Look(True, None, False)
        style = (attributes.get("style") or "")[:MAX_STYLE]
        if not self._rules:
            return _look_of_style(style)
        found: dict[str, tuple[str, bool]] = {}
        names = [f".{name}" for name in (attributes.get("class") or "")[:MAX_STYLE].lower().split()]
        for name in (*names, f"#{(attributes.get('id') or '').lower()}"):
            for selector in (name, tag + name):
                if rule := self._rules.get(selector):
                    _add(found, rule)
        if not found:
            return _look_of_style(style)
        _add(found, _declarations(style))
        return _look(found)


def _rules(style_sheet: str) -> Iterator[tuple[str, str]]:
    """Each simple selector with the body of its rule. Blocks such as `@media` are left out with all in them."""
    first, *others = style_sheet.replace("<!--", "").replace("-->", "").split("/*")
    text = first + " ".join(other.partition("*/")[2] for other in others)
    depth = position = 0
    selectors = ""
    for sign in _BRACES.finditer(text):
        match sign.group():
            case "{":
                if depth == 0:
                    selectors = text[position : sign.start()].strip().lower()
                depth += 1
            case "}" if depth:
                depth -= 1
                if depth == 0 and not selectors.startswith("@"):
                    body = text[position : sign.start()]
                    for selector in selectors.split(","):
                        if _SELECTOR.fullmatch(selector.strip()):
                            yield selector.strip(), body
            case ";" if depth:
                continue
        position = sign.end()


@functools.lru_cache(maxsize=500)  # the emails of a campaign have the same styles
def _declarations(style: str) -> Declarations:
    """What matters here; a later declaration replaces an earlier one that is not more important."""
    found: dict[str, tuple[str, bool]] = {}
    for declaration in style.lower().split(";"):
        name, _, value = declaration.partition(":")
        value, mark, important = value.partition("!")
        if (name := name.strip()) in _LOOKED_AT:
            _add(found, {name: (value.strip(), "important" in important if mark else False)})
    return found


_LOOKED_AT = frozenset(
    ("display", "visibility", "opacity", "overflow", "font-size", "font", "mso-hide", *_CLIPPED, *_PLACED)
)


def _add(found: dict[str, tuple[str, bool]], declarations: Declarations) -> None:
    for name, (value, important) in declarations.items():
        if important or not found.get(name, ("", False))[1]:
            found[name] = value, important


@functools.lru_cache(maxsize=500)
def _look_of_style(style: str) -> Look:
    return _look(_declarations(style))


def _look(declarations: Declarations) -> Look:
    values = {name: value for name, (value, _) in declarations.items()}
    numbers = {name: _number(values[name]) for name in (*_CLIPPED, *_PLACED, "opacity") if name in values}
    is_cut = "hidden" in values.get("overflow", "") and any(
        numbers.get(name) == 0 or values.get(name) == "1px" for name in _CLIPPED
    )
    is_hidden = (
        is_cut
        or values.get("display") == "none"
        or values.get("visibility") in ("hidden", "collapse")
        or numbers.get("opacity", 1) <= _SEEN_THROUGH
        or numbers.get("max-height", 1) == 0
        or any(numbers.get(name, 0) < _FAR_AWAY for name in _PLACED)
    )
    size = values.get("font-size") or values.get("font") or ""
    letters = None
    if any(sign.isdigit() for sign in size):
        letters = not any(_NO_SIZE.fullmatch(part.partition("/")[0]) for part in size.split())
    return Look(is_hidden, letters, values.get("mso-hide") == "all")


def _number(value: str) -> float:
    """The number that the value begins with; a value without one, such as `auto`, counts as 1."""
    found = _NUMBER.match(value)
    return float(found.group()) if found else 1.0
