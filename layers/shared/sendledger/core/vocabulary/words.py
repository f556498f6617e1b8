"""What a word of the vocabulary is: a value with a sentence that says what it means."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, Self


class Word(enum.StrEnum):
    """A value and what it means. As a `str` it goes into SQL, JSON and logs as it is."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        word = str.__new__(cls, value)
        word._value_ = value
        word.meaning = meaning
        return word

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """In OpenAPI each value is described."""
        derived = handler(schema)
        return {**derived, "description": f"{(cls.__doc__ or '').strip()}\n\n{described(cls)}"}


def described(words: Iterable[Word]) -> str:
    """Each word with its meaning, for OpenAPI."""
    return "\n".join(f"- `{word}`: {word.meaning}" for word in words)


def quoted(words: Iterable[str]) -> str:
    """The words as a list of SQL literals. They are our own and contain no quote."""
    return ", ".join(f"'{word}'" for word in words)
