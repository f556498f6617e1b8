"""Answers of people, as the sender needs them. Reads `answers`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.core.tables import answers


@dataclass(frozen=True)
class WrittenAnswer:
    """A written answer. It is no template: it is sent as it is. `in_reply_to` and `root_id` are None if unknown."""

    subject: str
    text: str
    in_reply_to: str | None
    root_id: str | None


def find_answers(connection: sa.Connection, scheduled_email_ids: Collection[int]) -> dict[int, WrittenAnswer]:
    """The answers that these scheduled emails carry."""
    kept = answers.c
    columns = (kept.scheduled_email_id, kept.subject, kept.body_text, kept.in_reply_to, kept.root_id)
    rows = connection.execute(sa.select(*columns).where(kept.scheduled_email_id.in_(scheduled_email_ids)))
    return {
        id_: WrittenAnswer(subject, text, in_reply_to, root_id) for id_, subject, text, in_reply_to, root_id in rows
    }
