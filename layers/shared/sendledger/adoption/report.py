"""The report of an adoption: counts per table, what became of each campaign, and what a person has to do."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sendledger.core.vocabulary import CampaignStatus, ScheduledEmailStatus

LONGEST_NAME = 200
"""Characters of a name or a value that are shown."""


def on_one_line(name: str) -> str:
    """A name or value of the old application for a line of the report: short, and safe on a terminal."""
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    words = " ".join(printable.split())
    return words if len(words) <= LONGEST_NAME else f"{words[:LONGEST_NAME]}…"


@dataclass
class Ledger:
    """What one campaign's ledger holds, or would hold."""

    rows: Counter[str] = field(default_factory=Counter)
    """By the status that is stored; `cancelled` are those that a resume makes pending."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Leads that got nothing and will get nothing, by reason."""
    leads: int = 0
    waiting: int = 0
    """Leads that get at least one more email."""
    reached: int = 0
    """The highest step that a lead has got."""
    without_email: int = 0
    """Rows that were sent, of which the old application has kept no email."""
    without_step: int = 0
    """Emails that were sent twice, or beyond the last step."""
    queued: int = 0
    """Emails that the old application has queued and may still send by itself."""


@dataclass
class CampaignReport:
    """What became of one campaign."""

    id: str
    name: str
    status_before: str | None
    status_after: str | None
    changed: bool = False
    rows: Counter[str] = field(default_factory=Counter)
    """Of the ledger, by the status that is stored; `cancelled` are those that a resume makes pending."""
    leads_left_out: Counter[str] = field(default_factory=Counter)
    without_email: int = 0
    """Rows that were sent, of which the old application has kept no email."""
    steps: int = 0
    waiting: int = 0
    """Leads that get at least one more email."""
    missing: int = 0
    """Emails that are missing in a completed campaign which was not reopened."""
    problems: list[str] = field(default_factory=list)
    """What a person has to correct."""
    notes: list[str] = field(default_factory=list)
    """For information."""

    @property
    def says_something(self) -> bool:
        return bool(self.changed or self.missing or self.problems or self.notes)

    def take(self, ledger: Ledger, status: str, steps: int) -> None:
        self.status_after, self.steps = status, steps
        self.rows, self.leads_left_out, self.waiting = ledger.rows, ledger.left_out, ledger.waiting
        self.without_email = ledger.without_email

    def explain(self, problems: Sequence[str], *, blocks: bool) -> None:
        if blocks:
            self.problems += [f"left as it is: {problem}" for problem in problems]
        elif self.status_before == CampaignStatus.DRAFT:
            self.notes += problems

    def lines(self) -> Iterator[str]:
        before, after = (status or "no status" for status in (self.status_before, self.status_after))
        status = before if before == after else f"{before} → {after}"
        is_paused = self.status_after == CampaignStatus.PAUSED
        names: dict[str, str] = {ScheduledEmailStatus.CANCELLED: "cancelled until it is resumed"} if is_paused else {}
        parts = [f"{count} {names.get(name, name)}" for name, count in sorted(self.rows.items())]
        parts += [f"{count} leads left out ({reason})" for reason, count in sorted(self.leads_left_out.items())]
        name = on_one_line(self.name) or "campaign without a name"
        yield f"{name} ({self.id}): {'; '.join(filter(None, [status, ', '.join(parts)]))}"
        if self.missing:
            yield f"  completed with {self.missing} emails missing; --reopen-incomplete goes on with them"
        yield from (f"  problem: {problem}" for problem in self.problems)
        yield from (f"  note: {note}" for note in self.notes)


@dataclass
class AdoptionReport:
    """What a run did, or with `dry_run` would do."""

    dry_run: bool
    finished: bool = True
    overhauled: bool = False
    """The database has been through the old application's campaign overhaul, whose ledger is evidence."""
    tables: Counter[str] = field(default_factory=Counter)
    """Rows added or changed."""
    campaigns: list[CampaignReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Problems that do not belong to a single campaign, above all of texts."""
    _seen: set[tuple[str, uuid.UUID]] = field(default_factory=set)

    @property
    def needs_a_person(self) -> bool:
        return bool(self.problems or any(campaign.problems for campaign in self.campaigns))

    def count(self, table: str, rows: int) -> None:
        self.tables[table] += rows

    def add_rows(self, rows: Iterable[tuple[str, uuid.UUID]]) -> None:
        """Count rows by (table, id), each once: a dry run makes the same copy for each campaign that needs it."""
        for row in rows:
            if row not in self._seen:
                self._seen.add(row)
                self.tables[row[0]] += 1

    def add_campaign(self, campaign: CampaignReport) -> None:
        self.campaigns.append(campaign)
        self.tables["campaign_steps"] += campaign.steps
        self.tables["scheduled_emails"] += campaign.rows.total()
        self.tables["emails"] += campaign.rows[ScheduledEmailStatus.SENT] - campaign.without_email
        self.tables["left_out_leads"] += campaign.leads_left_out.total()
        for table in ("adopted_campaigns", "audit_log"):
            self.tables[table] += campaign.changed

    def as_dict(self, most: int = 5_000) -> dict[str, Any]:
        """The report for JSON, with at most `most` campaigns; those that need a person come first."""
        named = sorted(self.campaigns, key=lambda campaign: not (campaign.problems or campaign.missing))[:most]
        return {
            "dry_run": self.dry_run,
            "finished": self.finished,
            "old_application_must_stay_stopped": self.overhauled,
            "needs_a_person": self.needs_a_person,
            "tables": {table: count for table, count in sorted(self.tables.items()) if count},
            "campaigns": [
                {name: value for name, value in vars(campaign).items() if value not in ((), [], {}, 0)}
                for campaign in named
            ],
            "campaigns_left_off": len(self.campaigns) - len(named),
            "problems": self.problems,
        }

    def lines(self) -> Iterator[str]:
        """The report for a person, without the campaigns."""
        if self.overhauled:
            yield "The old application's scheduled_emails was moved aside: the old application must stay stopped."
        yield "Nothing was changed; this is what would be:" if self.dry_run else "Changed:"
        tables = {table: count for table, count in sorted(self.tables.items()) if count}
        yield from (f"  {table}: {count} rows" for table, count in tables.items())
        if not tables:
            yield "  nothing"
        incomplete = [campaign for campaign in self.campaigns if campaign.missing]
        if incomplete:
            yield f"{len(incomplete)} completed campaigns have emails missing (--reopen-incomplete)."
        yield from (f"problem: {problem}" for problem in self.problems)
        held = sum(bool(campaign.problems) for campaign in self.campaigns)
        if held or self.problems:
            yield f"A person is needed for {held} campaigns and {len(self.problems)} other problems; then run it again."
        if not self.finished:
            yield "The time was up before the last campaign; run it again."
