"""One signed email to SES, and the meaning of the answer. Reads and writes no table.

SES has no idempotency token, so every email is exactly one HTTP request. Nothing here repeats a request, and the
retries of botocore are off. The parser of botocore reads the answers.
"""

from __future__ import annotations

import functools
import json
import selectors
import ssl
from typing import Any

from botocore import exceptions
from botocore.awsrequest import HeadersDict
from botocore.httpsession import get_cert_path

from sendledger.core.vocabulary import ErrorCode
from sendledger.ses.answers import Answer, SendOutcome, classify, error_name
from sendledger.ses.connection import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    Response,
    SesConnection,
    addresses_of,
)
from sendledger.ses.sign_email import endpoint_of

MAX_CALL_SECONDS = CONNECT_TIMEOUT + READ_TIMEOUT


class SesSender:
    """Connections to SES and what is learnt from them. Create one for each tick."""

    def __init__(self, client: Any) -> None:
        """`client` is from `ses_client`.

        Raises:
            OSError: the name of the endpoint cannot be resolved.
        """
        self._client = client
        self._shape = client.meta.service_model.operation_model("SendEmail").output_shape
        self._endpoint = endpoint_of(client)
        self._addresses = addresses_of(self._endpoint)
        is_secure = self._endpoint.scheme == "https"
        self._tls = _tls(get_cert_path(client._endpoint.http_session._verify)) if is_secure else None

    def connection(self, selector: selectors.BaseSelector) -> SesConnection:
        """A new connection, for requests of `EmailSigner`."""
        return SesConnection(self._endpoint, self._addresses, self._tls, selector)

    def failure(self, error: Exception, *, is_open: bool) -> SendOutcome:
        """The outcome of a call that ended in this error of a connection that was open or not."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return SendOutcome(
                Answer.STOP_UNTIL_OPERATOR, error_code=ErrorCode.BAD_CERTIFICATE, message=error.verify_message
            )
        if not is_open:
            message = f"SES could not be reached ({type(error).__name__})."
            return SendOutcome(Answer.NOT_REACHED, error_code=ErrorCode.CANNOT_CONNECT, message=message)
        message = f"The connection to SES broke ({type(error).__name__})."
        if isinstance(error, TimeoutError):
            message = f"SES did not answer within {READ_TIMEOUT:.0f} s."
        return SendOutcome(Answer.UNKNOWN, error_code=ErrorCode.OUTCOME_UNKNOWN, message=message)

    def outcome(self, response: Response) -> SendOutcome:
        """The outcome of a call that got this response."""
        if 200 <= response.status < 300:
            # It is accepted also without a readable id; the Send event has the id.
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
        name = ErrorCode.OUTCOME_UNKNOWN if answer is Answer.UNKNOWN else error_name(code)
        return SendOutcome(answer, error_code=name, message=message[:1000])


def _message_id(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["MessageId"])
    except (ValueError, KeyError, TypeError):
        return None


@functools.cache
def _tls(cert_path: str) -> ssl.SSLContext:
    """Cached: reading it takes longer than everything else before the first email of a tick."""
    return ssl.create_default_context(cafile=cert_path)
