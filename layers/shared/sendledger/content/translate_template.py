"""Templates of other products, turned into ours: what was translated, and what could not be, with line and text.

Understood are Handlebars and Mustache (`{{#if x}}`, `{{{x}}}`), Liquid and its relatives (`{{ x | default: "y" }}`,
`{% if x != blank %}`), merge tags (`*|FNAME|*`) and simple placeholders (`%FIRSTNAME%`, `{FIRST_NAME}`). A value that a
lead lacks becomes an empty text, as it does there. What is not understood stays in the text as it is. No database.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass

from sendledger.content.other_expressions import Names, NotTranslatable, condition, value
from sendledger.content.other_placeholders import placeholders_in
from sendledger.content.placeholder_names import as_text, field_of, snake_case
from sendledger.content.template_language import MAX_TEMPLATE
from sendledger.core.errors import FieldError, InvalidInput

MOST_TAGS = 5_000
"""In a text. A template of ours has some 1,000."""


@dataclass(frozen=True)
class Translated:
    """A placeholder and what it has become."""

    line: int
    text: str
    becomes: str


@dataclass(frozen=True)
class Untranslated:
    """What stays in the text, and why."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Translation:
    """A template of ours, and how it came about."""

    source: str
    translated: tuple[Translated, ...]
    untranslated: tuple[Untranslated, ...]
    custom_fields: tuple[str, ...]
    """Names that are no field of a lead: they must be custom fields of the leads."""


# Each part ends at the next brace, sign or bound, so that any text is searched in linear time.
_TAG = re.compile(
    r"""
      \{\{\{(?P<triple>[^{}]*)\}\}\}
    | \{\{(?P<double>(?:[^{}]|\$\{[^{}]*\})*)\}\}
    | \{%-?(?P<percent>[^%{}]*)%\}
    | \*\|(?P<merge>[^|*]{1,80})\|\*
    """,
    re.VERBOSE,
)
_SIMPLE = re.compile(
    r"(?:%%?|\$\{|\{|\[\[?|<<|&lt;&lt;|\#)\s*([A-Za-z][\w .-]*?)\s*(?:%%?|\}|\]\]?|>>|&gt;&gt;|\#)", re.ASCII
)
_MERGE = re.compile(r"(?P<word>IF|IFNOT|ELSEIF):(?P<name>\w+)(?:\s*(?P<sign>!?=)\s*(?P<value>.*))?", re.IGNORECASE)
_FOR = re.compile(r"(?P<item>[A-Za-z_]\w*)\s+in\s+(?P<list>[\w.]+)")
_SET = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.+)", re.DOTALL)
_VALUE, _OTHER = "=", "?"
_TAGS = {"elif": "elsif", "elseif": "elsif", "set": "assign", "endunless": "endif"}
"""Tags of Liquid's relatives, by the name that Liquid has for them."""


@dataclass
class _Block:
    """An open block. Its tags are in the output already; they become text again if one of them is not understood."""

    word: str
    closers: frozenset[str]
    end: str
    tags: list[int]
    reason: str | None = None
    names: tuple[int, int] = (0, 0)
    """How many names there were outside of it."""


def translate(source: str, part: str = "body") -> Translation:
    """The template of another product as one of ours; `part` is its name in errors.

    Raises:
        InvalidInput: it has too many tags, or becomes too long.
    """
    translator = _Translator()
    found, position = _found(source), 0
    if len(found) > MOST_TAGS:
        error = FieldError(part, f"has {len(found):,} tags; at most {MOST_TAGS:,} are possible")
        raise InvalidInput("The template cannot be translated.", [error])
    for start, match in found:
        if start < position:
            continue
        translator.text(source[position:start])
        whole = match if isinstance(match, str) else match.group()
        translator.tag(start, whole, match)
        position = start + len(whole)
    translator.text(source[position:])
    made = translator.finish(source)
    if len(made.source) > MAX_TEMPLATE:
        message = f"becomes a template of {len(made.source):,} characters; at most {MAX_TEMPLATE:,} are possible"
        raise InvalidInput("The template cannot be translated.", [FieldError(part, message)])
    return made


def _found(source: str) -> list[tuple[int, re.Match[str] | str]]:
    """Tags and simple placeholders by their place. Where both begin, the tag comes first."""
    tags: list[tuple[int, re.Match[str] | str]] = [(match.start(), match) for match in _TAG.finditer(source)]
    return sorted([*tags, *placeholders_in(source)], key=lambda each: each[0])


class _Translator:
    """Collects the output piece by piece, so that a tag can become text again when its block is not understood."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._origins: dict[int, tuple[int, str]] = {}
        self._reasons: dict[int, str] = {}
        self._blocks: list[_Block] = []
        self._names = Names()
        self._in_comment = False

    def text(self, text: str) -> None:
        if text and not self._in_comment:
            self._pieces.append(as_text(text))

    def tag(self, start: int, whole: str, match: re.Match[str] | str) -> None:
        """One tag or placeholder of theirs."""
        word, rest = _statement(match)
        if self._in_comment:
            self._in_comment = word != "endcomment"
            return
        index = len(self._pieces)
        self._pieces.append("")
        self._origins[index] = (start, whole)
        try:
            self._pieces[index] = self._translated(index, word, rest)
        except NotTranslatable as error:
            self._refuse(index, str(error))

    def finish(self, source: str) -> Translation:
        for block in self._blocks:
            self._refuse_block(block, f"{block.word} is never closed")
        ends = [match.start() for match in re.finditer("\n", source)]
        translated, untranslated = [], []
        for index, (start, whole) in self._origins.items():
            line, shown = bisect.bisect_left(ends, start) + 1, whole[:200]
            if index in self._reasons:
                untranslated.append(Untranslated(line, shown, self._reasons[index]))
            else:
                translated.append(Translated(line, shown, self._pieces[index]))
        names = tuple(self._names.custom_fields)
        return Translation("".join(self._pieces), tuple(translated), tuple(untranslated), names)

    def _refuse(self, index: int, reason: str) -> None:
        self._pieces[index] = as_text(self._origins[index][1])
        self._reasons[index] = reason

    def _refuse_block(self, block: _Block, reason: str) -> None:
        block.reason = reason
        for index in block.tags:
            self._refuse(index, reason)

    def _translated(self, index: int, word: str, rest: str) -> str:
        if word == _VALUE:
            return f"{{{{ {value(rest, self._names)} }}}}"
        if word in ("if", "unless", "for", "each"):
            return self._open(index, word, rest)
        if word in ("else", "elsif"):
            return self._branch(index, word, rest)
        if word.startswith(("/", "end")) and word not in ("endcomment", "endraw"):
            return self._close(index, word)
        if word in ("comment", "!"):
            self._in_comment = word == "comment"
            return ""
        if word == "assign" and (found := _SET.fullmatch(rest)):
            made = f"{{% set {found['name']} = {value(found['value'], self._names)} %}}"
            self._names.local.append(found["name"])
            return made
        raise NotTranslatable(rest if word == _OTHER else f"there is no {word} here")

    def _open(self, index: int, word: str, rest: str) -> str:
        closers = {"if": "/if endif", "unless": "/unless endif", "for": "endfor", "each": "/each"}[word]
        names = (len(self._names.local), len(self._names.items))
        block = _Block(word, frozenset(f"{closers} /{rest}".split()), "{% endif %}", [index], names=names)
        self._blocks.append(block)
        try:
            if word in ("for", "each"):
                return self._loop(block, rest)
            test = condition(rest, self._names)
        except NotTranslatable as error:
            block.reason = str(error)
            raise
        return f"{{% if {test} %}}" if word == "if" else f"{{% if not ({test}) %}}"

    def _loop(self, block: _Block, rest: str) -> str:
        found = _FOR.fullmatch(rest if block.word == "for" else f"item{len(self._blocks)} in {rest}")
        if found is None:
            raise NotTranslatable("a loop is over one list, without parameters")
        entries = self._names.reference(found["list"])
        self._names.local.append(found["item"])
        if block.word == "each":
            self._names.items.append(found["item"])
        block.end = "{% endfor %}{% endif %}"
        return f"{{% if {entries} is defined %}}{{% for {found['item']} in {entries} %}}"

    def _branch(self, index: int, word: str, rest: str) -> str:
        block = self._innermost(word)
        block.tags.append(index)
        try:
            if block.word in ("for", "each"):
                raise NotTranslatable("else of a loop")
            return "{% else %}" if word == "else" else f"{{% elif {condition(rest, self._names)} %}}"
        except NotTranslatable as error:
            self._refuse_block(block, str(error))
            raise

    def _close(self, index: int, word: str) -> str:
        block = self._innermost(word)
        if word not in block.closers:
            raise NotTranslatable(f"{block.word} is open here")
        self._leave(block)
        return block.end

    def _leave(self, block: _Block) -> None:
        self._blocks.pop()
        del self._names.local[block.names[0] :], self._names.items[block.names[1] :]

    def _innermost(self, word: str) -> _Block:
        if not self._blocks:
            raise NotTranslatable("nothing is open that this could belong to")
        block = self._blocks[-1]
        if block.reason is not None:
            if word in block.closers:
                self._leave(block)
            raise NotTranslatable(block.reason)
        return block


def _statement(match: re.Match[str] | str) -> tuple[str, str]:
    """What a tag is, in Liquid's words, and what it is about."""
    if isinstance(match, str):
        return _of_placeholder(match)
    if (merge := match["merge"]) is not None:
        return _of_merge_tag(merge.strip())
    if (percent := match["percent"]) is not None:
        word, _, rest = percent.strip(" \t\r\n-").partition(" ")
        word = _TAGS.get(word, word)
        return (word, rest.strip()) if word else (_OTHER, "there is nothing in it")
    content = (match["double"] if match["triple"] is None else match["triple"]).strip(" \t\r\n~")
    first = content[:1]
    if first == "!":
        return "!", ""
    if first == "#":
        word, _, rest = content[1:].strip().partition(" ")
        if word in ("if", "unless", "each"):
            return word, rest.strip()
        return (_OTHER, f"there is no {word} here") if rest else ("if", word)
    if content in ("else", "^"):
        return "else", ""
    if first == "^":
        return "unless", content[1:].strip()
    if content.startswith("else if "):
        return "elsif", content.removeprefix("else if ")
    if first == "/":
        return content.replace(" ", ""), ""
    if first in (">", "@"):
        return _OTHER, "parts of other templates are not possible"
    return _VALUE, re.sub(r"^&(?![#\w]+;)", "", content)


def _of_merge_tag(content: str) -> tuple[str, str]:
    if content.upper() == "ELSE:":
        return "else", ""
    if content.upper() in ("END:IF", "/IF"):
        return "endif", ""
    if (found := _MERGE.fullmatch(content)) is not None:
        word = {"IF": "if", "IFNOT": "unless", "ELSEIF": "elsif"}[found["word"].upper()]
        sign = {"=": "==", "!=": "!="}.get(found["sign"] or "")
        quoted = '"' + (found["value"] or "").strip().replace('"', "") + '"'
        return word, f"{found['name']} {sign} {quoted}" if sign else found["name"]
    return _VALUE, content


def _of_placeholder(text: str) -> tuple[str, str]:
    found = _SIMPLE.fullmatch(text)
    if found is None:
        return _OTHER, "this kind of placeholder is not understood"
    if text[0] in "{[" and not text.startswith("[[") and field_of(snake_case(found[1])) is None:
        return _OTHER, "it is not the name of a field"
    return _VALUE, found[1].strip().replace(" ", "_")
