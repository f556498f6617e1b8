"""Routes about the API itself: whether it is up, its OpenAPI document, and that document to read and try out."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel

import api_resources

router = APIGatewayHttpRouter()


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get(
    "/v1/health",
    operation_id="get_health",
    summary="Is the API up?",
    description="Needs no key. It answers 503 while the database cannot be reached.",
    response_description="The API and its database answer.",
    tags=["About"],
)
def get_health() -> Health:
    with api_resources.transaction() as connection:
        connection.execute(sa.select(1))
    return Health()


@router.get("/v1/openapi.json", include_in_schema=False)
def get_openapi() -> Response[str]:
    # Only here: the routes that do the work need none of what describes them.
    import api_document

    return Response(200, "application/json", api_document.as_json())


@router.get("/v1/docs", include_in_schema=False)
def get_docs() -> Response[str]:
    import api_document

    return Response(200, "text/html; charset=utf-8", api_document.as_page())
