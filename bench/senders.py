"""Two senders on two cores beside one, and the memory of one with few and with very many emails due.

    python -m bench.senders [--emails 20000] [--many 1000000] [--rounds 3] [--latency-ms 20]

On a machine with two cores, PostgreSQL and the stand-in for SES (`bench.sink`) share them with the senders, so that the
gain of the second sender is understated: less so with a latency at which a sender waits more than it works. Memory is
that of a tick of a minute, as Lambda runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from bench.report import Table, write_report
from bench.sending import ENVIRON, ROOT, migrated_database, pinned, prepare, serving

TICK_SECONDS = 60.0


def run(endpoint: str, url: str, senders: int, budget: float = 600.0) -> list[dict[str, Any]]:
    """Start so many senders at once, each on a core; returns what each of them did."""
    environ = {**os.environ, **ENVIRON, "AWS_ENDPOINT_URL_SESV2": endpoint}
    command = [sys.executable, "-m", "bench.sending", "--side", "sender", "--url", url, "--budget", str(budget)]
    processes = [
        subprocess.Popen([*pinned(core), *command], env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for core in range(senders)
    ]
    outputs = [process.communicate()[0] for process in processes]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def compare(emails: int, many: int, rounds: int, latency_ms: float) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    peaks = {}
    with serving("bench.sink", latency_ms=latency_ms) as endpoint:
        for _ in range(rounds):
            for senders, found in rates.items():
                with migrated_database() as url:
                    prepare(url, emails)
                    results = run(endpoint, url, senders)
                assert sum(result["emails"] for result in results) == emails, results
                found.append(emails / max(result["seconds"] for result in results))
        for count in (10_000, many):
            with migrated_database() as url:
                prepare(url, count)
                peaks[count] = run(endpoint, url, 1, TICK_SECONDS)[0]["peak_mb"]
    one, two = (statistics.median(rates[senders]) for senders in (1, 2))
    ratio = statistics.median(b / a for a, b in zip(rates[1], rates[2], strict=True))
    write_report(
        "senders",
        Table(
            f"{emails:,} emails, SES at {latency_ms:.0f} ms, median of {rounds} rounds",
            ("senders", "emails/s", "ratio"),
            [("1", f"{one:,.0f}", "1.00 ×"), ("2", f"{two:,.0f}", f"{ratio:.2f} ×")],
        ),
        [("1 sender", one), ("2 senders", two)],
        f"Peak memory of one sender in a tick of {TICK_SECONDS:.0f} s: "
        + ", ".join(f"{peak:.0f} MB with {count:,} due" for count, peak in peaks.items())
        + ".",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    options = parser.parse_args()
    compare(options.emails, options.many, options.rounds, options.latency_ms)
