"""The content of an old campaign: its inline texts and templates become our templates, its follow-ups a workflow.

The old application still reads its own texts, so these are never changed. Each gets a translated copy, which is
inactive so that the old application does not offer it. The workflow steps refer to the copies. Ids are derived from the
originals, so a second run finds the copies. Reads and writes `email_templates`, `workflows`, `workflow_steps`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.adoption.report import on_one_line
from sendledger.adoption.translate_placeholders import Vocabulary, translate
from sendledger.content.render_email import compile_template
from sendledger.content.workflows import delay_of_days
from sendledger.core.errors import InvalidInput
from sendledger.core.tables import email_templates, workflow_steps, workflows
from sendledger.core.vocabulary import CampaignStatus, LeadStatus, TemplateCategory

NAMESPACE = uuid.UUID("6f1dfc4e-8f0c-4f57-9f3c-6b0f1f6f2a51")
"""The namespace of the ids of copies."""

FOLLOW_UP_STAGES = (LeadStatus.FOLLOW_UP_1, LeadStatus.FOLLOW_UP_2)
DEFAULT_DELAY_DAYS = (3, 5)
"""Where a campaign's own are NULL; the defaults of their columns."""

MAX_SUBJECT = 500
"""The width of email_templates.subject."""

_HTML = re.compile(r"<(?:!doctype|html|body|p|br|div|table|a|span|h[1-6]|ul|ol|li|strong|b|em|i|img)\b[^>]*>", re.I)


class Untranslatable(Exception):
    """What a person has to change before the campaign can be taken over: one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class OldText:
    """A text of the old application, with its name in reports."""

    name: str
    source: str
    """What is copied: a kind and an id."""
    stage: int
    """1 for the first email, 2 for the first follow-up, …"""
    subject: str
    body_text: str
    body_html: str | None = None

    @property
    def content(self) -> tuple[str, str, str | None]:
        return self.subject, self.body_text, self.body_html


@dataclass(frozen=True)
class AdoptedStep:
    """One step of a campaign as it will be kept in `campaign_steps`."""

    step_number: int
    delay: dt.timedelta
    email_template_id: uuid.UUID
    subject: str
    body_text: str
    body_html: str | None
    old_number: int | None = None
    """Its number in the old application, which may occur twice."""
    odd_delay: str | None = None
    """Why its delay after the step before is not clear."""


@dataclass
class Copies:
    """Makes the copies, and collects the rows that it adds in `added`."""

    vocabulary: Vocabulary
    added: set[tuple[str, uuid.UUID]] = field(default_factory=set)
    """(table, id)."""

    def translated(self, text: OldText) -> tuple[str, str, str | None]:
        """Subject, text and HTML as templates of ours.

        Raises:
            Untranslatable: with each unknown placeholder.
        """
        unknown: dict[str, None] = {}
        subject, body_text, body_html = (
            translate(part, self.vocabulary, lambda name: unknown.setdefault(name)) if part else ""
            for part in (text.subject, text.body_text, text.body_html)
        )
        if not body_html and _HTML.search(body_text):
            body_text, body_html = "", body_text
        problems = [
            f"{text.name}: the placeholder {{{{{on_one_line(name)}}}}} cannot be translated" for name in unknown
        ]
        if len(subject) > MAX_SUBJECT:
            problems.append(f"{text.name}: the subject has more than {MAX_SUBJECT} characters once it is translated")
        if not subject.strip():
            problems.append(f"{text.name}: there is no subject")
        if not body_text.strip() and not body_html.strip():
            problems.append(f"{text.name}: there is no text")
        if not problems:
            try:
                compile_template(subject, body_text, body_html or None)
            except InvalidInput as invalid:
                problems = [f"{text.name}: {error.field}: {error.message}" for error in invalid.errors]
        if problems:
            raise Untranslatable(problems)
        return subject, body_text, body_html or None

    def copy(self, connection: sa.Connection, text: OldText) -> uuid.UUID:
        """The id of the translated copy, which is made if it does not exist.

        Raises:
            Untranslatable: as above.
        """
        subject, body_text, body_html = self.translated(text)
        digest = hashlib.sha256("\0".join((subject, body_text, body_html or "")).encode()).hexdigest()
        copy_id = uuid.uuid5(NAMESPACE, f"{text.source}:{digest}")
        values = {
            "id": copy_id,
            "name": text.name[:255],
            "description": f"Copy for Sendledger of {text.source}",
            "follow_up_stage": "initial" if text.stage == 1 else f"follow_up_{text.stage - 1}",
            "category": TemplateCategory.INITIAL_OUTREACH if text.stage == 1 else TemplateCategory.FOLLOW_UP,
            "subject": subject,
            "body_text": body_text,
            "body_html": body_html,
            "is_active": False,
        }
        self.add(connection, email_templates, [values])
        return copy_id

    def add(self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        """Insert the rows that do not exist."""
        statement = insert(table).values(rows).on_conflict_do_nothing(index_elements=["id"]).returning(table.c.id)
        self.added.update((table.name, id_) for id_ in connection.scalars(statement))


_STEPS = sa.text("""
    SELECT s.id, row_number() OVER (ORDER BY s.step_number, s.created_at, s.id) AS number, w.name, s.step_number,
           s.delay, s.days_after_previous,
           coalesce(o.subject, s.subject) AS own_subject, coalesce(o.body_text, s.body) AS own_body,
           o.body_html AS own_html,
           t.id AS email_template_id, t.subject, t.body_text, t.body_html
    FROM workflow_steps s JOIN workflows w ON w.id = s.workflow_id
    LEFT JOIN email_templates t ON t.id = s.email_template_id
    -- The template that a step had after the overhaul. Only databases with the overhaul have this column.
    LEFT JOIN email_templates o ON o.id = CAST(to_jsonb(s) ->> 'leadnex_email_template_id' AS uuid)
    WHERE s.workflow_id = :workflow_id
    ORDER BY number
""").bindparams(sa.bindparam("workflow_id", type_=sa.UUID))


def workflow_as_steps(connection: sa.Connection, copies: Copies, workflow_id: uuid.UUID) -> list[AdoptedStep]:
    """The steps of a workflow, numbered 1, 2, 3, …; inline texts are copied as templates, and the steps refer to them.

    Raises:
        Untranslatable: a text, or there is no step.
    """
    problems: list[str] = []
    steps: list[AdoptedStep] = []
    for row in connection.execute(_STEPS, {"workflow_id": workflow_id}).mappings().all():
        subject, body_text, body_html = row["subject"], row["body_text"], row["body_html"]
        template_id = row["email_template_id"]
        if template_id is None:
            name = f"{on_one_line(row['name']) or f'workflow {workflow_id}'}, step {row['number']}"
            own = row["own_subject"], row["own_body"], row["own_html"]
            text = OldText(name, f"workflow step {row['id']}", row["number"], *own)
            try:
                subject, body_text, body_html = copies.translated(text)
                template_id = copies.copy(connection, text)
            except Untranslatable as untranslatable:
                problems += untranslatable.problems
                continue
            connection.execute(
                sa.update(workflow_steps).where(workflow_steps.c.id == row["id"]).values(email_template_id=template_id)
            )
            copies.added.add(("workflow_steps", row["id"]))
        number, delay, odd_delay = row["number"], row["delay"], None
        if delay is None:
            name = f"days_after_previous of the workflow's step {number}"
            delay, odd_delay = delay_of_days(name, number, row["days_after_previous"])
        steps.append(
            AdoptedStep(number, delay, template_id, subject, body_text, body_html, row["step_number"], odd_delay)
        )
    if not steps and not problems:
        problems.append(f"the workflow {workflow_id} has no steps")
    if problems:
        raise Untranslatable(problems)
    return steps


def follow_ups_as_steps(
    connection: sa.Connection, copies: Copies, campaign: Mapping[str, Any]
) -> tuple[uuid.UUID | None, list[AdoptedStep]]:
    """The steps of a campaign without a workflow: its template and, where follow-ups are enabled, theirs.

    The follow-ups' templates are the active ones of their stage, as the old application looks them up: of the
    campaign's industry before any other, the default before the rest. With follow-ups a workflow is made, whose id is
    returned; its inline texts are the old ones, so that the old application understands it too. A draft whose one
    template needs no translation stays as it is: no steps.

    Raises:
        Untranslatable: a template is missing, or its text.
    """
    texts = [_campaign_template(connection, campaign)]
    delays = [dt.timedelta(0)]
    problems: list[str] = []
    if campaign["follow_up_enabled"]:
        for stage, name in enumerate(FOLLOW_UP_STAGES, 1):
            texts.append(_stage_template(connection, campaign, stage + 1, name))
            days = campaign[f"{name}_delay_days"]
            days = DEFAULT_DELAY_DAYS[stage - 1] if days is None else days
            delay, problem = delay_of_days(f"its {name}_delay_days", stage + 1, days)
            delays.append(delay)
            problems += [problem] if problem else []
    contents = []
    for text in texts:
        try:
            contents.append(copies.translated(text))
        except Untranslatable as untranslatable:
            problems += untranslatable.problems
    if problems:
        raise Untranslatable(problems)
    if len(texts) == 1 and campaign["status"] == CampaignStatus.DRAFT and contents[0] == texts[0].content:
        return None, []
    steps = [
        AdoptedStep(number, delay, copies.copy(connection, text), *content)
        for number, (text, delay, content) in enumerate(zip(texts, delays, contents, strict=True), 1)
    ]
    if len(steps) == 1 and campaign["status"] != CampaignStatus.DRAFT:
        return None, steps
    return _make_workflow(connection, copies, campaign, texts, steps), steps


def _campaign_template(connection: sa.Connection, campaign: Mapping[str, Any]) -> OldText:
    if campaign["email_template_id"] is None:
        raise Untranslatable(["the campaign has neither an email template nor a workflow"])
    row = (
        connection.execute(sa.select(email_templates).where(email_templates.c.id == campaign["email_template_id"]))
        .mappings()
        .first()
    )
    if row is None:
        raise Untranslatable([f"its email template {campaign['email_template_id']} does not exist"])
    return _old_template(row, 1)


def _stage_template(connection: sa.Connection, campaign: Mapping[str, Any], stage: int, name: str) -> OldText:
    table = email_templates
    same_industry = sa.func.coalesce(table.c.industry == campaign["industry"], False)
    query = (
        sa.select(table)
        .where(
            table.c.follow_up_stage == name,
            table.c.is_active.is_not(False),
            sa.or_(same_industry, table.c.industry.is_(None), table.c.is_default),
        )
        .order_by(
            same_industry.desc(), sa.func.coalesce(table.c.is_default, False).desc(), table.c.created_at, table.c.id
        )
    )
    row = connection.execute(query.limit(1)).mappings().first()
    if row is None:
        raise Untranslatable([f"follow-ups are enabled, but there is no active email template for {name}"])
    return _old_template(row, stage)


def _old_template(row: sa.RowMapping, stage: int) -> OldText:
    source = f"email template {row['id']}"
    name = on_one_line(row["name"]) or source
    return OldText(name, source, stage, row["subject"], row["body_text"], row["body_html"])


def _make_workflow(
    connection: sa.Connection,
    copies: Copies,
    campaign: Mapping[str, Any],
    texts: list[OldText],
    steps: list[AdoptedStep],
) -> uuid.UUID:
    workflow_id = uuid.uuid5(NAMESPACE, f"campaign {campaign['id']}")
    workflow = {
        "id": workflow_id,
        "name": f"{campaign['name'][:200]}: emails",
        "description": f"Made for Sendledger from the follow-ups of campaign {campaign['id']}",
        "steps_count": len(steps),
        "industry": campaign["industry"],
    }
    copies.add(connection, workflows, [workflow])
    rows = [
        {
            "id": uuid.uuid5(NAMESPACE, f"campaign {campaign['id']} step {step.step_number}"),
            "workflow_id": workflow_id,
            "step_number": step.step_number,
            "days_after_previous": step.delay.days,
            "subject": text.subject,
            "body": text.body_text or text.body_html,
            "email_template_id": step.email_template_id,
        }
        for text, step in zip(texts, steps, strict=True)
    ]
    copies.add(connection, workflow_steps, rows)
    return workflow_id
