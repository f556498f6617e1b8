"""What importing each handler costs beside importing just the libraries that it needs.

    python -m bench.imports [--rounds 15] [--beside REVISION]

The API imports the module of a route with the first request for it: one line is the list of campaigns with that. With
`--beside` the handlers of that revision are imported in turns, with the libraries that are installed now.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.database import checkout
from bench.report import Table, write_report
from bench.sending import ROOT

SENDER_LIBRARIES = """
import sqlalchemy, pg8000, pydantic, jinja2.sandbox, httptools, botocore.session, botocore.endpoint, botocore.client
import sqlalchemy.dialects.postgresql.pg8000, sqlalchemy.dialects.postgresql, http.client, concurrent.futures.thread
from aws_lambda_powertools import Logger
from pydantic import BaseModel, Field, ValidationError, model_validator
"""
API_LIBRARIES = """
import sqlalchemy, pg8000, pydantic, email_validator
import sqlalchemy.dialects.postgresql.pg8000, sqlalchemy.dialects.postgresql
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from pydantic import BaseModel, Field, ValidationError, model_validator
import aws_lambda_powertools.event_handler.openapi.models
APIGatewayHttpResolver(enable_validation=True)
"""
API = "import campaign_api_handler"
FIRST_REQUEST = f"{API} as handler; getattr(handler.app, 'load', bool)('campaigns_routes')"
"""A revision without `load` has imported it with the others."""
HANDLERS = {
    "sender": ("functions/sender", "import sender_handler", SENDER_LIBRARIES),
    "campaign_api": ("functions/campaign_api", API, API_LIBRARIES),
    "campaign_api, first request": ("functions/campaign_api", FIRST_REQUEST, API_LIBRARIES),
}


def import_ms(root: Path, folder: str, code: str, byte_code: str) -> float:
    """Milliseconds from the start of the imports to their end, in a new process that has byte code in that folder."""
    program = f"import time; started = time.perf_counter()\n{code}\nprint((time.perf_counter() - started) * 1000)"
    path = os.pathsep.join([str(root / folder), str(root / "layers" / "shared")])
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": byte_code, "PYTHONDONTWRITEBYTECODE": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(finished.stdout.splitlines()[-1])


def compare(rounds: int, beside: str | None) -> None:
    rows, bars = [], []
    with ExitStack() as stack:
        byte_code = stack.enter_context(tempfile.TemporaryDirectory())
        before = stack.enter_context(checkout(beside)) if beside else None
        for name, (folder, handler, libraries) in HANDLERS.items():
            sides = [(ROOT, handler), (ROOT, libraries), *([(before, handler)] if before else [])]
            # Without the first round, which wrote the byte code.
            found = [[import_ms(root, folder, code, byte_code) for root, code in sides] for _ in range(rounds + 1)][1:]
            ours, bare, *_ = (statistics.median(side) for side in zip(*found, strict=True))
            ratios = [statistics.median(each[0] / each[other] for each in found) for other in range(1, len(sides))]
            rows.append((name, f"{ours:.0f}", f"{bare:.0f}", *(f"{ratio:.2f} ×" for ratio in ratios)))
            bars += [(f"{name}: handler", ours), (f"{name}: its libraries", bare)]
    header = ("function", "handler", "its libraries", "ratio", *([f"beside {beside}"] if beside else []))
    title = f"median ms of {rounds} cold imports with byte code, as the layers have it, {time.strftime('%Y-%m-%d')}"
    write_report("imports", Table(title, header, rows), bars, "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--beside", help="a revision of git whose handlers are imported in turns with these")
    options = parser.parse_args()
    compare(options.rounds, options.beside)
