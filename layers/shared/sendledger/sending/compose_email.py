"""Composing: a step's content, one lead and the sender's settings in, the message for SES out. Uses no table.

Adds the unsubscribe link and the headers for one click (RFC 8058), a footer with the postal address, and a reply
address that identifies the email. Only the signatures of the link and the reply address are computed for each email;
the rest is prepared once.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from typing import Any, NamedTuple

from markupsafe import escape

from sendledger.content.email_thread import QuotedEmail, insert_at_end, with_quote
from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import CompiledTemplate, RenderedEmail
from sendledger.content.untracked_links import NO_TRACK, without_tracking
from sendledger.core.settings import MailSettings
from sendledger.core.signed_tokens import REPLY_PREFIX, EmailReference
from sendledger.ledger.answers import WrittenAnswer
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.ledger.email_threads import EmailThread
from sendledger.ses.attachments import EncodedAttachments
from sendledger.ses.message_ids import thread_headers
from sendledger.ses.sign_email import OutgoingEmail

_ONE_CLICK = ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
_FOOTER_STYLE = "margin:24px 0 0;font-size:12px;line-height:1.5;color:#595959"


@dataclass(frozen=True)
class StepContent:
    """What one campaign sends in one step."""

    template: CompiledTemplate
    campaign_name: str
    from_address: str
    reply_to_address: str | None
    in_thread: bool = False
    track_opens: bool = False
    track_clicks: bool = False
    attachments: tuple[Mapping[str, Any], ...] = ()
    """The files, as `campaign_steps` lists them."""


class ComposedEmail(NamedTuple):
    """The email as it is stored (`rendered`) and as it is sent (`outgoing`)."""

    rendered: RenderedEmail
    outgoing: OutgoingEmail


class Composer:
    """Composes emails for one deployment. Create it once; it may be used from any thread."""

    def __init__(self, settings: MailSettings, message_id_domain: str) -> None:
        self._message_id_domain = message_id_domain
        self._keys = settings.unsubscribe_keys
        self._link = f"{settings.public_url}/u/" if settings.public_url else None
        self._reply_domain = settings.reply_domain
        postal_address = settings.postal_address or ""
        self._postal_address = postal_address
        self._postal_address_html = str(escape(postal_address))

    def compose(
        self,
        content: StepContent,
        email: ClaimedEmail,
        claim_token: uuid.UUID,
        thread: EmailThread | None = None,
        attachments: EncodedAttachments | None = None,
    ) -> ComposedEmail:
        """Compose the email of an existing lead, as an answer in `thread` if there is one.

        Raises:
            RenderError: the template cannot be rendered for this lead.
        """
        assert email.lead is not None  # noqa: S101 (for the type checker)
        from_address = email.from_address or content.from_address
        url = self._unsubscribe_url(email, email.lead["lead_id"])
        variables = lead_variables(email.lead, content.campaign_name, url)
        rendered = content.template.render(variables, thread.subject if thread else None)
        rendered = self._with_footer(rendered, url)
        if url and rendered.body_html is not None:
            rendered = rendered._replace(body_html=without_tracking(rendered.body_html, url))
        headers: tuple[tuple[str, str], ...] = (("List-Unsubscribe", f"<{url}>"), _ONE_CLICK) if url else ()
        if thread is not None:
            headers += thread_headers(thread.root_id, thread.parent_id, self._message_id_domain)
            if thread.parent_text:
                quoted = QuotedEmail(thread.parent_sent_at, from_address, thread.parent_text)
                rendered = with_quote(rendered, quoted)
        outgoing = OutgoingEmail(
            scheduled_email_id=email.id,
            campaign_id=email.campaign_id,
            claim_token=claim_token,
            from_address=from_address,
            to_address=email.lead["email"].strip(),
            reply_to_addresses=self._reply_to(content, email),
            subject=rendered.subject,
            body_text=rendered.body_text,
            body_html=rendered.body_html,
            headers=headers,
            track_opens=content.track_opens,
            track_clicks=content.track_clicks,
            attachments=attachments,
        )
        return ComposedEmail(rendered, outgoing)

    def compose_answer(
        self, content: StepContent, email: ClaimedEmail, attempt: uuid.UUID, answer: WrittenAnswer
    ) -> ComposedEmail:
        """Make the email of a person's answer: no template, no footer, nothing tracked."""
        assert email.lead is not None  # noqa: S101 (as above)
        url = self._unsubscribe_url(email, email.lead["lead_id"])
        headers: tuple[tuple[str, str], ...] = (("List-Unsubscribe", f"<{url}>"), _ONE_CLICK) if url else ()
        known = [each for each in (answer.root_id, answer.in_reply_to) if each]
        if known:
            headers += thread_headers(known[0], known[-1], self._message_id_domain)
        outgoing = OutgoingEmail(
            scheduled_email_id=email.id,
            campaign_id=email.campaign_id,
            claim_token=attempt,
            from_address=email.from_address or content.from_address,
            to_address=email.lead["email"].strip(),
            reply_to_addresses=self._reply_to(content, email),
            subject=answer.subject,
            body_text=answer.text,
            body_html=None,
            headers=headers,
        )
        return ComposedEmail(RenderedEmail(answer.subject, answer.text, None), outgoing)

    def _unsubscribe_url(self, email: ClaimedEmail, lead_id: uuid.UUID) -> str | None:
        if self._link is None or self._keys is None:
            return None
        return self._link + self._keys.unsubscribe_token(EmailReference(email.id, email.campaign_id, lead_id))

    def _reply_to(self, content: StepContent, email: ClaimedEmail) -> tuple[str, ...]:
        """Reply-To: the usual addresses, and the one that stops the sequence."""
        people = email.reply_to_address or content.reply_to_address
        if self._reply_domain is None or self._keys is None:
            return (people,) if people else ()
        people = people or email.from_address or content.from_address
        token = self._keys.reply_token(email.id)
        return (people, _name_before(people) % f"{REPLY_PREFIX}{token}@{self._reply_domain}")

    def _with_footer(self, rendered: RenderedEmail, url: str | None) -> RenderedEmail:
        """The footer. A part that contains the link already gets only the postal address."""
        text, html = rendered.body_text, rendered.body_html
        lines = [self._postal_address] if self._postal_address else []
        if url and url not in text:
            lines.append(f"Unsubscribe: {url}")
        if lines:
            text = "\n".join((text.rstrip("\n"), "", "--", *lines, ""))
        if html is not None:
            lines = [self._postal_address_html] if self._postal_address_html else []
            if url and url not in html:
                lines.append(f'<a {NO_TRACK} href="{url}" style="color:#595959">Unsubscribe</a>')
            if lines:
                footer = f'<p style="{_FOOTER_STYLE}">{"<br>".join(lines)}</p>\n'
                html = insert_at_end(html, footer)
        return RenderedEmail(rendered.subject, text, html)


@functools.lru_cache(maxsize=1024)
def _name_before(mailbox: str) -> str:
    """A pattern for mailboxes with the same display name: ``Ann <%s>``. A campaign has one for all its emails."""
    name = parseaddr(mailbox)[0]
    return formataddr((name, "%s")) if "%" not in name else "%s"
