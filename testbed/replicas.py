"""A PostgreSQL with a replica that follows it by streaming replication, as behind the reader endpoint of RDS."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from local.postgres import Postgres
from testbed.databases import admin, let_functions_work, migrate, plain_engine, wait_until


@dataclass(frozen=True)
class Replicated:
    writer: Postgres
    replica: Postgres

    def pause(self) -> None:
        """What is committed from now on is not seen on the replica."""
        self.catch_up()
        with admin(self.replica) as connection:
            connection.execute(sa.text("SELECT pg_wal_replay_pause()"))
        wait_until(plain_engine(self.replica.url()), "pg_get_wal_replay_pause_state() = 'paused'")

    def catch_up(self) -> None:
        """Replay what is committed now."""
        with admin(self.writer) as connection:
            written = connection.scalar(sa.text("SELECT pg_current_wal_lsn()::text"))
        with admin(self.replica) as connection:
            connection.execute(sa.text("SELECT pg_wal_replay_resume()"))
        wait_until(plain_engine(self.replica.url()), "pg_last_wal_replay_lsn() >= CAST(:lsn AS pg_lsn)", lsn=written)


@contextmanager
def replicated() -> Iterator[Replicated]:
    """A migrated database `postgres` with the functions' users, and its replica."""
    with tempfile.TemporaryDirectory(prefix="sl-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        writer = Postgres(folder / "writer")
        migrate(writer.url())
        let_functions_work(writer.url())
        # A copy of the stopped server needs no backup.
        writer.stop()
        shutil.copytree(folder / "writer", folder / "replica")
        owner = (folder / "writer").stat()
        for path in (folder / "replica", *(folder / "replica").rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        writer = Postgres(folder / "writer")
        socket = Path(str(make_url(writer.url()).query["unix_sock"]))
        with (folder / "replica" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = 'host={socket.parent} user=postgres'\n")
        (folder / "replica" / "standby.signal").touch()
        replica = Postgres(folder / "replica")
        yield Replicated(writer, replica)
        replica.stop()
        writer.stop()
