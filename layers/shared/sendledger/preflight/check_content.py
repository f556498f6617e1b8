"""The part of the preflight that needs only the database: what a campaign would send, to whom, and whether it can.

Renders every step for every lead that would get it, as the sender will. Reads the campaign's audience and its
templates; writes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.campaigns.audience import audience_of, read_audience
from sendledger.campaigns.campaign_steps import (
    check_answers,
    check_conditions,
    compile_steps,
    contents_of,
    planned_steps,
)
from sendledger.campaigns.campaigns import takes_in
from sendledger.campaigns.missing_parts import missing_content, missing_leads
from sendledger.campaigns.refresh_steps import refreshed_steps
from sendledger.content.attachments import pictures_in
from sendledger.content.lead_variables import VARIABLES, Fields, lead_variables
from sendledger.content.other_placeholders import other_placeholders
from sendledger.content.render_email import CompiledTemplate, RenderedEmail, compile_template, unknown_variables
from sendledger.content.template_filters import RenderError
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.ledger_rules import is_answer, still_planned
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
    SELECT l.*, e.id AS scheduled_email_id, e.revision, e.workflow_step_number AS step_number, e.variant
    FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id
    WHERE e.campaign_id = :campaign_id AND e.id > :after AND {still_planned("e")}
      AND NOT {is_answer("e")} AND e.revision = ANY(:revisions) ORDER BY e.id LIMIT {_CHUNK}
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("revisions", type_=sa.ARRAY(sa.SmallInteger)))
_COUNT_UNSENT = sa.text(f"""
    SELECT count(*) FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id
    WHERE e.campaign_id = :campaign_id AND {still_planned("e")}
      AND NOT {is_answer("e")} AND e.revision = ANY(:revisions)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("revisions", type_=sa.ARRAY(sa.SmallInteger)))


class _Sent(NamedTuple):
    """A step, and its variant where it has several."""

    step_number: int
    variant: int | None

    def __str__(self) -> str:
        return f"step {self.step_number}" + (f", variant {self.variant}" if self.variant is not None else "")

    @property
    def detail(self) -> dict[str, int]:
        variant = {"variant": self.variant} if self.variant is not None else {}
        return {"step_number": self.step_number, **variant}


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
    audience = read_audience(connection, audience_of(connection, campaign), _CHUNK)
    reachable, left_out = audience.reachable, audience.left_out
    findings.facts |= {"leads": reachable, "leads_left_out": dict(left_out)}
    if not reachable and takes_in(connection, campaign["id"]):
        findings.warn("leads", "Nobody gets mail yet: leads come in after the start.", leads_left_out=dict(left_out))
    elif not reachable and (errors := missing_leads(connection, campaign)):
        findings.error("leads", "It has no leads yet.", leads_left_out=dict(left_out), errors=_as_dicts(errors))
    elif not reachable:
        findings.error("leads", "Nobody is left to email: every lead is left out.", leads_left_out=dict(left_out))
    if errors := missing_content(connection, campaign):
        findings.error("content", "It has nothing to send yet.", errors=_as_dicts(errors))
        return
    try:
        steps = planned_steps(connection, campaign)
        check_conditions(steps, campaign)
        check_answers(steps)
    except InvalidInput as error:
        findings.error("content", error.detail, errors=_as_dicts(error.errors))
        return
    findings.facts |= {"steps": len(steps), "emails": reachable * len(steps)}
    findings.facts["step_delays_seconds"] = [step["delay"].total_seconds() for step in steps]
    findings.facts["threads"] = _threads(steps)
    findings.facts["variants"] = _variants(steps, findings)
    templates: list[tuple[_Sent, CompiledTemplate]] = []
    for step in steps:
        for variant, content in contents_of(step):
            sent = _Sent(step["step_number"], variant)
            _check_placeholders(sent, content, findings)
            _check_pictures(sent, content, findings)
            try:
                template = compile_template(content["subject"], content["body_text"], content["body_html"])
                templates.append((sent, template))
                _check_variables(sent, content, findings)
            except InvalidInput as error:
                message = f"The template of {sent} is not valid."
                findings.error("content", message, **sent.detail, errors=_as_dicts(error.errors))
    if reachable:
        emails = ((lead, templates) for lead in chain.from_iterable(audience.chunks))
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
    templates: dict[tuple[int, int], list[tuple[_Sent, CompiledTemplate]]] = {}
    for revision, steps in refreshed_steps(connection, campaign).items():
        for (number, variant), template in compile_steps(steps).items():
            templates.setdefault((revision, number), []).append((_Sent(number, variant), template))
    which = {"campaign_id": campaign["id"], "revisions": [revision for revision, _ in templates]}
    unsent = connection.scalar(_COUNT_UNSENT, which) or 0
    emails = (
        (lead, _may_become(lead["variant"], templates[lead["revision"], lead["step_number"]]))
        for lead in chain.from_iterable(_unsent(connection, which))
    )
    _render_all(campaign, emails, unsent, mail, findings, time.monotonic() + seconds)


def _may_become(
    variant: int | None, templates: Sequence[tuple[_Sent, CompiledTemplate]]
) -> Sequence[tuple[_Sent, CompiledTemplate]]:
    """The templates that an email may be sent with. It may be each of them while it waits for a winner, or for the
    split of a retired variant."""
    return [each for each in templates if each[0].variant == variant] or templates


def _unsent(connection: sa.Connection, which: dict[str, Any]) -> Iterator[Sequence[sa.RowMapping]]:
    """Each unsent email's lead and step, in chunks."""
    after = 0
    while rows := connection.execute(_UNSENT, {**which, "after": after}).mappings().all():
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


def _variants(steps: list[dict[str, Any]], findings: Findings) -> list[dict[str, Any]]:
    """The steps with several variants. A warning says where a lead cannot keep its variant, as the weights differ."""
    found, first = list[dict[str, Any]](), dict[int, tuple[int, list[int]]]()
    for step in steps:
        number, weights = step["step_number"], [variant["weight"] for variant in step["variants"]]
        if not weights:
            continue
        found.append({"step_number": number, "weights": weights})
        if step["keep_variant"]:
            earlier, theirs = first.setdefault(len(weights), (number, weights))
            if theirs != weights:
                message = (
                    f"Step {number} has as many variants as step {earlier} with other weights. It is split by its own, "
                    "so a lead may get another variant than there."
                )
                findings.warn("variants", message, step_number=number, of_step=earlier)
    return found


def _capital(sent: _Sent) -> str:
    return str(sent).capitalize()


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
    emails: Iterable[tuple[sa.RowMapping, Sequence[tuple[_Sent, CompiledTemplate]]]],
    count: int,
    mail: MailSettings,
    findings: Findings,
    deadline: float,
) -> None:
    """Render for `count` leads, for each the templates of these steps, in every variant."""
    problems: dict[tuple[_Sent, str, str], _Problem] = {}
    largest = Counter[_Sent]()
    rendered = 0
    for lead, templates in emails:
        variables = lead_variables(dict(lead), campaign["name"], _unsubscribe_url(mail, campaign, lead))
        for sent, template in templates:
            email, found = _try_out(template, variables)
            if email is not None and email.body_html is not None:
                largest[sent] = max(largest[sent], len(email.body_html.encode()))
            for error in found:
                problem = problems.setdefault((sent, error.code, error.message), _Problem(error.variable))
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
    for sent, size in largest.items():
        if clipped := _clipped(size):
            findings.warn("html_size", f"{_capital(sent)}: {clipped}", **sent.detail, bytes=size)
    for (sent, code, message), problem in list(problems.items())[:MAX_PROBLEMS]:
        findings.error(
            "templates",
            f"{_capital(sent)} cannot be rendered for {problem.count:,} {'lead' if problem.count == 1 else 'leads'}: "
            f"{message}",
            **sent.detail,
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


def _check_placeholders(sent: _Sent, content: dict[str, Any], findings: Findings) -> None:
    for part in _PARTS:
        if found := other_placeholders(content[part] or ""):
            message = f"{_capital(sent)}: {_foreign_placeholders(part, found)}"
            findings.warn("placeholders", message, **sent.detail, part=part, placeholders=found)


def _check_variables(sent: _Sent, content: dict[str, Any], findings: Findings) -> None:
    """A misspelled name with a fallback renders for every lead, and always as the fallback."""
    for part in _PARTS:
        if found := unknown_variables(content[part] or "")[:MAX_EXAMPLES]:
            message = f"{_capital(sent)}: {_no_such_variables(part, found)}"
            findings.warn("variables", message, **sent.detail, part=part, variables=found)


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


def _check_pictures(sent: _Sent, content: dict[str, Any], findings: Findings) -> None:
    """Whether each picture that the HTML shows is attached, and each attached picture is shown."""
    shown, attached = (
        pictures_in(content["body_html"]),
        {file["content_id"] for file in content["attachments"]} - {None},
    )
    if missing := sorted(shown - attached):
        message = (
            f"{_capital(sent)}: the HTML shows pictures that the template does not have as attachments: "
            f"{', '.join(f'cid:{each}' for each in missing)}."
        )
        findings.error("attachments", message, **sent.detail, content_ids=missing)
    if unused := sorted(attached - shown):
        message = (
            f"{_capital(sent)}: no HTML shows the attached pictures {', '.join(f'cid:{each}' for each in unused)}. "
            "Mail programs may list them as files, or hide them."
        )
        findings.warn("attachments", message, **sent.detail, content_ids=unused)


def _as_dicts(errors: Sequence[FieldError]) -> list[dict[str, str]]:
    return [{"field": error.field, "message": error.message} for error in errors]
