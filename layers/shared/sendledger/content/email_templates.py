"""Email templates: what campaigns and workflow steps send. Reads and writes `email_templates`.

A campaign copies its content when it starts, so nothing here changes a running campaign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log, by_id, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.pagination import Page
from sendledger.core.tables import (
    campaigns,
    email_templates,
    leads,
    workflow_step_variants,
    workflow_steps,
    workflows,
)
from sendledger.core.vocabulary import OPEN_CAMPAIGN_STATUSES, AuditAction

if TYPE_CHECKING:
    from sendledger.content.render_email import RenderedEmail

_table = email_templates
_SUMMARY = (
    _table.c.id,
    _table.c.name,
    _table.c.description,
    _table.c.industry,
    _table.c.category,
    _table.c.subject,
    _table.c.is_active,
    _table.c.created_at,
    _table.c.updated_at,
)
_CONTENT = (sa.func.nullif(_table.c.body_text, "").label("body_text"), _table.c.body_html)


def create(connection: sa.Connection, values: Mapping[str, Any], actor: str = SYSTEM) -> sa.RowMapping:
    """Store a template; `values` are columns.

    Raises:
        InvalidInput: there is no body, or a part is not a valid template.
    """
    _check_content(values)
    inserted = sa.insert(_table).values(_stored(values)).returning(*_SUMMARY, *_CONTENT)
    created = connection.execute(inserted).mappings().one()
    audit_log.record(connection, actor, AuditAction.EMAIL_TEMPLATE_CREATE, "email_template", created["id"])
    return created


def get(connection: sa.Connection, email_template_id: UUID) -> sa.RowMapping:
    """A template with its bodies; a text that is to be derived from the HTML is None.

    Raises:
        NotFound: there is no such template.
    """
    return by_id.row(connection, _table, email_template_id, "email template", (*_SUMMARY, *_CONTENT))


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    category: str | None = None,
    sort: str = pagination.NEWEST_FIRST,
) -> Page:
    """A page of templates without their bodies, in the order of `pagination.Order`."""
    query = sa.select(*_SUMMARY)
    if category is not None:
        query = query.where(_table.c.category == category)
    return pagination.sorted_page(connection, query, _table, limit, cursor, sort)


def update(
    connection: sa.Connection, email_template_id: UUID, changes: Mapping[str, Any], actor: str = SYSTEM
) -> sa.RowMapping:
    """Change the given columns only.

    Raises:
        NotFound: there is no such template.
        InvalidInput: with the changes it would have no body, or a part is not a valid template.
    """
    current = by_id.row(connection, _table, email_template_id, "email template", (*_SUMMARY, *_CONTENT), lock=True)
    if not changes:
        return current
    _check_content({**current, **changes})
    detail = {"fields": sorted(changes)}
    audit_log.record(connection, actor, AuditAction.EMAIL_TEMPLATE_UPDATE, "email_template", email_template_id, detail)
    return (
        connection.execute(
            sa.update(_table)
            .where(_table.c.id == email_template_id)
            .values({**_stored(changes), "updated_at": sa.func.now()})
            .returning(*_SUMMARY, *_CONTENT)
        )
        .mappings()
        .one()
    )


def delete(connection: sa.Connection, email_template_id: UUID, actor: str = SYSTEM) -> None:
    """Delete a template that nothing needs any more.

    Raises:
        NotFound: there is no such template.
        Conflict: `data` names the workflows and the campaigns that use it and have not ended, or can be
            started again.
    """
    by_id.row(connection, _table, email_template_id, "email template", (_table.c.id,), lock=True)
    as_variant = sa.select(workflow_step_variants.c.workflow_step_id).where(
        workflow_step_variants.c.email_template_id == email_template_id
    )
    uses = sa.or_(workflow_steps.c.email_template_id == email_template_id, workflow_steps.c.id.in_(as_variant))
    used_by = {
        "workflows": sa.select(workflows.c.id, workflows.c.name).where(
            workflows.c.id.in_(sa.select(workflow_steps.c.workflow_id).where(uses))
        ),
        "campaigns": sa.select(campaigns.c.id, campaigns.c.name).where(
            campaigns.c.email_template_id == email_template_id, campaigns.c.status.in_(OPEN_CAMPAIGN_STATUSES)
        ),
    }
    users = {kind: by_id.named(connection, query) for kind, query in used_by.items()}
    if any(users.values()):
        raise Conflict("The email template is in use; it cannot be deleted.", **users)
    connection.execute(sa.delete(_table).where(_table.c.id == email_template_id))
    audit_log.record(connection, actor, AuditAction.EMAIL_TEMPLATE_DELETE, "email_template", email_template_id)


def preview(
    connection: sa.Connection,
    email_template_id: UUID,
    lead: UUID | dict[str, Any],
    campaign_name: str | None,
    given_subject: str | None = None,
) -> RenderedEmail:
    """What a stored lead, or one with the given fields, would be sent; `given_subject` in place of the template's own.

    Raises:
        NotFound: there is no such template.
        InvalidInput: there is no such lead, or the template cannot be rendered for it.
    """
    template = get(connection, email_template_id)
    return preview_content(connection, dict(template), lead, campaign_name or template["name"], given_subject)


def preview_content(
    connection: sa.Connection,
    content: Mapping[str, Any],
    lead: UUID | dict[str, Any],
    campaign_name: str,
    given_subject: str | None = None,
) -> RenderedEmail:
    """As `preview`, of a subject and bodies that need not be stored.

    Raises:
        InvalidInput: as `create` and `preview`.
    """
    # For cold starts of the API: Jinja2.
    from sendledger.content.lead_variables import lead_variables
    from sendledger.content.render_email import compile_template
    from sendledger.content.template_filters import RenderError

    _need_a_body(content)
    if isinstance(lead, UUID):
        found = connection.execute(sa.select(leads).where(leads.c.id == lead)).mappings().one_or_none()
        if found is None:
            message = f"there is no lead with the id {lead}"
            raise InvalidInput("The lead does not exist.", [FieldError("lead_id", message)])
        lead = dict(found)
    compiled = compile_template(content["subject"], content["body_text"] or "", content["body_html"] or None)
    try:
        return compiled.render(lead_variables(lead, campaign_name), given_subject)
    except RenderError as error:
        raise InvalidInput(f"The template cannot be rendered: {error.message}", reason=error.code) from error


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    # The column does not take NULL: an empty text means that it is derived from the HTML when it is sent.
    return {name: "" if name == "body_text" and value is None else value for name, value in values.items()}


def _check_content(values: Mapping[str, Any]) -> None:
    from sendledger.content.render_email import compile_template  # for cold starts of the API: Jinja2

    _need_a_body(values)
    compile_template(values["subject"], values.get("body_text") or "", values.get("body_html") or None)


def _need_a_body(values: Mapping[str, Any]) -> None:
    if not any((values.get(name) or "").strip() for name in ("body_text", "body_html")):
        message = "one of body_text and body_html is needed"
        raise InvalidInput(
            "The template has no body.", [FieldError(name, message) for name in ("body_text", "body_html")]
        )
