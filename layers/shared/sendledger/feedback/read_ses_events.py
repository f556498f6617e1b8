"""Reading SES events: the JSON of one EventBridge event in, a `SesEvent` or the reason to ignore it out. No database.

Unknown fields are ignored, so that SES may add some. All fields that are used are checked. The only personal data in
the result is the recipient's address, which is not stored. Formats:
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sendledger.core.email_address import without_addresses
from sendledger.core.vocabulary import EventType, SuppressionReason

MAX_BYTES = 256 * 1024
"""Of one event. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html"""

MAX_DEPTH = 20
"""Levels of nesting; SES needs eight."""

MACHINE_SECONDS = 10.0
"""An open or click this soon after SES accepted the email is by a machine: delivery to a person takes longer."""

_MEMBER = {EventType.RENDERING_FAILURE: "failure", EventType.DELIVERY_DELAY: "deliveryDelay"}
_MAX_ID = 2**63 - 1
_MAX_TEXT = 10_000  # texts of mail servers and browsers
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_APPLE_PRIVACY = "Mozilla/5.0"
"""The whole user agent of Apple's Mail Privacy Protection, which loads the pictures of every email, opened or not."""

# A robot names its version or a page about it. "bot" alone is in names of telephones too (CUBOT, M bot 60).
_SCANNERS = re.compile(
    r"(?<!cu)bot/\d|\+https?://|(?:slack|twitter|telegram|linkedin|discord|google|bing|yandex|apple|ads)-?bot\b"
    r"|crawler|spider|scanner|curl/|wget/|python|java/|okhttp|go-http-client|headless|phantomjs"
    r"|barracuda|mimecast|proofpoint|symantec|trendmicro|ironport|urldefense|safelinks",
    re.IGNORECASE,
)


class UnreadableEvent(ValueError):
    """This is not an SES event: truncated, oversized, nested too deeply, or without a field that every event has."""


class Effect(enum.Enum):
    """What an event means for the address, beyond its own email."""

    HARD_BOUNCE = SuppressionReason.BOUNCE
    SOFT_BOUNCE = SuppressionReason.TRANSIENT_BOUNCES
    COMPLAINT = SuppressionReason.COMPLAINT
    OPT_OUT = SuppressionReason.UNSUBSCRIBE


@dataclass(frozen=True)
class SesEvent:
    """One event of one email. The tags are None if the event has none of ours."""

    key: str
    """Identifies the event, whatever its EventBridge id: a hash of message, type, time and distinguishing fields."""
    type: EventType
    message_id: str
    recipient: str
    """In lower case. It is looked up, not stored."""
    scheduled_email_id: int | None
    campaign_id: uuid.UUID | None
    claim_token: uuid.UUID | None
    accepted_at: dt.datetime
    """When SES accepted the email."""
    occurred_at: dt.datetime
    effect: Effect | None
    counts: bool
    """False if the event is not what its type says: an open by a machine, a complaint that says "not spam"."""
    detail: Mapping[str, str | int | bool]
    """Other fields that are kept: codes, and texts with addresses removed."""

    @property
    def is_machine(self) -> bool:
        return "machine" in self.detail


@dataclass(frozen=True)
class Ignored:
    """A well-formed event that is not about our emails; `reason` is a code."""

    reason: str


def read_ses_event(body: str, account_id: str, configuration_set: str) -> SesEvent | Ignored:
    """Read one event as EventBridge delivers it.

    Raises:
        UnreadableEvent: it is not an event of SES.
    """
    event = _object(_parse(body), "the event")
    if event.get("source") != "aws.ses":
        return Ignored("other_source")
    if event.get("account") != account_id:
        return Ignored("other_account")
    detail = _object(event.get("detail"), "detail")
    type_ = detail.get("eventType")
    if not isinstance(type_, str) or type_ not in list(EventType):
        return Ignored("unknown_type")
    mail = _object(detail.get("mail"), "mail")
    if mail.get("sendingAccountId", account_id) != account_id:
        return Ignored("other_account")
    tags = _object(mail.get("tags") or {}, "mail.tags")
    if _tag(tags, "ses:configuration-set") != configuration_set:
        return Ignored("other_configuration_set")
    destination = mail.get("destination")
    if not isinstance(destination, list) or len(destination) != 1:
        return Ignored("not_ours")  # each of ours has one recipient
    return _read(EventType(type_), mail, tags, _text(destination[0], "mail.destination"), detail)


def _read(
    type_: EventType, mail: Mapping[str, Any], tags: Mapping[str, Any], recipient: str, detail: Mapping[str, Any]
) -> SesEvent:
    message_id = _text(mail.get("messageId"), "mail.messageId")
    if not re.fullmatch(r"[!-~]{1,255}", message_id):
        raise UnreadableEvent("mail.messageId is not one")
    member = _MEMBER.get(type_, type_.lower())
    content = _object(detail.get(member) or {}, member)
    accepted_at = _time(mail.get("timestamp"), "mail.timestamp")
    # Send, Reject and Rendering Failure have no time of their own. They happen when SES accepts the email.
    timestamp = content.get("timestamp")
    occurred_at = accepted_at if timestamp is None else _time(timestamp, f"{member}.timestamp")
    kept, effect = _KEPT[type_](content)
    if type_ in (EventType.OPEN, EventType.CLICK) and (machine := _machine(content, accepted_at, occurred_at)):
        kept["machine"] = machine
    told_apart = [
        content.get(name) for name in ("feedbackId", "link", "ipAddress", "userAgent", "delayType", "contactList")
    ]
    identity = [message_id, type_, occurred_at.astimezone(dt.UTC).isoformat(), recipient.lower(), *told_apart]
    return SesEvent(
        key=hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40],
        type=type_,
        message_id=message_id,
        recipient=recipient.rpartition("<")[2].rstrip("> ").strip().lower(),
        scheduled_email_id=_id_tag(tags),
        campaign_id=_uuid_tag(tags, "campaign_id"),
        # Emails that were sent before the tag was renamed say "attempt".
        claim_token=_uuid_tag(tags, "claim_token") or _uuid_tag(tags, "attempt"),
        accepted_at=accepted_at,
        occurred_at=occurred_at,
        effect=effect,
        counts="machine" not in kept and (type_ != EventType.COMPLAINT or effect is not None),
        detail={name: value for name, value in kept.items() if value not in (None, "")},
    )


def _bounce(content: Mapping[str, Any]) -> tuple[dict[str, Any], Effect | None]:
    bounce_type = _kept(content.get("bounceType"))
    recipient = _first(content.get("bouncedRecipients"))
    kept = {
        "bounce_type": bounce_type,
        "bounce_sub_type": _kept(content.get("bounceSubType")),
        "status": _kept(recipient.get("status")),
        "diagnostic_code": _kept(recipient.get("diagnosticCode")),
        "feedback_id": _kept(content.get("feedbackId")),
    }
    return kept, {"Permanent": Effect.HARD_BOUNCE, "Transient": Effect.SOFT_BOUNCE}.get(bounce_type)


def _complaint(content: Mapping[str, Any]) -> tuple[dict[str, Any], Effect | None]:
    feedback_type = _kept(content.get("complaintFeedbackType"))
    kept = {
        "feedback_type": feedback_type,
        "complaint_sub_type": _kept(content.get("complaintSubType")),
        "reported_by": _kept(content.get("userAgent")),
        "feedback_id": _kept(content.get("feedbackId")),
    }
    return kept, None if feedback_type == "not-spam" else Effect.COMPLAINT


def _delay(content: Mapping[str, Any]) -> tuple[dict[str, Any], Effect | None]:
    recipient = _first(content.get("delayedRecipients"))
    kept = {
        "delay_type": _kept(content.get("delayType")),
        "expires_at": _kept(content.get("expirationTime")),
        "status": _kept(recipient.get("status")),
        "diagnostic_code": _kept(recipient.get("diagnosticCode")),
    }
    return kept, None


def _subscription(content: Mapping[str, Any]) -> tuple[dict[str, Any], Effect | None]:
    new, old = (content.get(name) for name in ("newTopicPreferences", "oldTopicPreferences"))
    new, old = (each if isinstance(each, dict) else {} for each in (new, old))
    # Our emails name no topic of a contact list, so leaving a topic means all of our emails.
    opted_out = new.get("unsubscribeAll") is True or bool(_topics_left(new) - _topics_left(old))
    kept = {
        "contact_list": _kept(content.get("contactList")),
        "source": _kept(content.get("source")),
        "opted_out": opted_out,
    }
    return kept, Effect.OPT_OUT if opted_out else None


def _topics_left(preferences: Mapping[str, Any]) -> set[str]:
    topics = preferences.get("topicSubscriptionStatus")
    found = [topic for topic in topics if isinstance(topic, dict)] if isinstance(topics, list) else []
    return {str(topic.get("topicName")) for topic in found if topic.get("subscriptionStatus") == "OptOut"}


_KEPT = {
    EventType.SEND: lambda content: ({}, None),
    EventType.DELIVERY: lambda content: (
        {
            "processing_ms": content.get("processingTimeMillis")
            if type(content.get("processingTimeMillis")) is int
            else None,
            "smtp_response": _kept(content.get("smtpResponse")),
        },
        None,
    ),
    EventType.BOUNCE: _bounce,
    EventType.COMPLAINT: _complaint,
    EventType.REJECT: lambda content: ({"reason": _kept(content.get("reason"))}, None),
    EventType.OPEN: lambda content: ({}, None),
    EventType.CLICK: lambda content: ({"link": _kept_link(content.get("link"))}, None),
    EventType.RENDERING_FAILURE: lambda content: (
        {"template": _kept(content.get("templateName")), "message": _kept(content.get("errorMessage"))},
        None,
    ),
    EventType.DELIVERY_DELAY: _delay,
    EventType.SUBSCRIPTION: _subscription,
}


def _machine(content: Mapping[str, Any], accepted_at: dt.datetime, occurred_at: dt.datetime) -> str | None:
    """Which machine opened or clicked, as a code; None if it may have been a person.

    Only the event itself decides, so the order in which events arrive makes no difference. The image proxies of Gmail
    and Yahoo load a picture when a person opens the email. In the first seconds they load it to check it.
    """
    user_agent = content.get("userAgent")
    user_agent = user_agent.strip()[:_MAX_TEXT] if isinstance(user_agent, str) else ""
    if user_agent == _APPLE_PRIVACY:
        return "apple_privacy"
    if not user_agent or _SCANNERS.search(user_agent):
        return "scanner"
    if (occurred_at - accepted_at).total_seconds() < MACHINE_SECONDS:
        return "too_soon"
    return None


def _parse(body: str) -> Any:
    if len(body) > MAX_BYTES or len(body.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise UnreadableEvent(f"it is larger than {MAX_BYTES} bytes")
    try:
        parsed = json.loads(body)
    except RecursionError:
        raise UnreadableEvent("it is nested too deeply") from None
    except ValueError:
        # Not the parser's text: it may quote the event.
        raise UnreadableEvent("it is not JSON") from None
    level = [parsed]
    for _ in range(MAX_DEPTH):
        level = [item for value in level for item in _items(value)]
        if not level:
            return parsed
    raise UnreadableEvent("it is nested too deeply")


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableEvent(f"{where} is missing or not an object")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value or _UNSTORABLE.search(value):
        raise UnreadableEvent(f"{where} is missing or not a text")
    return value


def _time(value: Any, where: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(_text(value, where))
        if time.utcoffset() is None:
            raise ValueError
        return time.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise UnreadableEvent(f"{where} is not a time") from None


def _first(recipients: Any) -> dict[str, Any]:
    if isinstance(recipients, list) and recipients and isinstance(recipients[0], dict):
        return recipients[0]
    return {}


def _kept(value: Any) -> str:
    """A text that can be stored: without addresses and characters that PostgreSQL refuses, and not too long."""
    if not isinstance(value, str):
        return ""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", without_addresses(value[:_MAX_TEXT]))[:500]


def _kept_link(value: Any) -> str:
    """Without query and fragment: they may name the person who was sent the link."""
    return _kept(re.split(r"[?#]", value, maxsplit=1)[0]) if isinstance(value, str) else ""


def _tag(tags: Mapping[str, Any], name: str) -> str | None:
    value = tags.get(name)
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else None


def _id_tag(tags: Mapping[str, Any]) -> int | None:
    value = _tag(tags, "scheduled_email_id") or ""
    if not re.fullmatch(r"[0-9]{1,19}", value) or int(value) > _MAX_ID:
        return None
    return int(value)


def _uuid_tag(tags: Mapping[str, Any], name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(_tag(tags, name) or "")
    except ValueError:
        return None
