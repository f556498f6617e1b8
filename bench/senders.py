"""Two senders on two cores beside one on one, and the memory of one with few and with very many emails due.

    python -m bench.senders [--emails 20000] [--many 1000000] [--rounds 3] [--latency-ms 20]

It measures whether a second sender slows the first one down. So each number of senders has as many cores, for
all that sending takes: PostgreSQL and the stand-in for SES (`bench.sink`) run on them too. One sender with both cores
is shown for comparison, but is not the measure: two senders on these cores share them with more than it does.
Memory is that of a tick of a minute, as Lambda runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.report import Table, write_report
from bench.sending import ENVIRON, ROOT, migrated_database, pinned, prepare, serving

TICK_SECONDS = 60.0
# (senders, cores)
SETUPS = ((1, 1), (2, 2), (1, 2))


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """What is started within runs on the first so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(range(count)))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


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


def rate(emails: int, senders: int, cores: int, latency_ms: float) -> float:
    """Emails per second from the first claim to the last completion."""
    with (
        on_cores(cores),
        serving("bench.sink", latency_ms=latency_ms, core=None) as endpoint,
        migrated_database() as url,
    ):
        prepare(url, emails)
        results = run(endpoint, url, senders)
    assert sum(result["emails"] for result in results) == emails, results
    assert sum(result["completed"] for result in results) == 1, results
    seconds: float = max(result["seconds"] for result in results)
    return emails / seconds


def peak_mb(emails: int, latency_ms: float) -> float:
    with serving("bench.sink", latency_ms=latency_ms) as endpoint, migrated_database() as url:
        prepare(url, emails)
        peak: float = run(endpoint, url, 1, TICK_SECONDS)[0]["peak_mb"]
    return peak


def compare(emails: int, many: int, rounds: int, latency_ms: float) -> None:
    rounds_of: dict[tuple[int, int], list[float]] = {setup: [] for setup in SETUPS}
    for _ in range(rounds):
        for (senders, cores), rates in rounds_of.items():
            rates.append(rate(emails, senders, cores, latency_ms))
    rows, bars = [], []
    for (senders, cores), rates in rounds_of.items():
        median = statistics.median(rates)
        ratio = statistics.median(a / b for a, b in zip(rates, rounds_of[1, 1], strict=True))
        rows.append((f"{senders}", f"{cores}", f"{median:,.0f}", f"{ratio:.2f} ×"))
        bars.append((f"{senders} on {cores}", median))
    peaks = {count: peak_mb(count, latency_ms) for count in (10_000, many)}
    write_report(
        "senders",
        Table(
            f"{emails:,} emails, SES at {latency_ms:.0f} ms, median of {rounds} rounds",
            ("senders", "cores for all of it", "emails/s", "ratio"),
            rows,
        ),
        bars,
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
