"""Shows a campaign's progress in the terminal until it has ended: a table that is redrawn, or lines where it cannot be.

What it shows is GET /v1/campaigns/{id}/stats, asked once a second, and where due emails do not go out,
GET /v1/campaigns/{id}/diagnose.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from local.api_client import ApiClient
from local.stop_request import StopRequest
from sendledger.core.vocabulary import CampaignStatus, ScheduledEmailStatus

_SHOWN = tuple(ScheduledEmailStatus)
_UNDER_WAY = (CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED)
_LINE_UP_AND_CLEAR = "\x1b[1A\x1b[2K"


def watch(api: ApiClient, campaign: Any, output: TextIO, stopping: StopRequest, patience: float) -> str:
    """Show the campaign until it has ended or `stopping` is set: its last status.

    Where emails have been due for `patience` seconds and nothing moves, what holds them back is shown too.
    """
    redraws = output.isatty() and os.environ.get("TERM") != "dumb" and shutil.get_terminal_size().columns >= 80
    shown: Sequence[str] = ()
    last_counts, still_since = None, time.monotonic()
    while True:
        stats, now = api.get(f"/v1/campaigns/{campaign['id']}/stats"), datetime.now(UTC)
        if last_counts != stats["by_step"] or not _is_due(stats, now):
            last_counts, still_since = stats["by_step"], time.monotonic()
        lines = table(stats, now) if redraws else [line(stats)]
        if time.monotonic() - still_since >= patience:
            lines += _diagnosis(api, campaign["id"])
        if redraws:
            output.write(_LINE_UP_AND_CLEAR * len(shown))
        if redraws or lines != shown:
            output.write("".join(f"{each}\n" for each in lines))
            output.flush()
        shown = lines
        if stats["status"] not in _UNDER_WAY or stopping.wait(1):
            return str(stats["status"])


def table(stats: Any, now: datetime) -> list[str]:
    """The campaign as a table with one row per step."""
    lines = [" step " + "".join(f"{status:>11}" for status in _SHOWN)]
    lines += [
        f"{step['step_number']:>5} " + "".join(f"{step['by_status'][status]:>11}" for status in _SHOWN)
        for step in stats["by_step"]
    ]
    return [*lines, f"  {stats['status']}{_next_due(stats, now)}"]


def line(stats: Any) -> str:
    """The campaign as one line, which stays the same until something happens."""
    steps = [
        f"step {step['step_number']}: "
        + ", ".join(f"{count} {status}" for status, count in step["by_status"].items() if count)
        for step in stats["by_step"]
    ]
    due = f"; next due {stats['next_due_at'][:19]}Z" if stats["next_due_at"] else ""
    return f"{stats['status']}; {'; '.join(steps)}{due}"


def _is_due(stats: Any, now: datetime) -> bool:
    return bool(stats["next_due_at"]) and datetime.fromisoformat(stats["next_due_at"]) <= now


def _diagnosis(api: ApiClient, campaign_id: str) -> list[str]:
    """What holds the emails back, in short lines. Empty if they are being sent."""
    found = api.get(f"/v1/campaigns/{campaign_id}/diagnose")
    if found["cause"] is None:
        return []
    return textwrap.wrap(found["message"], 76, initial_indent="  ", subsequent_indent="  ")


def _next_due(stats: Any, now: datetime) -> str:
    if not stats["next_due_at"]:
        return ""
    seconds = (datetime.fromisoformat(stats["next_due_at"]) - now).total_seconds()
    return f", next due in {seconds:.0f} s" if seconds > 0 else ", due now"
