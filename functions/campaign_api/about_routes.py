"""Routes about the API itself: whether it is up, its OpenAPI document, and that document to read and try out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal, cast

import sqlalchemy as sa
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BaseModel

import api_access
import api_resources
from http_errors import Problem, RequestRefused
from lazy_api import LazyApi
from sendledger.core.tables import SCHEMA_REVISION, has_these_tables

router = APIGatewayHttpRouter()


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get(
    "/v1/health",
    operation_id="get_health",
    summary="Is the API up?",
    description="Needs no key, and does not use the database: its connections are not for unknown callers.",
    response_description="The API answers.",
    tags=["About"],
)
def get_health() -> Health:
    return Health()


@router.get(
    "/v1/readiness",
    operation_id="get_readiness",
    summary="Can the API work?",
    description="503 while the database cannot be reached, or does not have the schema of this version.",
    response_description="The API and its database answer, and the schema is the one that it needs.",
    tags=["About"],
)
def get_readiness() -> Health:
    with api_resources.transaction() as connection:
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    # A newer one is fine: a schema works with the version before it.
    if not has_these_tables(revision):
        raise RequestRefused(
            Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "schema_outdated",
                "The database does not have the schema of this version yet.",
                data={"revision": revision, "needed": SCHEMA_REVISION},
            )
        )
    return Health()


@router.get("/v1/openapi.json", include_in_schema=False)
def get_openapi() -> Response[str]:
    import api_document  # for cold starts: the other routes need none of it

    return Response(200, "application/json", api_document.as_json(_app()))


@router.get("/v1/docs", include_in_schema=False)
def get_docs() -> Response[str]:
    import api_document  # as above

    authorization = router.current_event.headers.get("authorization", "")
    page, policy = api_document.as_page(_app(), api_access.password(authorization))
    return Response(200, "text/html; charset=utf-8", page, {"Content-Security-Policy": policy})


def _app() -> LazyApi:
    """What this router is a part of."""
    return cast(LazyApi, router.api_resolver)
