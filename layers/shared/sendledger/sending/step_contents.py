"""What each campaign sends in each step, read and compiled once per tick. Reads `campaign_steps`,
`campaign_step_variants` and `campaigns`."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import sqlalchemy as sa

from sendledger.content.render_email import compile_template
from sendledger.core.errors import InvalidInput
from sendledger.core.tables import campaign_step_variants, campaign_steps, campaigns
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.sending.compose_email import StepContent


class InvalidContent(Exception):
    """A step's content is not, or no longer, a valid template. The problem is the campaign's, not one email's."""


_REPAIR = "Correct it, and resume with refresh_content=true."

ContentKey = tuple[uuid.UUID, int, dt.datetime | None]
"""A campaign, a revision of it, and when its content may have changed last; see `ClaimedEmail.content`."""

StepKey = tuple[int, int | None]
"""A step, and its variant where it has several."""


class StepContents:
    """The contents of the steps whose emails have been claimed so far."""

    def __init__(self, from_address: str) -> None:
        """`from_address` is for campaigns that name none."""
        self._from_address = from_address
        self._contents: dict[ContentKey, dict[StepKey, StepContent | InvalidContent]] = {}

    def knows(self, claimed: Sequence[ClaimedEmail]) -> bool:
        """Whether the contents of these emails are loaded."""
        return all(_step(email) in self._contents.get(email.content, ()) for email in claimed)

    def is_in_thread(self, email: ClaimedEmail) -> bool:
        """Whether a claimed email's step, which was loaded, goes out as an answer."""
        content = self._contents.get(email.content, {}).get(_step(email))
        return isinstance(content, StepContent) and content.in_thread

    def load(self, connection: sa.Connection, claimed: Sequence[ClaimedEmail]) -> set[uuid.UUID]:
        """Read what is not known yet, in one statement; returns the campaigns that were read."""
        missing = {email.content[:2]: email.content for email in claimed if not self.knows([email])}
        if not missing:
            return set()
        variant = campaign_step_variants.c
        texts = ("subject", "body_text", "body_html", "attachments")
        has_variants = variant.variant.is_not(None)
        rows = connection.execute(
            sa.select(
                *(campaign_steps.c[name] for name in ("campaign_id", "revision", "step_number", "in_thread")),
                variant.variant,
                *(sa.case((has_variants, variant[name]), else_=campaign_steps.c[name]).label(name) for name in texts),
                campaigns.c.name,
                campaigns.c.from_address,
                campaigns.c.reply_to_address,
                campaigns.c.track_opens,
                campaigns.c.track_clicks,
            )
            .join(campaigns, campaigns.c.id == campaign_steps.c.campaign_id)
            .outerjoin(
                campaign_step_variants,
                (variant.campaign_id == campaign_steps.c.campaign_id)
                & (variant.revision == campaign_steps.c.revision)
                & (variant.step_number == campaign_steps.c.step_number),
            )
            .where(sa.tuple_(campaign_steps.c.campaign_id, campaign_steps.c.revision).in_(missing))
            .order_by(campaign_steps.c.campaign_id, campaign_steps.c.step_number, variant.variant)
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
                content = InvalidContent(f"The template of {_name(row)} is not valid: {found}. {_REPAIR}")
            step = row["step_number"], row["variant"]
            contents = self._contents.setdefault(missing[row["campaign_id"], row["revision"]], {})
            contents[step] = content
            # A row that says no variant, as the version before writes them, gets the first one.
            contents.setdefault((row["step_number"], None), content)
        return {campaign_id for campaign_id, _ in missing}

    def steps_of(self, email: ClaimedEmail) -> list[StepKey]:
        """The steps of its campaign, which was loaded, and their variants."""
        return list(self._contents.get(email.content, ()))

    def of(self, email: ClaimedEmail) -> StepContent:
        """The content of a claimed email's step, which was loaded.

        Raises:
            InvalidContent: it cannot be compiled.
        """
        content = self._contents[email.content][_step(email)]
        if isinstance(content, InvalidContent):
            raise content
        return content


def _step(email: ClaimedEmail) -> StepKey:
    return email.step_number, email.variant


def _name(row: sa.RowMapping) -> str:
    return f"step {row['step_number']}" + (f", variant {row['variant']}," if row["variant"] is not None else "")
