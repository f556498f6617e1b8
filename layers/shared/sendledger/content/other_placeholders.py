"""Placeholders of other products, which would be sent unchanged. A template's source goes in, they come out."""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_NAMED = 10

_OF = r"(?:[a-z]{2,20}[ ._:-]{1,2})?"
_NAME = _OF + (
    r"(?:(?:first|last|full|middle|nick|user|company|contact|account|business)[ ._-]?name|[fl]name|name|company)"
)
_FIELD = f"(?:{_NAME}|{_OF}(?:e-?mail(?:[ ._-]?address)?|city|country|(?:job[ ._-]?)?title|salutation|phone))"
_ENTITY = r"&(?:lbrace|lcub|\#123|\#x7b);"

# Each pattern is bounded, so that any text is searched in linear time. Where the signs around are usual in texts, only
# the names of fields count.
_OTHERS = re.compile(
    rf"""
      \*\|[^\s*|]{{1,60}}\|\* | \*%7C.{{1,60}}?%7C\*             # *|FNAME|*, also in a link that an editor has encoded
    | %7B%7B.{{1,80}}?%7D%7D | %5B%5B.{{1,80}}?%5D%5D            # {{{{…}}}} and [[…]] in such a link
    | (?:{_ENTITY}){{1,2}}[^&<>]{{1,60}}(?:&(?:rbrace|rcub|\#125|\#x7d);){{1,2}}   # braces as entities
    | ｛{{1,2}}[^｛｝\n]{{1,60}}｝{{1,2}}                              # full-width braces
    | %%[A-Za-z][\w .:-]{{0,60}}%% | %%[=[][^%\n]{{1,80}}%%      # %%first_name%%, %%=v(@name)=%%
    | (?<![%\w])%(?-i:[A-Z][A-Z_]{{2,40}})%(?![%\w])             # %FIRSTNAME%
    | (?<![%\w])%(?:{_FIELD}|recipient[._][\w.]{{1,40}})%(?![%\w])
    | \$!?\{{!?[A-Za-z][\w .]{{0,60}}\}} | \$\[[^$[\]\n]{{1,60}}\]\$   # ${{first_name}}, $[FNAME|there]$
    | \#\{{[A-Za-z][\w .]{{0,60}}\}}                             # #{{first_name}}
    | \{{[!$][A-Za-z][\w .:;-]{{0,60}}\}}                        # {{!Contact.FirstName}}, {{$name}}
    | (?<![{{$\#])\{{[^{{}}<>|]{{1,80}}(?:\|[^{{}}<>|]{{0,80}}){{1,20}}\}}(?!\}})   # {{Hello|Hi}}
    | (?<![{{$\#])\{{[A-Za-z][A-Za-z0-9_ .-]{{0,60}}\}}(?!\}})   # {{FIRST_NAME}}
    | (?<![{{$\#])\{{\ ?{_FIELD}\ ?(?:[,:][^{{}}\n]{{0,60}})?\}}{{1,2}}   # {{ name }}, {{name, "there"}}, {{name}}}}
    | \{{[a-z]{{0,20}}(?:field|tag|contact|lead|recipient)[=:][\w .-]{{1,60}}\}}   # {{contactfield=firstname}}
    | \[\[[A-Za-z][^[\]\n]{{0,60}}\]\] | \[%[^[\]%\n]{{1,60}}%\]  # [[first_name]], [% name %]
    | \[{_NAME}(?:\ ?[|,:][^[\]\n]{{0,60}})?\]                   # [First Name], [name | there]
    | \[(?:your|insert|enter)\ [^[\]\n]{{1,40}}\]                # [Your Name]
    | (?<!\w)<<[A-Za-z][\w .:]{{0,60}}>>(?!\w) | &lt;&lt;[A-Za-z][\w .:]{{0,60}}&gt;&gt;   # <<First Name>>
    | (?:&lt;|<)(?:first|last|full|company|your)[ _-]?name(?:&gt;|>)
    | «{_FIELD}» | &laquo;{_FIELD}&raquo;                        # «First Name»
    | \#recipient:[^\#\n]{{1,60}}\# | \([fl]name\)               # #recipient:name|there#, (fname)
    | <%=?[^<>%]{{1,80}}%>
    | (?<!\#)\#(?-i:[A-Z][A-Z_]{{3,40}})\#                       # #FIRSTNAME#
    | (?<![\w~@$\#-])(?:(?P<sign>[~$\#]|\#\#|@@?){_FIELD}(?P=sign)|-{_NAME}-)(?![\w~@$\#-])   # ~Name~, -name-
    | (?<![\w$])\$!?(?:first|last|full|company)[_-]?name\b        # $first_name
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OURS = re.compile(r"\{\{[^{}]*\}\}|\{%[^{}%]*%\}|\{#[^#]*#\}")
_STYLE = re.compile(r"(<(?:style|script)\b|</(?:style|script))", re.IGNORECASE)


def other_placeholders(source: str) -> list[str]:
    """Each text that looks like a placeholder but is not one here, once. Style sheets are skipped."""
    return list(dict.fromkeys(text[:60] for _, text in placeholders_in(source)))[:MOST_NAMED]


def placeholders_in(source: str) -> Iterator[tuple[int, str]]:
    """Where there are such texts, in their order. Style sheets are skipped."""
    # As long as before, so that the places stay the same.
    others = _OURS.sub(lambda ours: "\0" * len(ours.group()), source)
    start, is_shown = 0, True
    for position, part in enumerate(_STYLE.split(others)):
        if position % 2:
            is_shown = part[1] == "/"
        elif is_shown:
            for match in _OTHERS.finditer(part):
                yield start + match.start(), source[start + match.start() : start + match.end()]
        start += len(part)
