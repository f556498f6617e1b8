"""Does the mail of this deployment arrive? What SES says of the account now, and SES and the DNS of each sender.

These are the checks of a preflight, for all addresses that mail goes from, without a campaign. SES and the DNS are
asked while no transaction is open. Reads `campaigns` and `sender_addresses`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any

import sqlalchemy as sa

from sendledger.core.settings import ApiSettings
from sendledger.core.tables import campaigns, sender_addresses
from sendledger.core.vocabulary import UNDER_WAY_STATUSES, SenderAddressStatus
from sendledger.preflight.check_delivery import (
    TxtRecords,
    asking,
    check_account,
    check_configuration_set,
    check_dmarc,
    check_identity,
    identities,
    txt_records,
)
from sendledger.preflight.findings import Findings

MOST_SENDERS = 20
"""Addresses that are checked in one answer."""

SECONDS = 10.0
"""After this time no further address is checked. API Gateway ends a request after 29 s."""


@dataclass(frozen=True)
class CheckedSender:
    """One address. The facts have `identity`, `mail_from_domain` and `dmarc`, as far as they are known."""

    from_address: str
    findings: Findings


@dataclass(frozen=True)
class Delivery:
    """`account` has the numbers of the account in its facts, and what is wrong with it and the configuration set."""

    account: Findings
    senders: Sequence[CheckedSender]
    senders_left_out: int


def check_senders(
    engine: sa.Engine,
    settings: ApiSettings,
    ses_client: Callable[[], Any],
    find_txt_records: TxtRecords = txt_records,
) -> Delivery:
    """Check the account, and each address that campaigns send from now. Without one nobody is asked.

    What does not answer is a warning. If that is SES as such, the addresses are left out.
    """
    until = time.monotonic() + SECONDS
    with engine.begin() as connection:
        addresses = _from_addresses(connection, settings.sender_from_address)
    account = Findings()
    if not addresses:
        return Delivery(account, [], 0)
    client = None
    with asking("account", account):
        client = ses_client()
        check_account(client.get_account(), account)
        limit, sent = account.facts["max_24_hour_send"], account.facts["sent_last_24_hours"]
        if limit is not None and sent >= limit:
            account.warn("quota", "The account's quota for 24 hours is used up.")
    if client is None or not account.facts:
        return Delivery(account, [], len(addresses))
    with asking("configuration_set", account):
        check_configuration_set(client, settings.ses_configuration_set, account)
    find, find_records = identities(client), functools.cache(find_txt_records)
    senders = []
    for from_address in addresses[:MOST_SENDERS]:
        if time.monotonic() >= until:
            break
        findings = Findings()
        domain = parseaddr(from_address)[1].rpartition("@")[2].lower()
        with asking("identity", findings):
            check_identity(find, from_address, domain, findings)
        check_dmarc(find_records, domain, int(account.facts.get("sent_last_24_hours", 0)), findings)
        senders.append(CheckedSender(from_address, findings))
    return Delivery(account, senders, len(addresses) - len(senders))


def _from_addresses(connection: sa.Connection, own: str | None) -> list[str]:
    """The deployment's own address first, then those of active senders and of campaigns that are under way."""
    of_senders = sa.select(sender_addresses.c.from_address).where(
        sender_addresses.c.status == SenderAddressStatus.ACTIVE
    )
    of_campaigns = sa.select(campaigns.c.from_address).where(
        campaigns.c.status.in_(UNDER_WAY_STATUSES), campaigns.c.from_address.is_not(None)
    )
    found = connection.scalars(of_senders.union(of_campaigns).order_by("from_address"))
    return list(dict.fromkeys(address for address in (own, *found) if address))
