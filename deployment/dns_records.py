"""What SES and mailbox providers want, DNS records as a rule: an answer of SES in, a line for each out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN_ZONE = "<the zone that the SES console shows for the identity>"


def identity_records(name: str, identity: Mapping[str, Any]) -> list[str]:
    """What verifies an identity. An address may be of a domain that is somebody else's, so it wants no record."""
    if "@" not in name:
        return [*dkim_records(name, identity), dmarc_record(name)]
    return [] if identity.get("VerifiedForSendingStatus") else [f"{name}: open the link that SES has mailed to it"]


def dkim_records(domain: str, identity: Mapping[str, Any]) -> list[str]:
    """The zone of the public keys differs by region and account, so only SES's answer can name it.

    A domain with a key of one's own (BYODKIM) has a record that SES does not know: the answer holds its selector only.
    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_DkimAttributes.html
    """
    attributes = identity.get("DkimAttributes", {})
    if attributes.get("SigningAttributesOrigin") == "EXTERNAL":
        return []
    zone = attributes.get("SigningHostedZone") or UNKNOWN_ZONE
    return [f"{token}._domainkey.{domain} CNAME {token}.{zone}" for token in attributes.get("Tokens", [])]


def dmarc_record(domain: str) -> str:
    """What Gmail and Yahoo want of those who send much; SPF comes with a MAIL FROM domain, which is a choice."""
    return f'_dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'


def tracking_records(region: str, tracking_domain: str) -> list[str]:
    """Where the links of tracked emails must lead. HTTPS needs a certificate, so this is no DNS record.

    https://docs.aws.amazon.com/ses/latest/dg/configure-custom-open-click-domains.html
    """
    if not tracking_domain:
        return []
    where = "docs/operations/deploy.md, A domain of your own for tracking"
    return [f"{tracking_domain}: let it answer by HTTPS and pass on to r.{region}.awstrack.me ({where})"]


def reply_records(region: str, reply_domain: str) -> list[str]:
    """What lets SES receive replies, if there is a domain for them."""
    return [f"{reply_domain} MX 10 inbound-smtp.{region}.amazonaws.com"] if reply_domain else []
