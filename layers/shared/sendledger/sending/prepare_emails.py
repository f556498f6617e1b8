"""Preparing: claimed emails in; composed and signed emails out, or the reason why one failed.

Templates are the only foreign code that a sender runs. So before it renders, it notes for which campaigns
(`LivingSender.prepares`): if it dies, the sweep knows the cause. Rendering that takes too long is stopped. And each
campaign's content is tried (`prove`) while no SES calls are under way. Reads `campaign_steps` and `campaigns`.
"""

from __future__ import annotations

import contextlib
import functools
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns import guardrails
from sendledger.content.template_filters import RenderError
from sendledger.core.ledger_rules import LAST_STEP
from sendledger.core.settings import SenderSettings
from sendledger.core.vocabulary import ErrorCode
from sendledger.files.file_bucket import BucketUnreachable
from sendledger.ledger.answers import WrittenAnswer, find_answers
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.ledger.email_threads import EmailThread, NotYet, find_threads
from sendledger.ledger.record_results import SendResult
from sendledger.ledger.senders import LivingSender
from sendledger.sending.attached_files import AttachedFiles, MissingFile
from sendledger.sending.compose_email import Composer
from sendledger.sending.refusals import RefusalGate
from sendledger.sending.ses_calls import ReadyEmail
from sendledger.sending.step_contents import ContentKey, InvalidContent, StepContents
from sendledger.sending.time_limit import TimeLimit, TookTooLong, stopping_slow_work
from sendledger.ses.answers import Answer, SendOutcome
from sendledger.ses.attachments import EncodedAttachments
from sendledger.ses.message_ids import message_id_domain
from sendledger.ses.sign_email import CannotSign, EmailSigner

MAX_CHUNK_BYTES = 16_000_000
"""Bytes of the requests of a chunk. The memory used, and the size of one statement, is a few times this."""

LONGEST_PREPARATION = 5.0
"""Seconds of CPU time, of which other threads of the sender use a part. An email takes a millisecond."""

MOST_ANNOUNCEMENTS = 4
"""A chunk is noted in this many parts, at most. The campaigns of one part are all possible causes of a death."""

MOST_PROOFS = 100
"""All contents are tried in this many parts, at most, so that a death has few possible causes."""

logger = Logger(child=True)


@dataclass
class Prepared:
    """The result of preparing a chunk. `waiting` emails belong to campaigns for which no call may begin now."""

    ready: list[ReadyEmail] = field(default_factory=list)
    failed: list[SendResult] = field(default_factory=list)
    waiting: list[ClaimedEmail] = field(default_factory=list)
    stalled: list[uuid.UUID] = field(default_factory=list)
    """Campaigns with an email that took too long."""
    size: int = 0


class Preparer:
    """Prepares emails for one tick, under one claim token."""

    def __init__(
        self,
        engine: sa.Engine,
        ses_client: Any,
        settings: SenderSettings,
        token: uuid.UUID,
        gate: RefusalGate,
        proven: set[ContentKey] | None = None,
    ) -> None:
        self.proven = proven if proven is not None else set()
        """Contents of which an email was rendered in each step; for them that is not done again."""
        self._engine = engine
        self._settings = settings
        self._token = token
        self._gate = gate
        self._living = LivingSender(engine, token)
        self._signer = functools.cache(lambda: EmailSigner(ses_client, settings.ses_configuration_set))
        domain = message_id_domain(ses_client.meta.region_name, settings.ses_message_id_domain)
        self._composer = Composer(settings, domain)
        self._contents = StepContents(settings.sender_from_address)
        self._files = AttachedFiles(settings.file_bucket)
        self._threads: dict[int, EmailThread | NotYet] = {}
        self._answers: dict[int, WrittenAnswer] = {}
        self.bytes_per_email = 1

    def close(self) -> None:
        """The tick has ended normally."""
        self._living.leave()

    def prove(self, emails: Sequence[ClaimedEmail], until: float) -> list[uuid.UUID]:
        """Compose one email of each campaign that is not proven yet, with each content of each of its steps, until
        `time.monotonic()` passes `until`. To be called while no call is under way.

        Returns the campaign of an email that took too long; then it stops. Other errors appear again when the email is
        prepared.
        """
        new = list({e.content: e for e in emails if e.has_address and e.content not in self.proven}.values())
        each = max(1, -(-len(new) // MOST_PROOFS))
        try:
            with stopping_slow_work() as limit:
                for position, email in enumerate(new):
                    if time.monotonic() >= until:
                        break
                    if position % each == 0:
                        part = new[position : position + each]
                        self._living.prepares({email.campaign_id for email in part})
                        self._load(part)
                    if not self._is_harmless(email, limit):
                        return [email.campaign_id]
                    self.proven.add(email.content)
        finally:
            self._living.prepares(())
        return []

    def _is_harmless(self, email: ClaimedEmail, limit: TimeLimit | None) -> bool:
        for step_number, variant in self._contents.steps_of(email):
            try:
                if limit is not None:
                    limit.begin(LONGEST_PREPARATION)
                with contextlib.suppress(Exception):
                    self._compose(email._replace(step_number=step_number, variant=variant), {})
            except TookTooLong:
                return False
            finally:
                if limit is not None:
                    limit.end()
        return True

    def prepare(self, claimed: deque[ClaimedEmail], most: int, until: float, *, alone: bool = False) -> Prepared:
        """Take up to `most` emails from `claimed` and prepare them, until `time.monotonic()` passes `until`.

        With `alone` each row is noted separately.
        """
        prepared = Prepared()
        with stopping_slow_work() as limit:
            for part in _parts(claimed, most, alone):
                emails = deque(claimed.popleft() for _ in range(part))
                self._living.prepares({email.campaign_id for email in emails}, emails[0].id if alone else None)
                self._load(emails)
                while emails and prepared.size < MAX_CHUNK_BYTES and time.monotonic() < until:
                    if not self._prepare_one(emails.popleft(), prepared, limit):
                        until = 0.0
                claimed.extendleft(reversed(emails))
                if emails:
                    break
        self._living.prepares(())
        if prepared.ready:
            self.bytes_per_email = max(1, prepared.size // len(prepared.ready))
        return prepared

    def _load(self, emails: Sequence[ClaimedEmail]) -> None:
        if not self._contents.knows(emails):
            with self._engine.connect() as connection:
                read = self._contents.load(connection, emails)
                self._gate.set_limits(guardrails.most_refusals(connection, read, self._settings))
        in_threads = [email.id for email in emails if self._contents.is_in_thread(email)]
        written = [email.id for email in emails if email.step_number > LAST_STEP]
        self._threads, self._answers = {}, {}
        if in_threads or written:
            with self._engine.connect() as connection:
                self._threads = find_threads(connection, in_threads) if in_threads else {}
                self._answers = find_answers(connection, written) if written else {}

    def _prepare_one(self, email: ClaimedEmail, prepared: Prepared, limit: TimeLimit | None) -> bool:
        """Add the email to the prepared ones. Returns whether more may follow."""
        if not self._gate.is_open(email.campaign_id):
            prepared.waiting.append(email)
            return True
        try:
            # Outside of the time limit, which is for templates.
            attachments = self._attachments_of(email)
            if limit is not None:
                limit.begin(LONGEST_PREPARATION)
            ready = self._compose(email, self._threads, attachments)
        except TookTooLong:
            message = f"Preparing this email took more than {LONGEST_PREPARATION:.0f} s of CPU time."
            outcome = SendOutcome(Answer.FAIL_ROW, error_code=ErrorCode.SENDER_DIED, message=message)
            prepared.stalled.append(email.campaign_id)
        except CannotSign as error:
            answer = Answer.STOP_UNTIL_OPERATOR if error.permanent else Answer.STOP_FOR_A_WHILE
            outcome = SendOutcome(answer, error_code=ErrorCode.CANNOT_SIGN, message=str(error)[:1000])
        except Exception as error:
            # An error from one lead's data fails this email only.
            outcome = _not_composed(email, error)
        else:
            prepared.ready.append(ready)
            prepared.size += sum(len(part) for part in ready.request)
            return True
        finally:
            if limit is not None:
                limit.end()
        prepared.failed.append(SendResult(email, outcome, None, time.monotonic()))
        return outcome.answer in (Answer.FAIL_ROW, Answer.FILES_NOT_REACHED) and not prepared.stalled

    def _attachments_of(self, email: ClaimedEmail) -> EncodedAttachments | None:
        return self._files.of(self._contents.of(email).attachments) if email.has_address else None

    def _compose(
        self,
        email: ClaimedEmail,
        threads: Mapping[int, EmailThread | NotYet],
        attachments: EncodedAttachments | None = None,
    ) -> ReadyEmail:
        if not email.has_address:
            return ReadyEmail(email)  # the fence turns it away
        content = self._contents.of(email)
        if email.step_number > LAST_STEP:
            answer = self._composer.compose_answer(content, email, self._token, self._answers[email.id])
            return ReadyEmail(email, answer, self._signer().signed(answer.outgoing))
        thread = threads.get(email.id)
        if isinstance(thread, NotYet):
            return ReadyEmail(email)  # the fence returns it; if the earlier step has just ended, SES is not called
        composed = self._composer.compose(content, email, self._token, thread, attachments)
        return ReadyEmail(email, composed, self._signer().signed(composed.outgoing))


def _parts(claimed: deque[ClaimedEmail], most: int, alone: bool) -> Iterator[int]:
    """The number of emails of each part. Rows of one campaign are claimed together and stay together."""
    if alone:
        yield from (1 for _ in range(min(most, len(claimed))))
        return
    chunk = [claimed[position] for position in range(min(most, len(claimed)))]
    each = -(-len({email.campaign_id for email in chunk}) // MOST_ANNOUNCEMENTS)
    part, campaigns = 0, set[uuid.UUID]()
    for email in chunk:
        if email.campaign_id not in campaigns and len(campaigns) == each:
            yield part
            part, campaigns = 0, set()
        campaigns.add(email.campaign_id)
        part += 1
    if part:
        yield part


def _not_composed(email: ClaimedEmail, error: Exception) -> SendOutcome:
    if isinstance(error, RenderError):
        return SendOutcome(Answer.FAIL_ROW, error_code=error.code, message=error.message[:1000])
    if isinstance(error, BucketUnreachable):
        message = "The attachments could not be read from the bucket."
        return SendOutcome(Answer.FILES_NOT_REACHED, error_code=ErrorCode.FILES_UNREACHABLE, message=message)
    if isinstance(error, InvalidContent | MissingFile):
        return SendOutcome(Answer.PAUSE_CAMPAIGN, error_code=ErrorCode.INVALID_CONTENT, message=str(error)[:1000])
    logger.error("An email could not be composed", extra={"scheduled_email_id": email.id}, exc_info=error)
    message = f"The email could not be made ({type(error).__name__})."
    return SendOutcome(Answer.FAIL_ROW, error_code=ErrorCode.NOT_COMPOSED, message=message)
