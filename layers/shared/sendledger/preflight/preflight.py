"""The preflight: can this campaign be sent and arrive? A campaign goes in; errors, warnings and facts come out.

Before a start by the API everything is checked. Before a scheduled start only the checks of the database run: SES was
asked when the start was scheduled, and refusals of SES pause a campaign.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from email.utils import parseaddr
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.assign_lanes import has_policy
from sendledger.campaigns.audience import audience_of, leads_elsewhere
from sendledger.campaigns.campaign_steps import startable_steps
from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.lifecycle import check_startable
from sendledger.campaigns.schedule_emails import ROWS_PER_BUCKET
from sendledger.campaigns.transitions import check_transition
from sendledger.core.errors import FieldError, InvalidInput, NotReady
from sendledger.core.settings import ApiSettings, MailSettings
from sendledger.core.vocabulary import SenderAddressStatus, StartType
from sendledger.policy import sender_addresses
from sendledger.preflight.check_content import MAX_EXAMPLES, check_content, check_refreshed_content
from sendledger.preflight.check_delivery import (
    TxtRecords,
    asking,
    check_delivery,
    check_identity,
    identities,
    txt_records,
)
from sendledger.preflight.diagnose import WITHOUT_TICKS, sender_blocked
from sendledger.preflight.findings import Findings

REPORT_SECONDS = 15.0
"""Limit of rendering for GET …/preflight. API Gateway ends a request after 29 s."""

START_SECONDS = 5.0
"""Limit of rendering before a start."""

# A start refuses these itself, with its own errors.
_REFUSED_ANYWAY = frozenset({"leads", "content"})


def preflight(
    engine: sa.Engine,
    campaign_id: uuid.UUID,
    settings: ApiSettings,
    ses_client: Callable[[], Any],
    find_txt_records: TxtRecords = txt_records,
    seconds: float = REPORT_SECONDS,
) -> Findings:
    """Run all checks. SES and the DNS are asked while no transaction is open.

    `ses_client` makes an SESv2 client when it is needed.

    Raises:
        NotFound: there is no such campaign.
    """
    findings = Findings()
    campaign, now = _check_content(engine, campaign_id, settings, findings, seconds)
    _check_sender(engine, settings.deployment_id, findings)
    from_addresses = _from_addresses(engine, campaign, settings, findings)
    if not from_addresses:
        findings.warn("identity", "No sender is set here (SENDER_FROM_ADDRESS), so SES and the DNS were not asked.")
    else:
        for each in from_addresses:
            _check_from_address(each, settings, findings)
        emails = findings.facts.get("emails", 0)
        configuration_set = settings.ses_configuration_set
        recipients = check_delivery(ses_client(), find_txt_records, from_addresses, configuration_set, emails, findings)
        if recipients is not None:
            _check_recipients(engine, campaign, recipients, findings)
    _estimate_times(campaign, now, settings.sender_rate_safety, findings)
    return findings


def refuse_start_unless_ready(
    engine: sa.Engine, campaign_id: uuid.UUID, settings: ApiSettings, ses_client: Callable[[], Any]
) -> None:
    """The whole preflight, for a start by a person.

    Raises:
        NotFound, IllegalTransition, InvalidInput: it cannot be started at all.
        NotReady: the preflight found errors.
    """
    with engine.connect() as connection:
        check_startable(connection, get_campaign(connection, campaign_id))
    _refuse(preflight(engine, campaign_id, settings, ses_client, seconds=START_SECONDS))


def refuse_unverified_sender(
    engine: sa.Engine, sender_id: uuid.UUID, field: str, settings: ApiSettings, ses_client: Callable[[], Any]
) -> None:
    """What a start checks of its senders, for one that is to take part in campaigns under way. `field` names it.

    If SES does not answer, that is no error, as at a start.

    Raises:
        InvalidInput: the deployment may not send from its address, or SES has not verified it.
    """
    with engine.connect() as connection:
        senders = sender_addresses.of_campaign(connection, [sender_id])
    for sender in senders:
        if errors := _unverified(sender["from_address"], settings, ses_client):
            message = f"must be a sender that SES lets send. {errors}"
            raise InvalidInput("The leads cannot be reassigned.", [FieldError(field, message)])


def refuse_unverified_address(
    engine: sa.Engine, sender_id: uuid.UUID, from_address: str, settings: ApiSettings, ses_client: Callable[[], Any]
) -> None:
    """The same for a new address of a sender that campaigns have which are under way: SES would refuse their emails.

    Raises:
        InvalidInput: the deployment may not send from it, or SES has not verified it.
    """
    address = parseaddr(from_address)[1].lower()
    with engine.connect() as connection:
        is_new = any(each["address"] != address for each in sender_addresses.of_campaign(connection, [sender_id]))
        is_needed = is_new and sender_addresses.is_under_way(connection, sender_id)
    if is_needed and (errors := _unverified(from_address, settings, ses_client)):
        message = f"must be an address that SES lets send, as campaigns under way have the sender. {errors}"
        raise InvalidInput("The sender is not valid.", [FieldError("from_address", message)])


def refuse_unverified_change(
    engine: sa.Engine,
    campaign: sa.RowMapping,
    changes: Mapping[str, Any],
    settings: ApiSettings,
    ses_client: Callable[[], Any],
) -> None:
    """The same for what a scheduled campaign would send from after a change.

    Raises:
        InvalidInput: the deployment may not send from an address, or SES has not verified it.
    """
    changed = {**campaign, **changes}
    field = "sender_ids" if changed["sender_ids"] else "from_address"
    for address in _from_addresses(engine, changed, settings, Findings()):
        if errors := _unverified(address, settings, ses_client):
            message = f"must let SES send, as the campaign is scheduled. {errors}"
            raise InvalidInput("The campaign is not valid.", [FieldError(field, message)])


def _unverified(from_address: str, settings: ApiSettings, ses_client: Callable[[], Any]) -> str:
    """Why nothing may be sent from an address; empty if it may."""
    findings = Findings()
    _check_from_address(from_address, settings, findings)
    domain = parseaddr(from_address)[1].rpartition("@")[2].lower()
    with asking("identity", findings):
        check_identity(identities(ses_client()), from_address, domain, findings)
    return " ".join(error.message for error in findings.errors)


def refuse_scheduled_start_unless_ready(engine: sa.Engine, campaign_id: uuid.UUID, mail: MailSettings) -> None:
    """The checks of the database, for a scheduled start.

    Raises:
        NotReady: it found errors.
    """
    findings = Findings()
    _check_content(engine, campaign_id, mail, findings, START_SECONDS)
    _refuse(findings)


def refuse_change_unless_ready(connection: sa.Connection, campaign_id: uuid.UUID, mail: MailSettings) -> None:
    """The same for a change of a scheduled campaign, in the transaction of the change.

    At its time it would fail, and nobody would be there to correct it.

    Raises:
        InvalidInput: it cannot be started at all.
        NotReady: it found errors.
    """
    campaign = get_campaign(connection, campaign_id)
    check_startable(connection, campaign)
    startable_steps(connection, campaign)
    findings = Findings()
    check_content(connection, campaign, mail, findings, START_SECONDS)
    _refuse(findings)


def refuse_refresh_unless_ready(engine: sa.Engine, campaign_id: uuid.UUID, mail: MailSettings) -> None:
    """The same for a paused campaign that is to go on with the content that its templates have now.

    Raises:
        NotFound, IllegalTransition, InvalidInput: it cannot go on with that at all.
        NotReady: it found errors.
    """
    findings = Findings()
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id)
        check_transition("resume", campaign["status"])
        check_refreshed_content(connection, campaign, mail, findings, START_SECONDS)
    _refuse(findings)


def _check_content(
    engine: sa.Engine, campaign_id: uuid.UUID, mail: MailSettings, findings: Findings, seconds: float
) -> tuple[sa.RowMapping, dt.datetime]:
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id)
        check_content(connection, campaign, mail, findings, seconds)
        return campaign, connection.execute(sa.select(sa.func.now())).scalar_one()


def _check_sender(engine: sa.Engine, deployment_id: str | None, findings: Findings) -> None:
    """Warn if the sender cannot send now. The start is allowed: the sender may be switched on later."""
    with engine.begin() as connection:
        blocked = sender_blocked(connection, deployment_id)
    if blocked is None:
        return
    message = f"Nothing of this campaign would be sent now. {blocked.message}"
    if blocked.cause in WITHOUT_TICKS and findings.facts.get("emails", 0) > ROWS_PER_BUCKET:
        message += f" Nor does a start of more than {ROWS_PER_BUCKET:,} emails get further: the sender prepares them."
    findings.warn("sender", message, cause=blocked.cause, **blocked.detail)


def _from_addresses(
    engine: sa.Engine, campaign: sa.RowMapping | Mapping[str, Any], settings: ApiSettings, findings: Findings
) -> list[str]:
    """What the campaign sends from: its senders, else its own address, else the deployment's."""
    if not campaign["sender_ids"]:
        one = campaign["from_address"] or settings.sender_from_address
        return [one] if one is not None else []
    with engine.connect() as connection:
        senders = sender_addresses.of_campaign(connection, campaign["sender_ids"])
    for sender in senders:
        if sender["status"] == SenderAddressStatus.DISABLED:
            message = f"The sender {sender['address']} is disabled: its part of the emails waits."
            findings.warn("sender", message, sender_id=str(sender["id"]))
    return [sender["from_address"] for sender in senders]


def _check_from_address(from_address: str, settings: ApiSettings, findings: Findings) -> None:
    """Check the sender's IAM role. SES itself would accept any identity of the account."""
    address = parseaddr(from_address)[1].lower()
    domain = address.rpartition("@")[2]
    if settings.ses_identity is None:
        return
    allowed = [settings.ses_identity, *filter(None, settings.more_ses_identities.split(","))]
    if not any(each.lower() == address or f".{domain}".endswith(f".{each.lower()}") for each in allowed):
        names = ", ".join(allowed)
        parameters = "SesIdentity" if len(allowed) == 1 else "SesIdentity, MoreSesIdentities"
        message = f"The sender may send for {names} only ({parameters}), which {address} does not belong to."
        findings.error("identity", message, identity=names)


def _check_recipients(engine: sa.Engine, campaign: sa.RowMapping, taken: Sequence[str], findings: Findings) -> None:
    """In the sandbox: does SES accept the address of every lead? The first refusal would pause the campaign."""
    with engine.begin() as connection:
        audience = audience_of(connection, campaign)
        count, examples = leads_elsewhere(connection, audience, taken, MAX_EXAMPLES)
    if count:
        what = "1 lead has an address that is" if count == 1 else f"{count:,} leads have addresses that are"
        message = (
            f"The SES account is in the sandbox, and {what} not verified, so SES would refuse their emails. "
            "Verify the addresses, or ask AWS for production access."
        )
        ids = [str(lead_id) for lead_id in examples]
        findings.error("sandbox", message, count=count, example_lead_ids=ids)
    else:
        message = "The SES account is in the sandbox; SES takes mail to every lead of this campaign all the same."
        findings.warn("sandbox", message)


def _refuse(findings: Findings) -> None:
    errors = [error for error in findings.errors if error.check not in _REFUSED_ANYWAY]
    if errors:
        raise NotReady(
            f"The campaign is not ready to be sent: {' '.join(error.message for error in errors)}",
            preflight_errors=[
                {"check": error.check, "message": error.message, "detail": dict(error.detail)} for error in errors
            ],
        )


def _estimate_times(campaign: sa.RowMapping, now: dt.datetime, rate_safety: float, findings: Findings) -> None:
    """When the first and the last email would go out if it started now and got the account's whole rate."""
    facts = findings.facts
    delays, leads = facts.pop("step_delays_seconds", []), facts["leads"]
    start = max(filter(None, [now, campaign["start_type"] == StartType.SCHEDULED and campaign["scheduled_start_at"]]))
    facts |= {"first_send_at": None, "last_send_at": None}
    # With hours or caps, the rate does not tell when.
    if not delays or not leads or has_policy(campaign):
        return
    rate = facts.get("max_send_rate", 0.0) * rate_safety
    per_day = facts.get("max_24_hour_send")
    seconds = leads / rate if rate else 0.0
    if per_day and leads > per_day:
        seconds = max(seconds, leads / per_day * 86_400)
    due, done = 0.0, 0.0
    for delay in delays:
        due += delay
        done = max(due, done) + seconds
    facts["first_send_at"] = start + dt.timedelta(seconds=delays[0])
    facts["last_send_at"] = start + dt.timedelta(seconds=done)
