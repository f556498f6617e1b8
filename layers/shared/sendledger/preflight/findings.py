"""What a preflight finds: errors that forbid a start, warnings that do not, and facts to decide by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing found; `check` names what was looked at, the same for programs at all times."""

    check: str
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Findings:
    """Collected by one preflight after the other."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def error(self, check: str, message: str, **detail: Any) -> None:
        self.errors.append(Finding(check, message, detail))

    def warn(self, check: str, message: str, **detail: Any) -> None:
        self.warnings.append(Finding(check, message, detail))
