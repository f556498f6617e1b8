"""The SES client of botocore, and what the account may send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore.config import Config

from sendledger.ses.connection import CONNECT_TIMEOUT, READ_TIMEOUT


def ses_client(session: botocore.session.Session | None = None, endpoint_url: str | None = None) -> Any:
    """A client without retries. Create it once per process, because it loads the model of SES."""
    return (session or botocore.session.get_session()).create_client(
        "sesv2",
        endpoint_url=endpoint_url,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            parameter_validation=False,
            tcp_keepalive=True,
        ),
    )


@dataclass(frozen=True)
class SendingQuota:
    """What the account may send (SESv2 GetAccount); both limits count recipients."""

    max_send_rate: float
    remaining_24_hours: float
    """Infinity if the account has no daily limit."""
    blocked: str | None
    """Why the account may not send at all, or None."""
    sandbox: bool


def sending_quota(client: Any) -> SendingQuota:
    """Ask SES for the account's limits. SES allows one call a second; once a tick is enough."""
    account: Mapping[str, Any] = client.get_account()
    quota = account.get("SendQuota", {})
    limit = float(quota.get("Max24HourSend", 0))
    blocked = None
    if not account.get("SendingEnabled", True):
        blocked = "Sending is paused for this SES account."
    elif account.get("EnforcementStatus") == "SHUTDOWN":
        blocked = "SES has shut down sending for this account."
    return SendingQuota(
        max_send_rate=float(quota.get("MaxSendRate", 0)),
        remaining_24_hours=float("inf") if limit < 0 else max(0.0, limit - float(quota.get("SentLast24Hours", 0))),
        blocked=blocked,
        sandbox=not account.get("ProductionAccessEnabled", False),
    )
