"""How fast one sender sends, beside a bare boto3 loop over the same endpoint in the same run.

    python -m bench.sending [--emails 10000] [--rounds 3] [--latency-ms 20]

One process on one core: 10,000 personalised emails that are due (subject, 2 KB HTML, 5 variables), claimed, rendered,
sent, recorded and the campaign completed, against a plain thread pool around `boto3.client("sesv2").send_email` with
its best number of threads. Both speak with a stand-in for SES that costs next to nothing (`bench.sink`), in a process
of its own on the other core, which it shares with PostgreSQL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from bench.report import Table, write_report
from local.postgres import Postgres
from sendledger.campaigns import background_work, lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, SenderSettings
from sendledger.sending import tick
from sendledger.ses import client
from testbed.campaigns import make_campaign
from testbed.databases import migrate, plain_engine

ROOT = Path(__file__).parent.parent
PARAGRAPH = (
    "<p>We help companies to fill their calendars, and would like to show you in ten minutes how we do it.</p>\n"
)
HTML = (
    "<html><body><p>Dear {{ contact_name }},</p>\n<p>{{ company_name }} in {{ city }}, {{ country }}</p>\n"
    + PARAGRAPH * 18
    + "<p>{{ job_title }}</p></body></html>"
)
SUBJECT = "{{ first_name }}, an idea for {{ company_name }}"
TEXT = "Dear {{ contact_name }},\nWe have helped companies like {{ company_name }} in {{ city }}.\n"
ENVIRON = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "DEPLOYMENT_ID": "bench",
    "SENDER_FROM_ADDRESS": "Sales <sales@example.com>",
    "SES_CONFIGURATION_SET": "sendledger",
}


@contextlib.contextmanager
def ses_simulator(latency_ms: float) -> Iterator[str]:
    """A simulator in its own process on the second core, without limits."""
    with serving("local.ses_simulator", "--port", "0", "--rate", "0", "--quota", "-1", latency_ms=latency_ms) as url:
        yield url


@contextlib.contextmanager
def serving(module: str, *arguments: str, latency_ms: float, core: int | None = 1) -> Iterator[str]:
    """A server in its own process, on that core if one is named, which says its URL in its first line."""
    command = [sys.executable, "-m", module, *arguments, "--latency-ms", str(latency_ms)]
    where = pinned(core) if core is not None else []
    process = subprocess.Popen([*where, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def migrated_database() -> Iterator[str]:
    """A PostgreSQL of its own, with its ordinary durability."""
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        server = Postgres(Path(folder) / "pg")
        migrate(server.url())
        yield server.url()
        server.stop()


def prepare(url: str, emails: int) -> str:
    """A started campaign whose emails are all due; returns its id."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0)
    with engine.connect() as connection:
        template = make_template(connection)
        campaign_id = make_campaign(connection, [], email_template_id=template)
        add_leads(connection, campaign_id, emails)
    lifecycle.start_campaign(engine, campaign_id)
    background_work.work_until(engine, campaign_id, time.monotonic() + 3600)
    engine.dispose()
    autocommit = plain_engine(url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    return str(campaign_id)


def add_leads(connection: sa.Connection, campaign_id: uuid.UUID, leads: int) -> None:
    """So many leads for the campaign's batch, by one statement; commits."""
    connection.execute(
        sa.text("""
            INSERT INTO leads (email, company_name, contact_name, industry, source, batch_id, city, country, job_title)
            SELECT 'lead' || n || '-' || substr(batch::text, 1, 8) || '@example.com', 'Company ' || n,
                   'Ann' || n || ' Lee', 'spa', 'bench', batch, 'Porto', 'Portugal', 'Owner'
            FROM campaigns, unnest(batch_ids) AS batch, generate_series(1, :leads) AS n
            WHERE id = :campaign_id
        """),
        {"leads": leads, "campaign_id": campaign_id},
    )
    connection.commit()


def make_template(connection: sa.Connection) -> Any:
    from testbed.campaigns import make_template as make

    return make(connection, subject=SUBJECT, body_text=TEXT, body_html=HTML)


def run_sender(url: str, budget: float = 600.0) -> dict[str, Any]:
    """In the measured process: one tick."""
    resources = tick.Resources(
        engine=database.engine(DatabaseSettings.read({"DATABASE_URL": url})),
        ses_client=client.ses_client(),
        settings=SenderSettings.read({**ENVIRON, "SENDER_RATE_SAFETY": "1", **os.environ}),
    )
    tick.tune_process()  # as its handler does
    usage, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    summary = tick.send_due_emails(resources, budget)
    seconds = time.perf_counter() - started
    return {"emails": summary.sent, "completed": summary.campaigns_completed, **_used(usage, seconds)}


def run_boto3(endpoint: str, emails: int, threads: int) -> dict[str, Any]:
    """In the measured process: the loop of a simple script. Its requests are prepared before the measurement."""
    import boto3
    from botocore.config import Config

    client = boto3.client("sesv2", endpoint_url=endpoint, config=Config(max_pool_connections=threads))
    html, text = HTML.replace("{{ ", "").replace(" }}", ""), TEXT
    body = {"Html": {"Data": html, "Charset": "UTF-8"}, "Text": {"Data": text, "Charset": "UTF-8"}}

    def send(number: int) -> None:
        client.send_email(
            FromEmailAddress=ENVIRON["SENDER_FROM_ADDRESS"],
            Destination={"ToAddresses": [f"lead{number}@example.com"]},
            Content={"Simple": {"Subject": {"Data": "An idea", "Charset": "UTF-8"}, "Body": body}},
            EmailTags=[
                {"Name": "scheduled_email_id", "Value": str(number)},
                {"Name": "claim_token", "Value": "x" * 36},
            ],
            ConfigurationSetName="sendledger",
        )

    usage, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(send, range(emails)):
            pass
    return {"emails": emails, **_used(usage, time.perf_counter() - started)}


def _used(before: resource.struct_rusage, seconds: float) -> dict[str, float]:
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    # ru_maxrss would also count the process that has started this one.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"seconds": seconds, "cpu": cpu, "peak_mb": int(peak) / 1024}


def servers_cpu() -> dict[str, float]:
    """CPU seconds of the servers that this process has started, by the name of their program."""
    used: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            # With that of the processes that have ended, which the one that started them has.
            used[process.name()] = used.get(process.name(), 0.0) + sum(process.cpu_times()[:4])
    return used


def measured(endpoint: str, *arguments: str) -> dict[str, Any]:
    """Run one side in a process of its own on the first core."""
    finished = subprocess.run(
        [*pinned(0), sys.executable, "-m", "bench.sending", *arguments],
        env={**os.environ, **ENVIRON, "AWS_ENDPOINT_URL_SESV2": endpoint},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []


def compare(emails: int, rounds: int, latency_ms: float) -> None:
    ours: list[float] = []
    boto3: dict[int, list[float]] = {threads: [] for threads in (16, 32, 64)}
    last: dict[str, Any] = {}
    servers: dict[str, float] = {}
    with serving("bench.sink", latency_ms=latency_ms) as endpoint:
        for _ in range(rounds):
            with migrated_database() as url:
                prepare(url, emails)
                before = servers_cpu()
                last = measured(endpoint, "--side", "sender", "--url", url)
                servers = {name: used - before.get(name, 0.0) for name, used in servers_cpu().items()}
            assert last["emails"] == emails, last
            assert last["completed"] == 1, last
            ours.append(emails / last["seconds"])
            for threads, rates in boto3.items():
                bare = measured(endpoint, "--side", "boto3", "--emails", str(emails), "--threads", str(threads))
                rates.append(emails / bare["seconds"])
    best = max(boto3, key=lambda threads: statistics.median(boto3[threads]))
    rows = [("Sendledger, claim to completion", statistics.median(ours), 1.0)]
    rows += [
        (f"bare boto3, {threads} threads", statistics.median(rates), statistics.median(ours) / statistics.median(rates))
        for threads, rates in boto3.items()
    ]
    ratio = statistics.median(a / b for a, b in zip(ours, boto3[best], strict=True))
    postgres = servers.pop("postgres", 0.0)
    busy = (last["cpu"] + postgres + sum(servers.values())) / last["seconds"]
    write_report(
        "sending",
        Table(
            f"{emails:,} emails, one process on one core, SES at {latency_ms:.0f} ms, median of {rounds} rounds",
            ("what", "emails/s", "Sendledger is faster by"),
            [(name, f"{rate:,.0f}", f"{factor:.2f} ×") for name, rate, factor in rows],
        ),
        [(name, rate) for name, rate, _ in rows],
        f"Ratio to the best boto3 ({best} threads), median of pairs: {ratio:.2f}. "
        f"CPU {last['cpu']:.2f} s per {emails:,} emails, peak memory {last['peak_mb']:.0f} MB. Meanwhile PostgreSQL "
        f"took {postgres:.2f} s and the stand-in for SES {sum(servers.values()):.2f} s: {busy:.2f} cores were busy.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emails", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--side", choices=("sender", "boto3"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=600.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "sender":
        print(json.dumps(run_sender(options.url, options.budget)))
    elif options.side == "boto3":
        print(json.dumps(run_boto3(os.environ["AWS_ENDPOINT_URL_SESV2"], options.emails, options.threads)))
    else:
        compare(options.emails, options.rounds, options.latency_ms)
