"""Attachments of email templates. Reads and writes `email_template_attachments`; writes `audit_log`.

The files are in the bucket, each under the id of its attachment, and never change. A campaign that starts copies the
list; so its files stay when attachments are removed from the template. `files/unused_files.py` deletes them in the end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from html import unescape
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import sqlalchemy as sa

from sendledger.content.attachment_rules import MOST_ATTACHMENTS, MOST_BYTES, CheckedFile
from sendledger.core import audit_log, by_id
from sendledger.core.errors import FieldError, InvalidInput, NotFound
from sendledger.core.tables import email_template_attachments, email_templates
from sendledger.core.vocabulary import AuditAction

FILES = "attachments/"
"""The prefix of the files in the bucket. The id of the attachment follows."""

UPLOADS = "uploads/"
"""The prefix of files that wait to be attached. The ids of the template and of the upload follow."""

# The end is a part of the match, so that any text is searched in linear time.
_PICTURE = re.compile(r"""(?i)\bcid:([^\s"'<>(){}]+)([\s"'>)]?)""")
_table = email_template_attachments
_OF_FILE = ("id", "file_name", "content_type", "content_id", "size")


def list_attachments(connection: sa.Connection, email_template_id: UUID) -> Sequence[sa.RowMapping]:
    """The attachments of a template, the first one first.

    Raises:
        NotFound: there is no such template.
    """
    by_id.row(connection, email_templates, email_template_id, "email template", (email_templates.c.id,))
    own = sa.select(_table).where(_table.c.email_template_id == email_template_id)
    return connection.execute(own.order_by(_table.c.created_at, _table.c.id)).mappings().all()


def check_room(connection: sa.Connection, email_template_id: UUID, file: CheckedFile, source: str) -> None:
    """Check that the template can have this attachment, too; `source` is the field that its content has come from.

    Raises:
        NotFound: there is no such template.
        InvalidInput: there would be too many, they would be too large, or the content id is taken.
    """
    present = list_attachments(connection, email_template_id)
    taken, errors = sum(each["size"] for each in present), list[FieldError]()
    if taken + len(file.content) > MOST_BYTES:
        message = (
            f"has {len(file.content):,} bytes; the attachments of a template may have {MOST_BYTES:,} in total, and "
            f"{taken:,} are taken"
        )
        errors.append(FieldError(source, message))
    if len(present) >= MOST_ATTACHMENTS:
        errors.append(FieldError("file_name", f"is one too many: a template may have {MOST_ATTACHMENTS} attachments"))
    if file.content_id is not None and any(each["content_id"] == file.content_id for each in present):
        errors.append(FieldError("content_id", "is the one of another attachment of this template"))
    if errors:
        raise InvalidInput("The file cannot be attached.", errors)


def attach(
    connection: sa.Connection, email_template_id: UUID, id_: UUID, file: CheckedFile, source: str, actor: str
) -> sa.RowMapping:
    """Attach a file that is in the bucket already.

    Raises:
        NotFound, InvalidInput: as `check_room`.
    """
    # One at a time, as each counts what the others take.
    by_id.row(connection, email_templates, email_template_id, "email template", (email_templates.c.id,), lock=True)
    check_room(connection, email_template_id, file, source)
    values = {
        "id": id_,
        "email_template_id": email_template_id,
        "file_name": file.file_name,
        "content_type": file.content_type,
        "content_id": file.content_id,
        "size": len(file.content),
        # Not the time of the transaction, which may have waited for another one.
        "created_at": sa.func.clock_timestamp(),
    }
    attached = connection.execute(sa.insert(_table).values(values).returning(_table)).mappings().one()
    _note(connection, AuditAction.EMAIL_TEMPLATE_ATTACH, attached, actor)
    return attached


def detach(connection: sa.Connection, email_template_id: UUID, attachment_id: UUID, actor: str) -> None:
    """Remove an attachment from its template. Campaigns that have started keep it.

    Raises:
        NotFound: the template has no such attachment.
    """
    own = (_table.c.id == attachment_id) & (_table.c.email_template_id == email_template_id)
    removed = connection.execute(sa.delete(_table).where(own).returning(_table)).mappings().one_or_none()
    if removed is None:
        raise NotFound("attachment of this email template", attachment_id)
    _note(connection, AuditAction.EMAIL_TEMPLATE_DETACH, removed, actor)


def attached_files(connection: sa.Connection, email_template_ids: Collection[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """The files of each template, as campaigns keep them. Those of a template without attachments are left out.

    They are locked: what a campaign copies is not removed until the copy can be seen, so its file is not deleted.
    """
    found = defaultdict[UUID, list[dict[str, Any]]](list)
    if email_template_ids:
        rows = connection.execute(
            sa.select(_table)
            .where(_table.c.email_template_id.in_(email_template_ids))
            .order_by(_table.c.created_at, _table.c.id)
            .with_for_update(key_share=True)
        ).mappings()
        for row in rows:
            file = {name: str(row[name]) if name == "id" else row[name] for name in _OF_FILE}
            found[row["email_template_id"]].append(file)
    return found


def pictures_in(html: str | None) -> set[str]:
    """The content ids that an HTML template names. One that is made by a placeholder is not found."""
    return {unquote(unescape(name)) for name, end in _PICTURE.findall(html or "") if end}


def _note(connection: sa.Connection, action: AuditAction, attachment: sa.RowMapping, actor: str) -> None:
    changed = sa.update(email_templates).where(email_templates.c.id == attachment["email_template_id"])
    connection.execute(changed.values(updated_at=sa.func.now()))
    detail = {name: str(attachment[name]) if name == "id" else attachment[name] for name in ("id", "file_name", "size")}
    audit_log.record(connection, actor, action, "email_template", attachment["email_template_id"], detail)
