"""What a check says: a sentence, and whether a deployment may begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from deployment.aws import Aws
from deployment.parameters import Template

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    level: Level
    text: str


Check = Callable[[Aws, Mapping[str, str], Template], Iterator[Finding]]
"""The parameters are those of the file."""
