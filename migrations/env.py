"""Alembic's environment: the database, the tables, short lock timeouts, and a check of the state before a start."""

import logging

from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import SchemaItem

from sendledger.adoption.overhaul import PREFIX
from sendledger.core import database, settings, tables
from sendledger.core.errors import SettingsError

# Alembic writes its errors to its log and to standard output. Once is enough.
logging.getLogger("alembic.util.messaging").disabled = True

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock within this time fails, and does not block the senders behind it."""

REFUSED = ("28", "3D", "42501", "0A000", "2BP01")
"""SQLSTATEs of what a person can change: the login, the database's name, who owns the tables, what depends on them."""

LONGEST_STATEMENT = 3600.0
"""Seconds. Building an index on a large table takes longer than any statement of the functions."""

OLDEST_SERVER = 14
"""Major version of PostgreSQL."""

MARKS = {
    "0002": ("campaigns", "batch_ids"),
    "0003": ("lead_batches", "active_campaign_id"),
    "0004": ("workflow_steps", "email_template_id"),
    "0005": ("scheduled_emails", "id"),
    "0006": ("suppressions", "id"),
    "0006b": ("adopted_campaigns", "campaign_id"),
}
"""Revision → a column that it creates, to check that it was applied."""


def refuse_unknown_state(connection: Connection) -> None:
    """Compare the revision that the database has stored with its tables.

    Raises:
        CommandError: a newer Sendledger has upgraded it, or its revision and its tables contradict each other.
    """
    revisions = MigrationContext.configure(connection).get_current_heads()
    known = {script.revision: script for script in context.script.walk_revisions()}
    if unknown := sorted(set(revisions) - known.keys()):
        raise CommandError(
            f"This database is at revision {', '.join(unknown)}, which this version of Sendledger does not know: a "
            "newer one has upgraded it. Nothing was changed."
        )
    if not revisions:
        refuse_unfit_database(connection)
        return  # empty, or an existing installation: the first revision checks it
    made = {script.revision for script in context.script.iterate_revisions(revisions, "base")}
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    contradictions = [
        f"{table}.{column} of revision {revision} is {'missing' if revision in made else 'there already'}"
        for revision, (table, column) in MARKS.items()
        if (revision in made)
        != (table in tables and column in {found["name"] for found in inspector.get_columns(table)})
    ]
    if contradictions:
        raise CommandError(
            f"This database says that it is at revision {', '.join(revisions)}, but {'; '.join(contradictions)}. "
            "It was migrated halfway by something else, or restored in parts. Nothing was changed."
        )


def refuse_unfit_database(connection: Connection) -> None:
    """Names and texts are of every alphabet, and statements are those of `OLDEST_SERVER`.

    Raises:
        CommandError: the server is older; or the database cannot hold all texts, or does not know what it holds
            (SQL_ASCII).
    """
    version = int((connection.dialect.server_version_info or (OLDEST_SERVER,))[0])
    if version < OLDEST_SERVER:
        raise CommandError(
            f"This is PostgreSQL {version}, and Sendledger needs {OLDEST_SERVER} or newer. Nothing was changed."
        )
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise CommandError(
            f"This database has the encoding {encoding}, and Sendledger needs UTF8. Nothing was changed. "
            "Restore a dump of it into one that was made with createdb --template=template0 --encoding=UTF8."
        )


def ours(item: SchemaItem, name: str | None, type_: str, reflected: bool, compare_to: SchemaItem | None) -> bool:
    """Ignore tables and columns of an existing installation that this system does not use."""
    if not reflected or name is None:
        return True
    if type_ == "table":
        return name in tables.metadata.tables
    return not (type_ == "column" and name.startswith(PREFIX))


def run(connection: Connection) -> None:
    connection.execute(text("SELECT set_config('lock_timeout', :timeout, false)"), {"timeout": LOCK_TIMEOUT})
    refuse_unknown_state(connection)
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=tables.metadata,
        include_object=ours,
        transaction_per_migration=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_on_its_own() -> None:
    """For the command line, which shows a `CommandError` as one line."""
    try:
        engine = database.engine(settings.DatabaseSettings.read(), longest_statement=LONGEST_STATEMENT)
        with engine.connect() as own_connection:
            run(own_connection)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    except DBAPIError as error:
        if not (database.is_transient(error) or database.sqlstate(error).startswith(REFUSED)):
            raise
        said = "; ".join(filter(None, [database.server_message(error), *database.server_detail(error).splitlines()]))
        raise CommandError(f"The database refused; run it again once this is solved: {said}") from error


connection: Connection | None = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    run_on_its_own()
