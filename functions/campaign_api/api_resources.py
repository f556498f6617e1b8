"""Resources of the routes, created at first use and kept by the process: database, settings, AWS clients."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sendledger.core import database
from sendledger.core.reader import Reader
from sendledger.core.settings import ApiSettings, DatabaseSettings, FileSettings, TokenSettings

if TYPE_CHECKING:
    from sendledger.files.file_bucket import FileBucket

DAYS_FILES_ARE_KEPT = 7
"""Set by the lifecycle rule of the bucket in template.yaml."""


@functools.cache
def engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def reader() -> Reader | None:
    return Reader.of(DatabaseSettings.read())


@functools.cache
def settings() -> ApiSettings:
    return ApiSettings.read()


@functools.cache
def token_settings() -> TokenSettings:
    return TokenSettings.read()


_reader_of_request: ContextVar[Reader | None] = ContextVar("reader_of_request", default=None)


def transaction() -> AbstractContextManager[sa.Connection]:
    """One transaction: committed at the end of the block, rolled back when an error leaves it."""
    from_reader = _reader_of_request.get()
    return (from_reader.engine if from_reader is not None else engine()).begin()


@contextmanager
def reading_from(source: Reader) -> Iterator[None]:
    """Within the block, transactions are those of the reader, which are read-only."""
    token = _reader_of_request.set(source)
    try:
        yield
    finally:
        _reader_of_request.reset(token)


def reads_from_reader() -> bool:
    return _reader_of_request.get() is not None


@functools.cache
def file_settings() -> FileSettings:
    return FileSettings.read()


@functools.cache
def file_bucket() -> FileBucket:
    # Imported here: botocore would double the time of every cold start, and few requests need it.
    from sendledger.files.file_bucket import FileBucket

    return FileBucket(file_settings().file_bucket)


def download_url(
    key: str | None, file_name: str, written_at: dt.datetime | None, seconds: int
) -> tuple[str | None, dt.datetime | None]:
    """A URL for a file of the bucket and when it expires; both None where there is no file, or none any more."""
    now = dt.datetime.now(dt.UTC)
    if key is None or written_at is None or now - written_at > dt.timedelta(days=DAYS_FILES_ARE_KEPT):
        return None, None
    return file_bucket().download_url(key, file_name, seconds), now + dt.timedelta(seconds=seconds)


@functools.cache
def sending_ses_client() -> Any:
    """For test emails. No retries, because a retry could send twice."""
    from sendledger.ses.client import ses_client as client_that_sends  # for cold starts: botocore

    return client_that_sends()


@functools.cache
def ses_client() -> Any:
    """For the preflight. Short timeouts, because a person is waiting."""
    import botocore.session  # for cold starts
    from botocore.config import Config

    patience = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2, "mode": "standard"})
    return botocore.session.get_session().create_client("sesv2", config=patience)
