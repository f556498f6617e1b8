"""What each campaign sends in each step, read and compiled once per tick. Reads `campaign_steps` and `campaigns`."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import sqlalchemy as sa

from sendledger.content.render_email import compile_template
from sendledger.core.errors import InvalidInput
from sendledger.core.tables import campaign_steps, campaigns
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.sending.compose_email import StepContent


class InvalidContent(Exception):
    """A step's content is not, or no longer, a valid template. The problem is the campaign's, not one email's."""


_REPAIR = "Correct it, and resume with refresh_content=true."

ContentKey = tuple[uuid.UUID, dt.datetime | None]
"""A campaign, and when it was resumed last; see `ClaimedEmail.content`."""


class StepContents:
    """The contents of the steps whose emails have been claimed so far."""

    def __init__(self, from_address: str) -> None:
        """`from_address` is for campaigns that name none."""
        self._from_address = from_address
        self._contents: dict[ContentKey, dict[int, StepContent | InvalidContent]] = {}

    def knows(self, claimed: Sequence[ClaimedEmail]) -> bool:
        """Whether the contents of these emails are loaded."""
        return all(email.step_number in self._contents.get(email.content, ()) for email in claimed)

    def is_in_thread(self, email: ClaimedEmail) -> bool:
        """Whether a claimed email's step, which was loaded, goes out as an answer."""
        content = self._contents[email.content][email.step_number]
        return isinstance(content, StepContent) and content.in_thread

    def load(self, connection: sa.Connection, claimed: Sequence[ClaimedEmail]) -> set[uuid.UUID]:
        """Read what is not known yet, in one statement; returns the campaigns that were read."""
        missing = {email.campaign_id: email.content for email in claimed if not self.knows([email])}
        if not missing:
            return set()
        rows = connection.execute(
            sa.select(
                campaign_steps,
                campaigns.c.name,
                campaigns.c.from_address,
                campaigns.c.reply_to_address,
                campaigns.c.track_opens,
                campaigns.c.track_clicks,
            )
            .join(campaigns, campaigns.c.id == campaign_steps.c.campaign_id)
            .where(campaign_steps.c.campaign_id.in_(missing))
        ).mappings()
        for row in rows:
            content: StepContent | InvalidContent
            try:
                content = StepContent(
                    compile_template(row["subject"], row["body_text"], row["body_html"]),
                    row["name"],
                    row["from_address"] or self._from_address,
                    row["reply_to_address"],
                    row["in_thread"],
                    row["track_opens"],
                    row["track_clicks"],
                    tuple(row["attachments"]),
                )
            except InvalidInput as error:
                # It was valid at the start. The language has changed since, or the row was changed by hand.
                found = "; ".join(f"{each.field}, {each.message}" for each in error.errors)
                content = InvalidContent(f"The template of step {row['step_number']} is not valid: {found}. {_REPAIR}")
            self._contents.setdefault(missing[row["campaign_id"]], {})[row["step_number"]] = content
        return set(missing)

    def steps_of(self, email: ClaimedEmail) -> list[int]:
        """The steps of its campaign, which was loaded."""
        return list(self._contents.get(email.content, ()))

    def of(self, email: ClaimedEmail) -> StepContent:
        """The content of a claimed email's step, which was loaded.

        Raises:
            InvalidContent: it cannot be compiled.
        """
        content = self._contents[email.content][email.step_number]
        if isinstance(content, InvalidContent):
            raise content
        return content
