"""What it costs to add leads to a running campaign, one request at a time, and whether that grows with the campaign.

    python -m bench.intake [--leads 1000000] [--added 10000] [--clients 8]

Each client stores a new lead and adds it to the campaign, as one request does. The cost of the first and of the last
tenth of the requests stand beside each other, and beside those to a campaign that started without leads, which gets a
fifth as many. At full size it takes about ten minutes on a quiet machine, most of it in requests.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from bench.report import Table, write_report
from bench.scheduling import make_campaign, make_leads, vacuum
from bench.sending import migrated_database
from sendledger.campaigns import background_work, intake, lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.leads import leads


def started(engine: sa.Engine, count: int) -> uuid.UUID:
    """A running evergreen campaign of three steps with so many leads."""
    began = time.perf_counter()
    campaign_id = uuid.UUID(make_campaign(engine, make_leads(engine, count)))
    with engine.begin() as connection:
        evergreen = sa.text("UPDATE campaigns SET evergreen = true WHERE id = :id")
        connection.execute(evergreen.bindparams(sa.bindparam("id", campaign_id, sa.UUID)))
    lifecycle.start_campaign(engine, campaign_id)
    background_work.work_until(engine, campaign_id, float("inf"))
    vacuum(engine)
    print(f"A campaign of {count:,} leads is running after {time.perf_counter() - began:.0f} s", flush=True)
    return campaign_id


def add(engine: sa.Engine, campaign_id: uuid.UUID, number: int) -> float:
    """Seconds of one request."""
    began = time.perf_counter()
    with engine.begin() as connection:
        columns = leads.columns_of({"email": f"new{number}.{campaign_id.hex}@example.com"}, {})
        (lead_id,) = leads.find_or_create(connection, [columns])
    intake.add_leads(engine, campaign_id, [lead_id], "bench")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leads", type=int, default=1_000_000)
    parser.add_argument("--added", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    rows, bars = [], []
    medians: dict[int, list[float]] = {}
    with migrated_database() as url:
        settings = DatabaseSettings.read({"DATABASE_URL": url})
        engine = database.engine(settings, pool_size=given.clients, longest_statement=600.0)
        for count, added in ((0, max(given.clients, given.added // 5)), (given.leads, given.added)):
            campaign_id = started(engine, count)
            began = time.perf_counter()
            with ThreadPoolExecutor(given.clients) as clients:
                took = list(clients.map(add, itertools.repeat(engine), itertools.repeat(campaign_id), range(added)))
            print(f"{added:,} leads were added in {time.perf_counter() - began:.0f} s", flush=True)
            tenth = max(1, added // 10)
            for what, part in (("first", took[:tenth]), ("last", took[-tenth:])):
                median = statistics.median(part) * 1000
                medians.setdefault(count, []).append(median)
                rows.append([f"{count:,}", what, f"{median:.1f}", f"{sorted(part)[int(len(part) * 0.95)] * 1000:.1f}"])
                bars.append((f"{count:,} leads, {what} tenth (ms)", median))
            with engine.connect() as connection:
                total = sa.text("SELECT total_leads_targeted FROM campaigns WHERE id = :id")
                targeted = connection.scalar(total.bindparams(sa.bindparam("id", campaign_id, sa.UUID)))
            assert targeted == count + added, f"{targeted} leads are in the campaign"
        engine.dispose()
    title = f"{given.added:,} leads added one at a time by {given.clients} clients"
    header = ["leads at the start", "requests", "median ms", "95th percentile ms"]
    (small, *_, small_last), (large, *_, large_last) = medians[0], medians[given.leads]
    note = (
        f"Requests to one campaign take turns: with {given.clients} clients each waits for the others. The last tenth "
        f"takes {small_last / small:.2f} × and {large_last / large:.2f} × the time of the first one; with "
        f"{given.leads:,} leads {large / small:.2f} × and {large_last / small_last:.2f} × that without."
    )
    write_report("intake", Table(title, header, rows), bars, note)


if __name__ == "__main__":
    main()
