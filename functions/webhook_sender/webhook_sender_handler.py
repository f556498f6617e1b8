"""The Lambda that posts webhooks, every minute and when the API tells it. It runs outside of the VPC.

It asks WebhookExchangeFunction for deliveries that are signed already, and tells it what became of them. It has no way
to the database, and no secret. What the event says does not matter.
"""

from __future__ import annotations

import time
from typing import Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from sendledger.core.invoke_function import ask_function
from sendledger.core.settings import WebhookSenderSettings, at_cold_start
from sendledger.webhooks.deliver import deliver_all

SPARE_SECONDS = 5.0

logger = Logger()

at_cold_start(WebhookSenderSettings.read)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    settings = WebhookSenderSettings.read()
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - SPARE_SECONDS
    counts = deliver_all(
        lambda asked: ask_function(settings.webhook_exchange_function_name, asked),
        deadline,
        any_target=settings.webhook_targets == "any",
    )
    logger.info("Webhooks done", extra=counts)
    return counts
