"""One email to SES, and what its answer means. Reads and writes no table.

SES has no idempotency token, so every email is one HTTP request and never more: nothing here repeats a request, and
botocore's retries are off. Requests are made by botocore's own serializer, endpoint rules, credentials and signer and
answers read by its parser; what is left out of its client is the machinery around them that costs more time than
they do (docs/decisions). A test compares the bytes with those of boto3's own `send_email`.
"""

from __future__ import annotations

import enum
import re
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from typing import Any

import botocore.session
from botocore import exceptions
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.config import Config
from botocore.endpoint import convert_to_response_dict
from botocore.httpsession import URLLib3Session

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds; an email without an answer by then has an unknown outcome."""

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
    UNKNOWN = "unknown"
    NOT_CALLED = "SES was not called"

    @property
    def proves_unsent(self) -> bool:
        """SES has certainly not accepted the email, so that it may be sent later."""
        return self not in (Answer.SENT, Answer.UNKNOWN)


@dataclass(frozen=True)
class SendOutcome:
    """The result of one call: `message_id` where it was accepted, `error_code` and `message` where not."""

    answer: Answer
    message_id: str | None = None
    error_code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class OutgoingEmail:
    """One message to one recipient, rendered, with the tags that SES events bring back."""

    scheduled_email_id: int
    campaign_id: uuid.UUID
    attempt: uuid.UUID
    from_address: str
    to_address: str
    reply_to_addresses: tuple[str, ...]
    subject: str
    body_text: str
    body_html: str | None
    headers: tuple[tuple[str, str], ...] = ()


# (exception, part of its message, answer): the first match counts. Sources: the SESv2 API reference's errors of
# SendEmail, and https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
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
    ("AccessDeniedException", "", Answer.STOP_UNTIL_OPERATOR),
    ("ExpiredTokenException", "", Answer.STOP_UNTIL_OPERATOR),
    ("IncompleteSignatureException", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidClientTokenId", "", Answer.STOP_UNTIL_OPERATOR),
    ("InvalidSignatureException", "", Answer.STOP_UNTIL_OPERATOR),
    ("MissingAuthenticationToken", "", Answer.STOP_UNTIL_OPERATOR),
    ("SignatureDoesNotMatch", "", Answer.STOP_UNTIL_OPERATOR),
    ("UnrecognizedClientException", "", Answer.STOP_UNTIL_OPERATOR),
    ("MailFromDomainNotVerifiedException", "", Answer.PAUSE_CAMPAIGN),
    ("NotFoundException", "", Answer.PAUSE_CAMPAIGN),
    ("MessageRejected", "not verified", Answer.PAUSE_CAMPAIGN),
    ("MessageRejected", "", Answer.FAIL_ROW),
    ("BadRequestException", "", Answer.FAIL_ROW),
)


def classify(code: str, message: str, http_status: int) -> Answer:
    """What an error answer means. An unlisted one proves nothing, unless it is a client error (4xx)."""
    for listed, part, answer in _ANSWERS:
        if code == listed and part in message.lower():
            return answer
    if http_status == 429:
        return Answer.SLOW_DOWN
    # 408 is the server's view of a broken connection; every other 4xx says what was wrong with what it did read.
    return Answer.FAIL_ROW if 400 <= http_status < 500 and http_status != 408 else Answer.UNKNOWN


def _snake(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code.removesuffix("Exception")).lower()


class SesSender:
    """Sends emails; usable from many threads at once. Make one for each tick: it keeps its connections open."""

    def __init__(self, client: Any, threads: int) -> None:
        """`client` is from `ses_client`; `threads` is how many connections are kept."""
        self._client = client
        self._operation = client.meta.service_model.operation_model("SendEmail")
        self._context = {
            "client_region": client.meta.region_name,
            "client_config": client.meta.config,
            "has_streaming_input": False,
            "auth_type": self._operation.resolved_auth_type,
            "unsigned_payload": self._operation.unsigned_payload,
            "auth_options": client.meta.service_model.metadata.get("auth"),
        }
        self._endpoint_url, _, properties = client._resolve_endpoint_ruleset(
            self._operation, {"Content": {}}, self._context
        )
        self._context["endpoint_properties"] = properties
        self._user_agent = client._user_agent_creator.to_string()
        # A session of its own: connections that idled since the last tick may have been closed by SES, and an email
        # written into one of them would have an unknown outcome.
        self._http = URLLib3Session(
            verify=client._endpoint.http_session._verify,
            proxies=client._endpoint.http_session._proxy_config._proxies,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            max_pool_connections=threads,
            # Without botocore's own options (TCP_NODELAY) head and body of a request wait 40 ms for each other.
            socket_options=client._endpoint.http_session._socket_options,
        )

    def close(self) -> None:
        self._http.close()

    def send(self, email: OutgoingEmail, configuration_set: str | None) -> SendOutcome:
        """Make exactly one request, or none where the connection cannot be made; never raises for what SES answers."""
        try:
            request = self._request(email, configuration_set)
        except (exceptions.NoCredentialsError, exceptions.CredentialRetrievalError) as error:
            return SendOutcome(Answer.STOP_UNTIL_OPERATOR, error_code="no_credentials", message=str(error))
        try:
            response = self._http.send(request.prepare())
        except (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyConnectionError):
            return SendOutcome(Answer.RETRY_LATER, error_code="cannot_connect", message="SES could not be reached.")
        except exceptions.SSLError as error:
            # The certificate is checked before the first byte of the request is written.
            if isinstance(error.kwargs.get("error"), ssl.SSLCertVerificationError) or "CERTIFICATE" in str(error):
                return SendOutcome(Answer.STOP_UNTIL_OPERATOR, error_code="bad_certificate", message=str(error))
            return SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message="The connection to SES broke.")
        except exceptions.ReadTimeoutError:
            message = f"SES did not answer within {READ_TIMEOUT:.0f} s."
            return SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message=message)
        except exceptions.HTTPClientError as error:
            message = f"The connection to SES broke ({type(error).__name__})."
            return SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message=message)
        return self._outcome(convert_to_response_dict(response, self._operation))

    def _request(self, email: OutgoingEmail, configuration_set: str | None) -> Any:
        parameters = send_email_parameters(email, configuration_set)
        request = self._client._serializer.serialize_to_request(parameters, self._operation)
        prepare_request_dict(
            request, endpoint_url=self._endpoint_url, user_agent=self._user_agent, context=dict(self._context)
        )
        signed = create_request_object(request)
        self._client._request_signer.sign("SendEmail", signed)
        return signed

    def _outcome(self, response: dict[str, Any]) -> SendOutcome:
        status = int(response["status_code"])
        try:
            parsed = self._client._response_parser.parse(response, self._operation.output_shape)
        except exceptions.ResponseParserError:
            parsed = {}
        if 200 <= status < 300:
            # Without a readable id it is accepted all the same; the Send event brings the id.
            return SendOutcome(Answer.SENT, message_id=parsed.get("MessageId"))
        error = parsed.get("Error", {})
        code, message = str(error.get("Code") or status), str(error.get("Message") or f"HTTP status {status}")
        answer = classify(code, message, status)
        name = "outcome_unknown" if answer is Answer.UNKNOWN else _snake(code)
        return SendOutcome(answer, error_code=name, message=message[:1000])


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


def send_email_parameters(email: OutgoingEmail, configuration_set: str | None) -> dict[str, Any]:
    """The parameters of SESv2's SendEmail for one message, as boto3 would take them."""
    body = {"Text": {"Data": email.body_text, "Charset": "UTF-8"}}
    if email.body_html is not None:
        body["Html"] = {"Data": email.body_html, "Charset": "UTF-8"}
    parameters: dict[str, Any] = {
        "FromEmailAddress": mailbox(email.from_address),
        "Destination": {"ToAddresses": [email.to_address]},
        "Content": {"Simple": {"Subject": {"Data": email.subject, "Charset": "UTF-8"}, "Body": body}},
        "EmailTags": [
            {"Name": "scheduled_email_id", "Value": str(email.scheduled_email_id)},
            {"Name": "campaign_id", "Value": str(email.campaign_id)},
            {"Name": "attempt", "Value": str(email.attempt)},
        ],
    }
    if email.headers:
        parameters["Content"]["Simple"]["Headers"] = [{"Name": name, "Value": value} for name, value in email.headers]
    if email.reply_to_addresses:
        parameters["ReplyToAddresses"] = [mailbox(address) for address in email.reply_to_addresses]
    if configuration_set:
        parameters["ConfigurationSetName"] = configuration_set
    return parameters


def mailbox(value: str) -> str:
    """A mailbox with its display name encoded as RFC 2047 asks; SES takes ASCII here."""
    return formataddr(parseaddr(value))


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
