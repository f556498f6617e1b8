"""The meaning of an answer of SES: for the email, for its campaign and for all sending."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple


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
    FILES_NOT_REACHED = "the files of the email were not reached"
    UNKNOWN = "unknown"
    NOT_CALLED = "SES was not called"


class SendOutcome(NamedTuple):
    """The result of one call: `message_id` if it was accepted, `error_code` and `message` if not."""

    answer: Answer
    message_id: str | None = None
    error_code: str | None = None
    message: str | None = None


# Messages that decide, whatever the name of the exception: SES has several names for one fact, and MessageRejected can
# be about the email or the account. The first match counts, before the names below. Sources:
# https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-error-messages.html
# https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
_OFF = r"(paused|suspended|disabled|deactivated|terminated|closed|shut ?down|under review)"
_WHOSE = r"(account|tenant|configuration set)"
_TEXTS: tuple[tuple[re.Pattern[str], Answer], ...] = (
    (re.compile(r"daily (message|sending|email) quota|24.hour (sending )?(quota|limit)"), Answer.STOP_FOR_A_WHILE),
    (re.compile(r"maximum (\w+ ){0,3}sending rate|\brate exceeded"), Answer.SLOW_DOWN),
    # A wrong clock is corrected, and new credentials arrive, without action by a person.
    (
        re.compile(r"signature (expired|not yet current)|request has expired|token .{0,40}is expired"),
        Answer.STOP_FOR_A_WHILE,
    ),
    # About what the campaign sends with, so every email of it would be refused.
    (re.compile(r"configuration set\b.{0,100}\b(does not|doesn.t) exist"), Answer.PAUSE_CAMPAIGN),
    (re.compile(r"\b(address|domain|identit\w{1,3}) (is |has |are )?not (been )?verified"), Answer.PAUSE_CAMPAIGN),
    (re.compile(rf"\b{_WHOSE}\b.{{0,80}}\b{_OFF}\b|\b{_OFF}\b.{{0,80}}\b{_WHOSE}\b"), Answer.STOP_UNTIL_OPERATOR),
    (re.compile(rf"\bsending (is |has been |was )?(currently |temporarily )?{_OFF}\b"), Answer.STOP_UNTIL_OPERATOR),
)

# An error that would fail the row, but speaks of the account: sending for it is stopped, in whatever words. The first
# sentence that speaks of the email or the account decides. "account@example.com" is no account.
_ACCOUNT = re.compile(
    r"(?<![@.\w+])(?:account|tenant)s?(?:['\u2019]s)?(?![@.+-]?\w)"
    r"|\bsending (?:pause|(?:is |has been |was )?(?:currently |temporarily )?"
    r"(?:stopped|blocked|restricted|revoked|halted|limited|on hold|not allowed))\b"
)
_EMAIL = re.compile(
    r"\b(?:address|identit|recipient|domain|content|header|attachment|subject(?! to\b)|template|body"
    r"|suppress|size|length)"
    r"|(?<!send )(?<!sending )\bmessages?\b(?! [\w ']{0,20}(?:rejected|refused|sent)\b)|\w@\w"
)
_SENTENCE_END = re.compile(r"[.;!]\s|\n")

# (exception without "Exception" at its end, part of its message, answer): the first match counts. Sources: the SESv2
# API reference's errors of SendEmail and its common errors, the names of the same errors in the older API, and the
# errors that botocore takes for a wrong clock.
_NAMES: tuple[tuple[str, str, Answer], ...] = (
    ("TooManyRequests", "", Answer.SLOW_DOWN),
    ("Throttling", "", Answer.SLOW_DOWN),
    ("AccountThrottled", "", Answer.SLOW_DOWN),
    ("AccountDailyQuotaExceeded", "", Answer.STOP_FOR_A_WHILE),
    ("LimitExceeded", "", Answer.STOP_FOR_A_WHILE),
    # For example a campaign's own sender address that the sender's role does not allow.
    ("AccessDenied", ":identity/", Answer.PAUSE_CAMPAIGN),
    ("AccessDenied", "", Answer.STOP_UNTIL_OPERATOR),
    ("ExpiredToken", "", Answer.STOP_FOR_A_WHILE),
    ("RequestExpired", "", Answer.STOP_FOR_A_WHILE),
    ("RequestInTheFuture", "", Answer.STOP_FOR_A_WHILE),
    ("RequestTimeTooSkewed", "", Answer.STOP_FOR_A_WHILE),
    ("AuthFailure", "", Answer.STOP_UNTIL_OPERATOR),
    ("IncompleteSignature", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidAction", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidClientTokenId", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidSignature", "", Answer.STOP_UNTIL_OPERATOR),
    ("MissingAuthenticationToken", "", Answer.STOP_UNTIL_OPERATOR),
    ("NotAuthorized", "", Answer.STOP_UNTIL_OPERATOR),
    ("OptInRequired", "", Answer.STOP_UNTIL_OPERATOR),
    ("SignatureDoesNotMatch", "", Answer.STOP_UNTIL_OPERATOR),
    ("SubscriptionRequired", "", Answer.STOP_UNTIL_OPERATOR),
    ("Unauthorized", "", Answer.STOP_UNTIL_OPERATOR),
    ("UnknownOperation", "", Answer.STOP_UNTIL_OPERATOR),
    ("UnrecognizedClient", "", Answer.STOP_UNTIL_OPERATOR),
    ("MailFromDomainNotVerified", "", Answer.PAUSE_CAMPAIGN),
    ("FromEmailAddressNotVerified", "", Answer.PAUSE_CAMPAIGN),
    ("NotFound", "", Answer.PAUSE_CAMPAIGN),
    ("ConfigurationSetDoesNotExist", "", Answer.PAUSE_CAMPAIGN),
    ("MessageRejected", "not verified", Answer.PAUSE_CAMPAIGN),
    ("MessageRejected", "", Answer.FAIL_ROW),
    ("BadRequest", "", Answer.FAIL_ROW),
    # Refused for a state of SES, not because of the email.
    ("ConcurrentModification", "", Answer.RETRY_LATER),
    ("Conflict", "", Answer.RETRY_LATER),
    # It is not known how far the request got.
    ("RequestAborted", "", Answer.UNKNOWN),
)
# AccountSuspended, SendingPaused, AccountSendingPaused, ConfigurationSetSendingPaused, … All campaigns use the one
# configuration set of the deployment, so a set that is switched off stops them all.
_NAMED_OFF = re.compile(r"(Paused|Suspended|Disabled|ShutDown|Shutdown)$")


def classify(code: str, message: str, http_status: int) -> Answer:
    """The meaning of an error. An unlisted one proves nothing, unless it is a client error (4xx)."""
    text = message.lower()
    answer = _answer(code.removesuffix("Exception"), text, http_status)
    return Answer.STOP_UNTIL_OPERATOR if answer is Answer.FAIL_ROW and _is_about_the_account(text) else answer


def _is_about_the_account(text: str) -> bool:
    for sentence in _SENTENCE_END.split(text):
        if _EMAIL.search(sentence):
            return False
        if _ACCOUNT.search(sentence):
            return True
    return False


def _answer(name: str, text: str, http_status: int) -> Answer:
    if http_status < 500:
        for pattern, answer in _TEXTS:
            if pattern.search(text):
                return answer
    if _NAMED_OFF.search(name):
        return Answer.STOP_UNTIL_OPERATOR
    for listed, part, answer in _NAMES:
        if name == listed and part in text:
            return answer
    if http_status == 429:
        return Answer.SLOW_DOWN
    if http_status in (401, 402, 403, 404, 407):
        # Not about this email: credentials, billing, a policy, the endpoint or a proxy. Every row would fail.
        return Answer.STOP_UNTIL_OPERATOR
    # 408 is a broken connection, seen by the server. Every other 4xx is about the request.
    return Answer.FAIL_ROW if 400 <= http_status < 500 and http_status != 408 else Answer.UNKNOWN


def error_name(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removesuffix("Exception")).lower()
