"""Takes over the campaigns of an existing installation, one transaction each. It can be run again at any time.

A migrated database of LeadNexConnect goes in, a report comes out. A campaign with `campaign_steps` was taken over and
is not changed again. Every run looks at all others. `adopted_campaigns` keeps the old values of changed columns.

    draft, archived     its columns only
    active              running, with rows for the emails that its leads got and for those that are missing
    paused              the same; a resume makes the missing ones pending
    completed           its columns; reopened as running if emails are missing and the caller asked for it
    lead generation     its columns; an active one stays active, because the old application generates the leads

A campaign that cannot be taken over is left as it is and reported with the reason. Reads and writes `campaigns`,
`leads`, `suppressions`, and more through the other modules of this room.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from sendledger.adoption.campaign import ACTOR, AdoptionOptions, AdoptionRun, adopt_campaign
from sendledger.adoption.ledger import WAS_REFUSED
from sendledger.adoption.overhaul import PREFIX, is_put_aside
from sendledger.adoption.report import AdoptionReport, CampaignReport, on_one_line
from sendledger.adoption.templates import Copies, Untranslatable, workflow_as_steps
from sendledger.adoption.translate_placeholders import read_vocabulary
from sendledger.core import database
from sendledger.core.errors import Conflict
from sendledger.core.tables import campaigns, metadata

LOCK_TIMEOUT = "10s"
"""How long to wait for a locked campaign. After that the run ends, and can be started again."""

OF_ONE_TRANSACTION = ("22", "23", "40P01", "57014", "P0001")
"""SQLSTATEs and their classes after which the run goes on: the server cannot use a value, a constraint or a trigger
refuses it, a deadlock, a statement that took too long."""

REHEARSED_AT_ONCE = 2.0
"""Seconds after which a dry run rolls back what it has written, to release its locks."""


@dataclass
class _Transactions:
    """Pieces of work, one after the other, each in its own transaction.

    A dry run does the same work and rolls it back, several pieces at a time. It begins each time with the suppressions,
    so that every campaign finds what it would find in a real run.
    """

    engine: sa.Engine
    run: AdoptionRun
    report: AdoptionReport
    _rehearsal: sa.Connection | None = None
    _until: float = 0.0
    _suppressed: int = 0

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        self.run.copies.added.clear()
        if self.run.options.dry_run:
            try:
                connection = self._rehearse()
                with connection.begin_nested():
                    yield connection
            finally:
                if time.monotonic() >= self._until:
                    self.end()
        else:
            with self.engine.begin() as connection:
                _wait_briefly_for_locks(connection)
                yield connection
        self.report.add_rows(self.run.copies.added)

    def suppress(self) -> None:
        """Suppress the addresses that refused an email."""
        with self.begin() as connection:
            suppressed = self._suppressed if self.run.options.dry_run else _suppress(connection)
        self.report.count("suppressions", suppressed)

    def end(self) -> None:
        """Roll back what a dry run has written."""
        if self._rehearsal is not None:
            self._rehearsal.close()
            self._rehearsal = None

    @property
    def is_open(self) -> bool:
        """Whether a dry run holds locks between two pieces of work."""
        return self._rehearsal is not None

    def _rehearse(self) -> sa.Connection:
        if self._rehearsal is None:
            self._rehearsal = self.engine.connect()
            _wait_briefly_for_locks(self._rehearsal)
            self._suppressed = _suppress(self._rehearsal)
            self._until = time.monotonic() + REHEARSED_AT_ONCE
        return self._rehearsal


def _wait_briefly_for_locks(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": LOCK_TIMEOUT})


def _suppress(connection: sa.Connection) -> int:
    return connection.execute(_SUPPRESS, {"actor": ACTOR}).rowcount


def adopt_existing_campaigns(
    engine: sa.Engine,
    options: AdoptionOptions,
    *,
    time_is_up: Callable[[], bool] = lambda: False,
    progress: Callable[[CampaignReport], None] = lambda _: None,
) -> AdoptionReport:
    """Take over all campaigns that can be. It may be killed at any time and run again. A second run changes nothing.

    It stops between two campaigns when `time_is_up`, and the report says that it is not finished.

    Raises:
        Conflict: it would change something, and the options name no backup.
    """
    if not options.dry_run and not options.backup:
        raise Conflict(
            "Take a backup first, and say so: --backup-taken, or --snapshot with its id. Nothing was changed."
        )
    report = AdoptionReport(dry_run=options.dry_run)
    with engine.connect() as connection:
        report.overhauled = is_put_aside(connection)
        run = AdoptionRun(options, Copies(read_vocabulary(connection)), overhauled=report.overhauled)
        workflow_ids = list(connection.scalars(_WORKFLOWS))
        candidates = connection.execute(_CANDIDATES).all()
    if not isinstance(options.reopen, bool):
        unknown = sorted(set(options.reopen) - {candidate.id for candidate in candidates})
        report.problems += [f"campaign {campaign_id} is not one that could be reopened" for campaign_id in unknown]
    transactions = _Transactions(engine, run, report)
    to_tell: list[CampaignReport] = []

    def tell() -> None:
        # The reader may take long, as with a pager: nothing may be locked meanwhile.
        while to_tell and not transactions.is_open:
            progress(to_tell.pop(0))

    try:
        report.problems += _trim_addresses(transactions)
        transactions.suppress()
        for workflow_id in workflow_ids:
            report.problems += _adopt_texts(transactions, workflow_id)
        for candidate in candidates:
            if time_is_up():
                report.finished = False
                break
            result = _adopt_one(transactions, candidate)
            if result is not None:
                report.add_campaign(result)
                to_tell.append(result)
                tell()
    finally:
        transactions.end()
        tell()
    return report


def _trim_addresses(transactions: _Transactions) -> Sequence[str]:
    """Remove the spaces around the addresses of leads, so that each of them is found by its address.

    Waiting for a lead that somebody holds for long would end the run, so it is left for the next one.
    """
    try:
        with transactions.begin() as connection:
            trimmed, left = connection.execute(_TRIM).rowcount, connection.scalar(_PADDED) or 0
    except sa.exc.DBAPIError as error:
        return [f"the spaces around the addresses of leads stay: {_refusal(error)}"]
    transactions.end()  # whoever locks campaigns and leads locks the campaigns first
    transactions.report.count("leads", trimmed)
    return [f"the spaces around the addresses of {left} leads stay: somebody holds these leads"] if left else ()


def _adopt_texts(transactions: _Transactions, workflow_id: uuid.UUID) -> Sequence[str]:
    """Copy the texts of a workflow. Returns their problems."""
    try:
        with transactions.begin() as connection:
            # Not FOR UPDATE: a step that the old application is adding refers to the workflow.
            connection.execute(sa.text("SELECT FROM workflows WHERE id = :id FOR NO KEY UPDATE"), {"id": workflow_id})
            try:
                workflow_as_steps(connection, transactions.run.copies, workflow_id)
            except Untranslatable as untranslatable:
                return untranslatable.problems
    except sa.exc.DBAPIError as error:
        return [f"workflow {workflow_id}: {_refusal(error)}"]
    return ()


def _adopt_one(transactions: _Transactions, candidate: sa.Row[Any]) -> CampaignReport | None:
    """Take over a campaign. If the database refuses it, it is reported, and the run goes on."""
    run, holders = transactions.run, dict(transactions.run.holders)
    try:
        with transactions.begin() as connection:
            # Not FOR UPDATE: a counter that another session adds for one of its emails refers to the campaign.
            locked = sa.select(campaigns).where(campaigns.c.id == candidate.id).with_for_update(key_share=True)
            campaign = connection.execute(locked).mappings().one()
            return adopt_campaign(connection, run, campaign)
    except sa.exc.NoResultFound:
        return None  # deleted meanwhile
    except sa.exc.DBAPIError as error:
        refusal = _refusal(error)
        run.holders = holders  # it has let go of its lead batches
        refused = CampaignReport(str(candidate.id), candidate.name, candidate.status, candidate.status)
        refused.problems.append(f"left as it is: {refusal}")
        return refused


def _refusal(error: sa.exc.DBAPIError) -> str:
    """What the report says of an error that ends a single transaction of the run.

    Raises:
        DBAPIError: this one, if it would end the others too.
    """
    if not database.sqlstate(error).startswith(OF_ONE_TRANSACTION):
        raise error
    return f"the database refuses it: {on_one_line(database.server_message(error))}"


def refuse_other_schema(connection: sa.Connection, head: str | None) -> None:
    """Check that the database has the schema of this version; `head` is its newest revision.

    Raises:
        Conflict: with what was found.
    """
    context = MigrationContext.configure(
        connection,
        opts={
            "include_name": lambda name, kind, parents: (
                name in metadata.tables if kind == "table" else kind != "column" or not name.startswith(PREFIX)
            ),
            # An index that somebody else has made does no harm.
            "include_object": lambda item, name, kind, reflected, compare_to: (
                kind != "index" or not reflected or compare_to is not None
            ),
        },
    )
    revision = context.get_current_revision()
    if revision is None:
        names = sorted(sa.inspect(connection).get_table_names())
        raise Conflict(
            "This database has not been migrated yet (make migrate). Nothing was changed. "
            f"It has {len(names)} tables{': ' if names else '.'}{', '.join(names[:40])}"
        )
    if revision != head:
        raise Conflict(f"This database is at revision {revision}, this version works with {head}. Nothing was changed.")
    if differences := compare_metadata(context, metadata):
        found = "\n  ".join(str(difference)[:200] for difference in differences[:20])
        raise Conflict(f"This database says that it is at revision {revision}, but it differs:\n  {found}")


_WORKFLOWS = sa.text("""
    SELECT workflow_id FROM workflow_steps GROUP BY workflow_id HAVING bool_or(email_template_id IS NULL)
    ORDER BY workflow_id
""")
_PADDED = sa.text("SELECT count(*) FROM leads WHERE email <> btrim(email) AND btrim(email) <> ''")
# The full lock: the address may be in a unique index of somebody's own.
_TRIM = sa.text("""
    WITH padded AS MATERIALIZED (
        SELECT id FROM leads WHERE email <> btrim(email) AND btrim(email) <> '' FOR UPDATE SKIP LOCKED
    )
    UPDATE leads l SET email = btrim(l.email) FROM padded p WHERE l.id = p.id
""")
# If several campaigns use a lead batch, the first one in this order gets it.
_CANDIDATES = sa.text("""
    SELECT c.id, c.name, c.status FROM campaigns c
    WHERE (c.status IS NULL OR c.status IN ('draft', 'active', 'paused', 'completed', 'archived'))
      AND NOT EXISTS (SELECT FROM campaign_steps s WHERE s.campaign_id = c.id)
      AND (c.status IN ('active', 'paused', 'completed')
           OR NOT EXISTS (SELECT FROM adopted_campaigns a WHERE a.campaign_id = c.id))
    ORDER BY array_position(ARRAY['active', 'paused'], c.status), c.created_at, c.id
""")
# A suppression that an operator has removed is not added again by the next run.
_SUPPRESS = sa.text(f"""
    INSERT INTO suppressions (value, reason, note, created_by)
    SELECT refused.address, CASE WHEN refused.spam THEN 'complaint' ELSE 'bounce' END,
           'From the emails of the existing installation', CAST(:actor AS text)
    FROM (SELECT lower(btrim(l.email)) AS address, bool_or(e.status = 'spam') AS spam
          FROM emails e JOIN leads l ON l.id = e.lead_id
          WHERE e.to_address IS NULL AND {WAS_REFUSED} AND btrim(l.email) <> ''
          GROUP BY 1) refused
    WHERE NOT EXISTS (SELECT FROM suppressions s WHERE s.value = refused.address AND s.campaign_id IS NULL
                      AND (s.removed_at IS NULL OR s.created_by = :actor))
""")
