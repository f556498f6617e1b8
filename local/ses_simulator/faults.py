"""Scripted faults: which requests go wrong, how often, and in what way.

A fault sees the requests that match it (operation, recipient, tags), lets the first `nth - 1` of them pass and then
strikes `count` times (None: until it is cleared). Of several faults that match, the one added first strikes.
The kinds whose name ends in `_after_accept` strike a SendEmail that has been accepted and is in the ledger; all others
strike before the request is looked at, and nothing is accepted.
"""

import itertools
import threading
from dataclasses import dataclass, field
from typing import Any

from local.ses_simulator.http_server import HttpResponse
from local.ses_simulator.ses_errors import (
    ACCOUNT_PAUSED,
    ACCOUNT_SUSPENDED,
    DAILY_QUOTA_EXCEEDED,
    RATE_EXCEEDED,
    SENDING_PAUSED,
    SIGNATURE_EXPIRED,
    SesError,
)

# kind -> error type, message
ERRORS = {
    "reject_429": ("TooManyRequestsException", RATE_EXCEEDED),
    "daily_quota": ("TooManyRequestsException", DAILY_QUOTA_EXCEEDED),
    "limit_exceeded": ("LimitExceededException", "Limit exceeded."),
    "error_500": ("InternalServiceErrorException", "An internal error occurred."),
    "error_500_after_accept": ("InternalServiceErrorException", "An internal error occurred."),
    "account_suspended": ("AccountSuspendedException", ACCOUNT_SUSPENDED),
    # As SES answers when it has paused an account itself.
    "account_paused": ("MessageRejected", ACCOUNT_PAUSED),
    "account_sending_paused": ("AccountSendingPausedException", "Sending is not possible."),
    "configuration_set_sending_paused": ("ConfigurationSetSendingPausedException", "Sending is not possible."),
    "sending_paused": ("SendingPausedException", SENDING_PAUSED),
    "mail_from_not_verified": ("MailFromDomainNotVerifiedException", "The MAIL FROM domain is not verified."),
    "config_set_not_found": ("NotFoundException", "Configuration set does not exist."),
    "message_rejected": (
        "MessageRejected",
        "Email address is not verified. The following identities failed the check in region US-EAST-1: a@example.com",
    ),
    "bad_request": ("BadRequestException", "The request is invalid."),
    "conflict": ("ConflictException", "Another operation is in progress."),
    "signature_expired": ("SignatureDoesNotMatch", SIGNATURE_EXPIRED),
    "access_denied": ("AccessDeniedException", "User is not authorized to perform `ses:SendEmail'."),
}
KINDS = frozenset(ERRORS) | {"stall", "stall_after_accept", "reset", "reset_after_accept"}
AFTER_ACCEPT = frozenset(kind for kind in KINDS if kind.endswith("_after_accept"))
FOREVER_SECONDS = 3600.0


@dataclass(slots=True)
class Fault:
    """`address` matches any recipient, in any case; all of `tags` must match; `seconds` is for the stalls.

    A `stall` is given up after that time by closing the connection without an answer, a `stall_after_accept` by
    answering success. `message` replaces the error's usual wording.
    """

    kind: str
    operation: str = "SendEmail"
    address: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    nth: int = 1
    count: int | None = 1
    seconds: float = FOREVER_SECONDS
    message: str | None = None
    id: int = 0
    seen: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind!r}; there are {', '.join(sorted(KINDS))}")
        if self.kind in AFTER_ACCEPT and self.operation != "SendEmail":
            raise ValueError(f"{self.kind} is for SendEmail only")
        if self.nth < 1 or (self.count is not None and self.count < 1) or self.seconds < 0:
            raise ValueError("nth and count start at 1 and seconds at 0")

    def _matches(self, operation: str, recipients: tuple[str, ...], tags: dict[str, str]) -> bool:
        if operation != self.operation:
            return False
        if self.address is not None and self.address.lower() not in (each.lower() for each in recipients):
            return False
        return self.tags.items() <= tags.items()

    def strikes(self, operation: str, recipients: tuple[str, ...], tags: dict[str, str]) -> bool:
        """Whether it strikes this request, which it then has seen."""
        if self.count is not None and self.struck >= self.count:
            return False
        if not self._matches(operation, recipients, tags):
            return False
        self.seen += 1
        if self.seen < self.nth:
            return False
        self.struck += 1
        return True

    def answer(self, success: HttpResponse) -> HttpResponse:
        """What the client gets in place of `success`. Raises SesError for the kinds that are an error of the API."""
        if self.kind in ("reset", "reset_after_accept"):
            return HttpResponse(silent=True, ending="reset")
        if self.kind == "stall":
            return HttpResponse(silent=True, ending="close", delay=self.seconds)
        if self.kind == "stall_after_accept":
            return HttpResponse(success.status, success.body, headers=success.headers, delay=self.seconds)
        error_type, message = ERRORS[self.kind]
        raise SesError(error_type, self.message or message)


class Faults:
    """The scripted faults of one simulator, in the order in which they were added."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            fault.id = next(self._ids)
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def strike(
        self, operation: str, recipients: tuple[str, ...], tags: dict[str, str], *, accepted: bool
    ) -> Fault | None:
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if (fault.kind in AFTER_ACCEPT) is accepted and fault.strikes(operation, recipients, tags):
                    return fault
        return None

    def describe(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{name: getattr(fault, name) for name in Fault.__dataclass_fields__} for fault in self._faults]
