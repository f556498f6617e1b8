"""Taking over the campaigns of an existing installation, one transaction each, as often as it takes.

In: a database that was LeadNexConnect's and is migrated; out: a report. A campaign is taken over for good once it has
`campaign_steps`; before that every run looks at it again. `adopted_campaigns` keeps what its old columns held.

    draft, archived     its columns only
    active              running, with the rows that its leads have had and those that are missing
    paused              the same; a resume makes the missing ones pending
    completed           its columns; reopened as running where emails are missing, if that is asked for
    lead generation     its columns; an active one stays active, because the old application generates the leads

A campaign that cannot be taken over is left exactly as it is, and named with the reason. Reads and writes `campaigns`,
`suppressions`, and more through adopt_one_campaign, adopt_templates and adopt_ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from sendledger.adoption.campaign import ACTOR, AdoptionOptions, AdoptionRun, adopt_campaign
from sendledger.adoption.ledger import WAS_REFUSED
from sendledger.adoption.report import AdoptionReport, CampaignReport
from sendledger.adoption.templates import Copies, Untranslatable, workflow_as_steps
from sendledger.adoption.translate_placeholders import read_vocabulary
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.tables import metadata

LOCK_TIMEOUT = "10s"
"""Whoever holds a campaign longer than this is left alone; the run ends and is started again."""


@dataclass
class _Transactions:
    """One transaction after the other, each committed at its end; of a dry run nothing stays but the count."""

    engine: sa.Engine
    run: AdoptionRun
    report: AdoptionReport

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        added = self.run.copies.added
        added.clear()
        with self.engine.connect() as connection:
            connection.execute(sa.text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": LOCK_TIMEOUT})
            yield connection
            if not self.run.options.dry_run:
                connection.commit()
        self.report.add_rows(added)


def adopt_existing_campaigns(
    engine: sa.Engine,
    options: AdoptionOptions,
    *,
    time_is_up: Callable[[], bool] = lambda: False,
    progress: Callable[[CampaignReport], None] = lambda _: None,
) -> AdoptionReport:
    """Take over what can be; may be killed at any time and run again, and a second run changes nothing.

    Stops between two campaigns once `time_is_up`; the report then says that it is not finished.

    Raises:
        Conflict: it would change something and nobody has said that there is a backup.
    """
    if not options.dry_run and not options.backup:
        raise Conflict(
            "Take a backup first, and say so: --backup-taken, or --snapshot with its id. Nothing was changed."
        )
    report = AdoptionReport(dry_run=options.dry_run)
    with engine.connect() as connection:
        run = AdoptionRun(options, Copies(read_vocabulary(connection)))
        workflow_ids = list(connection.scalars(_WORKFLOWS))
        campaign_ids = list(connection.scalars(_CANDIDATES))
    if not isinstance(options.reopen, bool):
        unknown = sorted(set(options.reopen) - set(campaign_ids))
        report.problems += [f"campaign {campaign_id} is not one that could be reopened" for campaign_id in unknown]
    transactions = _Transactions(engine, run, report)
    with transactions.begin() as connection:
        report.count("suppressions", connection.execute(_SUPPRESS, {"actor": ACTOR}).rowcount)
    for workflow_id in workflow_ids:
        with transactions.begin() as connection:
            connection.execute(sa.text("SELECT FROM workflows WHERE id = :id FOR UPDATE"), {"id": workflow_id})
            try:
                workflow_as_steps(connection, run.copies, workflow_id)
            except Untranslatable as untranslatable:
                report.problems += untranslatable.problems
    for campaign_id in campaign_ids:
        if time_is_up():
            report.finished = False
            break
        with transactions.begin() as connection:
            try:
                campaign = get_campaign(connection, campaign_id, lock=True)
            except NotFound:
                continue  # deleted meanwhile
            result = adopt_campaign(connection, run, campaign)
        if result is not None:
            report.add_campaign(result)
            progress(result)
    return report


def refuse_other_schema(connection: sa.Connection, head: str | None) -> None:
    """Make sure that the database has the schema of this version, `head` being its newest revision.

    Raises:
        Conflict: with what was found.
    """
    context = MigrationContext.configure(
        connection,
        opts={"include_name": lambda name, kind, parents: kind != "table" or name in metadata.tables},
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
# Whoever is first in this order gets a lead batch that several use.
_CANDIDATES = sa.text("""
    SELECT c.id FROM campaigns c
    WHERE (c.status IS NULL OR c.status IN ('draft', 'active', 'paused', 'completed', 'archived'))
      AND NOT EXISTS (SELECT FROM campaign_steps s WHERE s.campaign_id = c.id)
      AND (c.status IN ('active', 'paused', 'completed')
           OR NOT EXISTS (SELECT FROM adopted_campaigns a WHERE a.campaign_id = c.id))
    ORDER BY array_position(ARRAY['active', 'paused'], c.status), c.created_at, c.id
""")
# An operator who removes one of these does not get it back from the next run.
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
