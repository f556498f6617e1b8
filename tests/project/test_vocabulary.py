"""Words with a fixed set of values stand in core/vocabulary.py: code names them, and SQL text spells no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendledger.core import vocabulary
from sendledger.core.vocabulary import Word

ROOT = Path(__file__).parents[2]
CODE = [
    file
    for folder in ("layers/shared/sendledger", "functions")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if file.name != "vocabulary.py"
]
ENUMS = [each for each in vars(vocabulary).values() if isinstance(each, type) and issubclass(each, Word)]
ENUMS.remove(Word)

OF_COLUMN = {
    "status": (
        "CampaignStatus",
        "ScheduledEmailStatus",
        "LeadStatus",
        "LeadBatchStatus",
        "ExportStatus",
        "EmailStatus",
    ),
    "reason": ("Reason", "SuppressionReason"),
    "error_code": ("ErrorCode",),
    "event_type": ("EventType",),
    "delivery_status": ("DeliveryStatus",),
}
"""Which words SQL text may compare a column of this name with."""

# Words of one plain noun mean other things elsewhere, and `too_long` is one of pydantic's; these do not.
TELLING = {
    word.value: f"{enum.__name__}.{word.name}"
    for enum in ENUMS
    for word in enum
    if enum.__name__ in ("AuditAction", "Reason", "ErrorCode")
    and re.search(r"[_.]", word.value)
    and word.value != "too_long"
}


def strings(file: Path) -> Iterator[tuple[int, str]]:
    """The texts in the code of a file, without docstrings."""
    tree = ast.parse(file.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_each_word_says_what_it_means(enum: type[Word]) -> None:
    assert [word.value for word in enum if not re.fullmatch(r"[A-Z].+\.", word.meaning)] == []


def test_code_names_words_and_does_not_spell_them() -> None:
    spelled = [
        f"{file.relative_to(ROOT)}:{line}: {text!r} is {TELLING[text]}"
        for file in CODE
        for line, text in strings(file)
        if text in TELLING
    ]
    assert spelled == []


def test_sql_compares_columns_with_words_of_the_vocabulary() -> None:
    known = {
        column: {word.value for enum in ENUMS if enum.__name__ in names for word in enum}
        for column, names in OF_COLUMN.items()
    }
    comparison = re.compile(rf"\b({'|'.join(known)})\s*(?:=|<>|IN|NOT IN|IS DISTINCT FROM)\s*(\(\s*'[^)]*\)|'[^']*')")
    unknown = [
        f"{file.relative_to(ROOT)}:{line}: {column} {word!r}"
        for file in CODE
        for line, text in strings(file)
        for column, words in comparison.findall(text)
        for word in re.findall(r"'([^']*)'", words)
        if word not in known[column]
    ]
    assert unknown == []
