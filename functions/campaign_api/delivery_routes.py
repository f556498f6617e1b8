"""The route of what SES and the DNS say about this deployment's mail."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import Resource
from preflight_routes import Finding

router = APIGatewayHttpRouter()


class SesAccount(Resource):
    """What SES lets this account send. Null: SES does not say."""

    sandbox: Annotated[bool | None, Field(description="Whether only verified addresses can be sent to.")] = None
    max_send_rate: Annotated[float | None, Field(description="Emails a second.")] = None
    max_24_hour_send: Annotated[float | None, Field(description="Null: no limit, or unknown.")] = None
    sent_last_24_hours: float | None = None


class CheckedSender(Resource):
    """One address that mail goes from, as a preflight sees it."""

    from_address: str
    identity: Annotated[str | None, Field(description="The SES identity that covers it.")]
    mail_from_domain: Annotated[str | None, Field(description="The domain that SPF is checked for.")]
    dmarc: Annotated[str | None, Field(description="The DMARC record.")]
    errors: Annotated[list[Finding], Field(description="A start of a campaign with it is refused because of them.")]
    warnings: list[Finding]


class Delivery(Resource):
    """What SES and the DNS say."""

    account: SesAccount
    errors: Annotated[list[Finding], Field(description="Of the account and the configuration set.")]
    warnings: list[Finding]
    senders: Annotated[
        list[CheckedSender],
        Field(
            description="The deployment's own address, and those of active senders and of campaigns that are "
            "scheduled, running or paused."
        ),
    ]
    senders_left_out: Annotated[int, Field(description="Further addresses, which were not checked: 20 are, in 10 s.")]


@router.get(
    "/v1/sender/delivery",
    operation_id="get_delivery",
    summary="What do SES and the DNS say?",
    description="Asks SES for the quota, the identities (DKIM, MAIL FROM) and the configuration set, and the DNS for "
    "DMARC, as the preflight of a campaign does. SES answers about one such question a second.",
    response_description="The account, and what was found for each address that mail goes from.",
    tags=["Sender"],
)
def get_delivery() -> Delivery:
    from sendledger.preflight import delivery  # for cold starts: botocore

    found = delivery.check_senders(api_resources.engine(), api_resources.settings(), api_resources.ses_client)
    senders = [
        CheckedSender.model_validate(
            {
                "from_address": sender.from_address,
                **{name: sender.findings.facts.get(name) for name in ("identity", "mail_from_domain", "dmarc")},
                "errors": sender.findings.errors,
                "warnings": sender.findings.warnings,
            }
        )
        for sender in found.senders
    ]
    return Delivery(
        account=SesAccount.model_validate(found.account.facts),
        errors=[Finding.model_validate(each) for each in found.account.errors],
        warnings=[Finding.model_validate(each) for each in found.account.warnings],
        senders=senders,
        senders_left_out=found.senders_left_out,
    )
