"""What must become of variants, winners, later leads and edited workflows, as a second program works it out.

A model tells it what each workflow sends now, and after each step what the ledger says and which emails SES has
accepted since. It raises AssertionError where a lead has a step twice, the split is off, a person gets another variant
than that of the ledger, a winner does not follow from the counts, or a campaign ends while it takes in leads.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import sqlalchemy as sa

from local.ses_simulator import AcceptedEmail
from sendledger.core.tables import campaign_step_variants, campaign_steps, campaigns, scheduled_emails

BROKEN = "{{ first_name"
"""A text that cannot be sent."""


class Variant(NamedTuple):
    """What is sent, and its share."""

    template_id: uuid.UUID
    subject: str
    weight: int


Steps = dict[int, tuple[Variant, ...]]
"""The variants of each step, in the order of their numbers; one if it has only one content."""


@dataclass
class Choices:
    """What the leads got that came in one after the other while the shares stayed as they are."""

    first_rank: int
    shares: dict[tuple[int, bool], Fraction]
    """By variant, and whether the lead waits for the winner."""
    counts: Counter[tuple[int, bool]] = field(default_factory=Counter)

    def check(self) -> None:
        """Over all leads that a revision ever had, each is off by less than one; so between two of them by two."""
        assert self.counts.keys() <= self.shares.keys(), f"nobody may get that: {self}"
        most = 1 if self.first_rank == 0 else 2
        for choice, share in self.shares.items():
            off = abs(self.counts[choice] - share * self.counts.total())
            assert off < most, f"{choice} is off by {float(off)}: {self}"


@dataclass
class Flow:
    """A campaign's workflow as it is now, what each of its revisions sends, and what has been reported to it."""

    workflow_id: uuid.UUID
    now: Steps
    winner: dict[str, Any] | None
    evergreen: bool
    kept: dict[int, Steps] = field(default_factory=dict)
    ends_at: dt.datetime | None = None
    reported: dict[str, set[int]] = field(default_factory=lambda: {"clicked": set(), "delivered": set()})
    leads_seen: int = 0
    leads_before: dict[int, int] = field(default_factory=lambda: {1: 0})
    choices: dict[tuple[Any, ...], Choices] = field(default_factory=dict)

    @property
    def is_broken(self) -> bool:
        return any(variant.subject == BROKEN for step in self.now.values() for variant in step)

    def refresh(self) -> None:
        """Each revision gets the texts that its templates have now."""
        texts = {variant.template_id: variant.subject for step in self.now.values() for variant in step}
        for steps in self.kept.values():
            for number, own in steps.items():
                steps[number] = tuple(each._replace(subject=texts[each.template_id]) for each in own)

    def note_revision(self, revision: int) -> None:
        """What leads get now: a new revision is what the workflow is."""
        newest = max(self.kept)
        assert revision in (newest, newest + 1)
        if revision > newest:
            assert not self.is_broken, f"revision {revision} cannot be sent: {self.now}"
            assert self.now != self.kept[newest], f"revision {revision} is as the one before: {self.now}"
            self.kept[revision] = dict(self.now)
            self.leads_before[revision] = self.leads_seen


@dataclass(frozen=True)
class Ledger:
    """The campaigns with a `Flow` at one moment. Steps are named by campaign, revision and number."""

    at: dt.datetime
    campaigns: Sequence[Any]
    rows: Mapping[int, sa.RowMapping]
    steps: Mapping[tuple[Any, ...], sa.RowMapping]
    retired: Mapping[tuple[Any, ...], set[int]]
    decisions: Sequence[sa.Row[Any]]

    @classmethod
    def read(cls, engine: sa.Engine, campaign_ids: Sequence[uuid.UUID]) -> Ledger:
        with engine.connect() as connection:
            now = connection.execute(sa.select(sa.func.now())).scalar_one()
            own = campaigns.c
            known = connection.execute(sa.select(own.id, own.status, own.revision).where(own.id.in_(campaign_ids)))
            of_campaigns = sa.select(scheduled_emails).where(scheduled_emails.c.campaign_id.in_(campaign_ids))
            rows = connection.execute(of_campaigns.order_by(scheduled_emails.c.id)).mappings()
            kept = sa.select(campaign_steps).where(campaign_steps.c.campaign_id.in_(campaign_ids))
            steps = connection.execute(kept).mappings()
            gone = campaign_step_variants.c
            variants = sa.select(gone.campaign_id, gone.revision, gone.step_number, gone.variant).where(
                gone.campaign_id.in_(campaign_ids), gone.retired_at.is_not(None)
            )
            retired: dict[tuple[Any, ...], set[int]] = {}
            for each in connection.execute(variants):
                retired.setdefault(tuple(each)[:3], set()).add(each.variant)
            return cls(
                now,
                known.all(),
                {row["id"]: row for row in rows},
                {(each["campaign_id"], each["revision"], each["step_number"]): each for each in steps},
                retired,
                connection.execute(_DECISIONS, {"ids": [str(id_) for id_ in campaign_ids]}).all(),
            )


@dataclass
class LearningRules:
    """All campaigns that are looked at."""

    flows: dict[uuid.UUID, Flow] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _decided: set[int] = field(default_factory=set)
    _got: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def check(self, ledger: Ledger, accepted: Sequence[AcceptedEmail]) -> None:
        """`accepted` is what SES has accepted since the last check."""
        for id_, status, revision in ledger.campaigns:
            flow = self.flows[id_]
            flow.note_revision(revision)
            if flow.evergreen and status == "completed":
                assert flow.ends_at is not None and flow.ends_at <= ledger.at, "completed while it takes in leads"  # noqa: PT018
        self._check_retired(ledger)
        self._check_steps(ledger)
        self._check_split(ledger)
        for email in accepted:
            self._check_email(email, ledger)
        for entry in ledger.decisions:
            if entry.id not in self._decided and "counts" in entry.detail:
                self._check_winner(entry, ledger)
            self._decided.add(entry.id)

    def _check_retired(self, ledger: Ledger) -> None:
        """What is retired is retired in the next revision too, while that has its template and another one."""
        for (campaign_id, revision, number), gone in ledger.retired.items():
            kept = self.flows[campaign_id].kept
            templates = {kept[revision][number][variant - 1].template_id for variant in gone}
            later = kept.get(revision + 1, {}).get(number, ())
            expected = {place for place, each in enumerate(later, 1) if each.template_id in templates}
            found = ledger.retired.get((campaign_id, revision + 1, number), set())
            assert len(expected) == len(later) or expected <= found, f"{expected} of {later} are in use again"

    def _check_steps(self, ledger: Ledger) -> None:
        """Each lead has each step of one revision once."""
        numbers: dict[tuple[Any, ...], list[int]] = {}
        for row in ledger.rows.values():
            if row["lead_id"] is not None:
                key = row["campaign_id"], row["lead_id"], row["revision"]
                numbers.setdefault(key, []).append(row["workflow_step_number"])
        for key, found in numbers.items():
            campaign_id, _, revision = key
            assert sorted(found) == sorted(self.flows[campaign_id].kept[revision]), f"the steps of {key} are {found}"
        assert len({key[:2] for key in numbers}) == len(numbers), "a lead has emails of two revisions"

    def _check_split(self, ledger: Ledger) -> None:
        """Of the leads that have come in since the last look, and of all together."""
        new = [row for row in ledger.rows.values() if row["id"] not in self._seen]
        self._seen |= {row["id"] for row in new}
        for row in new:
            flow, place = self.flows[row["campaign_id"]], _place(row)
            contents = flow.kept[row["revision"]][row["workflow_step_number"]]
            variant, waits = row["variant"], row["fallback_variant"] is not None
            step = ledger.steps[place]
            if len(contents) == 1:
                assert (variant, waits) == (None, False), f"there is one content: {row}"
            elif step["winner"] is not None and step["winner_decided_at"] is not None:
                # It may have been decided a moment before or after the lead came in.
                assert waits or variant is not None, f"it has no variant: {row}"
            else:
                gone = ledger.retired.get(place, set())
                shares = _shares(contents, gone, step["winner"])
                first_rank = flow.leads_seen - flow.leads_before[row["revision"]]
                choices = flow.choices.setdefault((*place, frozenset(gone)), Choices(first_rank, shares))
                choices.counts[row["fallback_variant"] if waits else variant, waits] += 1
        for row in new:
            self.flows[row["campaign_id"]].leads_seen += row["workflow_step_number"] == 1
        for flow in self.flows.values():
            for choices in flow.choices.values():
                choices.check()

    def _check_email(self, email: AcceptedEmail, ledger: Ledger) -> None:
        """It is what its variant sends, which was in use, and was the winner if it waited for one."""
        row = ledger.rows.get(int(email.tags["scheduled_email_id"]))
        if row is None:
            return
        number, variant, place = row["workflow_step_number"], row["variant"], _place(row)
        contents = self.flows[row["campaign_id"]].kept[row["revision"]][number]
        assert (variant is None) == (len(contents) == 1), f"{variant} of {contents}"
        sent = contents[(variant or 1) - 1]
        assert email.subject == sent.subject, f"{email.subject} is not what variant {variant} sends: {contents}"
        gone = ledger.retired.get(place, set())
        assert variant not in gone, f"variant {variant} is retired: {row}"
        person = email.tags["campaign_id"], email.destination[0].lower(), number
        assert self._got.setdefault(person, row["id"]) == row["id"], f"a person gets step {number} twice: {row}"
        if row["fallback_variant"] is not None:
            step = ledger.steps[place]
            assert step["winner_decided_at"] is not None, f"it did not wait for the winner: {row}"
            expected = step["winner_variant"] or row["fallback_variant"]
            assert variant == expected or expected in gone, f"{expected} was to go out: {row}"

    def _check_winner(self, entry: sa.Row[Any], ledger: Ledger) -> None:
        """Decided by the system: the best variant, if that is more than chance; see docs/variants.md."""
        campaign_id = uuid.UUID(entry.entity_id)
        flow = self.flows[campaign_id]
        assert flow.winner is not None
        reported = flow.reported[flow.winner["by"]]
        counts = {int(variant): tuple(count) for variant, count in entry.detail["counts"].items()}
        for variant, (successes, tested) in counts.items():
            own = [
                row
                for row in ledger.rows.values()
                if _place(row) == (campaign_id, entry.detail["revision"], entry.detail["step_number"])
                and (row["variant"], row["status"]) == (variant, "sent")
            ]
            known = [row for row in own if row["id"] in reported]
            least = sum(row["lead_id"] is not None for row in known)  # nothing is kept of an erased lead
            assert least <= successes <= len(known), f"{len(known)} of variant {variant}: {entry}"
            assert successes <= tested <= len(own), f"{len(own)} of variant {variant}: {entry}"
        better = [one for one in counts if all(_is_better(counts[one], counts[two]) for two in counts.keys() - {one})]
        assert entry.detail["variant"] == (better[0] if better else None), f"{better} won: {entry}"


def _place(row: sa.RowMapping) -> tuple[Any, ...]:
    return row["campaign_id"], row["revision"], row["workflow_step_number"]


def _shares(
    contents: Sequence[Variant], gone: set[int], winner: dict[str, Any] | None
) -> dict[tuple[int, bool], Fraction]:
    weights = {number: each.weight for number, each in enumerate(contents, 1) if number not in gone}
    total = sum(weights.values())
    tested = Fraction(winner["test_share"] if winner else 100, 100)
    shares = {(number, False): tested * weight / total for number, weight in weights.items()}
    shares |= {(number, True): (1 - tested) / len(weights) for number in weights}
    return {choice: share for choice, share in shares.items() if share}


def _is_better(one: Sequence[int], two: Sequence[int]) -> bool:
    """By the one-sided exact test of Fisher, in whole numbers."""
    (successes, tested), (others, others_tested) = one, two
    if not tested or not others_tested or successes * others_tested <= others * tested:
        return False
    all_successes = successes + others
    ways = sum(
        math.comb(tested, count) * math.comb(others_tested, all_successes - count)
        for count in range(successes, min(tested, all_successes) + 1)
    )
    return Fraction(ways, math.comb(tested + others_tested, all_successes)) <= Fraction(1, 20)


_DECISIONS = sa.text("""
    SELECT id, entity_id, detail FROM audit_log
    WHERE action = 'campaign.winner' AND entity_type = 'campaign' AND entity_id = ANY(:ids) ORDER BY id
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.Text)))
