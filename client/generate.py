"""Generates src/sendledger_client/generated from docs/openapi.json, if something has changed since.

Run as `python client/generate.py`. The build of the package does so by itself (setup.py). If the
generator cannot make a method of an operation, that is an error: no client could use this operation.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent.resolve()
DOCUMENT = FOLDER.parent / "docs" / "openapi.json"
GENERATED = FOLDER / "src" / "sendledger_client" / "generated"
MADE_FROM = GENERATED / ".made-from"
"""The hash of what the code was made from."""


def sources() -> str:
    """A hash of all that decides what is generated."""
    files = [DOCUMENT, FOLDER / "generator.yaml", *sorted((FOLDER / "templates").iterdir())]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def main() -> int:
    now = sources()
    if MADE_FROM.exists() and MADE_FROM.read_text() == now:
        return 0
    # A new folder has no modules of operations that the document no longer has.
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        new = Path(folder) / "generated"
        command = [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DOCUMENT), "--meta", "none"),
            *("--config", str(FOLDER / "generator.yaml"), "--custom-template-path", str(FOLDER / "templates")),
            *("--output-path", str(new), "--fail-on-warning"),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if run.returncode != 0:
            print(run.stdout + run.stderr, file=sys.stderr)  # noqa: T201
            return run.returncode
        if GENERATED.exists():
            GENERATED.rename(Path(folder) / "old")
        new.rename(GENERATED)
    MADE_FROM.write_text(now)
    return 0


if __name__ == "__main__":
    sys.exit(main())
