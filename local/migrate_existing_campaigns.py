"""Takes over the campaigns of an existing installation in the database at DATABASE_URL.

`make migrate-existing-campaigns ARGS='--dry-run'`; docs/migrate-from-leadnexconnect.md says what else there is to do.
Exit status: 0 done; 1 refused or failed, and nothing is lost; 3 done in part, and a person must decide the rest.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from sendledger.adoption.campaign import AdoptionOptions
from sendledger.adoption.report import AdoptionReport, CampaignReport
from sendledger.adoption.run import adopt_existing_campaigns, refuse_other_schema
from sendledger.core import database
from sendledger.core.errors import Conflict, SettingsError
from sendledger.core.settings import DatabaseSettings

MIGRATIONS = Path(__file__).parent.parent / "migrations"
LONGEST_STATEMENT = 1800.0
"""Seconds; one statement writes the rows of one campaign."""

REFUSED = 1
NEEDS_A_PERSON = 3  # 2 is what wrong arguments give


def main() -> int:
    options = _options()
    try:
        report = _adopt(options)
    except (Conflict, SettingsError) as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    except sa.exc.DBAPIError as error:
        print(f"The database refused; run it again once this is solved: {error.orig}", file=sys.stderr)
        return REFUSED
    print("\n".join(report.lines()))
    return NEEDS_A_PERSON if report.needs_a_person else 0


def _options() -> AdoptionOptions:
    parser = argparse.ArgumentParser(prog="make migrate-existing-campaigns", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="change nothing, print what would be changed")
    backup = parser.add_mutually_exclusive_group()
    backup.add_argument("--backup-taken", action="store_true", help="there is a backup to go back to")
    backup.add_argument("--snapshot", metavar="ID", help="the id of the snapshot to go back to")
    parser.add_argument(
        "--reopen-incomplete",
        metavar="CAMPAIGN_ID",
        nargs="*",
        type=uuid.UUID,
        help="go on with the campaigns that were completed while emails were missing: these, or without an id all",
    )
    arguments = parser.parse_args()
    reopen: list[uuid.UUID] | None = arguments.reopen_incomplete
    return AdoptionOptions(
        dry_run=arguments.dry_run,
        backup=arguments.snapshot or ("taken" if arguments.backup_taken else None),
        reopen=False if reopen is None else reopen or True,
    )


def _adopt(options: AdoptionOptions) -> AdoptionReport:
    engine = database.engine(DatabaseSettings.read(), longest_statement=LONGEST_STATEMENT)
    with engine.connect() as connection:
        refuse_other_schema(connection, ScriptDirectory(str(MIGRATIONS)).get_current_head())
    return adopt_existing_campaigns(engine, options, progress=_print)


def _print(campaign: CampaignReport) -> None:
    print("\n".join(campaign.lines()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
