"""The Lambda beside the database that hands out signed webhook deliveries and records what became of them.

Only WebhookSenderFunction invokes it; sendledger/webhooks/exchange.py says what goes in and out.
"""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, at_cold_start
from sendledger.webhooks.exchange import exchange

logger = Logger()


@functools.cache
def _engine() -> sa.Engine:
    return database.engine(DatabaseSettings.read())


at_cold_start(_engine)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return exchange(_engine(), event)
