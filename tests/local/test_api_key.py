"""`make api-key`."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from local import api_key
from sendledger.access import api_keys
from sendledger.core import tables


def run(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: str) -> int:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setattr("sys.argv", ["api_key", *arguments])
    return api_key.main()


def test_the_printed_key_is_valid_and_has_name_and_role(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_url: str, engine: sa.Engine
) -> None:
    assert run(monkeypatch, database_url, "--name", "ci", "--role", "viewer") == 0
    with engine.begin() as connection:
        found = api_keys.authenticate(connection, capsys.readouterr().out.strip())
    assert found is not None
    assert (found.name, found.role) == ("ci", "viewer")


def test_a_key_may_be_valid_for_some_days_only(
    monkeypatch: pytest.MonkeyPatch, database_url: str, engine: sa.Engine
) -> None:
    assert run(monkeypatch, database_url, "--days", "7") == 0
    with engine.begin() as connection:
        expires_at = connection.execute(sa.select(tables.api_keys.c.expires_at)).scalar_one()
    assert dt.timedelta(days=6) < expires_at - dt.datetime.now(dt.UTC) <= dt.timedelta(days=7)


def test_a_database_that_is_not_migrated_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: sa.Engine, database_url: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE api_keys CASCADE"))
    assert run(monkeypatch, database_url) == 1
    assert "is it migrated?" in capsys.readouterr().err


def test_a_bad_url_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "mysql://localhost/x") == 1
    assert "DATABASE_URL" in capsys.readouterr().err
