"""Asks the API for a page: a method, a path and a body go in, the API's answer comes out.

The API gets an event as API Gateway would send it, and knows the caller from the session.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from route_table import MINIMUM_ROLE
from sendledger.access.callers import Caller

MOST_IDS = 200
"""In one request: that of `api_fields`."""
AskApi = Callable[[APIGatewayProxyEventV2, Caller], dict[str, Any]]


class ApiRefused(Exception):
    """The API has answered with a problem."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.problem = problem

    @property
    def status(self) -> int:
        return int(self.problem["status"])


@dataclass(frozen=True)
class Api:
    """The API, as the caller of this session may use it."""

    caller: Caller
    _page_event: Mapping[str, Any]
    _ask: AskApi

    def may(self, route: str) -> bool:
        """Whether the caller's role may use a route. The console does not offer what would be refused."""
        role = MINIMUM_ROLE[route]
        return role is None or self.caller.may(role)

    def get(self, path: str, **query: object) -> Any:
        """Raises:
        ApiRefused
        """
        return self.request("GET", path, query)

    def find(self, path: str, id_: str | None) -> Any | None:
        """The one of a list with this id; None where there is none, or the id is not one."""
        try:
            return self.get(f"{path}/{UUID(id_ or '')}")
        except (ValueError, ApiRefused):
            return None

    def by_id(self, path: str, ids: Iterable[str | None]) -> dict[str, Any]:
        """Those of a list with these ids, by their id. What is not there any more is left out."""
        wanted = sorted({each for each in ids if each})
        found: dict[str, Any] = {}
        for start in range(0, len(wanted), MOST_IDS):
            part = wanted[start : start + MOST_IDS]
            found |= {each["id"]: each for each in self.get(path, ids=",".join(part), limit=len(part))["items"]}
        return found

    def post(self, path: str, body: object = None, idempotency_key: str = "", **query: object) -> Any:
        """Raises:
        ApiRefused
        """
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        return self.request("POST", path, query, json.dumps(body or {}), headers)

    def patch(self, path: str, body: object) -> Any:
        """Raises:
        ApiRefused
        """
        return self.request("PATCH", path, {}, json.dumps(body))

    def delete(self, path: str, **query: object) -> None:
        """Raises:
        ApiRefused
        """
        self.request("DELETE", path, query)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_base64: bool = False,
    ) -> Any:
        """The JSON of the answer, None where it has none. Of the query, what is None is left out."""
        given = {name: str(value) for name, value in query.items() if value is not None and value != ""}
        context = {name: value for name, value in self._page_event["requestContext"].items() if name != "authorizer"}
        event: dict[str, Any] = {
            **{name: self._page_event[name] for name in ("version", "routeKey")},
            "rawPath": path,
            "rawQueryString": urlencode(given, errors="replace"),
            "queryStringParameters": given,
            "headers": {"content-type": "application/json", **(headers or {})} if body is not None else {},
            "requestContext": {**context, "http": {**context["http"], "method": method, "path": path}},
            "isBase64Encoded": is_base64,
        }
        if body is not None:
            event["body"] = body
        answer = self._ask(APIGatewayProxyEventV2(event), self.caller)
        found: Any = json.loads(answer["body"]) if answer.get("body") else None
        if answer["statusCode"] >= 400:
            raise ApiRefused(found)
        return found
