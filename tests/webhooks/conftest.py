"""Endpoints, and the two halves of delivering: the inner one as its database user, the outer one over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.webhooks import endpoints
from sendledger.webhooks.deliver import SPARE_SECONDS, deliver_all
from sendledger.webhooks.exchange import exchange
from testbed.databases import working_as
from testbed.webhook_receiver import WebhookReceiver


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@pytest.fixture
def inside(engine: sa.Engine) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """The inner half, with the rights of its function."""
    with working_as("webhooks", engine, pool_size=4) as own:
        yield lambda asked: exchange(own, asked)


@pytest.fixture
def deliver(inside: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[], dict[str, int]]:
    """Deliver all that is due, as one run of the outer function does."""
    return lambda: deliver_all(inside, time.monotonic() + SPARE_SECONDS + 30, any_target=True)


@pytest.fixture
def make_endpoint(engine: sa.Engine) -> Callable[..., sa.RowMapping]:
    def make(url: str, *event_types: str, **values: Any) -> sa.RowMapping:
        with engine.begin() as connection:
            wanted = {"url": url, "event_types": list(event_types), **values}
            return endpoints.create(connection, wanted, "ann", any_target=True)

    return make
