"""The one rule for first and last names. What is known of a person's name goes in, both parts come out. No database.

Nothing is guessed. A first name that is not clear is left empty, so that a template's `default` is used: "Hi there" is
better than "Hi Smith". The API, exports, previews and emails all use this rule.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

NAME_PARTS = ("first_name", "last_name")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES = _words(
    "mr mrs ms miss mx mister missis dr doctor prof professor sir madam madame mme mlle mademoiselle monsieur m"
    " lord lady rev reverend fr father hon capt captain lt col colonel gen general maj major sgt herr herrn frau hr"
    " dipl dipl-ing dipl-kfm ing mag magister don doña dña sr sra srta señor señora sig sigra signor signora dott"
    " dottssa dottore dottoressa avv arch geom dhr mevr mevrouw meneer heer drs ir pan pani dra senhor senhora exmo"
    " exma fru frøken herra rouva bay bayan med phil rer nat jur"
)
_SUFFIXES = _words(
    "jr sr junior senior i ii iii iv v phd ph.d md m.d dds dvm do mba msc bsc ma ba bs ms llm llb jd esq esquire"
    " cpa cfa cfp cissp pmp pe rn np pa-c obe mbe cbe kbe frcs mph mpa med edd psyd dba llc"
)
_SUFFIXES_WITHOUT_COMMA = _words("jr sr ii iii iv phd ph.d md m.d mba esq cpa")
_NOBODY = _words("n/a na none null nil nan unknown undefined anonymous test")
_ROLES = _words(
    "info sales support office admin team the contact customer service accounts accounting billing marketing hello"
    " hr reception company owner manager user department and und et & or"
)
_NOT_NAMES = _NOBODY | _ROLES
_COMPANY_FORMS = _words("inc ltd llc gmbh corp limited ag sarl srl bv plc co group holding kg ohg team office")
_INVISIBLE = "\u00a0\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_BLANKS_AND_MARKS = f" \t\r\n\"'`*_~#|/\\<>()[]{{}}:;,{_INVISIBLE}"
_FAMILY_NAME_FIRST = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Scripts of languages in which the family name usually comes first; often, but not always."""


class PersonName(NamedTuple):
    """Both parts, as far as they are known; '' where one is not."""

    first_name: str
    last_name: str


def person_name(lead: Mapping[str, Any]) -> PersonName:
    """The name of a lead, which is given as its row or as what stands for one.

    A separate first or last name, also among the custom fields, is preferred to the contact name.
    """
    custom_fields = lead.get("custom_fields")
    custom = custom_fields if isinstance(custom_fields, Mapping) else {}
    given = (lead.get(part) or custom.get(part) or "" for part in NAME_PARTS)
    first, last = (value if isinstance(value, str) else "" for value in given)
    return parse_name(first, last, lead.get("contact_name") or "")


_BESIDE_THE_NAME = re.compile(
    r"(?:^|(?<=\s))(?:\([^()]{0,100}\)|\[[^\[\]]{0,100}\]|[\"\u201c\u201e'\u2018][^\"\u201c\u201d'\u2019]{0,100}[\"\u201c\u201d'\u2019](?!\w))"
)
"""A nickname or a note: Jane "JJ" Smith (Acme)."""
_SEVERAL = frozenset(("&", "+", "and", "und", "et", "en", "och"))


@functools.lru_cache(maxsize=10_000)
def parse_name(first: str, last: str, full: str) -> PersonName:
    """The parts of a name from its columns, each of which may be empty or hold what does not belong there."""
    last = last.strip(_BLANKS_AND_MARKS) if is_name(last) else ""
    from_full = _split(full, last)
    if is_name(first):
        cleaned = _split(first, "", is_first_name=True).first_name
        if cleaned and cleaned.casefold() != last.casefold():
            return PersonName(cleaned, last or from_full.last_name)
    return PersonName(from_full.first_name, last or from_full.last_name)


def is_name(text: str) -> bool:
    """Whether a text can be a person's name; an address, a number and ``n/a`` cannot."""
    if text.isalpha():  # most are, and an import asks for every lead
        return text.casefold() not in _NOT_NAMES
    word = text.strip(_BLANKS_AND_MARKS).casefold()
    return "@" not in word and "://" not in word and word not in _NOT_NAMES and any(map(str.isalpha, word))


def is_title(text: str) -> bool:
    """Whether a text is a form of address and nothing else: ``Mrs.``, ``Prof. Dr.``."""
    words = text.split()
    return bool(words) and all(_key(word) in _TITLES for word in words)


def _split(full: str, last: str, is_first_name: bool = False) -> PersonName:
    if not is_name(full):
        return PersonName("", "")
    full = _BESIDE_THE_NAME.sub(" ", full)
    family, comma, rest = full.partition(",")
    if comma:
        pieces = [piece.strip() for piece in rest.split(",")]
        given = [piece for piece in pieces if piece and not _is_suffix(piece) and not is_title(piece)]
        if len(given) > 1 or (given and not is_name(given[0])):
            return PersonName("", "")
        if given:  # Smith, Jane
            words = _without_titles(given[0].split())
            if not _may_be_a_person(words):
                return PersonName("", "")
            return PersonName(_first_word(words), " ".join(_without_titles(family.split())))
        if any(is_title(piece) for piece in pieces) and len(family.split()) == 1:  # Smith, Dr.
            return PersonName("", family.strip())
        full = family  # Jane Smith, PhD
    words = full.split()
    bare = _without_titles(words)
    while len(bare) > 1 and _key(bare[-1]) in _SUFFIXES_WITHOUT_COMMA:
        bare = bare[:-1]
    if not _may_be_a_person(bare):
        return PersonName("", "")
    if is_first_name:
        return PersonName(_first_words(bare), "")
    if last:
        remaining = _without_last_name(bare, last.split())
        return PersonName(_first_word(remaining), last)
    if len(bare) < 2 or _FAMILY_NAME_FIRST.search(bare[0]):
        return PersonName("", bare[0] if len(bare) == 1 and len(words) > 1 else "")  # Dr. Smith
    return PersonName(_first_word(bare), " ".join(bare[1:]))


def _without_titles(words: list[str]) -> list[str]:
    start = 0
    while start < len(words) and _key(words[start]) in _TITLES:
        start += 1
    return [word for word in (each.strip(_BLANKS_AND_MARKS) for each in words[start:]) if word]


def _without_last_name(words: list[str], last: list[str]) -> list[str]:
    """A full name without its last name; all of it if the last name is neither at its end nor at its beginning."""
    folded, wanted = [word.casefold() for word in words], [word.casefold() for word in last]
    if folded[-len(wanted) :] == wanted:
        return words[: -len(wanted)]
    if folded[: len(wanted)] == wanted:
        return words[len(wanted) :]
    return words if len(words) > 1 else []


def _first_word(words: list[str]) -> str:
    return _first_words(words[:1])


def _first_words(words: list[str]) -> str:
    """The words of a first name. A single initial is not a first name; a single Chinese character is."""
    text = " ".join(words)
    return text if sum(map(str.isalpha, text)) > 1 or _FAMILY_NAME_FIRST.fullmatch(text) else ""


def _is_suffix(text: str) -> bool:
    return all(_key(word) in _SUFFIXES for word in text.split())


def _key(word: str) -> str:
    return word.strip(_BLANKS_AND_MARKS).rstrip(".").casefold()


def _may_be_a_person(words: list[str]) -> bool:
    if any(_key(word) in _SEVERAL for word in words):
        return False  # Jane & John Smith
    return bool(words) and _key(words[0]) not in _NOT_NAMES and _key(words[-1]) not in _COMPANY_FORMS
