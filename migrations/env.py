"""Alembic's environment: which database, which tables, and short locks."""

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.schema import SchemaItem

from sendledger import database, settings, tables

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock within this time gives up instead of blocking the senders behind it."""


def ours(item: SchemaItem, name: str | None, type_: str, reflected: bool, compare_to: SchemaItem | None) -> bool:
    """Leave alone what an existing installation has and this system does not use."""
    return not (reflected and type_ == "table" and name not in tables.metadata.tables)


def run(connection: Connection) -> None:
    connection.execute(text("SELECT set_config('lock_timeout', :timeout, false)"), {"timeout": LOCK_TIMEOUT})
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


connection: Connection | None = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    with database.engine(settings.DatabaseSettings.read()).connect() as own_connection:
        run(own_connection)
