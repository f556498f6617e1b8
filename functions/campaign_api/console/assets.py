"""The files that pages load: one style sheet, one module, one icon. A file's address has its digest."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent / "assets"
TYPES: Mapping[str, str] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@functools.cache
def read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def path_of(name: str) -> str:
    """The address of a file for a page. It changes with the file's content."""
    digest = hashlib.sha256(read(name).encode()).hexdigest()[:16]
    return f"/console/assets/{digest}/{name}"
