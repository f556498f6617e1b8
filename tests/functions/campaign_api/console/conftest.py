"""Fixtures of the console's tests: a browser with a session of each role, on the real handler and a real database."""

from __future__ import annotations

import pytest

from sendledger.core.vocabulary import Role
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def browsers(clients: dict[str, ApiClient]) -> dict[str, Browser]:
    """A browser for each role, not signed in."""
    return {role: Browser(clients[role].handler, clients[role].key or "") for role in Role}


@pytest.fixture
def browser(browsers: dict[str, Browser]) -> Browser:
    """One that is signed in and may do everything."""
    browsers["admin"].sign_in()
    return browsers["admin"]
