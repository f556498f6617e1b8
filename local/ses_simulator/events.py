"""The events that SES publishes to EventBridge for an accepted email, as complete EventBridge JSON.

Events are a function of the ledger's entry, so they are always the same, also after a restart. What an
email does not have by itself (opens, clicks, delays, …) can be scripted. As in SES, nothing is published for an
email without a configuration set. Shapes:
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-examples.html (the `detail`),
https://docs.aws.amazon.com/ses/latest/dg/monitoring-eventbridge.html (the envelope), and what each address does:
https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html#send-email-simulator
"""

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from local.ses_simulator.account import MAILBOX_SIMULATOR_DOMAIN
from local.ses_simulator.ledger import AcceptedEmail

EVENTS_PER_EMAIL = 1000  # the room for event numbers that each ledger entry has: 50 recipients x 3 events and more
DETAIL_TYPES = {
    "Send": "Email Sent",
    "Delivery": "Email Delivered",
    "Bounce": "Email Bounced",
    "Complaint": "Email Complaint Received",
    "Reject": "Email Rejected",
    "Open": "Email Opened",
    "Click": "Email Clicked",
    "Rendering Failure": "Email Rendering Failed",
    "DeliveryDelay": "Email Delivery Delayed",
    "Subscription": "Email Subscribed",
}
_MEMBERS = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
Event = dict[str, Any]
Outcome = tuple[str, str, datetime, dict[str, Any]]  # event type, name of its object, when, the object


def simulator_mailbox(address: str) -> str | None:
    """`bounce` for `Name <bounce+label@simulator.amazonses.com>`; None for other domains."""
    local_part, _, domain = _bare(address).rpartition("@")
    return local_part.partition("+")[0].lower() if domain.lower() == MAILBOX_SIMULATOR_DOMAIN else None


def events_of(
    email: AcceptedEmail, *, region: str, account_id: str, scripted: Iterable[Outcome] = ()
) -> Iterator[tuple[int, Event]]:
    """Every event of the email with its number, which grows from event to event and from entry to entry.

    `scripted` outcomes come after those that the email has by itself; see `outcome`.
    """
    if email.configuration_set is None:
        return
    outcomes: list[Outcome] = [("Send", "send", email.accepted_at, {})]
    for address in map(_bare, email.destination):
        outcomes += _outcomes(email, address)
    mail = _mail(email, region, account_id)
    for index, (event_type, member, at, content) in enumerate([*outcomes, *scripted]):
        tags = mail["tags"] | ({"ses:outgoing-ip": ["192.0.2.1"]} if event_type != "Send" else {})
        yield (
            email.number * EVENTS_PER_EMAIL + index,
            {
                "version": "0",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{email.message_id}/{index}")),
                "detail-type": DETAIL_TYPES[event_type],
                "source": "aws.ses",
                "account": account_id,
                "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "region": region,
                "resources": [
                    f"arn:aws:ses:{region}:{account_id}:configuration-set/{email.configuration_set}",
                ],
                "detail": {"eventType": event_type, "mail": mail | {"tags": tags}, member: content},
            },
        )


def outcome(email: AcceptedEmail, event_type: str, at: datetime, changes: dict[str, Any]) -> Outcome:
    """Something that happens to the email as a script says: an event of this type with usual content, but `changes`.

    Raises:
        ValueError: there is no such type, or the email has no configuration set and so no events.
    """
    if event_type not in DETAIL_TYPES:
        raise ValueError(f"there is no event type {event_type!r}; there are {', '.join(DETAIL_TYPES)}")
    if email.configuration_set is None:
        raise ValueError("SES publishes nothing for an email without a configuration set")
    address = _bare(email.destination[0])
    person = {"timestamp": _iso(at), "ipAddress": "192.0.2.77", "userAgent": _BROWSER}
    preferences = {"unsubscribeAll": False, "topicSubscriptionStatus": []}
    usual: dict[str, dict[str, Any]] = {
        "Send": {},
        "Delivery": _delivery(address, at),
        "Bounce": _hard_bounce(email, address, at),
        "Complaint": _complaint(email, address, at),
        "Reject": {"reason": "Bad content"},
        "Open": person,
        "Click": person | {"link": "https://example.com/", "linkTags": None},
        "Rendering Failure": {
            "errorMessage": "Attribute 'name' is not present in the rendering data.",
            "templateName": "Template",
        },
        "DeliveryDelay": {
            "timestamp": _iso(at),
            "delayType": "TransientCommunicationFailure",
            "expirationTime": _iso(at + timedelta(hours=14)),
            "delayedRecipients": [
                {
                    "emailAddress": address,
                    "status": "4.4.1",
                    "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
                }
            ],
        },
        "Subscription": {
            "contactList": "Contacts",
            "timestamp": _iso(at),
            "source": "UnsubscribeHeader",
            "newTopicPreferences": preferences | {"unsubscribeAll": True},
            "oldTopicPreferences": preferences,
        },
    }
    return event_type, _MEMBERS.get(event_type, event_type.lower()), at, usual[event_type] | changes


def _outcomes(email: AcceptedEmail, address: str) -> Iterator[Outcome]:
    mailbox = simulator_mailbox(address)
    at = email.accepted_at + timedelta(milliseconds=20)
    if mailbox == "suppressionlist" or any(_bare(each) == address for each in email.suppressed):
        yield "Bounce", "bounce", at, _suppressed_bounce(email, address, at)
    elif mailbox == "bounce":
        yield "Bounce", "bounce", at, _hard_bounce(email, address, at)
    else:
        yield "Delivery", "delivery", at, _delivery(address, at)
        if mailbox == "complaint":
            at += timedelta(milliseconds=20)
            yield "Complaint", "complaint", at, _complaint(email, address, at)


def _mail(email: AcceptedEmail, region: str, account_id: str) -> dict[str, Any]:
    sender, from_domain = email.from_address, _bare(email.from_address).rpartition("@")[2]
    headers = [("From", sender)]
    for name, addresses in (("Reply-To", email.reply_to), ("To", email.to), ("Cc", email.cc)):
        headers += [(name, ", ".join(addresses))] if addresses else []
    headers += [("Subject", email.subject), ("MIME-Version", "1.0"), *email.headers]
    if email.raw is not None:
        headers = list(email.headers)
    common: dict[str, Any] = {"from": [sender], "to": list(email.to)}
    common |= {"cc": list(email.cc)} if email.cc else {}
    common |= {"replyTo": list(email.reply_to)} if email.reply_to else {}
    return {
        "timestamp": _iso(email.accepted_at),
        "source": sender,
        "sourceArn": f"arn:aws:ses:{region}:{account_id}:identity/{from_domain}",
        "sendingAccountId": account_id,
        "messageId": email.message_id,
        "destination": [_bare(address) for address in email.destination],
        "headersTruncated": False,
        "headers": [{"name": name, "value": value} for name, value in headers],
        "commonHeaders": common | {"messageId": email.message_id, "subject": email.subject},
        "tags": {
            "ses:source-tls-version": ["TLSv1.3"],
            "ses:operation": ["SendEmail"],
            "ses:configuration-set": [email.configuration_set],
            "ses:source-ip": ["127.0.0.1"],
            "ses:from-domain": [from_domain],
            "ses:caller-identity": ["ses_simulator"],
        }
        | {name: [value] for name, value in email.tags.items()},
    }


def _delivery(address: str, at: datetime) -> dict[str, Any]:
    return {
        "timestamp": _iso(at),
        "processingTimeMillis": 20,
        "recipients": [address],
        "smtpResponse": "250 2.0.0 OK",
        "reportingMTA": "a8-21.smtp-out.amazonses.com",
    }


def _hard_bounce(email: AcceptedEmail, address: str, at: datetime) -> dict[str, Any]:
    return {
        "feedbackId": _feedback_id(email, address),
        "bounceType": "Permanent",
        "bounceSubType": "General",
        "bouncedRecipients": [
            {
                "emailAddress": address,
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 user unknown",
            }
        ],
        "timestamp": _iso(at),
        "remoteMtaIp": "192.0.2.25",
        "reportingMTA": "dns; a8-21.smtp-out.amazonses.com",
    }


def _suppressed_bounce(email: AcceptedEmail, address: str, at: datetime) -> dict[str, Any]:
    return {
        "feedbackId": _feedback_id(email, address),
        "bounceType": "Permanent",
        "bounceSubType": "OnAccountSuppressionList",
        "bouncedRecipients": [
            {
                "emailAddress": address,
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": "Amazon SES did not send the message to this address because it is on the "
                "suppression list for your account.",
            }
        ],
        "timestamp": _iso(at),
        "reportingMTA": "dns; amazonses.com",
    }


def _complaint(email: AcceptedEmail, address: str, at: datetime) -> dict[str, Any]:
    return {
        "feedbackId": _feedback_id(email, address),
        "complaintSubType": None,
        "complainedRecipients": [{"emailAddress": address}],
        "timestamp": _iso(at),
        "userAgent": "Amazon SES Mailbox Simulator",
        "complaintFeedbackType": "abuse",
        "arrivalDate": _iso(at),
    }


def _feedback_id(email: AcceptedEmail, address: str) -> str:
    return f"{email.message_id[:16]}-{uuid.uuid5(uuid.NAMESPACE_OID, email.message_id + address)}-000000"


def _bare(address: str) -> str:
    return address.rpartition("<")[2].rstrip(">").strip()


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
