"""Placeholders of other products, which would be sent unchanged. A template's source goes in, they come out."""

from __future__ import annotations

import re

MOST_NAMED = 10

# Each pattern is bounded, so that any text is searched in linear time.
_OTHERS = re.compile(
    r"""
      \*\|[^\s*|]{1,60}\|\*                                  # *|FNAME|*
    | %7B%7B.{1,80}?%7D%7D                                   # {{…}} in a link that an editor has encoded
    | %%[A-Za-z][\w .:-]{0,60}%%                             # %%first_name%%
    | (?<![%\w])%[A-Z][A-Z_]{2,40}%(?![%\w])                 # %FIRSTNAME%
    | \$\{[A-Za-z][\w .]{0,60}\}                             # ${first_name}
    | (?<![{$\#])\{[^{}<>|]{1,80}(?:\|[^{}<>|]{0,80}){1,20}\}(?!\})  # {Hello|Hi}
    | (?<![{$])\{[A-Za-z][A-Za-z0-9_ .-]{0,60}\}(?!\})       # {FIRST_NAME}
    | \[\[[A-Za-z][\w .:-]{0,60}\]\]                         # [[first_name]]
    | \[(?:FNAME|LNAME|(?:first|last|full|company)[ _-]?name|name|company)\]
    | <<[A-Za-z][\w .]{0,60}>> | &lt;&lt;[A-Za-z][\w .]{0,60}&gt;&gt;
    | <%=?[^<>%]{1,80}%>
    | \#[A-Z][A-Z_]{3,40}\#                                  # #FIRSTNAME#
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CASE_MATTERS = re.compile(r"[%#][^%#\s]*[a-z][^%#]*[%#]")
_OURS = re.compile(r"\{\{[^{}]*\}\}|\{%[^{}%]*%\}|\{#[^#]*#\}")
_STYLE = re.compile(r"(<(?:style|script)\b|</(?:style|script))", re.IGNORECASE)


def other_placeholders(source: str) -> list[str]:
    """Each text that looks like a placeholder but is not one here, once. Style sheets are skipped."""
    found: dict[str, None] = {}
    shown = True
    for position, part in enumerate(_STYLE.split(source)):
        if position % 2:
            shown = part[1] == "/"
        elif shown:
            for match in _OTHERS.finditer(_OURS.sub("", part)):
                text = match.group()
                if text.startswith(("%7", "%%")) or not _CASE_MATTERS.fullmatch(text):
                    found.setdefault(text[:60])
    return list(found)[:MOST_NAMED]
