"""First and last name of a lead: what is known of its name in, the parts that can be told with certainty out. No database.

Templates, previews and the API all ask here, so that they agree. A part that is not certain is empty: `default` in a
template then supplies what is written instead, and nobody is addressed by a title, a last name or an email address.
"""

from __future__ import annotations

import functools
import re

_TITLES = frozenset(
    """
    mr mrs ms miss mx dr prof professor doctor sir madam madame dame lord lady rev reverend fr father capt captain col
    maj sgt lt gen hon judge herr frau hr fr dipl-ing ing mag m mme mlle monsieur sig sigra signor signora dott
    dottssa avv sr sra srta don dona senor senora dhr mevr mevrouw drs ir pan pani bc mgr hra fru shri smt
    """.split()
)
_SUFFIXES = frozenset(
    """
    jr sr ii iii iv phd md mba msc bsc ma ba bs ms llm jd esq cpa cfa dds dvm rn pe pmp pharmd edd mph
    """.split()
)
_PARTICLES = frozenset("van von de der den da di du del della dos das la le el al bin ibn ten ter zu zum zur".split())
_NOT_A_PERSON = frozenset(
    """
    inc llc ltd gmbh ag co corp company team sales info support office admin accounts accounting reception manager
    owner department contact marketing service services customer unknown none null na n/a test hr billing
    """.split()
)
# Digits, addresses, several people ("Ann & Bob"), and scripts in which the last name may come first without a blank.
_UNCERTAIN = re.compile(
    r"[\d@&/+|<>{}\[\]_:;]|\b(?:and|und|et|y|en|e)\b|[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", re.I
)
_IN_BRACKETS = re.compile(r"\([^()]*\)|\"[^\"]*\"")


def name_parts(contact_name: str, first_name: str, last_name: str) -> tuple[str, str]:
    """First and last name. `first_name` and `last_name` are what was stored as such; '' is what is not known."""
    if "@" in first_name or first_name.strip(" ,"):
        first_name = _without_titles(first_name)
    if not first_name or not last_name:
        first, last = _split(contact_name, last_name)
        first_name, last_name = first_name or first, last_name or last
    return first_name, last_name.strip()


def _without_titles(first_name: str) -> str:
    words = first_name.split()
    while words and _key(words[0]) in _TITLES:
        words = words[1:]
    return "" if "@" in first_name else " ".join(words).rstrip(",")


@functools.lru_cache(maxsize=4096)
def _split(name: str, known_last_name: str) -> tuple[str, str]:
    """The parts of a whole name, if it is clear which is which."""
    name = " ".join(_IN_BRACKETS.sub(" ", name[:255]).split()).strip(" ,.;-")
    if not name or _UNCERTAIN.search(name):
        return "", ""
    before, comma, after = name.partition(",")
    if comma:
        suffix = all(_key(word) in _SUFFIXES for word in after.replace(",", " ").split())
        # "Jane Smith, MBA", or "Smith, Jane".
        words, last_first = (before.split(), False) if suffix else (f"{after} {before}".split(), True)
        if "," in after and not suffix:
            return "", ""
    else:
        words, last_first = name.split(), False
    titled = bool(words) and _key(words[0]) in _TITLES
    while words and _key(words[0]) in _TITLES:
        words = words[1:]
    while len(words) > 1 and _key(words[-1]) in _SUFFIXES:
        words = words[:-1]
    if not words or any(_key(word) in _NOT_A_PERSON for word in words):
        return "", ""
    if last_first:
        first_count = len(after.split()) - (len(f"{after} {before}".split()) - len(words))
        if first_count < 1:
            return "", before.strip()
        first, last = words[0], before.strip()
    else:
        first, last = words[0], " ".join(words[1:])
        if known_last_name and " ".join(words).casefold() == known_last_name.strip().casefold():
            return "", ""
        if (titled and not last) or (first in _PARTICLES and last):
            return "", " ".join(words)  # "Dr. Smith", "van Gogh"
    if len(first.rstrip(".")) < 2 or first.endswith("."):
        first = ""  # an initial
    return first, last


def _key(word: str) -> str:
    return word.replace(".", "").strip(",").lower()
