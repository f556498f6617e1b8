"""The errors that the package raises. Each names the rule that was broken and carries its data.

The HTTP status of each class is decided in one place, functions/campaign_api/http_errors.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with one field of the caller's input; `field` is a path such as ``steps.0.delay``."""

    field: str
    message: str


class SendledgerError(Exception):
    """Base class. `detail` is shown to the caller; `code` is stable for programs."""

    code = "error"

    def __init__(self, detail: str, **data: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data: Mapping[str, Any] = data


class NotFound(SendledgerError):
    """The thing with this id does not exist."""

    code = "not_found"

    def __init__(self, what: str, id_: object) -> None:
        super().__init__(f"There is no {what} with the id {id_}.")


class InvalidInput(SendledgerError):
    """The input is well-formed but breaks a rule. Nothing was changed."""

    code = "invalid_input"

    def __init__(self, detail: str, errors: Iterable[FieldError] = (), **data: Any) -> None:
        super().__init__(detail, **data)
        self.errors = tuple(errors)


class Conflict(SendledgerError):
    """The thing is in a state that does not allow this now; nothing was changed."""

    code = "conflict"


class IllegalTransition(Conflict):
    """The campaign's status does not allow this action. `data["status"]` is the current status."""

    code = "illegal_transition"


class ContentChanged(SendledgerError):
    """What a person has confirmed is not what the campaign would send now."""

    code = "not_confirmed"


class NobodyToEmail(InvalidInput):
    """Every lead of the campaign is left out; `data["leads_left_out"]` counts them by reason."""

    code = "nobody_to_email"


class NotReady(InvalidInput):
    """The preflight of the campaign found errors; `data["preflight_errors"]` lists them."""

    code = "not_ready"


class NotThisDeployment(SendledgerError):
    """This database belongs to another deployment. It is a copy, and a copy must not send."""

    code = "not_this_deployment"


class SettingsError(SendledgerError):
    """An environment variable is missing or has a bad value; the message names it."""

    code = "bad_setting"
