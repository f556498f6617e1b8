"""Which status of a campaign may follow which. The only such table."""

from __future__ import annotations

from sendledger.core.errors import IllegalTransition

TRANSITIONS: dict[str, tuple[frozenset[str], str]] = {
    "schedule": (frozenset({"draft", "scheduled"}), "scheduled"),
    "start": (frozenset({"draft", "scheduled"}), "running"),
    "pause": (frozenset({"running"}), "paused"),
    "resume": (frozenset({"paused"}), "running"),
    "cancel": (frozenset({"scheduled", "running", "paused"}), "cancelled"),
    "complete": (frozenset({"running"}), "completed"),
    "fail": (frozenset({"scheduled", "running", "paused"}), "failed"),
    # A row that had failed is to be sent after all.
    "reopen": (frozenset({"completed"}), "running"),
}
"""Action → (statuses it is allowed in, status it leads to)."""


def check_transition(action: str, status: str | None) -> str:
    """The status that follows.

    Raises:
        IllegalTransition: the action is not allowed in this status.
    """
    allowed, target = TRANSITIONS[action]
    if (status or "draft") not in allowed:
        raise IllegalTransition(
            f"A campaign that is {status} cannot {action}; it would have to be {' or '.join(sorted(allowed))}.",
            status=status,
            allowed=sorted(allowed),
        )
    return target
