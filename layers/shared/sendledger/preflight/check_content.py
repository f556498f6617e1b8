"""The part of the preflight that needs only the database: what a campaign would send, to whom, and whether it can.

Renders every step for every lead that would get it, as the sender will. Reads the campaign's audience and its
templates; writes nothing.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.audience import audience_of, leads_left_out, reachable_leads
from sendledger.campaigns.campaign_steps import check_conditions, compile_steps, planned_steps, refreshed_steps
from sendledger.content.attachments import pictures_in
from sendledger.content.lead_variables import VARIABLES, Fields, lead_variables
from sendledger.content.other_placeholders import other_placeholders
from sendledger.content.render_email import CompiledTemplate, RenderedEmail, compile_template, unknown_variables
from sendledger.content.template_filters import RenderError
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.ledger_rules import still_planned
from sendledger.core.settings import MailSettings
from sendledger.core.signed_tokens import EmailReference
from sendledger.preflight.findings import Findings

MAX_EXAMPLES = 5
"""Examples of leads for each problem."""

MAX_PROBLEMS = 50
"""Problems that are reported at most. A template may fail with another message for each lead."""

CLIPPED_BYTES = 102_000
"""Gmail shows this much of an email's HTML, and hides the rest behind a link."""

SAMPLE_SCHEDULED_EMAIL_ID = 48_150_623
"""A placeholder id for links in trial renderings."""

_PARTS = ("subject", "body_text", "body_html")
_CHUNK = 2_000
_MAX_UNDEFINED = 20

_UNSENT = sa.text(f"""
    SELECT l.*, e.id AS scheduled_email_id, e.workflow_step_number AS step_number
    FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id
    WHERE e.campaign_id = :campaign_id AND e.id > :after AND {still_planned("e")} ORDER BY e.id LIMIT {_CHUNK}
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))
_COUNT_UNSENT = sa.text(f"""
    SELECT count(*) FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id
    WHERE e.campaign_id = :campaign_id AND {still_planned("e")}
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID))


@dataclass
class _Problem:
    variable: str | None
    count: int = 0
    example_lead_ids: list[str] = field(default_factory=list)


def check_content(
    connection: sa.Connection, campaign: sa.RowMapping, mail: MailSettings, findings: Findings, seconds: float
) -> None:
    """Check everything. After `seconds` of rendering the remaining leads are not checked, and the facts say so.

    To be called once in a transaction, as it reads the audience with a cursor.
    """
    _check_settings(campaign, mail, findings)
    audience = audience_of(connection, campaign)
    reachable, left_out = leads_left_out(connection, audience)
    findings.facts |= {"leads": reachable, "leads_left_out": dict(left_out)}
    if not reachable and campaign["evergreen"]:
        findings.warn("leads", "Nobody gets mail yet: leads come in after the start.", leads_left_out=dict(left_out))
    elif not reachable:
        findings.error("leads", "Nobody is left to email: every lead is left out.", leads_left_out=dict(left_out))
    try:
        steps = planned_steps(connection, campaign)
        check_conditions(steps, campaign)
    except InvalidInput as error:
        findings.error("content", error.detail, errors=_as_dicts(error.errors))
        return
    findings.facts |= {"steps": len(steps), "emails": reachable * len(steps)}
    findings.facts["step_delays_seconds"] = [step["delay"].total_seconds() for step in steps]
    findings.facts["threads"] = _threads(steps)
    templates: list[tuple[int, CompiledTemplate]] = []
    for number, step in enumerate(steps, 1):
        _check_placeholders(number, step, findings)
        _check_pictures(number, step, findings)
        try:
            templates.append((number, compile_template(step["subject"], step["body_text"], step["body_html"])))
            _check_variables(number, step, findings)
        except InvalidInput as error:
            message = f"The template of step {number} is not valid."
            findings.error("content", message, step_number=number, errors=_as_dicts(error.errors))
    if reachable:
        leads = chain.from_iterable(reachable_leads(connection, audience, _CHUNK))
        emails = ((lead, templates) for lead in leads)
        _render_all(campaign, emails, reachable, mail, findings, time.monotonic() + seconds)


def check_refreshed_content(
    connection: sa.Connection, campaign: sa.RowMapping, mail: MailSettings, findings: Findings, seconds: float
) -> None:
    """Check what a started campaign would send in its unsent emails if its content were read again, as
    `check_content` does.

    Raises:
        InvalidInput: the content cannot be read again.
    """
    _check_settings(campaign, mail, findings)
    templates = compile_steps(refreshed_steps(connection, campaign))
    unsent = connection.scalar(_COUNT_UNSENT, {"campaign_id": campaign["id"]}) or 0
    emails = (
        (lead, [(lead["step_number"], templates[lead["step_number"]])])
        for lead in chain.from_iterable(_unsent(connection, campaign["id"]))
    )
    _render_all(campaign, emails, unsent, mail, findings, time.monotonic() + seconds)


def _unsent(connection: sa.Connection, campaign_id: uuid.UUID) -> Iterator[Sequence[sa.RowMapping]]:
    """Each unsent email's lead and step, in chunks."""
    after = 0
    while rows := connection.execute(_UNSENT, {"campaign_id": campaign_id, "after": after}).mappings().all():
        yield rows
        after = rows[-1]["scheduled_email_id"]


def _threads(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps that are sent as answers, with the step whose subject they use."""
    found, root = list[dict[str, Any]](), 1
    for number, step in enumerate(steps, 1):
        if step["in_thread"]:
            found.append({"step_number": number, "subject_of_step": root, "quote": step["quote"]})
        else:
            root = number
    return found


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
    campaign: sa.RowMapping,
    emails: Iterable[tuple[sa.RowMapping, Sequence[tuple[int, CompiledTemplate]]]],
    count: int,
    mail: MailSettings,
    findings: Findings,
    deadline: float,
) -> None:
    """Render for `count` leads, for each the templates of these steps."""
    problems: dict[tuple[int, str, str], _Problem] = {}
    largest = Counter[int]()
    rendered = 0
    for lead, templates in emails:
        variables = lead_variables(dict(lead), campaign["name"], _unsubscribe_url(mail, campaign, lead))
        for number, template in templates:
            email, found = _try_out(template, variables)
            if email is not None and email.body_html is not None:
                largest[number] = max(largest[number], len(email.body_html.encode()))
            for error in found:
                problem = problems.setdefault((number, error.code, error.message), _Problem(error.variable))
                problem.count += 1
                if len(problem.example_lead_ids) < MAX_EXAMPLES:
                    problem.example_lead_ids.append(str(lead["id"]))
        rendered += 1
        if time.monotonic() > deadline or len(problems) > MAX_PROBLEMS:
            break
    findings.facts |= {"leads_rendered": rendered, "all_leads_rendered": rendered == count}
    if rendered != count:
        message = f"Only {rendered:,} of {count:,} leads were tried out."
        findings.warn("templates", message)
    for number, size in sorted(largest.items()):
        if clipped := _clipped(size):
            findings.warn("html_size", f"Step {number}: {clipped}", step_number=number, bytes=size)
    for (number, code, message), problem in list(problems.items())[:MAX_PROBLEMS]:
        findings.error(
            "templates",
            f"Step {number} cannot be rendered for {problem.count:,} {'lead' if problem.count == 1 else 'leads'}: "
            f"{message}",
            step_number=number,
            code=code,
            variable=problem.variable,
            count=problem.count,
            example_lead_ids=problem.example_lead_ids,
        )


def _unsubscribe_url(mail: MailSettings, campaign: sa.RowMapping, lead: sa.RowMapping) -> str | None:
    """The email as the sender makes it for this lead. Without an address for links there are none."""
    if mail.public_url is None or mail.unsubscribe_keys is None:
        return None
    reference = EmailReference(SAMPLE_SCHEDULED_EMAIL_ID, campaign["id"], lead["id"])
    return f"{mail.public_url}/u/{mail.unsubscribe_keys.unsubscribe_token(reference)}"


def _try_out(template: CompiledTemplate, variables: dict[str, Any]) -> tuple[RenderedEmail | None, list[RenderError]]:
    """The email, or why it cannot be rendered: each variable without a value, or the first other reason."""
    found: dict[str | None, RenderError] = {}
    while True:
        try:
            email = template.render(variables)
            return (email if not found else None), list(found.values())
        except RenderError as error:
            if error.variable is None and found:
                return None, list(found.values())  # it may be in a value that was set below
            if error.variable in found:
                return None, list(found.values())
            found[error.variable] = error
            if error.variable is None or len(found) == _MAX_UNDEFINED:
                return None, list(found.values())
            # Rendering stops at the first missing variable. With a value for it the next one is found.
            variables = _with_value(variables, error.variable)


def _with_value(variables: dict[str, Any], path: str) -> dict[str, Any]:
    name, _, field_name = path.partition(".")
    if name != "custom_fields" or not field_name:
        return {**variables, path: "Sample"}
    return {**variables, name: Fields(name, {**variables[name], field_name: "Sample"})}


def _check_placeholders(number: int, step: dict[str, Any], findings: Findings) -> None:
    for part in _PARTS:
        if found := other_placeholders(step[part] or ""):
            message = f"Step {number}: {_foreign_placeholders(part, found)}"
            findings.warn("placeholders", message, step_number=number, part=part, placeholders=found)


def _check_variables(number: int, step: dict[str, Any], findings: Findings) -> None:
    """A misspelled name with a fallback renders for every lead, and always as the fallback."""
    for part in _PARTS:
        if found := unknown_variables(step[part] or "")[:MAX_EXAMPLES]:
            message = f"Step {number}: {_no_such_variables(part, found)}"
            findings.warn("variables", message, step_number=number, part=part, variables=found)


def content_warnings(content: Mapping[str, Any], body_html: str | None) -> list[str]:
    """What a preflight would warn of in one template: `content` as it is written, `body_html` as a lead gets it."""
    parts = [(part, content[part] or "") for part in _PARTS]
    foreign = [_foreign_placeholders(part, found) for part, text in parts if (found := other_placeholders(text))]
    unknown = [_no_such_variables(part, found) for part, text in parts if (found := unknown_variables(text))]
    clipped = _clipped(len((body_html or "").encode()))
    return [*foreign, *unknown, *([clipped] if clipped else [])]


def _foreign_placeholders(part: str, found: Sequence[str]) -> str:
    return (
        f"{', '.join(found)} in {part} looks like a placeholder of another product, and is sent as it is. Here a "
        "placeholder is written {{ first_name | default('there') }}."
    )


def _no_such_variables(part: str, found: Sequence[str]) -> str:
    return (
        f"no lead has {', '.join(found[:MAX_EXAMPLES])}, which {part} uses. There are {', '.join(VARIABLES[:-1])}; "
        "other columns are in custom_fields."
    )


def _clipped(size: int) -> str | None:
    """What is to be said of HTML of so many bytes."""
    if size <= CLIPPED_BYTES:
        return None
    return (
        f"the HTML has {size // 1000} KB. Gmail shows the first {CLIPPED_BYTES // 1000} KB and hides the rest, with "
        "the unsubscribe link, behind another one."
    )


def _check_pictures(number: int, step: dict[str, Any], findings: Findings) -> None:
    """Whether each picture that the HTML shows is attached, and each attached picture is shown."""
    shown, attached = pictures_in(step["body_html"]), {file["content_id"] for file in step["attachments"]} - {None}
    if missing := sorted(shown - attached):
        message = (
            f"Step {number}: the HTML shows pictures that the template does not have as attachments: "
            f"{', '.join(f'cid:{each}' for each in missing)}."
        )
        findings.error("attachments", message, step_number=number, content_ids=missing)
    if unused := sorted(attached - shown):
        message = (
            f"Step {number}: no HTML shows the attached pictures {', '.join(f'cid:{each}' for each in unused)}. Mail "
            "programs may list them as files, or hide them."
        )
        findings.warn("attachments", message, step_number=number, content_ids=unused)


def _as_dicts(errors: tuple[FieldError, ...]) -> list[dict[str, str]]:
    return [{"field": error.field, "message": error.message} for error in errors]
