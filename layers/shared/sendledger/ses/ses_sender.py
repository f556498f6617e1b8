"""One signed email to SES, and the meaning of the answer. Reads and writes no table.

SES has no idempotency token, so every email is exactly one HTTP request. Nothing here repeats a request, and the
retries of botocore are off. The parser of botocore reads the answers.
"""

from __future__ import annotations

import functools
import json
import ssl
import threading
from typing import Any

from botocore import exceptions
from botocore.awsrequest import HeadersDict
from botocore.httpsession import get_cert_path

from sendledger.core.vocabulary import ErrorCode
from sendledger.ses.answers import Answer, SendOutcome, classify, error_name
from sendledger.ses.connection import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    BadResponse,
    Response,
    SesConnection,
    addresses_of,
)
from sendledger.ses.sign_email import SignedRequest, endpoint_of

MAX_CALL_SECONDS = CONNECT_TIMEOUT + READ_TIMEOUT


class SesSender:
    """Sends signed emails from many threads, each with its own connection. Create one for each tick."""

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
        self._threads = threading.local()
        self._connections: list[SesConnection] = []

    def close(self) -> None:
        """Close the connections. SES may close idle ones before the next tick."""
        for connection in self._connections:
            connection.close()

    def send(self, request: SignedRequest) -> SendOutcome:
        """Send one request, or none if there is no connection. No answer of SES raises."""
        connection = self._connection()
        try:
            connection.open()
        except ssl.SSLCertVerificationError as error:
            return SendOutcome(
                Answer.STOP_UNTIL_OPERATOR, error_code=ErrorCode.BAD_CERTIFICATE, message=error.verify_message
            )
        except OSError as error:
            connection.close()
            message = f"SES could not be reached ({type(error).__name__})."
            return SendOutcome(Answer.NOT_REACHED, error_code=ErrorCode.CANNOT_CONNECT, message=message)
        try:
            connection.write(request)
            response = connection.read()
        except TimeoutError:
            connection.close()
            message = f"SES did not answer within {READ_TIMEOUT:.0f} s."
            return SendOutcome(Answer.UNKNOWN, error_code=ErrorCode.OUTCOME_UNKNOWN, message=message)
        except (OSError, BadResponse) as error:
            connection.close()
            message = f"The connection to SES broke ({type(error).__name__})."
            return SendOutcome(Answer.UNKNOWN, error_code=ErrorCode.OUTCOME_UNKNOWN, message=message)
        except BaseException:
            # The next email must not read this answer.
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
