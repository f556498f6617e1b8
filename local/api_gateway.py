"""An HTTP API: routes a request to a function as an event in payload format 2.0, and its result back to the client.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html describes the
format; where it is silent, the code does what API Gateway was observed to do, and says so.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from local.cloudformation import ACCOUNT_ID
from local.functions import Functions, PayloadTooLargeError
from local.http_front import HttpRequest, HttpResponse
from local.jwt_authorizer import TokenRefusedError, TokenVerifier
from local.template import Route

API_ID = "local"
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml)|application/javascript")
# A function cannot set these: they belong to the connection or to API Gateway.
_NOT_PASSED_BACK = {"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "te", "trailer"}


class ApiGateway:
    """`handle` answers one request; it may be called from many threads."""

    def __init__(self, routes: Iterable[Route], functions: Functions) -> None:
        self._functions = functions
        self._routes = sorted(((_pattern(route), route) for route in routes), key=lambda each: _precedence(each[1]))
        authorizers = {route.authorizer for _, route in self._routes if route.authorizer is not None}
        self._verifiers = {authorizer: TokenVerifier(authorizer) for authorizer in authorizers}

    def handle(self, request: HttpRequest) -> HttpResponse:
        # rawPath is decoded, unlike that of function URLs and of REST APIs.
        path = unquote(request.path)
        for pattern, route in self._routes:
            variables = pattern.fullmatch(path)
            if variables and route.method in ("ANY", request.method):
                break
        else:
            return _message(404, "Not Found")
        event = _event(request, route, path, variables.groupdict())
        if route.authorizer is not None:
            try:
                claims = self._verifiers[route.authorizer].verify(request.header("authorization"))
            except TokenRefusedError as refused:
                return _unauthorized(str(refused))
            # A route that asks for no scopes has null: https://github.com/floci-io/floci/issues/2010
            event["requestContext"]["authorizer"] = {"jwt": {"claims": claims, "scopes": None}}
        try:
            outcome = self._functions.invoke(
                self._functions.find(route.function), json.dumps(event, ensure_ascii=False).encode()
            )
        except PayloadTooLargeError:
            return _message(413, "Request Entity Too Large")
        if outcome.failed:
            return _message(500, "Internal Server Error")
        return _response(outcome.payload)


def _pattern(route: Route) -> re.Pattern[str]:
    if route.path == "$default":
        return re.compile(".*", re.DOTALL)
    parts = re.split(r"\{(\w+)(\+?)\}", route.path)
    pattern = re.escape(parts[0])
    for name, greedy, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.+' if greedy else '[^/]+'})" + re.escape(literal)
    return re.compile(pattern, re.DOTALL)


def _precedence(route: Route) -> tuple[bool, bool, int, bool]:
    """Full matches first, then greedy ones, the longest first, then $default; a method goes before ANY.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
    """
    return (route.path == "$default", "+}" in route.path, -len(route.path.partition("{")[0]), route.method == "ANY")


def _event(request: HttpRequest, route: Route, path: str, variables: Mapping[str, str]) -> dict[str, Any]:
    now = time.time()
    host = request.header("host")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        if name != "cookie":
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    headers |= {
        "x-amzn-trace-id": f"Root=1-{int(now):08x}-{uuid.uuid4().hex[:24]}",
        "x-forwarded-for": request.client,
        "x-forwarded-port": host.partition(":")[2] or "80",
        "x-forwarded-proto": "http",
    }
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": API_ID,
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": request.protocol,
                "sourceIp": request.client,
                "userAgent": request.header("user-agent"),
            },
            "requestId": uuid.uuid4().hex[:15] + "=",
            "routeKey": route.key,
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies := [cookie.strip() for cookie in request.header("cookie").split(";") if cookie.strip()]:
        event["cookies"] = cookies
    if query := _query(request.query):
        event["queryStringParameters"] = query
    if variables:
        event["pathParameters"] = dict(variables)
    if request.body:
        event["body"], event["isBase64Encoded"] = _body(request)
    return event


def _query(raw: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(raw, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _body(request: HttpRequest) -> tuple[str, bool]:
    """Text types come as they are, all others (forms too) in Base64.

    Text that is not UTF-8 comes in Base64 as well, so that no byte is lost; AWS does not say what it does with it.
    """
    kind = request.header("content-type").partition(";")[0].strip().lower()
    if _TEXT.fullmatch(kind):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), True


def _response(payload: bytes) -> HttpResponse:
    """With a statusCode the result is a response; any other JSON is the body of one with status 200."""
    result: Any = json.loads(payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        body = result.encode() if isinstance(result, str) else payload
        return HttpResponse(200, body, (("content-type", "application/json"),))
    try:
        text = result.get("body") or ""
        body = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else str(text).encode()
        headers = {name.lower(): _header_value(value) for name, value in (result.get("headers") or {}).items()}
        cookies = [str(cookie) for cookie in result.get("cookies") or []]
        status = int(result["statusCode"])
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return _message(500, "Internal Server Error")
    headers.setdefault("content-type", "text/plain; charset=utf-8")
    kept = [(name, value) for name, value in headers.items() if name not in _NOT_PASSED_BACK]
    return HttpResponse(status, body, (*kept, *(("set-cookie", cookie) for cookie in cookies)))


def _header_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise TypeError("a header must be a text")
    if "\r" in str(value) or "\n" in str(value):
        raise ValueError("a header must be one line")
    return str(value)


def _unauthorized(reason: str) -> HttpResponse:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-jwt.html"""
    description = re.sub(r'[^ -~]|"', "'", reason)
    challenge = f'Bearer scope="" error="invalid_token" error_description="{description}"' if reason else "Bearer"
    return _message(401, "Unauthorized", ("www-authenticate", challenge))


def _message(status: int, message: str, *headers: tuple[str, str]) -> HttpResponse:
    body = json.dumps({"message": message}).encode()
    return HttpResponse(status, body, (("content-type", "application/json"), *headers))
