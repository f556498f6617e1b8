"""The results of a preflight: errors that prevent a start, warnings that do not, and facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One finding. `check` is a stable code of what was checked."""

    check: str
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Findings:
    """Collects the findings of all parts of a preflight."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def error(self, check: str, message: str, **detail: Any) -> None:
        self.errors.append(Finding(check, message, detail))

    def warn(self, check: str, message: str, **detail: Any) -> None:
        self.warnings.append(Finding(check, message, detail))
