"""Values and conditions of other template languages, turned into ours: `x | default: "y"`, `x != blank and y == 3`.

A text from between braces goes in, an expression of ours comes out. No database.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sendledger.content.placeholder_names import custom_field, field_of, quoted, snake_case


class NotTranslatable(Exception):
    """The message says what is not understood, in words for the owner of the template."""


@dataclass
class Names:
    """What names mean: fields of the lead, custom fields, and names that the template has made."""

    local: list[str] = field(default_factory=list)
    """Of loops and assignments, the innermost last."""
    items: list[str] = field(default_factory=list)
    """Of loops in which a name alone means a field of the entry (Handlebars)."""
    custom_fields: dict[str, None] = field(default_factory=dict)

    def reference(self, name: str) -> str:
        """How we write a name of theirs."""
        parts = re.sub(r"\.?\[\d+\]", "", name.removeprefix("${").removesuffix("}").strip()).split(".")
        if self.items and parts[0] in ("this", "."):
            return ".".join([self.items[-1], *map(_member, parts[1:])])
        if parts[0] in self.local:
            return ".".join([parts[0], *map(_member, parts[1:])])
        if self.items and len(parts) == 1:
            return f"{self.items[-1]}.{_member(name)}"
        own = list(parts)
        while len(own) > 1 and snake_case(own[0]) in _OBJECTS:
            own.pop(0)
        known = field_of(snake_case("_".join(parts))) or field_of(snake_case("_".join(own)))
        if known is not None:
            return known
        shown = ".".join(own)
        self.custom_fields[shown] = None
        return custom_field(shown)


_OBJECTS = frozenset(
    (
        *("contact", "person", "subscriber", "lead", "user", "recipient", "customer", "profile", "member", "prospect"),
        *("merge", "params", "data", "attributes", "user_attributes", "userattributes", "endpoint", "fields"),
        *("custom_attribute", "properties", "company", "account"),
    )
)
"""What a name may begin with: `contact.FIRSTNAME`, `User.UserAttributes.FirstName`."""
_FILTERS = {
    "upcase": "upper",
    "upper": "upper",
    "uppercase": "upper",
    "downcase": "lower",
    "lower": "lower",
    "lowercase": "lower",
    "capitalize": "capitalize",
    "capfirst": "capitalize",
    "title": "title",
    "titlecase": "title",
    "strip": "trim",
    "trim": "trim",
    "lstrip": "trim",
    "rstrip": "trim",
    "strip_html": "striptags",
    "striptags": "striptags",
    "size": "length",
    "length": "length",
    "url_encode": "urlencode",
    "urlencode": "urlencode",
    "first": "first",
    "last": "last",
    "round": "round",
    "abs": "abs",
    "truncate": "truncate",
    "join": "join",
    "replace": "replace",
}
_NOTHING = frozenset({"escape", "safe", "raw", "h"})
"""Values are escaped here in any case."""
_EMPTY = frozenset("blank empty nil null none".split())  # noqa: SIM905
_HELPERS = frozenset({"default", "defaultIfEmpty", "fallback", "or"})
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')
    | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
    | (?P<sign>==|!=|<>|<=|>=|<|>|\|\||&&|[|:,()=!])
    | (?P<name>\$\{[^{}]*\}|[@.]?[^\W\d][\w-]*(?:\.(?:\[\d+\]|[\w-]+))*(?:\[\d+\])?|\.)
    )""",
    re.VERBOSE,
)
_PLAIN_NAME = re.compile(r"[^\W\d_][\w ./-]*")


class Token(NamedTuple):
    kind: str
    text: str


def value(text: str, names: Names) -> str:
    """An expression of ours for what stands between braces.

    Raises:
        NotTranslatable
    """
    text = _without_markup(text)
    if _PLAIN_NAME.fullmatch(text) and " " in text and (known := field_of(snake_case(text))):
        return f"{known} | default('')"
    tokens = _tokens(text)
    if found := re.fullmatch(r"personalization_token\((.*)\)", text):  # HubSpot
        tokens = _tokens(found[1].replace(",", " ", 1))
        tokens = [
            Token("name", "default"),
            *(Token("name", each.text.strip("'\"")) if not at else each for at, each in enumerate(tokens)),
        ]
    if len(tokens) == 3 and tokens[0].text in _HELPERS and tokens[1].kind == "name":  # Handlebars
        return f"{names.reference(tokens[1].text)} | default({_literal(tokens[2])})"
    if len(tokens) == 3 and tokens[0].text == "insert" and tokens[2].text[1:].startswith("default="):  # SendGrid
        return f"{names.reference(tokens[1].text)} | default({quoted(tokens[2].text[9:-1])})"
    head, *filters = _split(tokens, "|", "||")
    if len(head) != 1:
        raise NotTranslatable("this is more than a name and filters")
    if head[0].kind != "name":
        return " | ".join([_literal(head[0]), *filter(None, (_filter(each) for each in filters))])
    reference = names.reference(head[0].text)
    parts = [part for part in map(_filter, filters) if part]
    if not any(part.startswith("default(") for part in parts):
        parts.insert(0, "default('')")
    return " | ".join([reference, *parts])


def condition(text: str, names: Names) -> str:
    """A condition of ours.

    Raises:
        NotTranslatable
    """
    tokens = _tokens(_without_markup(text))
    joints = {"and": "and", "&&": "and", "or": "or", "||": "or"}
    used = {joints[token.text.lower()] for token in tokens if token.text.lower() in joints}
    if len(used) > 1:
        raise NotTranslatable("and and or in one condition")
    clauses = [_clause(each, names) for each in _split(tokens, *joints)]
    return f" {used.pop() if used else 'and'} ".join(clauses)


def _clause(tokens: Sequence[Token], names: Names) -> str:
    negations = sum(1 for _ in itertools.takewhile(lambda each: each.text in ("not", "!"), tokens))
    if negations:
        clause = _clause(tokens[negations:], names)
        return f"not ({clause})" if negations % 2 else clause
    if len(tokens) == 1 and tokens[0].kind == "name":
        return f"({names.reference(tokens[0].text)} | default(''))"
    if len(tokens) != 3 or tokens[0].kind != "name":
        raise NotTranslatable("a condition is a name, or a name that is compared with a value")
    left, sign, right = names.reference(tokens[0].text), tokens[1].text, tokens[2]
    sign = {"<>": "!=", "=": "==", "is": "=="}.get(sign, sign)
    if sign == "contains":
        return f"{_operand(right, names)} in ({left} | default(''))"
    if sign not in ("==", "!=", "<", ">", "<=", ">="):
        raise NotTranslatable(f"{sign} is not known in a condition")
    if sign in ("==", "!=") and (right.text.lower() in _EMPTY or right.text in ("''", '""')):
        return f"not ({left} | default(''))" if sign == "==" else f"({left} | default(''))"
    if right.text.lower() in ("true", "false"):
        return f"({left} | default('') | lower) {sign} '{right.text.lower()}'"
    if right.kind == "number":
        return f"({left} | default(0) | float) {sign} {right.text}"
    return f"({left} | default('')) {sign} {_operand(right, names)}"


def _operand(token: Token, names: Names) -> str:
    return f"({names.reference(token.text)} | default(''))" if token.kind == "name" else _literal(token)


def _filter(tokens: Sequence[Token]) -> str | None:
    """A filter of ours; None if there is nothing to do."""
    if not tokens:
        raise NotTranslatable("a filter is missing")
    name = tokens[0].text
    if tokens[0].kind == "text" and len(tokens) == 1:  # {{ firstName | "there" }}
        return f"default({_literal(tokens[0])})"
    arguments = [each for each in tokens[1:] if each.text not in (":", ",", "(", ")")]
    if name in ("default", "fallback", "default_if_none"):
        if not arguments:
            raise NotTranslatable("default without a value")
        return f"default({_literal(arguments[0])})"
    if name in _NOTHING:
        return None
    ours = _FILTERS.get(name)
    if ours is None:
        raise NotTranslatable(f"there is no filter {name}")
    given = ", ".join(map(_literal, arguments))
    return f"{ours}({given})" if given else ours


def _literal(token: Token) -> str:
    if token.kind == "text":
        return quoted(token.text[1:-1])
    if token.kind == "number":
        return token.text
    raise NotTranslatable(f"{token.text} must be a text or a number here")


def _tokens(text: str) -> list[Token]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if not text[position:].strip():
                break
            raise NotTranslatable(f"{text[position:].strip()[:1]} is not known here")
        tokens.append(Token(str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    if not tokens:
        raise NotTranslatable("there is nothing in it")
    return tokens


def _split(tokens: Sequence[Token], *signs: str) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind != "text" and token.text.lower() in signs:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _member(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise NotTranslatable(f"{name} is not the name of a field")
    return name


def _without_markup(text: str) -> str:
    """Without what an HTML editor may have put between the braces."""
    return html.unescape(re.sub(r"</?[a-zA-Z][^<>]*>", "", text)).replace("\u00a0", " ").strip().strip("~").strip()
