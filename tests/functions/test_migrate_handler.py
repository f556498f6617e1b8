"""The Lambda that migrates, against a real database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from pydantic import ValidationError

import migrate_handler
from local.postgres import Postgres
from sendledger.access import api_keys
from sendledger.core.settings import DatabaseSettings
from testbed.databases import MIGRATIONS, admin

HEAD = ScriptDirectory(str(MIGRATIONS)).get_current_head()


@pytest.fixture
def empty_database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"test_{os.urandom(6).hex()}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    monkeypatch.setenv("DATABASE_URL", postgres.url(name))
    yield name
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def invoke(event: dict[str, Any] | None) -> dict[str, Any]:
    return migrate_handler.lambda_handler(event, SimpleNamespace())  # type: ignore[arg-type]


def test_empty_event_upgrades_to_the_newest_revision(empty_database: str) -> None:
    assert invoke({"action": "current"}) == {"revision": None, "missing_users": []}
    assert invoke({}) == {"revision": HEAD}
    assert invoke({"action": "upgrade"}) == {"revision": HEAD}
    assert invoke({"action": "current"}) == {"revision": HEAD, "missing_users": []}


def test_scripts_may_be_in_a_folder_of_any_name(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "100%41 %(here)s % o'neill"
    odd.symlink_to(MIGRATIONS)
    monkeypatch.setattr(migrate_handler, "HERE", str(odd))
    assert invoke({}) == {"revision": HEAD}


def test_created_key_opens_the_api_and_is_audited(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    created = invoke({"action": "create_api_key", "name": "ci", "role": "viewer"})
    with engine.begin() as connection:
        found = api_keys.authenticate(connection, created["key"])
        assert found is not None
        assert (str(found.id), found.name, found.role) == (created["id"], "ci", "viewer")
        assert connection.execute(sa.text("SELECT actor, action, entity_id FROM audit_log")).one() == (
            "migrate_function",
            "api_key.create",
            created["id"],
        )


def test_first_key_is_made_only_where_the_database_has_none(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    event = {"action": "create_api_key", "name": "first key", "role": "admin", "only_first": True}
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM api_keys"))
    assert invoke(event)["key"].startswith("sl_")
    assert invoke(event) == {"key": None}
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE api_keys SET revoked_at = now()"))
    assert invoke(event) == {"key": None}


@pytest.mark.parametrize(
    "event",
    [{"action": "downgrade"}, {"action": "create_api_key", "name": "x"}, {"action": "create_api_key", "role": "king"}],
)
def test_unknown_action_or_role_is_refused(empty_database: str, event: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        invoke(event)


def test_administrator_without_a_password_logs_in_by_a_token() -> None:
    host = {"DATABASE_HOST": "db.example.com", "DATABASE_SECRET_ARN": "arn:owner", "DATABASE_USER": "sendledger"}
    settings = migrate_handler._as_user(DatabaseSettings.read(host), "sendledger_admin", None)
    assert (settings.database_user, settings.database_iam_auth, settings.database_url) == (
        "sendledger_admin",
        True,
        None,
    )
