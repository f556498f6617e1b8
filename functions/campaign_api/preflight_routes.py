"""The route of the preflight: checks of a campaign before its start."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import CampaignId, Resource

router = APIGatewayHttpRouter()


class Finding(Resource):
    """One thing that the preflight found."""

    check: Annotated[
        str,
        Field(
            description=(
                "unsubscribe_url, postal_address, leads, content, variants, templates, sender, account, sandbox, "
                "quota, identity, dkim, mail_from, configuration_set, event_destination or dmarc."
            )
        ),
    ]
    message: str
    detail: Annotated[
        dict[str, Any],
        Field(description="Data for programs: a template's step, variable, count and example leads, for one."),
    ]


class ThreadFact(Resource):
    """A step that goes out as an answer to the lead's email before it."""

    step_number: int
    subject_of_step: Annotated[
        int,
        Field(
            description=(
                'The step whose subject it takes over, "Re: " before it. The subject of its own template is used only '
                "for a lead that no earlier email has gone out to."
            )
        ),
    ]
    quote: Annotated[bool, Field(description="Whether the text of the email before is shown below.")]


class VariantsFact(Resource):
    """A step that is sent in several variants. Each of them was rendered for every lead."""

    step_number: int
    weights: list[int]


class PreflightFacts(Resource):
    """Facts for a decision. Unknown ones are missing or null."""

    leads: Annotated[int, Field(description="Leads that would get mail.")]
    leads_left_out: Annotated[dict[str, int], Field(description="Leads that would be left out, by reason.")]
    leads_rendered: Annotated[int, Field(description="Leads for which every template was rendered.")] = 0
    all_leads_rendered: bool = False
    steps: int = 0
    emails: Annotated[int, Field(description="Leads times steps.")] = 0
    threads: list[ThreadFact] = Field(default_factory=list)
    variants: list[VariantsFact] = Field(default_factory=list)
    first_send_at: Annotated[dt.datetime | None, Field(description="If it were started now.")]
    last_send_at: Annotated[dt.datetime | None, Field(description="With the account's whole rate and quota.")]
    from_address: str | None = None
    from_domain: str | None = None
    identity: Annotated[str | None, Field(description="The SES identity that covers the sender.")] = None
    mail_from_domain: str | None = None
    dmarc: Annotated[str | None, Field(description="The DMARC record.")] = None
    configuration_set: str | None = None
    sandbox: bool | None = None
    max_send_rate: Annotated[float | None, Field(description="Emails a second.")] = None
    max_24_hour_send: Annotated[float | None, Field(description="Null: no limit, or unknown.")] = None
    sent_last_24_hours: float | None = None


class Preflight(Resource):
    """What the preflight found."""

    errors: Annotated[list[Finding], Field(description="The start is refused because of them.")]
    warnings: list[Finding]
    facts: PreflightFacts


@router.get(
    "/v1/campaigns/<campaign_id>/preflight",
    operation_id="preflight_campaign",
    summary="Would a campaign arrive?",
    description=(
        "Checks the content for every lead, the SES account, identity and configuration set, and the DNS. "
        "Changes nothing. With very many leads some of them are not checked; the facts say so."
    ),
    response_description="Errors, which prevent a start, warnings and facts.",
    tags=["Campaigns"],
)
def preflight_campaign(campaign_id: CampaignId) -> Preflight:
    from sendledger.preflight import preflight  # for cold starts: botocore and Jinja2

    settings = api_resources.settings()
    findings = preflight.preflight(api_resources.engine(), campaign_id, settings, api_resources.ses_client)
    return Preflight.model_validate(findings)
