"""Test emails: one message to addresses of the team. The ledger does not contain it.

A setting names the possible recipients, because this way of sending neither claims nor checks suppressions. The message
has no tag of a scheduled email, so events about it are dropped. Writes `audit_log`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from botocore.exceptions import BotoCoreError, ClientError

from sendledger.content.render_email import RenderedEmail
from sendledger.core import audit_log
from sendledger.core.email_address import normalized_address
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.settings import ApiSettings
from sendledger.core.vocabulary import AuditAction
from sendledger.ses.attachments import AttachedFile
from sendledger.ses.message_ids import message_id_domain, thread_headers
from sendledger.ses.sign_email import mailbox, tracking

SUBJECT_MARK = "[Test] "
TAG = {"Name": "test", "Value": "true"}


class NotSent(Conflict):
    """SES refused the test email or did not answer."""

    code = "not_sent"


def allowed_recipients(addresses: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """The addresses in lower case, each once; `allowed` are lower-case addresses, and `*@` before whole domains.

    Raises:
        Conflict: no recipient is allowed.
        InvalidInput: an address is not valid or not allowed.
    """
    if not allowed:
        raise Conflict("Nobody may get test emails: the setting TEST_SEND_ADDRESSES is empty.")
    found, errors = list[str](), list[FieldError]()
    for number, given in enumerate(addresses):
        try:
            address = normalized_address(given).lower()
        except ValueError as error:
            errors.append(FieldError(f"to.{number}", str(error)))
            continue
        if address not in allowed and f"*@{address.rpartition('@')[2]}" not in allowed:
            errors.append(FieldError(f"to.{number}", "is not among the addresses of the setting TEST_SEND_ADDRESSES"))
        found.append(address)
    if errors:
        raise InvalidInput("The test email cannot be sent to these addresses.", errors)
    return list(dict.fromkeys(found))


def send_test_email(
    client: Any,
    rendered: RenderedEmail,
    to: Sequence[str],
    settings: ApiSettings,
    in_reply_to: str | None = None,
    attachments: Sequence[AttachedFile] = (),
) -> str:
    """Send one message to all of `to`, which were checked before; returns SES's id of it. `client` is of `ses_client`,
    and the settings name a sender. `in_reply_to` is SES's id of the email that it answers.

    Raises:
        NotSent: SES refused it, or cannot be reached; where it did not answer, the message may have gone out.
    """
    body = {"Text": {"Data": rendered.body_text, "Charset": "UTF-8"}}
    if rendered.body_html is not None:
        body["Html"] = {"Data": rendered.body_html, "Charset": "UTF-8"}
    subject = {"Data": SUBJECT_MARK + rendered.subject, "Charset": "UTF-8"}
    parameters: dict[str, Any] = {
        "FromEmailAddress": mailbox(settings.sender_from_address or ""),
        "Destination": {"ToAddresses": list(to)},
        "Content": {"Simple": {"Subject": subject, "Body": body}},
        "EmailTags": [TAG],
        "ConfigurationOverrides": tracking(opens=False, clicks=False),
    }
    if in_reply_to:
        domain = message_id_domain(client.meta.region_name, settings.ses_message_id_domain)
        headers = thread_headers(in_reply_to, in_reply_to, domain)
        parameters["Content"]["Simple"]["Headers"] = [{"Name": name, "Value": value} for name, value in headers]
    if attachments:
        parameters["Content"]["Simple"]["Attachments"] = [each.parameters() for each in attachments]
    if settings.ses_configuration_set:
        parameters["ConfigurationSetName"] = settings.ses_configuration_set
    try:
        return str(client.send_email(**parameters)["MessageId"])
    except ClientError as error:
        said = error.response.get("Error", {})
        raise NotSent(
            f"SES refused the test email: {said.get('Message', 'no reason given')}", ses_error=said.get("Code")
        ) from error
    except BotoCoreError as error:
        raise NotSent(f"SES did not answer ({type(error).__name__}); the test email may have gone out.") from error


def record_test_email(
    connection: sa.Connection, email_template_id: UUID, recipients: int, ses_message_id: str, actor: str
) -> None:
    """Write into the audit log that a test email was sent; the ledger knows nothing of it."""
    detail = {"recipients": recipients, "ses_message_id": ses_message_id}
    audit_log.record(
        connection, actor, AuditAction.EMAIL_TEMPLATE_TEST_SEND, "email_template", email_template_id, detail
    )
