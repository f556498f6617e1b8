"""Sendledger beside what a user would pick instead, over the same SES endpoint and PostgreSQL, in the same run.

    python -m bench.peers [--emails 10000] [--rounds 3]

pg-boss with the AWS SDK for JavaScript, and django-post_office with django-ses, each in its best configuration of those
tried here, queue the same 10,000 personalised emails and send them from one process on one core. They are installed
from their registries into a temporary folder (this needs node and npm); neither guarantees what the ledger guarantees.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from bench.report import Table, write_report
from bench.sending import HTML, ROOT, measured, migrated_database, pinned, prepare, serving
from local.postgres import Postgres

PEERS = Path(__file__).parent / "peers"
PG_BOSS_CONCURRENCY = (32, 64, 128)
POST_OFFICE_THREADS = (8, 16, 32)


def install(folder: Path) -> tuple[Path, Path]:
    """Install both peers; returns the folder of pg-boss and the Python of django-post_office."""
    subprocess.run(["cp", "-r", str(PEERS), str(folder)], check=True)
    pg_boss, django = folder / "peers" / "pg_boss", folder / "peers" / "django_post_office"
    subprocess.run(["npm", "install", "--no-package-lock", "--silent"], cwd=pg_boss, check=True)
    subprocess.run([sys.executable, "-m", "venv", str(django / ".venv")], check=True)
    python = django / ".venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", str(django / "requirements.txt")], check=True)
    return pg_boss, python


def run_peer(command: Sequence[str | Path], emails: int, endpoint: str, workers: int, html: Path) -> dict[str, Any]:
    """One peer on a PostgreSQL of its own, on the first core."""
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        server = Postgres(Path(folder) / "pg")
        socket = Path(str(make_url(server.url()).query["unix_sock"])).parent
        arguments = [str(emails), str(socket), "postgres", endpoint, str(workers), str(html)]
        finished = subprocess.run([*pinned(0), *command, *arguments], check=True, capture_output=True, text=True)
        server.stop()
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    assert result["emails"] == emails, result
    return result


def compare(emails: int, rounds: int) -> None:
    rates: dict[str, list[float]] = {}
    used: dict[str, dict[str, Any]] = {}

    def note(name: str, result: dict[str, Any]) -> None:
        rates.setdefault(name, []).append(emails / result["seconds"])
        used[name] = result

    with tempfile.TemporaryDirectory() as folder, serving("bench.sink", latency_ms=20.0) as endpoint:
        pg_boss, python = install(Path(folder))
        html = Path(folder) / "mail.html"
        html.write_text(HTML, encoding="utf-8")
        for _ in range(rounds):
            with migrated_database() as url:
                prepare(url, emails)
                note("Sendledger", measured(endpoint, "--side", "sender", "--url", url))
            for workers in PG_BOSS_CONCURRENCY:
                result = run_peer(["node", pg_boss / "send.mjs"], emails, endpoint, workers, html)
                note(f"pg-boss, {workers} at once", result)
            for workers in POST_OFFICE_THREADS:
                script = PEERS / "django_post_office" / "send.py"
                result = run_peer([python, script], emails, endpoint, workers, html)
                note(f"django-post_office, {workers} threads", result)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    rows = [
        (
            name,
            f"{rate:,.0f}",
            f"{medians['Sendledger'] / rate:.2f} ×",
            f"{used[name]['cpu']:.1f}",
            f"{used[name]['peak_mb']:.0f}",
        )
        for name, rate in medians.items()
    ]
    write_report(
        "peers",
        Table(
            f"{emails:,} emails, one process on one core, SES at 20 ms, median of {rounds} rounds",
            ("what", "emails/s", "Sendledger is faster by", "CPU seconds", "peak MB"),
            rows,
        ),
        list(medians.items()),
        f"Python {sys.version.split()[0]}, node {_version('node')}, {os.cpu_count()} cores.",
    )


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.chdir(ROOT)
    compare(options.emails, options.rounds)
