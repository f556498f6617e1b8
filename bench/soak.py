"""The soak: senders that are killed at random over tens of thousands of emails, while campaigns are paused and resumed.

    python -m bench.soak        SOAK_SECONDS (120), SOAK_EMAILS (20000), SOAK_SENDERS (4) from the environment

Each sender is a process of its own; whenever one ends or is killed another takes its place. Then the rest is sent
without kills, and the ledger is compared with what SES accepted. Ends with 0 where no email was sent twice and
none was lost, else with 1.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.errors import IllegalTransition
from sendledger.core.settings import DatabaseSettings
from testbed.campaigns import NO_DELAY, campaign_row, make_campaign, pass_time
from testbed.databases import migrate
from testbed.invariants import LONGER_THAN_ANY_GRACE, assert_ledger_is_consistent, let_it_settle
from testbed.sender_process import SenderProcess, SenderRun
from testbed.senders import sender_resources

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
EMAILS = int(os.environ.get("SOAK_EMAILS", "20000"))
SENDERS = int(os.environ.get("SOAK_SENDERS", "4"))
CAMPAIGNS = 10
STEPS = 2
KILL_EVERY = (0.4, 2.0)
"""Seconds."""

LATENCY_MS = 20
"""Of SES."""

# The rate of the account. With it the emails last for about as long as the soak.
PART_OF_THE_TIME = 0.8


class Soak:
    def __init__(self, database_url: str, simulator: SesSimulator) -> None:
        self.database_url = database_url
        self.simulator = simulator
        self.engine = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}), pool_size=8)
        self.kills = 0
        self.pauses = 0
        self.accepted_meanwhile = 0
        self.campaign_ids: list[uuid.UUID] = []
        self._stop = threading.Event()

    def prepare(self) -> None:
        with self.engine.connect() as connection:
            for _ in range(CAMPAIGNS):
                leads = EMAILS // CAMPAIGNS // STEPS
                self.campaign_ids.append(make_campaign(connection, leads, [NO_DELAY] * STEPS))
        for campaign_id in self.campaign_ids:
            lifecycle.start_campaign(self.engine, campaign_id)

    def run(self) -> None:
        """Keep this number of senders at work, and kill one now and then, until the time is up."""
        pausers = [threading.Thread(target=self._pause_and_resume, args=(number,)) for number in range(2)]
        for thread in pausers:
            thread.start()
        ends_at = time.monotonic() + SECONDS
        senders = [self._new_sender() for _ in range(SENDERS)]
        next_jump = time.monotonic() + 5.0
        while time.monotonic() < ends_at:
            self._stop.wait(random.uniform(*KILL_EVERY))
            position = random.randrange(SENDERS)
            if senders[position].running:
                self.kills += 1
            senders[position].end()
            senders[position] = self._new_sender()
            if time.monotonic() > next_jump:
                # Rows of dead senders go back, or fail, after minutes. Here that time is skipped.
                pass_time(self.engine, LONGER_THAN_ANY_GRACE)
                next_jump = time.monotonic() + 5.0
        self._stop.set()
        for thread in pausers:
            thread.join()
        for sender in senders:
            sender.end()
        self.accepted_meanwhile = len(self.simulator.accepted())

    def _new_sender(self) -> SenderProcess:
        return SenderProcess(SenderRun(self.database_url, self.simulator.url, settings={"SENDER_CONNECTIONS": "16"}))

    def _pause_and_resume(self, seed: int) -> None:
        choice = random.Random(seed)
        while not self._stop.wait(choice.uniform(0.2, 1.0)):
            campaign_id = choice.choice(self.campaign_ids)
            with contextlib.suppress(IllegalTransition):
                lifecycle.pause_campaign(self.engine, campaign_id)
                self.pauses += 1
                self._stop.wait(choice.uniform(0.0, 0.5))
                lifecycle.resume_campaign(self.engine, campaign_id)

    def come_to_rest(self) -> None:
        for campaign_id in self.campaign_ids:
            if campaign_row(self.engine, campaign_id)["status"] == "paused":
                lifecycle.resume_campaign(self.engine, campaign_id)
        self.simulator.account.max_send_rate = None
        resources = sender_resources(self.engine, self.simulator.url, GUARDRAILS_ENABLED="false")
        let_it_settle(self.engine, resources, ticks=100)

    def report(self) -> bool:
        """Print the result. Returns whether every promise was kept."""
        accepted = [int(email.tags["scheduled_email_id"]) for email in self.simulator.accepted()]
        with self.engine.connect() as connection:
            outcome: dict[int, str] = {id_: outcome for id_, outcome in connection.execute(_OUTCOMES)}  # noqa: C416
        counts = Counter(outcome.values())
        sent = {id_ for id_, each in outcome.items() if each == "sent"}
        unknown = {id_ for id_, each in outcome.items() if each == "outcome_unknown"}
        duplicates = len(accepted) - len(set(accepted))
        # SES accepted it and the ledger does not say so, the reverse, or a row that never ends.
        lost = len(set(accepted) - sent - unknown) + len(sent - set(accepted)) + counts["pending"] + counts["sending"]
        called, answered = self._of_unknown_outcome(unknown)
        lines = {
            "emails": len(outcome),
            "accepted by SES": len(accepted),
            "  while some were killed": self.accepted_meanwhile,
            "senders killed": self.kills,
            "pauses": self.pauses,
            "sent": len(sent),
            "outcome unknown": len(unknown),
            "  fenced, not accepted": len(unknown) - called - answered,
            "  accepted, in the call": called,
            "  answered, not recorded": answered,
            "given up, not sent": len(outcome) - len(sent) - len(unknown),
            "sent twice (must be 0)": duplicates,
            "lost (must be 0)": lost,
        }
        for name, value in lines.items():
            print(f"{name:<24}{value:>10,}")
        print(f"{'unknown for each kill':<24}{len(unknown) / max(1, self.kills):>10.1f}")
        try:
            assert_ledger_is_consistent(self.engine, self.simulator)
        except AssertionError as error:
            print(f"The ledger is not consistent: {str(error)[:2000]}")
            return False
        return duplicates == 0 and lost == 0 and self.kills > 0

    def _of_unknown_outcome(self, unknown: set[int]) -> tuple[int, int]:
        """How many of these SES had accepted, within its latency before the last email of their sender, and earlier."""
        at: dict[str, list[tuple[int, datetime]]] = {}
        for email in self.simulator.accepted():
            token = at.setdefault(email.tags["claim_token"], [])
            token.append((int(email.tags["scheduled_email_id"]), email.accepted_at))
        called = answered = 0
        for emails in at.values():
            in_call = max(accepted_at for _, accepted_at in emails) - timedelta(milliseconds=LATENCY_MS)
            times = [accepted_at for id_, accepted_at in emails if id_ in unknown]
            called += sum(accepted_at > in_call for accepted_at in times)
            answered += sum(accepted_at <= in_call for accepted_at in times)
        return called, answered


# "Given up": the row was in the hands of five senders that died before they could send it, or follows one that was.
_OUTCOMES = sa.text("""
    SELECT id, CASE WHEN error_code = 'outcome_unknown' THEN error_code ELSE status END FROM scheduled_emails
""")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        server = Postgres(Path(folder) / "pg")
        try:
            migrate(server.url())
            rate = max(50.0, EMAILS / (SECONDS * PART_OF_THE_TIME))
            with SesSimulator(rate=rate, daily_quota=-1, latency_ms=LATENCY_MS) as simulator:
                soak = Soak(server.url(), simulator)
                soak.prepare()
                print(f"{EMAILS:,} emails, {SENDERS} senders, {SECONDS:.0f} s", flush=True)
                soak.run()
                soak.come_to_rest()
                good = soak.report()
                soak.engine.dispose()
        finally:
            server.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
