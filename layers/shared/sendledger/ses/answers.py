"""What an answer of SES means: for the email, for its campaign and for all sending."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class Answer(enum.Enum):
    """What an answer of SES means for the row, its campaign and all sending."""

    SENT = "sent"
    SLOW_DOWN = "slow down"
    STOP_FOR_A_WHILE = "stop all for a while"
    STOP_UNTIL_OPERATOR = "stop all until an operator acts"
    PAUSE_CAMPAIGN = "pause this campaign"
    FAIL_ROW = "fail this row"
    RETRY_LATER = "retry this row later"
    NOT_REACHED = "SES was not reached"
    UNKNOWN = "unknown"
    NOT_CALLED = "SES was not called"


@dataclass(frozen=True)
class SendOutcome:
    """The result of one call: `message_id` where it was accepted, `error_code` and `message` where not."""

    answer: Answer
    message_id: str | None = None
    error_code: str | None = None
    message: str | None = None


# (exception, part of its message, answer): the first match counts. Sources: the SESv2 API reference's errors of
# SendEmail and its common errors, and https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
_ANSWERS: tuple[tuple[str, str, Answer], ...] = (
    ("TooManyRequestsException", "daily message quota", Answer.STOP_FOR_A_WHILE),
    ("TooManyRequestsException", "", Answer.SLOW_DOWN),
    ("ThrottlingException", "daily message quota", Answer.STOP_FOR_A_WHILE),
    ("ThrottlingException", "", Answer.SLOW_DOWN),
    ("Throttling", "daily message quota", Answer.STOP_FOR_A_WHILE),
    ("Throttling", "", Answer.SLOW_DOWN),
    ("LimitExceededException", "", Answer.STOP_FOR_A_WHILE),
    ("AccountSuspendedException", "", Answer.STOP_UNTIL_OPERATOR),
    ("SendingPausedException", "", Answer.STOP_UNTIL_OPERATOR),
    # A campaign's own sender address, say, which the sender's role does not cover.
    ("AccessDeniedException", ":identity/", Answer.PAUSE_CAMPAIGN),
    ("AccessDeniedException", "", Answer.STOP_UNTIL_OPERATOR),
    # New credentials come by themselves, and a clock is set right.
    ("ExpiredTokenException", "", Answer.STOP_FOR_A_WHILE),
    ("ExpiredToken", "", Answer.STOP_FOR_A_WHILE),
    ("RequestExpired", "", Answer.STOP_FOR_A_WHILE),
    ("InvalidSignatureException", "signature expired", Answer.STOP_FOR_A_WHILE),
    ("InvalidSignatureException", "signature not yet current", Answer.STOP_FOR_A_WHILE),
    ("IncompleteSignatureException", "", Answer.STOP_UNTIL_OPERATOR),
    ("IncompleteSignature", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidClientTokenId", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidSignatureException", "", Answer.STOP_UNTIL_OPERATOR),
    ("MissingAuthenticationToken", "", Answer.STOP_UNTIL_OPERATOR),
    ("NotAuthorized", "", Answer.STOP_UNTIL_OPERATOR),
    ("SignatureDoesNotMatch", "", Answer.STOP_UNTIL_OPERATOR),
    ("UnrecognizedClientException", "", Answer.STOP_UNTIL_OPERATOR),
    ("MailFromDomainNotVerifiedException", "", Answer.PAUSE_CAMPAIGN),
    ("NotFoundException", "", Answer.PAUSE_CAMPAIGN),
    ("MessageRejected", "not verified", Answer.PAUSE_CAMPAIGN),
    ("MessageRejected", "", Answer.FAIL_ROW),
    ("BadRequestException", "", Answer.FAIL_ROW),
    # Refused for what else goes on at SES, whatever the email.
    ("ConcurrentModificationException", "", Answer.RETRY_LATER),
    ("ConflictException", "", Answer.RETRY_LATER),
    # How far it got, nobody says.
    ("RequestAbortedException", "", Answer.UNKNOWN),
)


def classify(code: str, message: str, http_status: int) -> Answer:
    """What an error answer means. An unlisted one proves nothing, unless it is a client error (4xx)."""
    for listed, part, answer in _ANSWERS:
        if code == listed and part in message.lower():
            return answer
    if http_status == 429:
        return Answer.SLOW_DOWN
    if http_status in (401, 403, 404, 407):
        # Not about this email: the credentials, a policy, the endpoint or a proxy. Every row would fail alike.
        return Answer.STOP_UNTIL_OPERATOR
    # 408 is the server's view of a broken connection; every other 4xx says what was wrong with what it did read.
    return Answer.FAIL_ROW if 400 <= http_status < 500 and http_status != 408 else Answer.UNKNOWN


def error_name(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removesuffix("Exception")).lower()
