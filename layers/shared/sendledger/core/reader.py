"""The reader endpoint: a replica of the database, where lists and statistics may be read some seconds late.

It is an option. Nothing that decides is read there: no claim, no check before a start, no sign-in, no single thing by
its id. Where it does not answer, the writer is asked. Its sessions are read-only, also where the endpoint leads to the
writer, as that of an Aurora cluster with one instance does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger

from sendledger.core import database
from sendledger.core.errors import SettingsError
from sendledger.core.settings import DatabaseSettings

AWAY_SECONDS = 30.0
"""How long the writer is asked after the reader has not answered. To wait for it takes seconds."""

Found = TypeVar("Found")

logger = Logger(child=True)


class Reader:
    """The connections of this process to the reader endpoint."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """`settings` are those of the reader: `DatabaseSettings.of_reader`."""
        self.engine = database.engine(settings, read_only=True)
        self._away_until = float("-inf")

    @classmethod
    def of(cls, settings: DatabaseSettings) -> Self | None:
        """The reader that belongs to the writer of these settings; None where there is none."""
        of_reader = settings.of_reader()
        return cls(of_reader) if of_reader is not None else None

    @property
    def is_up(self) -> bool:
        """Whether it is worth asking."""
        return time.monotonic() >= self._away_until

    def note(self, error: BaseException | None) -> None:
        """Something that was read there has failed. The caller asks the writer."""
        of_database = error if isinstance(error, sa.exc.DBAPIError) else None
        # A query may be cancelled because of what the writer has changed meanwhile (40001). The next one need not be.
        # https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
        is_away = isinstance(error, OSError | SettingsError | sa.exc.TimeoutError) or (
            of_database is not None
            and database.is_transient(of_database)
            and not database.sqlstate(of_database).startswith("40")
        )
        if is_away:
            self._away_until = time.monotonic() + AWAY_SECONDS
            logger.warning(
                "The reader endpoint does not answer; the writer is asked",
                extra={"sqlstate": of_database and database.sqlstate(of_database), "error": type(error).__qualname__},
            )


class Source:
    """Where one long read takes its pages from: one connection to the reader, and the writer once that has failed.

    Never the reader after the writer: it might not have yet what was seen. Several replicas may be behind the endpoint,
    so it is always the same connection. Use it as a context manager.
    """

    def __init__(self, writer: sa.Engine, reader: Reader | None) -> None:
        self._writer = writer
        self._reader = reader if reader is not None and reader.is_up else None
        self._connection: sa.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.take_writer()

    def read(self, work: Callable[[sa.Connection], Found]) -> Found:
        """What `work` reads, in a transaction of its own. It may be called twice."""
        if self._reader is not None:
            try:
                if self._connection is None:
                    self._connection = self._reader.engine.connect()
                with self._connection.begin():
                    return work(self._connection)
            except (sa.exc.SQLAlchemyError, OSError, SettingsError) as error:
                self._reader.note(error)
                self.take_writer()
        with self._writer.begin() as connection:
            return work(connection)

    def take_writer(self) -> None:
        """From now on read from the writer."""
        self._reader = None
        if self._connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                self._connection.close()
            self._connection = None
