"""The routes that answer from the reader endpoint, where the deployment has one: lists and statistics.

They may be some seconds old there. All other routes use the writer: what is read by its id, what decides, what changes
something. So does the console, which shows a person what they have just done. Only successful answers come from the
reader. After any error, such as a thing that it does not have yet, the writer is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_resources
from route_table import Route

FROM_READER = frozenset(
    {
        "GET /v1/leads",
        "GET /v1/leads/<lead_id>/timeline",
        "GET /v1/lead-batches",
        "GET /v1/segments",
        "GET /v1/segments/<segment_id>/leads",
        "GET /v1/exports",
        "GET /v1/email-templates",
        "GET /v1/workflows",
        "GET /v1/campaigns",
        "GET /v1/campaigns/<campaign_id>/scheduled-emails",
        "GET /v1/campaigns/<campaign_id>/left-out-leads",
        "GET /v1/campaigns/<campaign_id>/stats",
        "GET /v1/campaigns/<campaign_id>/timeline",
        "GET /v1/overview",
        "GET /v1/campaign-progress",
        "GET /v1/scheduled-emails",
        "GET /v1/sender/ticks",
        "GET /v1/audit-log",
        "GET /v1/webhook-endpoints/<endpoint_id>/deliveries",
        "GET /v1/replies",
        "GET /v1/suppressions",
    }
)
MAY_BE_OLD = (
    "Where the deployment has a reader endpoint, the answer may be some seconds old; with `Cache-Control: no-cache` it "
    "is not."
)
"""In the description of each of them."""


class AskWriter(Exception):
    """The reader had no answer."""


def answer(
    request: APIGatewayProxyEventV2, route: Route, resolve: Callable[[], dict[str, Any]], *, fresh: bool
) -> dict[str, Any]:
    """The answer of the route, from the reader if it is one of these; `fresh` if it may not be old."""
    reader = api_resources.reader() if route.name in FROM_READER and not fresh else None
    if reader is not None and reader.is_up and "no-cache" not in request.headers.get("cache-control", "").lower():
        try:
            with api_resources.reading_from(reader):
                return resolve()
        except AskWriter as refused:
            reader.note(refused.__cause__)
    return resolve()
