"""The part of the preflight that asks SES and the DNS: whether emails will be accepted, signed and reported on.

If SES or the DNS does not answer, that is a warning: a start must not depend on a name server. Reads and writes no
table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import parseaddr
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sendledger.preflight.findings import Findings

DMARC_EXPECTED_FROM = 5_000
"""From this many emails on a missing DMARC record is an error: Gmail and Yahoo then require one.
https://support.google.com/a/answer/81126"""

DNS_SECONDS = 2.0

NEEDED_EVENTS = frozenset({"BOUNCE", "COMPLAINT"})
"""Events that must be published, because they suppress addresses."""

MAILBOX_SIMULATOR = "simulator.amazonses.com"
"""https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html#send-email-simulator"""

WANTED_EVENTS = frozenset({"SEND", "REJECT", "DELIVERY", "DELIVERY_DELAY", "RENDERING_FAILURE"})

# Reserved names have no records: https://www.rfc-editor.org/rfc/rfc2606
_RESERVED = (".example", ".test", ".invalid", ".localhost")

TxtRecords = Callable[[str], Sequence[str]]
"""Looks up the TXT records of a name; an empty list if it has none. Raises `OSError` if the DNS does not answer."""

Identities = Callable[[str], dict[str, Any] | None]
"""The identity of SES with a name; None if there is none."""


def check_delivery(
    client: Any,
    txt_records: TxtRecords,
    from_addresses: Sequence[str],
    configuration_set: str | None,
    emails: int,
    findings: Findings,
) -> Sequence[str] | None:
    """Check the account, the sending identities, the configuration set and the domains' DMARC records.

    `client` is an SESv2 client that waits a few seconds at most. Leaves `max_send_rate` and `max_24_hour_send` (None
    where there is no limit) in the facts.

    Returns the addresses and domains, in lower case, to which SES sends while the account is in the sandbox. None if
    SES sends to everybody, or could not be asked.
    """
    domains = {address: parseaddr(address)[1].rpartition("@")[2].lower() for address in from_addresses}
    findings.facts |= {"from_address": from_addresses[0], "from_domain": domains[from_addresses[0]]}
    with asking("account", findings):
        check_account(client.get_account(), findings)
        _check_quota(emails, findings)
    recipients: Sequence[str] | None = None
    if findings.facts.get("sandbox"):
        with asking("sandbox", findings):
            recipients = _recipients_in_sandbox(client)
    find = identities(client)
    with asking("identity", findings):
        # The first one last: the facts are about it.
        for address in reversed(from_addresses):
            check_identity(find, address, domains[address], findings)
    with asking("configuration_set", findings):
        check_configuration_set(client, configuration_set, findings)
    for domain in dict.fromkeys(domains.values()):
        check_dmarc(txt_records, domain, emails, findings)
    return recipients


def identities(client: Any) -> Identities:
    """Asks SES for each identity once."""

    @functools.cache
    def find(name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = client.get_email_identity(EmailIdentity=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFoundException":
                raise
            return None
        return found

    return find


def txt_records(name: str) -> Sequence[str]:
    """The TXT records that the DNS has; see `TxtRecords`."""
    # For cold starts of the API: few requests ask the DNS.
    import dns.exception
    import dns.resolver

    resolver = dns.resolver.Resolver()
    try:
        answer = resolver.resolve(name, "TXT", lifetime=DNS_SECONDS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except dns.exception.DNSException as error:
        raise OSError(f"The DNS does not answer ({type(error).__name__}).") from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


@contextmanager
def asking(check: str, findings: Findings) -> Iterator[None]:
    """Turn a question that SES does not answer into a warning."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        findings.warn(check, f"SES could not be asked ({reason}).")


def check_account(account: dict[str, Any], findings: Findings) -> None:
    """Check what GetAccount says, and leave its numbers in the facts."""
    quota = account.get("SendQuota", {})
    limit = float(quota.get("Max24HourSend", 0))
    findings.facts |= {
        "sandbox": not account.get("ProductionAccessEnabled", False),
        "max_send_rate": float(quota.get("MaxSendRate", 0)),
        "max_24_hour_send": limit if limit >= 0 else None,
        "sent_last_24_hours": float(quota.get("SentLast24Hours", 0)),
    }
    if not account.get("SendingEnabled", True) or account.get("EnforcementStatus") == "SHUTDOWN":
        findings.error("account", "This SES account may not send at present.")
    elif account.get("EnforcementStatus", "HEALTHY") != "HEALTHY":
        findings.warn("account", f"SES has put this account on {account['EnforcementStatus'].lower()}.")


def _check_quota(emails: int, findings: Findings) -> None:
    limit, sent = findings.facts["max_24_hour_send"], findings.facts["sent_last_24_hours"]
    if limit is not None and limit < sent + emails:
        days = emails / limit if limit else float("inf")
        message = f"The campaign has {emails:,} emails; SES lets the account send {limit:,.0f} in 24 hours"
        findings.warn("quota", f"{message}, of which {sent:,.0f} are used. It takes {days:,.1f} days at least.")


def _recipients_in_sandbox(client: Any) -> list[str]:
    """https://docs.aws.amazon.com/ses/latest/dg/request-production-access.html"""
    # The maximum of one answer. An account with more identities is not in the sandbox.
    identities = client.list_email_identities(PageSize=1000).get("EmailIdentities", [])
    return [MAILBOX_SIMULATOR, *(each["IdentityName"].lower() for each in identities if each.get("SendingEnabled"))]


def check_identity(find: Identities, from_address: str, domain: str, findings: Findings) -> None:
    """Check what SES signs the mail of this address with, and leave `identity` and `mail_from_domain` in the facts."""
    name, identity = _identity(find, parseaddr(from_address)[1], domain)
    findings.facts["identity"] = name
    if identity is None:
        findings.error("identity", f"SES has no identity for {domain}; verify the domain.", domain=domain)
        return
    if not identity.get("VerifiedForSendingStatus"):
        status = identity.get("VerificationStatus")
        findings.error("identity", f"The identity {name} is not verified for sending.", verification_status=status)
    dkim = identity.get("DkimAttributes", {})
    if not dkim.get("SigningEnabled") or dkim.get("Status") != "SUCCESS":
        message = f"Emails from {name} are not signed with DKIM of its domain."
        findings.error("dkim", message, status=dkim.get("Status"), signing_enabled=dkim.get("SigningEnabled"))
    mail_from = identity.get("MailFromAttributes", {})
    status = mail_from.get("MailFromDomainStatus")
    findings.facts["mail_from_domain"] = mail_from.get("MailFromDomain")
    if not mail_from.get("MailFromDomain"):
        message = (
            "There is no custom MAIL FROM domain, so SPF passes for amazonses.com and not for the sender's domain."
        )
        findings.warn("mail_from", message)
    elif status != "SUCCESS" and mail_from.get("BehaviorOnMxFailure") == "REJECT_MESSAGE":
        message = f"The MAIL FROM domain {mail_from['MailFromDomain']} is not set up, and SES then rejects emails."
        findings.error("mail_from", message, status=status)
    elif status != "SUCCESS":
        message = f"The MAIL FROM domain {mail_from['MailFromDomain']} is not set up; SES uses amazonses.com instead."
        findings.warn("mail_from", message, status=status)


def _identity(find: Identities, address: str, domain: str) -> tuple[str | None, dict[str, Any] | None]:
    """The identity that SES uses: the address itself, else its domain or the nearest one above it."""
    labels = domain.split(".")
    for name in (address, *(".".join(labels[start:]) for start in range(len(labels) - 1))):
        found = find(name)
        if found is not None:
            return name, found
    return None, None


def check_configuration_set(client: Any, name: str | None, findings: Findings) -> None:
    """Check that it sends, and that it publishes the events that this product needs."""
    findings.facts["configuration_set"] = name
    if name is None:
        message = "No configuration set is given, so SES does not report bounces and complaints."
        findings.error("configuration_set", message)
        return
    try:
        settings = client.get_configuration_set(ConfigurationSetName=name)
        answer = client.get_configuration_set_event_destinations(ConfigurationSetName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotFoundException":
            raise
        findings.error("configuration_set", f"SES has no configuration set {name}.")
        return
    if not settings.get("SendingOptions", {}).get("SendingEnabled", True):
        findings.error("configuration_set", f"Sending is switched off in the configuration set {name}.")
    published = {
        event
        for destination in answer.get("EventDestinations", [])
        if destination.get("Enabled") and "EventBridgeDestination" in destination
        for event in destination.get("MatchingEventTypes", [])
    }
    if missing := sorted(NEEDED_EVENTS - published):
        message = f"The configuration set {name} does not publish {' and '.join(missing)} events to EventBridge."
        findings.error("event_destination", message, missing=missing)
    if missing := sorted(WANTED_EVENTS - published):
        message = f"The configuration set {name} does not publish all events to EventBridge."
        findings.warn("event_destination", message, missing=missing)


def check_dmarc(find: TxtRecords, domain: str, emails: int, findings: Findings) -> None:
    """Look for the DMARC record, with so many emails a day, and leave it in the facts.

    https://www.rfc-editor.org/rfc/rfc7489#section-6.6.3: of the domain, else of the domain above.
    """
    findings.facts["dmarc"] = None
    if domain.endswith(_RESERVED):
        findings.warn("dmarc", f"{domain} is a reserved name; its DMARC record was not looked up.")
        return
    labels = domain.split(".")
    try:
        for start in range(len(labels) - 1):
            for record in find(f"_dmarc.{'.'.join(labels[start:])}"):
                if record.replace(" ", "").lower().startswith("v=dmarc1"):
                    findings.facts["dmarc"] = record
                    return
    except OSError as error:
        findings.warn("dmarc", f"The DMARC record could not be looked up: {error}")
        return
    message = f"{domain} has no DMARC record."
    if emails >= DMARC_EXPECTED_FROM:
        findings.error(
            "dmarc", f"{message} Gmail and Yahoo want one of senders of {DMARC_EXPECTED_FROM:,} emails a day."
        )
    else:
        findings.warn("dmarc", f"{message} Publish one, for example: v=DMARC1; p=none")
