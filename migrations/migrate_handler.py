"""The Lambda that brings the database to the schema of this deployment, and creates the first API key.

In: {"action": "upgrade"}, which is also what an empty event means, {"action": "current"},
{"action": "create_api_key", "name": …, "role": …} or {"action": "migrate_existing_campaigns", "dry_run": …,
"backup_taken": …, "snapshot": …, "reopen_incomplete": …}. Out: the revision of the schema, the key, which is shown
once, or the report of what was taken over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from sendledger import api_keys, audit_log, database
from sendledger.adopt_campaigns import adopt_existing_campaigns, refuse_other_schema
from sendledger.adopt_one_campaign import AdoptionOptions
from sendledger.settings import DatabaseSettings

ACTOR = "migrate_function"
"""Whoever may invoke the function; CloudTrail knows who that was."""


class _Event(BaseModel):
    # EventBridge, the console and the like may add their own.
    model_config = ConfigDict(extra="ignore")


class _Upgrade(_Event):
    action: Literal["upgrade", "current"] = "upgrade"


class _CreateApiKey(_Event):
    action: Literal["create_api_key"]
    name: Annotated[str, Field(min_length=1, max_length=255)]
    role: Literal["viewer", "editor", "sender", "admin"]
    expires_at: AwareDatetime | None = None


class _MigrateExistingCampaigns(_Event):
    action: Literal["migrate_existing_campaigns"]
    dry_run: bool = False
    backup_taken: bool = False
    # The id of the snapshot to go back to.
    snapshot: Annotated[str, Field(min_length=1)] | None = None
    # True for every campaign that was completed too early, or the ids of some.
    reopen_incomplete: bool | list[UUID] = False


_EVENT: TypeAdapter[_Upgrade | _CreateApiKey | _MigrateExistingCampaigns] = TypeAdapter(
    _Upgrade | _CreateApiKey | _MigrateExistingCampaigns
)
HERE = str(Path(__file__).parent)
LONGEST_STATEMENT = 840.0
"""Seconds. The function has 900, and an index on a large table needs them."""
TIME_TO_END_MS = 120_000
"""What is left when the next campaign is no longer begun."""


def lambda_handler(event: dict[str, Any] | None, context: LambdaContext) -> dict[str, Any]:
    """Each migration is a transaction: one that fails leaves the schema at the revision before it.

    Raises:
        ValidationError: the event is none of those above.
    """
    wanted = _EVENT.validate_python(event or {})
    engine = database.engine(DatabaseSettings.read(), longest_statement=LONGEST_STATEMENT)
    try:
        if isinstance(wanted, _CreateApiKey):
            return _create_api_key(engine, wanted)
        if isinstance(wanted, _MigrateExistingCampaigns):
            return _migrate_existing_campaigns(engine, wanted, context)
        with engine.connect() as connection:
            if wanted.action == "upgrade":
                config = Config(attributes={"connection": connection})
                config.set_main_option("script_location", HERE)
                command.upgrade(config, "head")
            return {"revision": MigrationContext.configure(connection).get_current_revision()}
    finally:
        engine.dispose()


def _create_api_key(engine: sa.Engine, wanted: _CreateApiKey) -> dict[str, Any]:
    with engine.begin() as connection:
        created = api_keys.create(connection, wanted.name, wanted.role, wanted.expires_at)
        audit_log.record(connection, ACTOR, "api_key.create", "api_key", created.id, {"role": wanted.role})
    return {"id": str(created.id), "name": created.name, "role": created.role, "key": created.key}


def _migrate_existing_campaigns(
    engine: sa.Engine, wanted: _MigrateExistingCampaigns, context: LambdaContext
) -> dict[str, Any]:
    with engine.connect() as connection:
        refuse_other_schema(connection, ScriptDirectory(HERE).get_current_head())
    options = AdoptionOptions(
        dry_run=wanted.dry_run,
        backup=wanted.snapshot or ("taken" if wanted.backup_taken else None),
        reopen=wanted.reopen_incomplete,
    )
    report = adopt_existing_campaigns(
        engine, options, time_is_up=lambda: context.get_remaining_time_in_millis() < TIME_TO_END_MS
    )
    return report.as_dict()
