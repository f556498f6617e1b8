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


def other_records(domain: str, region: str, reply_domain: str) -> list[str]:
    """DMARC, and what replies need; SPF comes with a MAIL FROM domain, which is a choice."""
    records = [f'_dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"']
    if reply_domain:
        records.append(f"{reply_domain} MX 10 inbound-smtp.{region}.amazonaws.com")
    return records
