"""The part of the preflight that needs the database only: what a campaign would send, to whom, and whether it can.

Renders every step for every lead that would get it, as the sender will. Reads the campaign's audience and its
templates; writes nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.campaign_steps import planned_steps
from sendledger.campaigns.schedule_emails import leads_left_out, reachable_leads
from sendledger.content.render_email import (
    SAMPLE_UNSUBSCRIBE_URL,
    CompiledTemplate,
    Effort,
    RenderError,
    compile_template,
    lead_variables,
)
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.settings import MailSettings
from sendledger.preflight.findings import Findings

MAX_EXAMPLES = 5
"""Leads that are named for each thing that cannot be rendered."""

MAX_PROBLEMS = 50
"""Different things that are told; a template may fail with another text for each lead."""

_CHUNK = 2_000
_MAX_UNDEFINED = 20
_UNDEFINED = re.compile(r"'(\w+)' is undefined")


@dataclass
class _Problem:
    count: int = 0
    example_lead_ids: list[str] = field(default_factory=list)


def check_content(
    connection: sa.Connection, campaign: sa.RowMapping, mail: MailSettings, findings: Findings, seconds: float
) -> None:
    """Look at everything; after `seconds` of rendering the rest of the leads is left and the facts say so.

    Used once in a transaction, as it reads the audience with a cursor.
    """
    _check_settings(campaign, mail, findings)
    reachable, left_out = leads_left_out(connection, campaign)
    findings.facts |= {"leads": reachable, "leads_left_out": dict(left_out)}
    if not reachable:
        findings.error("leads", "Nobody is left to email: every lead is left out.", leads_left_out=dict(left_out))
    try:
        steps = planned_steps(connection, campaign)
    except InvalidInput as error:
        findings.error("content", error.detail, errors=_as_dicts(error.errors))
        return
    findings.facts |= {"steps": len(steps), "emails": reachable * len(steps)}
    findings.facts["step_delays_seconds"] = [step["delay"].total_seconds() for step in steps]
    templates: list[tuple[int, CompiledTemplate]] = []
    for number, step in enumerate(steps, 1):
        try:
            templates.append((number, compile_template(step["subject"], step["body_text"], step["body_html"])))
        except InvalidInput as error:
            message = f"The template of step {number} is not valid."
            findings.error("content", message, step_number=number, errors=_as_dicts(error.errors))
    if reachable:
        _render_all(connection, campaign, templates, mail, findings, time.monotonic() + seconds)


def _check_settings(campaign: sa.RowMapping, mail: MailSettings, findings: Findings) -> None:
    if mail.public_url is None:
        message = "There is no address for unsubscribe links (PUBLIC_URL); mailbox providers reject bulk mail without."
        findings.error("unsubscribe_url", message)
    if mail.postal_address is None and campaign["postal_address_waived"]:
        findings.warn("postal_address", "The emails have no postal address in their footer; the campaign waives it.")
    elif mail.postal_address is None:
        message = "There is no postal address for the footer (POSTAL_ADDRESS), and the campaign does not waive it."
        findings.error("postal_address", message)


def _render_all(
    connection: sa.Connection,
    campaign: sa.RowMapping,
    templates: list[tuple[int, CompiledTemplate]],
    mail: MailSettings,
    findings: Findings,
    deadline: float,
) -> None:
    problems: dict[tuple[int, str, str], _Problem] = {}
    rendered = 0
    # Without an address for links the sender has none either.
    url = SAMPLE_UNSUBSCRIBE_URL if mail.public_url else None
    efforts = {number: Effort() for number, _ in templates}
    slow: set[int] = set()
    for lead in chain.from_iterable(reachable_leads(connection, campaign, _CHUNK)):
        variables = lead_variables(dict(lead), campaign["name"], url)
        for number, template in templates:
            began = time.thread_time()
            found = _problems(template, variables)
            if efforts[number].is_too_much_with(time.thread_time() - began):
                slow.add(number)
            for code, message in found:
                problem = problems.setdefault((number, code, message), _Problem())
                problem.count += 1
                if len(problem.example_lead_ids) < MAX_EXAMPLES:
                    problem.example_lead_ids.append(str(lead["id"]))
        rendered += 1
        if time.monotonic() > deadline or len(problems) > MAX_PROBLEMS or slow:
            break
    findings.facts |= {"leads_rendered": rendered, "all_leads_rendered": rendered == findings.facts["leads"]}
    if not findings.facts["all_leads_rendered"]:
        message = f"Only {rendered:,} of {findings.facts['leads']:,} leads were tried out."
        findings.warn("templates", message)
    for number in sorted(slow):
        findings.error("templates", f"Step {number}: {efforts[number]}", step_number=number, code="too_slow")
    for (number, code, message), problem in list(problems.items())[:MAX_PROBLEMS]:
        findings.error(
            "templates",
            f"Step {number} cannot be rendered for {problem.count:,} {'lead' if problem.count == 1 else 'leads'}: "
            f"{message}",
            step_number=number,
            code=code,
            variable=undefined[1] if (undefined := _UNDEFINED.match(message)) else None,
            count=problem.count,
            example_lead_ids=problem.example_lead_ids,
        )


def _problems(template: CompiledTemplate, variables: dict[str, Any]) -> list[tuple[str, str]]:
    """Why the template cannot be rendered with these variables: each undefined one, or the first other reason."""
    found: list[tuple[str, str]] = []
    while True:
        try:
            template.render(variables)
        except RenderError as error:
            found.append((error.code, error.message))
            undefined = _UNDEFINED.match(error.message)
            if error.code != "undefined_variable" or undefined is None or len(found) == _MAX_UNDEFINED:
                return found
            # Rendering ends at the first one: with a value for it the next comes to light.
            variables = {**variables, undefined[1]: "x"}
        else:
            return found


def _as_dicts(errors: tuple[FieldError, ...]) -> list[dict[str, str]]:
    return [{"field": error.field, "message": error.message} for error in errors]
