"""What a sending policy costs: claims from 300 campaigns × 24 zones × 2 senders beside the same rows without a policy.

    python -m bench.policy [--campaigns 300] [--claims 16] [--history 100000] [--leads 30000] [--rounds 2]

Both sides claim 500 emails, in turns, in a process that is tuned as a sender's. The side with a policy finds its open
lanes anew as often as a sender does that sends 250 emails a second; each claim has its part of that in its time. Its
senders have a cap.
The same is done with rows of history beside, and three years of what counted against the caps. One campaign without a
policy is claimed from by the code, which looks for lanes, and by the bare statement. At last a campaign with a policy
is started, beside the bare INSERT … SELECT of its rows.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from bench import scheduling
from bench.history import add_history, write_down
from bench.report import Table, write_report
from bench.scheduling import vacuum
from bench.sending import add_leads, migrated_database
from sendledger.campaigns import lifecycle, schedule_emails
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.ledger import claim_emails
from sendledger.policy import budgets, lane_queue, sender_addresses, sending_schedules
from sendledger.policy.lane_queue import LaneQueue
from sendledger.sending import tick
from testbed.campaigns import make_campaign

BATCH = 500
CLAIMS_WITH_THE_SAME_LANES = int(lane_queue.KEPT_SECONDS * 250 / BATCH)
EVERY_DAY = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
ZONES = [f"Etc/GMT{offset:+d}" for offset in range(-11, 13) if offset != 0] + ["Asia/Kolkata"]
# Each lead gets one email from each campaign, all due. The lanes of the second step are there, and empty.
_CAMPAIGNS = """
WITH campaign AS (
    INSERT INTO campaigns (name, status, actual_started_at, sending_schedule_id, sender_ids)
    SELECT 'policy', 'running', now(), CAST(:schedule_id AS uuid), :senders FROM generate_series(1, :campaigns)
    RETURNING id, sending_schedule_id IS NOT NULL AS has_policy
), step AS (
    INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
    SELECT id, 1, interval '0', 's', 't' FROM campaign
), lane AS (
    SELECT z.zone, s.id AS sender_id, f AS follow_up, row_number() OVER (ORDER BY f, z.number, s.number) AS lane
    FROM unnest(CAST(:zones AS text[])) WITH ORDINALITY z (zone, number)
    CROSS JOIN unnest(:senders) WITH ORDINALITY s (id, number) CROSS JOIN unnest(ARRAY[false, true]) f
), lanes AS (
    INSERT INTO campaign_lanes (campaign_id, lane, time_zone, sender_id, follow_up)
    SELECT c.id, l.lane, l.zone, l.sender_id, l.follow_up FROM campaign c CROSS JOIN lane l WHERE c.has_policy
)
INSERT INTO scheduled_emails (campaign_id, lead_id, workflow_step_number, scheduled_for, lane)
SELECT c.id, l.id, 1, now() - interval '1 minute', CASE WHEN c.has_policy THEN l.place ELSE 0 END
FROM campaign c CROSS JOIN (SELECT id, 1 + mod(row_number() OVER (ORDER BY id), :lanes) AS place FROM leads) l
"""

# As it leaves the indexes of open rows. A claim would pass over it for ever.
_RECORD = sa.text("UPDATE scheduled_emails SET status = 'sent', sent_at = now() WHERE id = ANY(:ids)").bindparams(
    sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))
)
_DAYS = """
INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at, is_total)
SELECT a.id, c.id, current_date - d, true, 0, 10, now(), now(), true
FROM sender_addresses a CROSS JOIN campaigns c CROSS JOIN generate_series(1, CAST(:kept AS integer)) d
WHERE a.id = ANY(c.sender_ids)
UNION ALL
SELECT a.id, CAST('00000000-0000-0000-0000-000000000000' AS uuid), current_date - d, false, 0, 10, NULL, NULL, true
FROM sender_addresses a CROSS JOIN generate_series(:kept + 1, CAST(:all AS integer)) d
"""


def connected(url: str) -> sa.Engine:
    return database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=600.0)


def make_policy(engine: sa.Engine) -> tuple[uuid.UUID, list[uuid.UUID]]:
    """A schedule that is always open, in the lead's zone, and two senders with a cap."""
    with engine.begin() as connection:
        hours = {"name": "Always", "time_zone": "UTC", "zone_of": "lead", "hours": EVERY_DAY, "holidays": []}
        schedule = sending_schedules.create(connection, hours)["id"]
        senders = [
            sender_addresses.create(
                connection, {"from_address": f"{name}@example.com", "daily_cap": 10**6, "spread": False}
            )["id"]
            for name in ("ann", "bob")
        ]
    return schedule, senders


def fill(engine: sa.Engine, campaigns: int, emails: int, *, with_policy: bool) -> None:
    """So many running campaigns, with so many due emails in all, spread over 48 lanes each."""
    schedule_id, senders = make_policy(engine)
    lanes = len(ZONES) * len(senders)
    with engine.connect() as connection:
        add_leads(connection, make_campaign(connection, []), lanes * max(1, -(-emails // campaigns // lanes)))
        statement = sa.text(_CAMPAIGNS).bindparams(
            sa.bindparam("senders", senders if with_policy else [], sa.ARRAY(sa.UUID)),
            sa.bindparam("schedule_id", schedule_id if with_policy else None, sa.UUID),
        )
        connection.execute(statement, {"campaigns": campaigns, "zones": ZONES, "lanes": lanes})
        connection.commit()
    vacuum(engine)


def add_days(engine: sa.Engine) -> None:
    """What senders that have sent every day for three years have left of what counts against their caps."""
    with engine.begin() as connection:
        connection.execute(sa.text(_DAYS), {"kept": budgets.DAYS_KEPT.days, "all": 3 * 365})
    vacuum(engine)


class Claims:
    """Claims as a tick makes them, and how long each took for 500 emails."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lanes = LaneQueue()
        self.seconds: list[float] = []

    def claim(self) -> None:
        if len(self.seconds) % CLAIMS_WITH_THE_SAME_LANES == 0:
            self._lanes = LaneQueue()
        self._timed(lambda connection: claim_emails.claim(connection, BATCH, uuid.uuid4(), lanes=self._lanes))

    def bare_claim(self) -> None:
        parameters = {"batch": BATCH, "token": uuid.uuid4(), "lease": claim_emails.LEASE, "alone": False}
        self._timed(
            lambda connection: [
                claim_emails._claimed(row)
                for row in claim_emails._rows(connection.execute(claim_emails._CLAIM, parameters))
            ]
        )

    def _timed(self, claim: Callable[[sa.Connection], list[claim_emails.ClaimedEmail]]) -> None:
        started = time.perf_counter()
        with self._engine.begin() as connection:
            claimed = claim(connection)
        assert claimed
        self.seconds.append((time.perf_counter() - started) * BATCH / len(claimed))
        with self._engine.begin() as connection:
            connection.execute(_RECORD, {"ids": [email.id for email in claimed]})

    def claim_ms(self) -> float:
        """The median of a claim with its part of what finding the lanes takes. The first claims warm the server."""
        measured = self.seconds[CLAIMS_WITH_THE_SAME_LANES:]
        finding = statistics.median(measured[::CLAIMS_WITH_THE_SAME_LANES])
        others = [each for n, each in enumerate(measured) if n % CLAIMS_WITH_THE_SAME_LANES]
        claim = statistics.median(others)
        return (claim + max(0.0, finding - claim) / CLAIMS_WITH_THE_SAME_LANES) * 1000


def histories(rows: int) -> list[int]:
    """How many rows of history the sides have: none, and so many."""
    return [0, rows] if rows else [0]


def side_name(campaigns: int, rows: int, *, with_policy: bool) -> str:
    name = f"{campaigns} campaigns {'with' if with_policy else 'without'} a policy"
    return name + (f", {rows:,} rows of history" if rows else "")


def claims_from_many(campaigns: int, claims: int, history: int) -> dict[str, float]:
    """The time of a claim from many campaigns, by side."""
    with contextlib.ExitStack() as open_:
        kinds = list(itertools.product(histories(history), (False, True)))
        engines = [connected(open_.enter_context(migrated_database())) for _ in kinds]
        for engine in engines:
            open_.callback(engine.dispose)
        emails = 2 * BATCH * (claims + CLAIMS_WITH_THE_SAME_LANES)

        def make(engine: sa.Engine, kind: tuple[int, bool]) -> None:
            rows, with_policy = kind
            fill(engine, campaigns, emails, with_policy=with_policy)
            if rows:
                add_history(engine, rows)
                add_days(engine)
            write_down(engine)

        # Each has a server of its own, and ten million rows take some minutes.
        with ThreadPoolExecutor() as pool:
            list(pool.map(make, engines, kinds))
        sides = {
            side_name(campaigns, rows, with_policy=with_policy): Claims(engine)
            for engine, (rows, with_policy) in zip(engines, kinds, strict=True)
        }
        for _ in range(claims + CLAIMS_WITH_THE_SAME_LANES):
            for side in sides.values():
                side.claim()
        return {name: side.claim_ms() for name, side in sides.items()}


def claims_from_one(claims: int) -> dict[str, float]:
    """The time of a claim from one campaign without a policy, by the code and by the bare statement."""
    with migrated_database() as url:
        engine = connected(url)
        fill(engine, 1, 2 * BATCH * (claims + CLAIMS_WITH_THE_SAME_LANES), with_policy=False)
        code, bare = Claims(engine), Claims(engine)
        for _ in range(claims + CLAIMS_WITH_THE_SAME_LANES):
            code.claim()
            bare.bare_claim()
        engine.dispose()
    return {"one campaign without a policy": code.claim_ms(), "the same by the bare statement": bare.claim_ms()}


def starts(leads: int, rounds: int) -> tuple[float, float]:
    """Seconds of the start of a campaign of three steps with a policy, and of the bare insert of its rows; medians."""
    schedule_emails.ROWS_PER_BUCKET = leads * 3
    took: list[tuple[float, float]] = []
    with migrated_database() as url:
        engine = connected(url)
        schedule_id, senders = make_policy(engine)
        for _ in range(rounds + 1):
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE leads, scheduled_emails, campaign_steps CASCADE"))
            batch_id = scheduling.make_leads(engine, leads)
            with engine.begin() as connection:
                zones = sa.text(
                    "UPDATE leads SET time_zone = (CAST(:zones AS text[]))[1 + mod(abs(hashtext(email)), 24)]"
                )
                connection.execute(zones, {"zones": ZONES})
            vacuum(engine)
            campaign_id = scheduling.make_campaign(engine, batch_id)
            with engine.begin() as connection:
                policy = sa.text(
                    "UPDATE campaigns SET sending_schedule_id = :schedule, sender_ids = :senders WHERE id = :id"
                )
                policy = policy.bindparams(
                    sa.bindparam("schedule", schedule_id, sa.UUID),
                    sa.bindparam("senders", senders, sa.ARRAY(sa.UUID)),
                    sa.bindparam("id", uuid.UUID(campaign_id), sa.UUID),
                )
                connection.execute(policy)
            began = time.perf_counter()
            assert lifecycle.start_campaign(engine, uuid.UUID(campaign_id)).emails_scheduled_count == leads * 3
            start = time.perf_counter() - began
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE scheduled_emails, campaign_steps CASCADE"))
            vacuum(engine)
            took.append((start, scheduling.bare(engine, scheduling.make_campaign(engine, batch_id), batch_id)))
        engine.dispose()
    start, bare = (statistics.median(side) for side in zip(*took[1:], strict=True))
    return start, bare


def compare(campaigns: int, claims: int, history: int, leads: int, rounds: int) -> None:
    tick.tune_process()
    of_many, of_one = claims_from_many(campaigns, claims, history), claims_from_one(claims)
    times = of_many | of_one
    plain, with_policy = (
        [side_name(campaigns, rows, with_policy=has_policy) for rows in histories(history)]
        for has_policy in (False, True)
    )
    # With and without a policy, with and without history, by the code and by the bare statement.
    pairs = [*zip(with_policy, plain, strict=True), *zip(with_policy[1:], with_policy, strict=False), tuple(of_one)]
    ratios = [(f"{one}, beside {other}", f"{times[one] / times[other]:.2f} ×") for one, other in pairs]
    start, bare = starts(leads, rounds)
    ratios.append(
        (f"start of {leads:,} leads × 3 steps over 24 zones, beside the bare insert", f"{start / bare:.2f} ×")
    )
    rows = [(name, f"{mean:.1f} ms") for name, mean in times.items()]
    rows += [("start with a policy", f"{start:.2f} s"), ("bare insert", f"{bare:.2f} s"), *ratios]
    title = f"{claims} claims of {BATCH} for each side, in turns; median of {rounds} starts"
    write_report("policy", Table(title, ("what", "time, or ratio"), rows), list(times.items()), __doc__ or "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=300)
    parser.add_argument("--claims", type=int, default=16)
    parser.add_argument("--history", type=int, default=100_000)
    parser.add_argument("--leads", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    compare(given.campaigns, given.claims, given.history, given.leads, given.rounds)
