"""The SESv2 operations: an HTTP request under /v2/ comes in, the answer that SES would give goes out.

Paths, payloads and error shapes follow botocore's service model for sesv2. An accepted SendEmail is in the ledger
before its answer exists.
"""

import json
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any
from urllib.parse import unquote

from local.ses_simulator.account import Account
from local.ses_simulator.faults import Faults
from local.ses_simulator.http_server import HttpResponse, Request
from local.ses_simulator.ledger import Ledger
from local.ses_simulator.send_request import bare_address, parse_json_object, read_send_request
from local.ses_simulator.ses_errors import SesError, bad_request, configuration_set_not_found

SEND_EMAIL_PATH = "/v2/email/outbound-emails"


@dataclass(slots=True)
class Counts:
    """HTTP requests since the simulator started or was cleared.

    `send_requests` = `accepted` + `rejected` + `faulted`. Accepted ones are in the ledger; `faulted_after_accept` of
    them were not answered with success. `peak_send_rate` is the highest number of SendEmail requests, refused ones
    too, in any one second. `operations` counts the requests of every operation by name.
    """

    send_requests: int = 0
    accepted: int = 0
    rejected: int = 0
    faulted: int = 0
    faulted_after_accept: int = 0
    peak_send_rate: int = 0
    operations: dict[str, int] = field(default_factory=dict)

    def count_operation(self, name: str) -> None:
        self.operations[name] = self.operations.get(name, 0) + 1


class SesApi:
    def __init__(self, account: Account, ledger: Ledger, faults: Faults, on_accepted: Callable[[], None]) -> None:
        self._account = account
        self._ledger = ledger
        self._faults = faults
        self._on_accepted = on_accepted
        self._last_second: deque[float] = deque()
        self.counts = Counts()
        name = "([^/]+)"
        self._routes: list[tuple[str, re.Pattern[str], str, Callable[..., dict[str, Any]]]] = [
            (method, re.compile(path), operation, function)
            for method, path, operation, function in (
                ("GET", "/v2/email/account", "GetAccount", self._get_account),
                ("POST", "/v2/email/list-identities", "ListEmailIdentities", self._list_identities),
                ("GET", f"/v2/email/identities/{name}", "GetEmailIdentity", self._get_identity),
                ("GET", f"/v2/email/configuration-sets/{name}", "GetConfigurationSet", self._get_configuration_set),
                (
                    "GET",
                    f"/v2/email/configuration-sets/{name}/event-destinations",
                    "GetConfigurationSetEventDestinations",
                    self._get_event_destinations,
                ),
                ("GET", "/v2/email/suppression/addresses", "ListSuppressedDestinations", self._list_suppressed),
                ("PUT", "/v2/email/suppression/addresses", "PutSuppressedDestination", self._put_suppressed),
                ("GET", f"/v2/email/suppression/addresses/{name}", "GetSuppressedDestination", self._get_suppressed),
                (
                    "DELETE",
                    f"/v2/email/suppression/addresses/{name}",
                    "DeleteSuppressedDestination",
                    self._delete_suppressed,
                ),
            )
        ]

    def handle(self, request: Request) -> HttpResponse:
        try:
            if request.target == SEND_EMAIL_PATH and request.method == "POST":
                return self._send_email(request)
            return self._other_operation(request)
        except SesError as error:
            return HttpResponse(
                status=error.status,
                body=json.dumps({"message": error.message}).encode(),
                headers=(("x-amzn-RequestId", _uuid()), ("x-amzn-ErrorType", error.error_type)),
            )

    def _send_email(self, request: Request) -> HttpResponse:
        counts = self.counts
        counts.send_requests += 1
        counts.count_operation("SendEmail")
        self._measure_rate()
        try:
            document = parse_json_object(request.body)
            send = read_send_request(request.body, document)
            if (fault := self._faults.strike("SendEmail", send.recipients, send.tags, accepted=False)) is None:
                now = datetime.now(UTC)
                self._account.admit(send, now)
                suppressed = tuple(each for each in send.recipients if each.lower() in self._account.suppressed)
                message_id = _message_id()
                self._ledger.append(message_id, now, suppressed, send.body)
        except SesError:
            counts.rejected += 1
            raise
        if fault is not None:
            counts.faulted += 1
            return fault.answer(HttpResponse())
        counts.accepted += 1
        self._on_accepted()
        success = HttpResponse(
            body=b'{"MessageId":"%b"}' % message_id.encode(),
            headers=(("x-amzn-RequestId", _uuid()),),
            delay=self._account.latency_ms / 1000,
        )
        fault = self._faults.strike("SendEmail", send.recipients, send.tags, accepted=True)
        if fault is not None:
            counts.faulted_after_accept += 1
            return fault.answer(success)
        return success

    def _measure_rate(self) -> None:
        now = monotonic()
        window = self._last_second
        window.append(now)
        while window[0] <= now - 1:
            window.popleft()
        if len(window) > self.counts.peak_send_rate:
            self.counts.peak_send_rate = len(window)

    def _other_operation(self, request: Request) -> HttpResponse:
        path = request.target.partition("?")[0].rstrip("/")
        for method, pattern, operation, function in self._routes:
            if method == request.method and (matched := pattern.fullmatch(path)):
                self.counts.count_operation(operation)
                fault = self._faults.strike(operation, (), {}, accepted=False)
                if fault is not None:
                    return fault.answer(HttpResponse())
                answer = function(request, *(unquote(part) for part in matched.groups()))
                return HttpResponse(body=json.dumps(answer).encode(), headers=(("x-amzn-RequestId", _uuid()),))
        self.counts.count_operation("unknown")
        raise SesError("UnknownOperationException", f"{request.method} {path} is no operation of this SES simulator.")

    def _get_account(self, _request: Request) -> dict[str, Any]:
        return self._account.describe(datetime.now(UTC))

    def _list_identities(self, _request: Request) -> dict[str, Any]:
        return {"EmailIdentities": self._account.list_identities()}

    def _get_identity(self, _request: Request, name: str) -> dict[str, Any]:
        identity = self._account.identity(name)
        if identity is None:
            raise SesError("NotFoundException", f"Email identity {name} does not exist.")
        return identity

    def _existing_configuration_set(self, name: str) -> dict[str, Any]:
        found = self._account.configuration_set(name)
        if found is None:
            raise configuration_set_not_found(name)
        return found

    def _get_configuration_set(self, _request: Request, name: str) -> dict[str, Any]:
        found = self._existing_configuration_set(name)
        return {key: value for key, value in found.items() if key != "EventDestinations"}

    def _get_event_destinations(self, _request: Request, name: str) -> dict[str, Any]:
        return {"EventDestinations": self._existing_configuration_set(name)["EventDestinations"]}

    def _put_suppressed(self, request: Request) -> dict[str, Any]:
        document = parse_json_object(request.body)
        address, reason = document.get("EmailAddress"), document.get("Reason")
        if not isinstance(address, str):
            raise bad_request("EmailAddress is required.")
        if reason not in ("BOUNCE", "COMPLAINT"):
            raise bad_request("Reason must be BOUNCE or COMPLAINT.")
        self._account.suppressed[bare_address(address).lower()] = (reason, datetime.now(UTC))
        return {}

    def _suppressed(self, address: str) -> dict[str, Any]:
        found = self._account.suppressed.get(address.lower())
        if found is None:
            raise SesError("NotFoundException", f"Email address {address} does not exist on your suppression list.")
        reason, since = found
        return {"EmailAddress": address.lower(), "Reason": reason, "LastUpdateTime": since.timestamp()}

    def _get_suppressed(self, _request: Request, address: str) -> dict[str, Any]:
        return {"SuppressedDestination": self._suppressed(address)}

    def _delete_suppressed(self, _request: Request, address: str) -> dict[str, Any]:
        self._suppressed(address)
        del self._account.suppressed[address.lower()]
        return {}

    def _list_suppressed(self, request: Request) -> dict[str, Any]:
        query = request.query
        reasons = query.get("Reason") or ["BOUNCE", "COMPLAINT"]
        try:
            page_size = int(query.get("PageSize", ["1000"])[0])
            start = datetime.fromisoformat(query["StartDate"][0]) if "StartDate" in query else None
            end = datetime.fromisoformat(query["EndDate"][0]) if "EndDate" in query else None
        except ValueError as error:
            raise bad_request("PageSize, StartDate or EndDate is malformed.") from error
        if not 1 <= page_size <= 1000:
            raise bad_request("PageSize must be between 1 and 1000.")
        after = query.get("NextToken", [""])[0]
        if after and after not in self._account.suppressed:
            raise SesError("InvalidNextTokenException", "The NextToken is invalid.")
        found = [
            address
            for address, (reason, since) in sorted(self._account.suppressed.items())
            if reason in reasons and address > after and (not start or since >= start) and (not end or since <= end)
        ]
        answer: dict[str, Any] = {
            "SuppressedDestinationSummaries": [self._suppressed(address) for address in found[:page_size]]
        }
        if len(found) > page_size:
            answer["NextToken"] = found[page_size - 1]
        return answer


def _uuid() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _message_id() -> str:
    """As SES in us-east-1 makes them: 0100, the time in milliseconds, a UUID, six zeros."""
    return f"0100{int(time() * 1000):012x}-{_uuid()}-000000"
