"""A LeadNexConnect database as it was before Sendledger: the schema of legacy-schema.json, and data."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from local.postgres import Postgres
from sendledger.adoption.campaign import AdoptionOptions
from sendledger.adoption.report import AdoptionReport
from sendledger.adoption.run import adopt_existing_campaigns
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from testbed.databases import SCRIPTS, admin, plain_engine

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "legacy-schema.json").read_text())
DAY = dt.timedelta(days=1)


@contextmanager
def legacy_engine(server: Postgres) -> Iterator[sa.Engine]:
    """An engine as Sendledger has it, on a database with the old tables; dropped at the end."""
    name = f"legacy_{uuid.uuid4().hex[:12]}"
    with admin(server) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": server.url(name)}), pool_size=8)
    with engine.begin() as connection:
        create_old_tables(connection)
    try:
        yield engine
    finally:
        engine.dispose()
        with admin(server) as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def old_application(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction of the old application, which sets no application_name. It is committed at the end."""
    other = plain_engine(engine.url)
    with other.begin() as connection:
        yield connection


def create_old_tables(connection: sa.Connection) -> None:
    for name, labels in SCHEMA["enums"].items():
        connection.exec_driver_sql(f"CREATE TYPE {name} AS ENUM ({', '.join(repr(label) for label in labels)})")
    for table, columns in SCHEMA["tables"].items():
        parts = [
            f"{column['name']} {column['type']}"
            + (f" DEFAULT {column['default']}" if "default" in column else "")
            + ("" if column["nullable"] else " NOT NULL")
            for column in columns
        ]
        connection.exec_driver_sql(f"CREATE TABLE {table} ({', '.join(parts)}, PRIMARY KEY (id))")
    for constraint in SCHEMA["constraints"]:
        connection.exec_driver_sql(
            f"ALTER TABLE {constraint['table']} ADD CONSTRAINT {constraint['constraint']} {constraint['definition']}"
        )


def alembic_config(connection: sa.Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    return config


def upgrade(engine: sa.Engine, revision: str = "head", *, overhaul_stopped: bool = False) -> None:
    with engine.connect() as connection:
        config = alembic_config(connection)
        config.attributes["overhaul-stopped"] = overhaul_stopped
        command.upgrade(config, revision)


def downgrade(engine: sa.Engine, revision: str = "base") -> None:
    with engine.connect() as connection:
        command.downgrade(alembic_config(connection), revision)


def adopt(engine: sa.Engine, **options: Any) -> AdoptionReport:
    return adopt_existing_campaigns(engine, AdoptionOptions(**{"backup": "taken", **options}))


def old_rows(engine: sa.Engine) -> dict[str, dict[str, dict[str, Any]]]:
    """Every value of every old column: table → id → column → value as text."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    with engine.connect() as connection:
        for table, columns in SCHEMA["tables"].items():
            names = [column["name"] for column in columns]
            rows = connection.exec_driver_sql(f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {table}")
            tables[table] = {row[0]: dict(zip(names, row, strict=True)) for row in rows}
    return tables


class OldApplication:
    """Writes what the old application would have written; times are days before now."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def insert(self, table: str, **values: Any) -> uuid.UUID:
        id_ = values.setdefault("id", uuid.uuid4())
        columns = self.column_types(table)
        names = ", ".join(values)
        # Old timestamps are UTC without a time zone.
        places = ", ".join(f"CAST(:{name} AS {columns[name]})" for name in values)
        stored = {
            name: json.dumps(value) if columns[name] == "jsonb" and value is not None else value
            for name, value in values.items()
        }
        self.connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({places})"), stored)
        return uuid.UUID(str(id_))

    def column_types(self, table: str) -> dict[str, str]:
        return {column["name"]: column["type"] for column in SCHEMA["tables"][table]}

    def batch(self, name: str = "batch") -> uuid.UUID:
        return self.insert("lead_batches", name=name)

    def lead(self, address: str | None, **values: Any) -> uuid.UUID:
        values = {"company_name": "Acme", "contact_name": "Ann Lee", "industry": "spa", "source": "csv", **values}
        return self.insert("leads", email=address, **values)

    def leads(self, count: int, prefix: str, **values: Any) -> list[uuid.UUID]:
        return [self.lead(f"{prefix}{number}@example.com", **values) for number in range(count)]

    def template(self, name: str, subject: str = "About {{companyName}}", **values: Any) -> uuid.UUID:
        body = values.pop("body_text", "Hello {{contactName}}")
        return self.insert("email_templates", name=name, subject=subject, body_text=body, **values)

    def workflow(self, texts: Sequence[tuple[str, str, int]], name: str = "flow") -> uuid.UUID:
        """Steps as (subject, body, days after the step before)."""
        workflow_id = self.insert("workflows", name=name, steps_count=len(texts))
        for number, (subject, body, days) in enumerate(texts, 1):
            self.insert(
                "workflow_steps",
                workflow_id=workflow_id,
                step_number=number,
                subject=subject,
                body=body,
                days_after_previous=days,
            )
        return workflow_id

    def campaign(self, name: str = "campaign", **values: Any) -> uuid.UUID:
        return self.insert("campaigns", name=name, **values)

    def email(
        self, campaign_id: uuid.UUID | None, lead_id: uuid.UUID, days_ago: float | None, **values: Any
    ) -> uuid.UUID:
        sent_at = None if days_ago is None else dt.datetime.now(dt.UTC).replace(tzinfo=None) - days_ago * DAY
        values = {"subject": "Hi", "body_text": "Hi", "status": "sent", "sent_at": sent_at, **values}
        return self.insert("emails", campaign_id=campaign_id, lead_id=lead_id, **values)


THREE_STEPS = (
    ("Hello {{companyName}}", "Hi {{contactName}}", 0),
    ("Again, {{company_name}}", "Hi {{ first_name }}", 3),
    ("Last word", "Bye {{contactName}}", 5),
)
