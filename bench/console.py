"""The console with many leads and campaigns: the time of the database, its statements and the bytes of each page.

    python -m bench.console [--leads 50000] [--campaigns 300]

Somebody signs in and opens every page, and lists with their filters. The time is the sum over the statements of a page,
each from its sending until its rows are there; the median of three visits. The bytes are those of the page with its
style sheet, its script and its icon, not compressed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.sending import ENVIRON, ROOT, ses_simulator
from local.postgres import Postgres
from testbed.databases import migrate, plain_engine

MOST_MS, MOST_KB = 300.0, 100.0
"""What a page may take."""
VISITS = 3
MAIL_SETTINGS = {
    "PUBLIC_URL": "https://mail.example.com",
    "UNSUBSCRIBE_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "POSTAL_ADDRESS": "1 Main Street, Springfield",
    "SENDER_FROM_ADDRESS": "Sales <sales@sales.example>",
}


class StatementClock:
    """Adds up the statements of an engine."""

    def __init__(self, engine: sa.Engine) -> None:
        self.seconds, self.statements = 0.0, 0
        self._started = 0.0
        sa.event.listen(engine, "before_cursor_execute", self._start)
        sa.event.listen(engine, "after_cursor_execute", self._stop)

    def reset(self) -> None:
        self.seconds, self.statements = 0.0, 0

    def _start(self, *_: object) -> None:
        self._started = time.perf_counter()

    def _stop(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started
        self.statements += 1


def fill_database(url: str, leads: int, campaigns: int) -> None:
    """In a process that can import the console."""
    from testbed import console_pages

    engine = plain_engine(url)
    console_pages.fill(engine, leads=leads, campaigns=campaigns)
    engine.dispose()
    autocommit = plain_engine(url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def visit() -> list[tuple[str, float, int, int]]:
    """Address, milliseconds of the database, statements and bytes of each page."""
    import api_resources
    import campaign_api_handler
    from console import assets
    from sendledger.access import api_keys
    from testbed import console_pages
    from testbed.console_browser import Browser

    engine = api_resources.engine()
    with engine.begin() as connection:
        key = api_keys.create(connection, "bench", "admin").key
    browser = Browser(campaign_api_handler.lambda_handler, key)
    browser.sign_in()
    files = sum(len(assets.read(name).encode()) for name in assets.TYPES)
    ids = console_pages.ids_of(browser.ask_api)
    clock, found = StatementClock(engine), []
    for address in [*console_pages.every_page(ids), *console_pages.lists_with_filters(ids)]:
        times = []
        for _ in range(VISITS):
            clock.reset()
            shown = browser.get(address)
            times.append(clock.seconds * 1000)
        assert shown.status == 200, f"{address}: {shown.text}"
        shown_address = address
        for name, values in ids.items():
            for value in values if name.endswith("_id") else ():
                shown_address = shown_address.replace(value, f"<{name}>")
        found.append((shown_address, statistics.median(times), clock.statements, len(shown.html.encode()) + files))
    engine.dispose()
    return found


def run(step: str, url: str, ses_url: str, leads: int, campaigns: int) -> str:
    """Run a part in a process of its own that has the API's folder on its path."""
    path = os.pathsep.join(str(ROOT / folder) for folder in (".", "functions/campaign_api", "layers/shared"))
    environ = {**os.environ, **ENVIRON, **MAIL_SETTINGS, "PYTHONPATH": path, "DATABASE_URL": url}
    environ |= {"AWS_ENDPOINT_URL_SESV2": ses_url, "POWERTOOLS_LOG_LEVEL": "ERROR", "FILE_BUCKET": "bench"}
    size = ["--leads", str(leads), "--campaigns", str(campaigns)]
    command = [sys.executable, "-m", "bench.console", "--step", step, *size]
    return subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(leads: int, campaigns: int) -> None:
    with tempfile.TemporaryDirectory(prefix="sl-") as folder, ses_simulator(0.0) as ses_url:
        server = Postgres(Path(folder) / "pg")
        migrate(server.url())
        run("fill", server.url(), ses_url, leads, campaigns)
        pages: list[list[Any]] = json.loads(run("visit", server.url(), ses_url, leads, campaigns).splitlines()[-1])
        server.stop()
    pages.sort(key=lambda page: -page[1])
    rows = [
        (address, f"{ms:,.1f}", str(statements), f"{size / 1000:,.1f}", _verdict(ms, size / 1000))
        for address, ms, statements, size in pages
    ]
    title = f"pages of the console with {leads:,} leads and {campaigns:,} campaigns"
    header = ("page", "ms of the database", "statements", "KB", "")
    slowest, heaviest = max(page[1] for page in pages), max(page[3] for page in pages) / 1000
    note = f"Slowest {slowest:,.0f} ms (limit {MOST_MS:,.0f}), heaviest {heaviest:,.0f} KB (limit {MOST_KB:,.0f})."
    write_report("console", Table(title, header, rows), [(page[0][:40], page[1]) for page in pages[:12]], note)


def _verdict(ms: float, kilobytes: float) -> str:
    return ", ".join(["too slow"] * (ms > MOST_MS) + ["too heavy"] * (kilobytes > MOST_KB))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, default=50_000)
    parser.add_argument("--campaigns", type=int, default=300)
    parser.add_argument("--step", choices=["fill", "visit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "fill":
        fill_database(os.environ["DATABASE_URL"], options.leads, options.campaigns)
    elif options.step == "visit":
        print(json.dumps(visit()))
    else:
        compare(options.leads, options.campaigns)
