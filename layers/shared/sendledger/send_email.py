"""One signed email to SES, and what its answer means. Reads and writes no table.

SES has no idempotency token, so every email is one HTTP request and never more: nothing here repeats a request, and
botocore's retries are off. Answers are read by botocore's own parser.
"""

from __future__ import annotations

import enum
import functools
import json
import re
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore import exceptions
from botocore.awsrequest import HeadersDict
from botocore.config import Config
from botocore.httpsession import get_cert_path

from sendledger.ses_connection import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    BadResponse,
    Response,
    SesConnection,
    addresses_of,
)
from sendledger.sign_email import endpoint_of

MAX_CALL_SECONDS = CONNECT_TIMEOUT + READ_TIMEOUT


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


def _snake(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removesuffix("Exception")).lower()


class SesSender:
    """Sends signed emails, from many threads at once, each with a connection of its own. Make one for each tick."""

    def __init__(self, client: Any) -> None:
        """`client` is from `ses_client`.

        Raises:
            OSError: nobody knows where SES is.
        """
        self._client = client
        self._shape = client.meta.service_model.operation_model("SendEmail").output_shape
        self._endpoint = endpoint_of(client)
        self._addresses = addresses_of(self._endpoint)
        self._tls = _tls(get_cert_path(client._endpoint.http_session._verify))
        self._threads = threading.local()
        self._connections: list[SesConnection] = []

    def close(self) -> None:
        """Close the connections. One that idled until the next tick might have been closed by SES in the meantime."""
        for connection in self._connections:
            connection.close()

    def send(self, request: bytes) -> SendOutcome:
        """Send one request, or none where the connection cannot be made; never raises for what SES answers."""
        connection = self._connection()
        try:
            connection.open()
        except ssl.SSLCertVerificationError as error:
            return SendOutcome(Answer.STOP_UNTIL_OPERATOR, error_code="bad_certificate", message=error.verify_message)
        except OSError as error:
            connection.close()
            message = f"SES could not be reached ({type(error).__name__})."
            return SendOutcome(Answer.NOT_REACHED, error_code="cannot_connect", message=message)
        try:
            connection.write(request)
            response = connection.read()
        except TimeoutError:
            connection.close()
            message = f"SES did not answer within {READ_TIMEOUT:.0f} s."
            return SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message=message)
        except (OSError, BadResponse) as error:
            connection.close()
            message = f"The connection to SES broke ({type(error).__name__})."
            return SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message=message)
        except BaseException:
            # The next email must not read this one's answer.
            connection.close()
            raise
        return self._outcome(response)

    def _connection(self) -> SesConnection:
        found: SesConnection | None = getattr(self._threads, "connection", None)
        if found is None:
            found = self._threads.connection = SesConnection(self._endpoint, self._addresses, self._tls)
            self._connections.append(found)
        return found

    def _outcome(self, response: Response) -> SendOutcome:
        if 200 <= response.status < 300:
            # Without a readable id it is accepted all the same; the Send event brings the id.
            return SendOutcome(Answer.SENT, message_id=_message_id(response.body))
        answered = {
            "status_code": response.status,
            "headers": HeadersDict(response.headers),
            "body": response.body,
            "context": {},
        }
        try:
            parsed = self._client._response_parser.parse(answered, self._shape)
        except exceptions.ResponseParserError:
            parsed = {}
        error = parsed.get("Error", {})
        code = str(error.get("Code") or response.status)
        message = str(error.get("Message") or f"HTTP status {response.status}")
        answer = classify(code, message, response.status)
        name = "outcome_unknown" if answer is Answer.UNKNOWN else _snake(code)
        return SendOutcome(answer, error_code=name, message=message[:1000])


def _message_id(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["MessageId"])
    except (ValueError, KeyError, TypeError):
        return None


@functools.cache
def _tls(cert_path: str) -> ssl.SSLContext:
    """Reading the certificate authorities takes longer than all else that a tick has to do before its first email."""
    return ssl.create_default_context(cafile=cert_path)


def ses_client(session: botocore.session.Session | None = None, endpoint_url: str | None = None) -> Any:
    """A client that never repeats a request. Make it once per process: it loads SES's model."""
    return (session or botocore.session.get_session()).create_client(
        "sesv2",
        endpoint_url=endpoint_url,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            parameter_validation=False,
            tcp_keepalive=True,
        ),
    )


@dataclass(frozen=True)
class SendingQuota:
    """What the account may send (SESv2 GetAccount); both limits count recipients."""

    max_send_rate: float
    remaining_24_hours: float
    """Infinity where the account has no daily limit."""
    blocked: str | None
    """Why the account may not send at all, or None."""
    sandbox: bool


def sending_quota(client: Any) -> SendingQuota:
    """Ask SES for the account's limits; at most once a second is allowed, once a tick is enough."""
    account: Mapping[str, Any] = client.get_account()
    quota = account.get("SendQuota", {})
    limit = float(quota.get("Max24HourSend", 0))
    blocked = None
    if not account.get("SendingEnabled", True):
        blocked = "Sending is paused for this SES account."
    elif account.get("EnforcementStatus") == "SHUTDOWN":
        blocked = "SES has shut down sending for this account."
    return SendingQuota(
        max_send_rate=float(quota.get("MaxSendRate", 0)),
        remaining_24_hours=float("inf") if limit < 0 else max(0.0, limit - float(quota.get("SentLast24Hours", 0))),
        blocked=blocked,
        sandbox=not account.get("ProductionAccessEnabled", False),
    )
