"""Whether a subject is one that a mail system gives to automatic replies. Reads and writes no table.

The phrases count at the start of a subject only: a person's answer starts with "Re:" or its translation. Tags such as
"[EXTERNAL]" may stand before them. What is doubtful counts as a person's: their answer must stop the sequence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from sendledger.feedback.automatic_phrases import (
    ANSWER_PREFIXES,
    FROM,
    LEFT_BY_THEMSELVES,
    NOT_BEFORE,
    PHRASES,
    SOMEBODY_IS,
    TAG_WORDS,
    UNTIL,
)

_MOST_TAGS = 10
_LONGEST_TAG = 80
_LONGEST_SUBJECT = 500
# Letters that Unicode does not decompose into a base letter and an accent.
_PLAIN = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ə": "e"})
_SPACED_DASH = re.compile(r"\s[-\u2010-\u2015](?=\s)")
_STOPS = frozenset(",.;!\u3001\u3002\uff0c\uff01\u2026")
_WITHOUT_BLANKS = re.compile("[\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3040-\U0003ffff]")


def is_automatic_subject(subject: str) -> bool:
    """Whether only a mail system writes such a subject."""
    text = plain_text(subject[:_LONGEST_SUBJECT])
    for _ in range(_MOST_TAGS):
        rest = text.lstrip(" []:,")
        if _begins_with_a_phrase(f"{rest} "):
            return True
        tag = next((word for word in _TAGS if f"{rest} ".startswith(word)), "")
        if (end := text.find("]", 0, _LONGEST_TAG)) > 0 and text.startswith("["):
            text = text[end + 1 :].lstrip()
        elif tag:
            text = rest[len(tag) :]
        else:
            break
    is_answer = ":" in rest and rest.split(" ", 1)[0] in _ANSWER_PREFIXES
    return not is_answer and any(phrase in f" {rest} " for phrase in _SOMEBODY_IS)


def _begins_with_a_phrase(text: str) -> bool:
    for phrase in _STARTS if text.startswith(_STARTS) else ():
        if text.startswith(phrase) and (phrase.endswith(": ") or _words_after(phrase, text)[0] not in _NOT_BEFORE):
            return True
    if text.startswith(_ALONE):
        return any(_is_end(*_words_after(phrase, text)) for phrase in _ALONE if text.startswith(phrase))
    return False


def _words_after(phrase: str, text: str) -> tuple[str, str]:
    """The two words or signs behind the phrase."""
    first, second, *_ = [*text[len(phrase) :].split(None, 2), "", ""]
    return first, second


def _is_end(first: str, second: str) -> bool:
    """Whether these words say that a subject has only the phrase before them, or a date behind it."""
    return first in _UNTIL or first[:1].isdigit() or (first in _FROM and second[:1].isdigit())


def plain_text(text: str) -> str:
    """In lower case and without accents; of other characters only colons, brackets (as ``[`` and ``]``), and marks
    that end a sentence (as ``,``) stay.

    The same for composed and decomposed characters, and for full-width and ordinary ones.
    """
    kept = []
    text = _SPACED_DASH.sub(" ,", text.casefold())
    for character in unicodedata.normalize("NFKD", text).translate(_PLAIN):
        category = unicodedata.category(character)
        if category[0] in "LN" or category == "Mc":
            kept.append(character)
        elif category == "Ps" or character in "<«":
            kept.append(" [ ")
        elif category == "Pe" or character in ">»":
            kept.append(" ] ")
        elif character in _STOPS:
            kept.append(" , ")
        elif category not in ("Mn", "Cf"):  # an accent or an invisible mark
            kept.append(" : " if character == ":" else " ")
    return " ".join("".join(kept).split())


def _starts(phrases: Iterable[str]) -> tuple[str, ...]:
    """The plain phrases. In scripts that separate words by blanks, a blank follows."""
    plain = {plain_text(phrase) for phrase in phrases}
    return tuple(sorted(phrase if _WITHOUT_BLANKS.search(phrase) else f"{phrase} " for phrase in plain))


def _counts_alone(phrase: str) -> bool:
    plain = plain_text(phrase)
    return plain in _LEFT or (" " not in plain and not _WITHOUT_BLANKS.search(plain))


_LEFT = frozenset(plain_text(phrase) for phrase in LEFT_BY_THEMSELVES.split("|"))
_ALL = [phrase for phrases in PHRASES.values() for phrase in phrases]
_STARTS = _starts(phrase for phrase in _ALL if not _counts_alone(phrase))
_ALONE = tuple(f"{phrase.strip()} " for phrase in _starts(phrase for phrase in _ALL if _counts_alone(phrase)))
_UNTIL = frozenset((*map(plain_text, UNTIL.split()), "", ":", "[", "]", ","))
_FROM = frozenset(map(plain_text, FROM.split()))
_NOT_BEFORE = frozenset(NOT_BEFORE.split())
_SOMEBODY_IS = tuple(f" {plain_text(phrase)} " for phrase in SOMEBODY_IS)
_ANSWER_PREFIXES = frozenset(plain_text(prefix) for prefix in ANSWER_PREFIXES.split())
_TAGS = _starts(TAG_WORDS.split())
