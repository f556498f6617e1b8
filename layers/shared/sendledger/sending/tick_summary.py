"""What one tick may do and what it did. Uses no table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TickSummary:
    """What one tick did. `stopped` says why nothing (more) was sent, if anything kept it from sending."""

    claimed: int = 0
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    released: int = 0
    retried: int = 0
    unknown: int = 0
    swept: int = 0
    campaigns_started: int = 0
    campaigns_completed: int = 0
    campaigns_paused: int = 0
    campaigns_held: int = 0
    senders_started: int = 0
    # The tag `claim_token` of every email that it sent, and of the events of SES about them.
    claim_token: str | None = None
    rate: float = 0.0
    # The sandbox of SES, which accepts only verified recipients.
    sandbox: bool = False
    stopped: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        # asdict does not copy a Counter correctly.
        return {**asdict(self), "left_out": dict(self.left_out)}


@dataclass(frozen=True)
class SendingLimits:
    """What SES lets this account send."""

    rate: float
    """Emails per second, with the safety factor."""
    remaining: float
    """Emails in these 24 hours; infinity if there is no limit."""
