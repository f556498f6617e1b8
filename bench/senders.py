"""Two senders on two cores beside one, and the memory of one with many emails due.

    python -m bench.senders [--emails 20000] [--many 100000]

On a machine with two cores, PostgreSQL and the SES simulator share them with the senders, so that the gain of the
second sender is understated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from bench.report import Table, write_report
from bench.sending import ENVIRON, ROOT, migrated_database, pinned, prepare, ses_simulator


def run(endpoint: str, url: str, senders: int) -> tuple[float, list[dict[str, Any]]]:
    """Start so many senders at once; returns the seconds until the last has ended, and what each of them did."""
    environ = {**os.environ, **ENVIRON, "AWS_ENDPOINT_URL_SESV2": endpoint}
    command = [sys.executable, "-m", "bench.sending", "--side", "sender", "--url", url]
    started = time.perf_counter()
    processes = [
        subprocess.Popen([*pinned(core), *command], env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for core in range(senders)
    ]
    outputs = [process.communicate()[0] for process in processes]
    return time.perf_counter() - started, [json.loads(output.splitlines()[-1]) for output in outputs]


def compare(emails: int, many: int, rounds: int) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ses_simulator(20.0) as endpoint:
        for _ in range(rounds):
            for senders, found in rates.items():
                with migrated_database() as url:
                    prepare(url, emails)
                    _, results = run(endpoint, url, senders)
                assert sum(result["emails"] for result in results) == emails, results
                found.append(emails / max(result["seconds"] for result in results))
        peaks = {}
        for count in (10_000, many):
            with migrated_database() as url:
                prepare(url, count)
                peaks[count] = run(endpoint, url, 1)[1][0]["peak_mb"]
    one, two = (statistics.median(rates[senders]) for senders in (1, 2))
    write_report(
        "senders",
        Table(
            f"{emails:,} emails, median of {rounds} rounds",
            ("senders", "emails/s", "ratio"),
            [("1", f"{one:,.0f}", "1.00 ×"), ("2", f"{two:,.0f}", f"{two / one:.2f} ×")],
        ),
        [("1 sender", one), ("2 senders", two)],
        "Peak memory of one sender: "
        + ", ".join(f"{peak:.0f} MB with {count:,} due" for count, peak in peaks.items())
        + ".",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    compare(options.emails, options.many, options.rounds)
