"""Which status of a campaign may follow which. This is the only such table."""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.errors import IllegalTransition
from sendledger.core.vocabulary import STARTABLE_STATUSES, CampaignStatus

_S = CampaignStatus

TRANSITIONS: dict[str, tuple[frozenset[CampaignStatus], CampaignStatus]] = {
    "schedule": (frozenset(STARTABLE_STATUSES), _S.SCHEDULED),
    "start": (frozenset(STARTABLE_STATUSES), _S.RUNNING),
    "unschedule": (frozenset({_S.SCHEDULED}), _S.DRAFT),
    "pause": (frozenset({_S.RUNNING}), _S.PAUSED),
    "resume": (frozenset({_S.PAUSED}), _S.RUNNING),
    "cancel": (frozenset({_S.SCHEDULED, _S.RUNNING, _S.PAUSED}), _S.CANCELLED),
    "complete": (frozenset({_S.RUNNING}), _S.COMPLETED),
    # A scheduled start that is not possible. No row has been written, so the campaign can be started again.
    "fail": (frozenset({_S.SCHEDULED}), _S.FAILED),
    # A failed row is sent again.
    "reopen": (frozenset({_S.COMPLETED}), _S.RUNNING),
}
"""Action → (statuses it is allowed in, status it leads to)."""


def check_transition(action: str, status: str | None) -> CampaignStatus:
    """The status that follows.

    Raises:
        IllegalTransition: the action is not allowed in this status.
    """
    allowed, target = TRANSITIONS[action]
    if (status or _S.DRAFT) not in allowed:
        raise IllegalTransition(
            f"A campaign that is {status} cannot {action}; it would have to be {' or '.join(sorted(allowed))}.",
            status=status,
            allowed=sorted(allowed),
        )
    return target


def is_startable(campaign: sa.RowMapping) -> bool:
    """Whether the campaign has not started yet. A campaign of the old application may have failed after its start."""
    return (campaign["status"] or _S.DRAFT) in STARTABLE_STATUSES and campaign["actual_started_at"] is None
