"""Prints the result of the demo when it has ended, and what to do next."""

from __future__ import annotations

from typing import Any

from local.api_client import ApiClient
from local.demo.load_demo import CAMPAIGN

_SEE_IT_AGAIN = "See the demo again, when this run has stopped: {}"
_WHY_SUPPRESSED = {
    "bounce": "the first one bounced, and an address that bounces gets nothing more",
    "complaint": "it was reported as spam, and who does that gets nothing more",
    "unsubscribe": "the recipient has unsubscribed",
}


def say_what_became(api: ApiClient, campaign: Any, inbox: str, again: str) -> None:
    """The result of the campaign that was watched, and what to do next; `again` starts with an empty database."""
    stats = api.get(f"/v1/campaigns/{campaign['id']}/stats")
    sent, scheduled = stats["emails_sent_count"], stats["emails_scheduled_count"]
    print(f"The campaign is {stats['status']}: {sent} of its {scheduled} emails were sent.")
    for line in _skipped(api, campaign["id"]):
        print(line)
    print(
        "\nWhat to do next\n"
        f"  Read the emails and follow an unsubscribe link: {inbox}\n"
        "  Make a campaign of your own, step by step: docs/api-walk.md\n"
        f"  {_SEE_IT_AGAIN.format(again)}\n"
    )


def say_that_there_is_none(api: ApiClient, inbox: str, again: str) -> None:
    """Why this run shows no demo."""
    if any(campaign["name"] == CAMPAIGN for campaign in api.list("/v1/campaigns")):
        print(f"The demo ran earlier; its emails are in the inbox: {inbox}")
    else:
        print("The demo is for an empty database, and this one is in use.")
    print(f"{_SEE_IT_AGAIN.format(again)}\n")


def _skipped(api: ApiClient, campaign_id: str) -> list[str]:
    """A line for each lead that was skipped: who, in which steps and why."""
    steps: dict[tuple[str, str], list[int]] = {}
    for row in api.list(f"/v1/campaigns/{campaign_id}/scheduled-emails", status="skipped"):
        steps.setdefault((row["lead_id"], row["reason"]), []).append(row["workflow_step_number"])
    lines = []
    for (lead_id, reason), numbers in steps.items():
        email = api.get(f"/v1/leads/{lead_id}")["email"]
        which = ", ".join(str(number) for number in sorted(numbers))
        lines.append(f"{email} was skipped in step {which}: {_why(api, email, reason)}.")
    return lines


def _why(api: ApiClient, email: str, reason: str) -> str:
    for suppression in api.list("/v1/suppressions", value=email):
        if reason == "suppressed":
            return _WHY_SUPPRESSED.get(suppression["reason"], f"suppressed ({suppression['reason']})")
    return reason
