"""The Lambda that brings the database to the schema of this deployment, and creates its users and the first API key.

In: {"action": "upgrade", "newer_is_fine": …}, which is also what an empty event means, {"action": "current"},
{"action": "create_roles", "admin_user": …, "admin_password": …} (without a password by a token of IAM),
{"action": "create_api_key", "name": …, "role": …, "only_first": …} or {"action": "migrate_existing_campaigns",
"dry_run": …, "backup_taken": …, "snapshot": …, "reopen_incomplete": …}. Out: the revision of the schema (and with
"current" the users that are missing), the key, which is shown once, or the report of what was taken over.
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
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter
from sqlalchemy.engine import URL, make_url

import database_roles
from sendledger.access import api_keys
from sendledger.adoption.campaign import AdoptionOptions
from sendledger.adoption.run import adopt_existing_campaigns, refuse_other_schema
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, MigrateSettings, at_cold_start
from sendledger.core.vocabulary import Role

ACTOR = "migrate_function"
"""The actor in the audit log. CloudTrail has the person who invoked the function."""


class LoginRefused(Exception):
    """The database does not take this user's login. A new user's IAM login works after a minute or so."""


class _Event(BaseModel):
    # EventBridge, the console and the like may add their own.
    model_config = ConfigDict(extra="ignore")


class _Upgrade(_Event):
    action: Literal["upgrade", "current"] = "upgrade"
    # An older version that comes back works with the schema of the newer one; see docs/operations/upgrade.md.
    newer_is_fine: bool = False
    # Confirms that the old application is stopped. Required if its campaign overhaul's tables are moved aside.
    overhaul_stopped: bool = False


class _CreateRoles(_Event):
    action: Literal["create_roles"]
    admin_user: Annotated[str, Field(min_length=1)]
    admin_password: Annotated[SecretStr, Field(min_length=1)] | None = None


class _CreateApiKey(_Event):
    action: Literal["create_api_key"]
    name: Annotated[str, Field(min_length=1, max_length=255)]
    role: Role
    expires_at: AwareDatetime | None = None
    # True: if the database has a key, revoked or not, no key is created and the answer is null.
    only_first: bool = False


class _MigrateExistingCampaigns(_Event):
    action: Literal["migrate_existing_campaigns"]
    dry_run: bool = False
    backup_taken: bool = False
    # The id of the snapshot to go back to.
    snapshot: Annotated[str, Field(min_length=1)] | None = None
    # True for every campaign that was completed too early, or the ids of some.
    reopen_incomplete: bool | list[UUID] = False


_Wanted = _Upgrade | _CreateRoles | _CreateApiKey | _MigrateExistingCampaigns
# An error with its input would contain the administrator's password.
_EVENT: TypeAdapter[_Wanted] = TypeAdapter(_Wanted, config=ConfigDict(hide_input_in_errors=True))
HERE = str(Path(__file__).parent)
LONGEST_STATEMENT = 840.0
"""Seconds. The function has 870, and an index on a large table needs them."""
TIME_TO_END_MS = 120_000
"""Seconds before the timeout after which no further campaign is begun."""

at_cold_start(DatabaseSettings.read, MigrateSettings.read)


def lambda_handler(event: dict[str, Any] | None, context: LambdaContext) -> dict[str, Any]:
    """Each migration is a transaction: one that fails leaves the schema at the revision before it.

    Raises:
        ValidationError: the event is none of those above.
        LoginRefused
    """
    wanted = _EVENT.validate_python(event or {})
    try:
        return _answer(wanted, DatabaseSettings.read(), context)
    except sa.exc.DBAPIError as error:
        if database.sqlstate(error).startswith("28"):
            raise LoginRefused(f"The database has refused the login: {database.server_message(error)}") from error
        raise


def _answer(wanted: _Wanted, settings: DatabaseSettings, context: LambdaContext) -> dict[str, Any]:
    if isinstance(wanted, _CreateRoles):
        return _create_roles(settings, wanted)
    engine = database.engine(settings, longest_statement=LONGEST_STATEMENT)
    try:
        if isinstance(wanted, _CreateApiKey):
            return _create_api_key(engine, wanted)
        if isinstance(wanted, _MigrateExistingCampaigns):
            return _migrate_existing_campaigns(engine, wanted, context)
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            connection.rollback()
            if wanted.action == "current":
                prefix = MigrateSettings.read().database_user_prefix
                missing = database_roles.missing_users(connection, prefix) if prefix is not None else []
                return {"revision": revision, "missing_users": missing}
            known = {script.revision for script in ScriptDirectory(HERE).walk_revisions()}
            if wanted.newer_is_fine and revision is not None and revision not in known:
                return {"revision": revision, "newer": True}
            return _upgrade(connection, overhaul_stopped=wanted.overhaul_stopped)
    finally:
        engine.dispose()


def _upgrade(connection: sa.Connection, *, overhaul_stopped: bool) -> dict[str, Any]:
    config = Config(attributes={"connection": connection, "overhaul-stopped": overhaul_stopped})
    # Alembic reads a single % as the beginning of a variable.
    config.set_main_option("script_location", HERE.replace("%", "%%"))
    command.upgrade(config, "head")
    prefix = MigrateSettings.read().database_user_prefix
    if prefix is not None:
        connection.commit()  # Alembic leaves a transaction open if there was nothing to upgrade
        # After each upgrade: they may need a new table or column.
        with connection.begin():
            database_roles.grant(connection, prefix)
    return {"revision": MigrationContext.configure(connection).get_current_revision()}


def _create_roles(settings: DatabaseSettings, wanted: _CreateRoles) -> dict[str, Any]:
    """Log in as the administrator and create the users. The owner's password, if it has one, is in its secret."""
    owner, password = settings.database_user, None
    if not settings.database_iam_auth and settings.database_secret_arn:
        login = database.read_secret(settings.database_secret_arn)
        owner, password = login["user"], login["password"]
    # With DatabaseUsers=one too, which may change: once they are made, RDS refuses the administrator's password.
    prefix = MigrateSettings.read().database_user_prefix or owner
    admin_password = wanted.admin_password.get_secret_value() if wanted.admin_password is not None else None
    engine = database.engine(_as_user(settings, wanted.admin_user, admin_password))
    try:
        with engine.begin() as connection:
            database_roles.create_roles(connection, owner, password, prefix)
    finally:
        engine.dispose()
    return {"roles": [owner, *database_roles.users(prefix).values()]}


def _as_user(settings: DatabaseSettings, user: str, password: str | None) -> DatabaseSettings:
    if settings.database_url:
        url = make_url(settings.database_url)
    elif password is None:
        return settings.model_copy(update={"database_user": user, "database_iam_auth": True})
    else:
        url = URL.create(
            "postgresql", host=settings.database_host, port=settings.database_port, database=settings.database_name
        )
    login = url.set(username=user, password=password)
    return settings.model_copy(update={"database_url": login.render_as_string(hide_password=False)})


def _create_api_key(engine: sa.Engine, wanted: _CreateApiKey) -> dict[str, Any]:
    with engine.begin() as connection:
        if wanted.only_first and api_keys.exist(connection):
            return {"key": None}
        created = api_keys.create(connection, wanted.name, wanted.role, wanted.expires_at, actor=ACTOR)
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
