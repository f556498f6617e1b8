"""What can go wrong, as exceptions. Each message is one sentence for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class SendledgerError(Exception):
    """The base of all errors of this package."""


class NotReachable(SendledgerError):
    """No answer came, not even to the last attempt. A change may have been made."""

    @classmethod
    def because(cls, what: str, error: Exception) -> NotReachable:
        return cls(f"{what} cannot be reached: {str(error).rstrip('.') or type(error).__name__}.")


class WorkFailed(SendledgerError):
    """Work in the background failed; the message says why."""


class StillWorking(SendledgerError):
    """Work in the background has not ended in the time that the caller gave it. It goes on."""


class ApiError(SendledgerError):
    """The API refused a request. `code` is stable, for programs; `data` has the further members of the problem."""

    def __init__(
        self, status: int, code: str, detail: str, errors: list[dict[str, Any]], data: Mapping[str, Any]
    ) -> None:
        fields = "; ".join(f"{error.get('field')} {error.get('message')}" for error in errors)
        super().__init__(f"{detail} ({fields})" if fields else detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.data = data

    @classmethod
    def of(cls, status: int, content: bytes) -> ApiError:
        """The error of an answer: a problem document, or what a proxy or gateway in between says."""
        try:
            problem = json.loads(content)
        except ValueError:
            problem = None
        if not isinstance(problem, dict) or "detail" not in problem:
            return cls(
                status, "unknown", f"The answer has the status {status} and is not one of Sendledger's API.", [], {}
            )
        standard = {"type", "title", "status", "detail", "errors"}
        return cls(
            status,
            str(problem.get("type", "")).rpartition(":")[2],
            str(problem["detail"]),
            list(problem.get("errors", ())),
            {name: value for name, value in problem.items() if name not in standard},
        )
