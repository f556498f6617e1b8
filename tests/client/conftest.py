"""One local stack for each module: the client and the command line talk to the real API over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.access import api_keys
from sendledger_client import Sendledger
from sendledger_client.commands.app import main
from testbed.databases import admin, plain_engine

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


class Running(NamedTuple):
    """A stack and the key of an admin."""

    stack: LocalStack
    key: str


@pytest.fixture(scope="module")
def running(postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    name = f"client_{os.urandom(6).hex()}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template_database}"))
    url = postgres.url(name)
    with plain_engine(url).begin() as connection:
        key = api_keys.create(connection, "client", "admin").key
    log = tmp_path_factory.mktemp("stack") / "functions.log"
    with (
        SesSimulator(rate=None, daily_quota=-1) as ses,
        log.open("ab") as opened,
        LocalStack(TEMPLATE, database_url=url, ses_url=ses.url, log=opened) as stack,
    ):
        yield Running(stack, key)
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def api(running: Running) -> Iterator[Sendledger]:
    with Sendledger(running.stack.url, running.key) as client:
        yield client


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `sendledger` with these arguments, as a user with an empty home folder and the key in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("SENDLEDGER_URL", running.stack.url)
    monkeypatch.setenv("SENDLEDGER_API_KEY", running.key)

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["sendledger", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return command
