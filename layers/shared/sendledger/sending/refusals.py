"""Consecutive refusals: SES's answers for a campaign go in, whether its next email may be sent comes out.

A single refusal is about one email. Many refusals in a row are about the campaign, the account or the product, and each
further call would lose one more email. So after a first refusal a campaign may have only as many calls under way as the
limit allows, until SES accepts one of its emails. Only calls that were under way at the first refusal can exceed the
limit.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Mapping

from sendledger.ses.answers import Answer

REFUSALS = (Answer.FAIL_ROW, Answer.UNKNOWN)
"""Answers that fail the row: SES was asked to send the email and did not say that it has."""


class RefusalGate:
    """Counts the refusals in a row of each campaign. Used by the thread that calls SES and by its owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[uuid.UUID, int] = {}
        self._in_a_row: Counter[uuid.UUID] = Counter()
        self._under_way: Counter[uuid.UUID] = Counter()

    def set_limits(self, limits: Mapping[uuid.UUID, int]) -> None:
        """How many refusals in a row each of these campaigns may have; others have no limit."""
        with self._lock:
            self._limits.update(limits)

    def is_open(self, campaign_id: uuid.UUID) -> bool:
        """Whether a call for this campaign may begin now."""
        refused = self._in_a_row[campaign_id]
        limit = self._limits.get(campaign_id)
        return limit is None or not refused or refused + self._under_way[campaign_id] < limit

    def enter(self, campaign_id: uuid.UUID) -> bool:
        """Count a call as under way, where it may begin."""
        with self._lock:
            if not self.is_open(campaign_id):
                return False
            self._under_way[campaign_id] += 1
            return True

    def leave(self, campaign_id: uuid.UUID, answer: Answer) -> None:
        """A call that has entered has its answer."""
        with self._lock:
            self._under_way[campaign_id] -= 1
            if answer in REFUSALS:
                self._in_a_row[campaign_id] += 1
            elif answer is Answer.SENT:
                self._in_a_row[campaign_id] = 0

    def is_quiet(self, campaign_id: uuid.UUID) -> bool:
        """Whether no call of this campaign is under way."""
        return not self._under_way[campaign_id]

    def forgive(self, campaign_id: uuid.UUID) -> None:
        """Reset the counts."""
        with self._lock:
            self._in_a_row[campaign_id] = 0
