"""Words with a fixed set of values stand in core/vocabulary: code names them, and SQL text spells no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendledger.core import vocabulary
from sendledger.core.person_names import NAME_PARTS
from sendledger.core.tables import metadata
from sendledger.core.vocabulary import Word

ROOT = Path(__file__).parents[2]
CODE = [
    file
    for folder in ("layers/shared/sendledger", "functions")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if file.parent.name != "vocabulary"
]
ENUMS = [enum for enum in Word.__subclasses__() if enum.__module__.startswith(vocabulary.__name__)]

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

NOUNS = {
    *metadata.tables,
    *(column.name for table in metadata.tables.values() for column in table.columns),
    *NAME_PARTS,
    *("campaign", "lead", "schedule", "sender", "api", "unsubscribe", "import", "ses", "precedence", "reply"),
    *("content", "events", "ledger"),
}
"""Words that are also names of tables, columns, kinds of things, headers, parts of a name, database users or actors."""

OTHER_MEANING = {
    ("functions/campaign_api/http_errors.py", "too_long"): "a type of pydantic's errors",
    ("functions/campaign_api/suppressions_routes.py", "failed"): "a field of the answer: how many values were refused",
    ("functions/campaign_api/suppressions_routes.py", "added"): "a field of the answer: how many are new",
    ("functions/ses_events/ses_events_handler.py", "failed"): "a field of the log line: how many messages failed",
    ("adoption/ledger.py", "paused"): "a parameter of a statement",
    ("campaigns/campaign_counts.py", "complained"): "counted from email_events",
    ("campaigns/campaign_counts.py", "replied"): "counted from replies",
    ("campaigns/campaign_counts.py", "unsubscribed"): "a counter of the campaign",
    ("campaigns/guardrails.py", "bounced"): "a verb in a message",
    ("campaigns/lifecycle.py", "fail"): "an action of the table of transitions",
    ("campaigns/transitions.py", "fail"): "an action of the table of transitions",
    ("content/hidden_elements.py", "none"): "a value of CSS",
    ("content/template_filters.py", "none"): "a test of the template language",
    ("core/tables/base.py", "manual"): "a type of the old schema",
    ("core/tables/base.py", "scheduled"): "a type of the old schema",
    ("feedback/suppressions.py", "added"): "a field of the audit log: how many are new",
    ("feedback/read_reply.py", "fail"): "what SES writes into a header",
    ("feedback/read_reply.py", "none"): "what mail programs write into a header",
    ("feedback/read_ses_events.py", "opted_out"): "a key of an event's detail",
    ("feedback/reply_outcomes.py", "paused"): "a parameter of a statement",
    ("leads/leads.py", "manual"): "a source of the old schema",
    ("leads/opt_outs.py", "bounce"): "a word in the heading of a column",
    ("leads/read_leads.py", "invalid"): "a value that files have",
    ("ledger/record_results.py", "later"): "a kind of result: SES was not reached",
    ("ses/answers.py", "sent"): "an answer of SES",
}
"""Where a text is spelled like a word of the vocabulary and means something else."""

WORDS: dict[str, list[str]] = {}
for each in ENUMS:
    for word in each:
        WORDS.setdefault(word.value, []).append(f"{each.__name__}.{word.name}")


def short_name(file: Path) -> str:
    return str(file.relative_to(ROOT)).removeprefix("layers/shared/sendledger/")


def strings(file: Path) -> Iterator[tuple[int, str]]:
    """The texts in the code of a file, without docstrings."""
    tree = ast.parse(file.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def types(file: Path) -> Iterator[str]:
    """The names of the types that a module defines, aliases too."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            yield from (name.id for name in node.targets if isinstance(name, ast.Name))


@pytest.mark.parametrize(("name", "file"), [("Answer", "ses/answers.py"), ("Page", "core/pagination.py")])
def test_type_of_this_name_is_one_thing(name: str, file: str) -> None:
    assert [short_name(each) for each in CODE if name in types(each)] == [file]


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_each_enum_is_imported_from_the_vocabulary_itself(enum: type[Word]) -> None:
    assert getattr(vocabulary, enum.__name__) is enum


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_each_word_says_what_it_means(enum: type[Word]) -> None:
    assert [word.value for word in enum if not re.fullmatch(r"[A-Z].+\.", word.meaning)] == []


def test_code_names_words_and_does_not_spell_them() -> None:
    spelled = [
        f"{name}:{line}: {text!r} is {' or '.join(WORDS[text])}"
        for file in CODE
        for line, text in strings(file)
        for name in [short_name(file)]
        if text in WORDS and text not in NOUNS and (name, text) not in OTHER_MEANING
    ]
    assert spelled == []


def test_each_other_meaning_is_still_in_the_code() -> None:
    found = {(short_name(file), text) for file in CODE for _, text in strings(file)}
    assert set(OTHER_MEANING) - found == set()


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
