"""The subject of an answer is marked as one, once."""

from __future__ import annotations

import pytest

from sendledger.content.email_thread import answer_subject
from sendledger.content.render_email import MAX_SUBJECT


@pytest.mark.parametrize(
    "subject",
    ["Re: Hello", "RE:Hello", " re : Hello", "Re[2]: Hello", "AW: Hallo", "SV: Hej", "Antw: Hallo", "回复：你好"],
)
def test_subject_of_an_answer_stays(subject: str) -> None:
    assert answer_subject(subject) == subject


@pytest.mark.parametrize("subject", ["Hello", "Regarding: us", "Real estate: an idea", "Awards: 2026", "Ref: 12", ""])
def test_other_subject_is_marked(subject: str) -> None:
    assert answer_subject(subject) == f"Re: {subject}"


def test_marked_subject_is_not_too_long() -> None:
    assert len(answer_subject("x" * MAX_SUBJECT)) == MAX_SUBJECT
