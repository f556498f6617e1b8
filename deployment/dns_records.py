"""The DNS records that SES and mailbox providers want: an answer of SES in, the records out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dkim_records(domain: str, identity: Mapping[str, Any]) -> list[str]:
    """The zone of the public keys differs by region and account, so SES's answer names it. Older answers did not.

    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_DkimAttributes.html
    """
    attributes = identity.get("DkimAttributes", {})
    zone = attributes.get("SigningHostedZone") or "dkim.amazonses.com"
    return [f"{token}._domainkey.{domain} CNAME {token}.{zone}" for token in attributes.get("Tokens", [])]


def dmarc_record(domain: str) -> str:
    """What Gmail and Yahoo want of those who send much; SPF comes with a MAIL FROM domain, which is a choice."""
    return f'_dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'


def reply_records(region: str, reply_domain: str) -> list[str]:
    """What lets SES receive replies, if there is a domain for them."""
    return [f"{reply_domain} MX 10 inbound-smtp.{region}.amazonaws.com"] if reply_domain else []
