"""Calls the API Lambda with the events that API Gateway would send (payload format 2.0)."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

ROUNDING_ERROR = re.compile(r"(?<![\w.])[0-9]+\.[0-9]{7}")
"""A number as 13.299999999999999, which is 13.3; a token such as k1.0123456789 is none."""

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.body or "null")

    @property
    def fields(self) -> list[str]:
        """The fields that a problem names."""
        return [error["field"] for error in self.json.get("errors", [])]


@dataclass(frozen=True)
class ApiClient:
    """`key` is sent as the bearer token; None sends none."""

    handler: Handler
    key: str | None

    def get(self, path: str, **query: object) -> Answer:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: object = None) -> Answer:
        return self.request("POST", path, body=body)

    def patch(self, path: str, body: object) -> Answer:
        return self.request("PATCH", path, body=body)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send `body` as it is if it is text or bytes, else as JSON; `headers` go over those that belong to it."""
        sent = {"host": "api.example.com"}
        if self.key is not None:
            sent["authorization"] = f"Bearer {self.key}"
        if body is not None:
            sent["content-type"] = "application/json"
            if not isinstance(body, str | bytes):
                body = json.dumps(body)
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        answered = self.handler(_event(method, path, query or {}, sent, body), SimpleNamespace())
        # As Lambda does: what cannot be written as JSON fails here and not in production.
        answer = json.loads(json.dumps(answered))
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        if "json" in headers.get("content-type", ""):
            assert not ROUNDING_ERROR.search(answer["body"] or ""), "a number is not rounded"
        return Answer(answer["statusCode"], headers, answer["body"])


def _event(
    method: str, path: str, query: Mapping[str, object], headers: Mapping[str, str], body: object
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "ANY /v1/{proxy+}",
        "rawPath": path,
        "rawQueryString": urlencode(query),
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "domainName": "api.example.com",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "t"},
            "requestId": uuid.uuid4().hex,
            "routeKey": "ANY /v1/{proxy+}",
            "stage": "$default",
            "time": "01/Jan/2030:00:00:00 +0000",
            "timeEpoch": 1893456000000,
        },
        "isBase64Encoded": isinstance(body, bytes),
    }
    if query:
        event["queryStringParameters"] = {name: str(value) for name, value in query.items()}
    if body is not None:
        event["body"] = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return event
