"""Writes the API's OpenAPI document to docs/openapi.json; with --check only compares, and says how they differ.

Run by `make openapi` and `make check-openapi`, with the folder of the API's function on PYTHONPATH, as in Lambda.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import api_document
import campaign_api_handler

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "openapi.json"


def main(arguments: list[str]) -> int:
    current = api_document.as_json(campaign_api_handler.app)
    if arguments != ["--check"]:
        DOCUMENT.write_text(current, "utf-8")
        return 0
    committed = DOCUMENT.read_text("utf-8") if DOCUMENT.exists() else ""
    differences = difflib.unified_diff(
        committed.splitlines(), current.splitlines(), "docs/openapi.json", "the API", lineterm=""
    )
    found = list(differences)
    if found:
        print("\n".join(found))
        print("docs/openapi.json is not what the API says; run: python -m local.openapi", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
