"""What the routes work with, made at first use and kept while the Lambda lives: the database and the settings."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

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
