"""The emails that one sender has claimed and not yet fenced: claiming more, choosing the next ones, returning them.

Campaigns whose emails were being prepared when a sender died are claimed alone: when nothing else is due, and in the
last seconds of each tick, so that a backlog of other campaigns does not delay them forever. Writes `scheduled_emails`
through `claim_emails` and `campaigns` through `sweep`.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Collection

import sqlalchemy as sa

from sendledger.ledger import claim_emails, sweep
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.policy.lane_queue import LaneQueue
from sendledger.sending.step_contents import ContentKey
from sendledger.sending.tick_summary import TickSummary

MOST_ALONE = 50
"""Emails of such a campaign that are claimed together."""

ALONE_SECONDS = 5.0
"""How long before the end of a tick these campaigns come first."""


class ClaimedEmails:
    """The claimed emails of one sender, in the order in which they will be prepared."""

    def __init__(self, engine: sa.Engine, token: uuid.UUID, summary: TickSummary, stop_at: float) -> None:
        """`stop_at` (`time.monotonic()`) is when the tick's last call may begin."""
        self.emails: deque[ClaimedEmail] = deque()
        self.alone = False
        """Whether they belong to a campaign that is prepared alone, or are one email that was claimed by its id."""
        self.more_are_due = False
        """Whether the last claim found as many as it looked for."""
        self._engine = engine
        self._token = token
        self._summary = summary
        self._alone_first_from = stop_at - ALONE_SECONDS
        self._isolated: uuid.UUID | None = None
        self._lanes = LaneQueue()

    def claim(self, most: int, *, nothing_in_hand: bool) -> None:
        """Claim up to `most` due emails."""
        with self._engine.begin() as connection:
            claimed = self._claim_alone(connection, most) if time.monotonic() >= self._alone_first_from else []
            self.alone = bool(claimed)
            if not claimed:
                claimed = claim_emails.claim(connection, most, self._token, lanes=self._lanes)
            if not claimed and nothing_in_hand:
                # A death would not delay other campaigns.
                self.alone = True
                claimed = self._claim_alone(connection, most)
        self.more_are_due = len(claimed) >= most
        self._add(claimed)

    def _claim_alone(self, connection: sa.Connection, most: int) -> list[ClaimedEmail]:
        claimed = claim_emails.claim(connection, min(most, MOST_ALONE), self._token, alone=True)
        self._isolated = claimed[0].campaign_id if claimed else None
        return claimed

    def claim_one(self, scheduled_email_id: int) -> None:
        """Claim this email, due or not."""
        self.alone = True
        with self._engine.begin() as connection:
            email = claim_emails.claim_one(connection, scheduled_email_id, self._token)
        if email is not None:
            self._add([email])
        else:
            self._summary.stopped = (
                "not_pending: The email is not pending, its campaign is not running, or its sender is disabled."
            )

    def _add(self, claimed: list[ClaimedEmail]) -> None:
        self.emails += claimed
        self._summary.claimed += len(claimed)

    def unproven(self, proven: Collection[ContentKey]) -> list[ClaimedEmail]:
        """One email of each campaign whose content must be tried before SES calls are under way."""
        if self.alone:
            return []
        return list({email.content: email for email in self.emails if _needs_proof(email, proven)}.values())

    def bring_forward(self, proven: Collection[ContentKey]) -> int:
        """Move the emails that may be prepared now to the front. Returns their number."""
        if self.alone:
            return len(self.emails)
        waiting = [email for email in self.emails if _needs_proof(email, proven)]
        if waiting:
            self.emails = deque(email for email in self.emails if not _needs_proof(email, proven))
            self.emails += waiting
        return len(self.emails) - len(waiting)

    def did_no_harm(self) -> None:
        """Note that emails were prepared. After all claimed emails of an isolated campaign were, its isolation ends."""
        if self._isolated is not None and not self.emails:
            with self._engine.begin() as connection:
                sweep.trust_again(connection, self._isolated)
            self._isolated = None

    def give_back(self, campaign_ids: Collection[uuid.UUID] | None = None) -> None:
        """Return the claimed emails of these campaigns, or all."""
        emails = [email for email in self.emails if campaign_ids is None or email.campaign_id in campaign_ids]
        if emails:
            with self._engine.begin() as connection:
                self._summary.released += claim_emails.release(connection, emails, self._token)
            given_back = {email.id for email in emails}
            self.emails = deque(email for email in self.emails if email.id not in given_back)


def _needs_proof(email: ClaimedEmail, proven: Collection[ContentKey]) -> bool:
    return email.has_address and email.content not in proven
