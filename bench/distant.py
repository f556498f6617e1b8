"""What a sender loses when its database is far away: its rate, and the emails of unknown outcome if it dies.

    python -m bench.distant [--rate 100] [--seconds 10] [--round-trips 0 5 20 50] [--latency-ms 50]

One sender, an account with that rate, and a TCP proxy that holds back all that the database and the sender say to each
other. A fence is three waits for the database. The rate is that from the first to the last email. `unknown` is how many
emails are fenced and not recorded, looked at every 20 ms: so many outcomes are unknown if the sender dies at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from bench.report import Table, write_report
from bench.sending import ENVIRON, ROOT, migrated_database, prepare, run_sender, serving
from sendledger.ledger import claim_emails
from testbed.databases import plain_engine
from testbed.tcp_front import TcpFront

_SECONDS = sa.text("SELECT extract(epoch FROM max(sent_at) - min(sent_at)) FROM scheduled_emails")
_UNKNOWN = sa.text("""
    SELECT count(*) FROM scheduled_emails WHERE lease_until IS NOT NULL AND send_started_at IS NOT NULL
""")


def run_and_count(url: str) -> dict[str, Any]:
    """In the measured process: one tick, and how many emails each fence was about."""
    fence, sizes = claim_emails.fence, list[int]()

    def counted(connection: sa.Connection, emails: Any, token: Any) -> claim_emails.Fenced:
        sizes.append(len(emails))
        return fence(connection, emails, token)

    claim_emails.fence = counted
    return run_sender(url) | {"fences": len(sizes)}


def measure(rate: int, seconds: float, round_trip: float, latency_ms: float) -> dict[str, float]:
    simulator = serving("local.ses_simulator", "--rate", str(rate), "--quota", "-1", latency_ms=latency_ms, core=None)
    emails = int(rate * seconds)
    with simulator as endpoint, migrated_database() as url:
        prepare(url, emails)
        socket, ended = str(make_url(url).query["unix_sock"]), threading.Event()
        with TcpFront(socket, round_trip=round_trip) as front:
            far = make_url(url).set(host="127.0.0.1", port=front.port).difference_update_query(["unix_sock"])
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.distant", "--side", far.render_as_string(hide_password=False)],
                env={**os.environ, **ENVIRON, "AWS_ENDPOINT_URL_SESV2": endpoint},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            unknown = list[int]()
            watching = threading.Thread(target=_watch, args=(url, ended, unknown))
            watching.start()
            output = process.communicate()[0]
            ended.set()
            watching.join()
        found = json.loads(output.splitlines()[-1])
        with plain_engine(url).connect() as connection:
            took = float(connection.scalar(_SECONDS) or 0)
    assert found["emails"] == emails, found
    return {
        "rate": (emails - 1) / took,
        "of_a_fence": emails / found["fences"],
        "unknown": statistics.mean(unknown or [0]),
    }


def _watch(url: str, ended: threading.Event, unknown: list[int]) -> None:
    with plain_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        while not ended.wait(0.02):
            if count := connection.scalar(_UNKNOWN):
                unknown.append(count)


def report(rate: int, seconds: float, round_trips: list[float], latency_ms: float) -> None:
    found = {each: measure(rate, seconds, each / 1000, latency_ms) for each in round_trips}
    write_report(
        "distant",
        Table(
            f"{rate} emails a second, {seconds:.0f} s, SES at {latency_ms:.0f} ms",
            ("database, round trip", "emails/s", "emails of a fence", "unknown"),
            [
                (f"{each:.0f} ms", f"{one['rate']:.1f}", f"{one['of_a_fence']:.1f}", f"{one['unknown']:.1f}")
                for each, one in found.items()
            ],
        ),
        [(f"{each:.0f} ms", one["rate"]) for each, one in found.items()],
        "In the first second of a tick a sender learns how far away its database is. That second is in it.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--round-trips", type=float, nargs="+", default=[0.0, 5.0, 20.0, 50.0])
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_and_count(options.side)))
    else:
        report(options.rate, options.seconds, options.round_trips, options.latency_ms)
