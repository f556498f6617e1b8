"""Events of SES for tests: the documented ones of tests/events, made to belong to an email."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import json
import uuid
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

FOLDER = Path(__file__).parents[1] / "tests/events"
TYPES = {
    "Send": "send",
    "Delivery": "delivery",
    "Bounce": "bounce",
    "Complaint": "complaint",
    "Reject": "reject",
    "Open": "open",
    "Click": "click",
    "Rendering Failure": "rendering_failure",
    "DeliveryDelay": "delivery_delay",
    "Subscription": "subscription",
}
"""Event type → the last part of its file's name."""
ACCOUNT = "123456789012"
CONFIGURATION_SET = "sendledger"
PERSON = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)


@functools.cache
def _document(type_: str) -> str:
    return (FOLDER / f"ses_{TYPES[type_]}.json").read_text()


def documented(type_: str) -> Any:
    """The documented event of this type, as it is."""
    return json.loads(_document(type_))


def member(type_: str) -> str:
    """The name of the object that an event of this type has."""
    return {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}.get(type_, type_.lower())


class SentEmail(Protocol):
    """As much of an email as an event of SES tells."""

    @property
    def message_id(self) -> str: ...
    @property
    def accepted_at(self) -> dt.datetime: ...
    @property
    def destination(self) -> tuple[str, ...]: ...
    @property
    def tags(self) -> dict[str, str]: ...


def event_of(email: SentEmail, type_: str, after: float = 60.0, **content: Any) -> Any:
    """An event that happened to this email `after` so many seconds; `content` goes into the object of its type."""
    event = documented(type_)
    detail = event["detail"]
    at = _iso(email.accepted_at + dt.timedelta(seconds=after))
    recipients = [{"emailAddress": address} for address in email.destination]
    own = copy.deepcopy(detail.get(member(type_)) or {})
    for name in ("timestamp", "bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients"):
        if name in own:
            own[name] = at if name == "timestamp" else recipients
    if type_ in ("Open", "Click"):
        own["userAgent"] = PERSON
    if "feedbackId" in own:
        own["feedbackId"] = f"{email.message_id}-{type_}"
    detail[member(type_)] = own | content
    detail["mail"] |= {
        "timestamp": _iso(email.accepted_at),
        "messageId": email.message_id,
        "sendingAccountId": ACCOUNT,
        "destination": list(email.destination),
        "tags": {"ses:configuration-set": [CONFIGURATION_SET]} | {name: [value] for name, value in email.tags.items()},
    }
    return event | {"id": str(uuid.uuid4()), "account": ACCOUNT}


def queued(*events: Any) -> dict[str, Any]:
    """These events as SQS hands them to a Lambda; the message ids are their positions. Texts go as they are."""
    return {
        "Records": [
            {
                "messageId": str(position),
                "receiptHandle": f"receipt-{position}",
                "body": event if isinstance(event, str) else json.dumps(event),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1893456000000"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:{ACCOUNT}:ses-events",
                "awsRegion": "us-east-1",
            }
            for position, event in enumerate(events)
        ]
    }


def count_rows(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def _iso(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
