"""The Lambda that brings the database to the schema of this deployment, and creates the first API key.

In: {"action": "upgrade"}, which is also what an empty event means, {"action": "current"} or
{"action": "create_api_key", "name": …, "role": …}. Out: the revision of the schema, or the key, which is shown once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from sendledger import api_keys, audit_log, database
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


_EVENT: TypeAdapter[_Upgrade | _CreateApiKey] = TypeAdapter(_Upgrade | _CreateApiKey)


def lambda_handler(event: dict[str, Any] | None, context: LambdaContext) -> dict[str, Any]:
    """Each migration is a transaction: one that fails leaves the schema at the revision before it.

    Raises:
        ValidationError: the event is none of those above.
    """
    wanted = _EVENT.validate_python(event or {})
    engine = database.engine(DatabaseSettings.read())
    try:
        if isinstance(wanted, _CreateApiKey):
            return _create_api_key(engine, wanted)
        with engine.connect() as connection:
            if wanted.action == "upgrade":
                config = Config(attributes={"connection": connection})
                config.set_main_option("script_location", str(Path(__file__).parent))
                command.upgrade(config, "head")
            return {"revision": MigrationContext.configure(connection).get_current_revision()}
    finally:
        engine.dispose()


def _create_api_key(engine: sa.Engine, wanted: _CreateApiKey) -> dict[str, Any]:
    with engine.begin() as connection:
        created = api_keys.create(connection, wanted.name, wanted.role, wanted.expires_at)
        audit_log.record(connection, ACTOR, "api_key.create", "api_key", created.id, {"role": wanted.role})
    return {"id": str(created.id), "name": created.name, "role": created.role, "key": created.key}
