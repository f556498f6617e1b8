"""What importing each handler costs beside importing just the libraries that it needs.

python -m bench.imports [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

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
HANDLERS = {
    "sender": ("functions/sender", "import sender_handler", SENDER_LIBRARIES),
    "campaign_api": ("functions/campaign_api", "import campaign_api_handler", API_LIBRARIES),
}


def import_ms(folder: str, code: str, byte_code: str) -> float:
    """Milliseconds from the start of the imports to their end, in a new process that has byte code in that folder."""
    program = f"import time; started = time.perf_counter()\n{code}\nprint((time.perf_counter() - started) * 1000)"
    path = os.pathsep.join([str(ROOT / folder), str(ROOT / "layers" / "shared")])
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": byte_code, "PYTHONDONTWRITEBYTECODE": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(finished.stdout.splitlines()[-1])


def compare(rounds: int) -> None:
    rows, bars = [], []
    for name, (folder, handler, libraries) in HANDLERS.items():
        with tempfile.TemporaryDirectory() as byte_code:
            pairs = [
                (import_ms(folder, handler, byte_code), import_ms(folder, libraries, byte_code))
                for _ in range(rounds + 1)
            ][1:]  # without the first, which wrote the byte code
        ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append((name, f"{ours:.0f}", f"{bare:.0f}", f"{ratio:.2f} ×"))
        bars += [(f"{name}: handler", ours), (f"{name}: its libraries", bare)]
    title = f"median ms of {rounds} cold imports with byte code, as the layers have it, {time.strftime('%Y-%m-%d')}"
    write_report("imports", Table(title, ("function", "handler", "its libraries", "ratio"), rows), bars, "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    compare(parser.parse_args().rounds)
