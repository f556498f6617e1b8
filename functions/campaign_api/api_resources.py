"""What the routes work with, made at first use and kept while the Lambda lives: the database and the settings."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from sendledger import database
from sendledger.settings import ApiSettings, DatabaseSettings


@functools.cache
def engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


@functools.cache
def settings() -> ApiSettings:
    return ApiSettings.read()


def transaction() -> AbstractContextManager[sa.Connection]:
    """One transaction: committed at the end of the block, rolled back when an error leaves it."""
    return engine().begin()


@functools.cache
def ses_client() -> Any:
    """For the preflight only, as it takes long to make. It gives up after a few seconds: somebody is waiting."""
    import botocore.session
    from botocore.config import Config

    patience = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2, "mode": "standard"})
    return botocore.session.get_session().create_client("sesv2", config=patience)
