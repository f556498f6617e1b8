"""Fixtures of the API's tests: the real handler on a fresh database, called with a key of each role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import api_resources
import campaign_api_handler
from sendledger import api_keys
from sendledger.tables import API_KEY_ROLES
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def clients(engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ApiClient]]:
    """A client with a key of each role."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    api_resources.engine.cache_clear()
    api_resources.settings.cache_clear()
    with engine.begin() as connection:
        keys = {role: api_keys.create(connection, role, role).key for role in API_KEY_ROLES}
    yield {role: ApiClient(campaign_api_handler.lambda_handler, key) for role, key in keys.items()}
    api_resources.engine().dispose()
    api_resources.engine.cache_clear()


@pytest.fixture
def api(clients: dict[str, ApiClient]) -> ApiClient:
    """A client that may do everything."""
    return clients["admin"]
