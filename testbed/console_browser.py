"""Visits the console as a browser does, with the events that API Gateway would send: cookies, forms and redirects."""

from __future__ import annotations

import base64
import html
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

HOST = "console.example.com"

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True)
class Shown:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    cookies: list[str]
    html: str

    @property
    def text(self) -> str:
        """What a person reads, with single blanks."""
        body = re.sub(r"<(title|style|script)\b.*?</\1>", "", self.html, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())

    def field(self, name: str) -> str:
        """The value of a hidden or filled field."""
        found = self.fields(name)
        assert found, f"there is no field {name}"
        return found[0]

    def fields(self, name: str) -> list[str]:
        """The values of all fields with the name."""
        return [html.unescape(value) for value in re.findall(rf'name="{name}" value="([^"]*)"', self.html)]


@dataclass
class Browser:
    """`key` is what it signs in with. It takes cookies as a browser does, and follows redirects."""

    handler: Handler
    key: str
    host: str = HOST
    source_ip: str = "192.0.2.1"
    cookies: dict[str, str] = field(default_factory=dict)

    def sign_in(self, key: str | None = None, next_page: str = "") -> Shown:
        return self.post("/console/session", {"key": self.key if key is None else key, "next": next_page})

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, follow: bool = True) -> Shown:
        return self.send("GET", path, headers={"sec-fetch-site": "none", **(headers or {})}, follow=follow)

    def post(
        self, path: str, form: Any = (), headers: Mapping[str, str] | None = None, *, follow: bool = True
    ) -> Shown:
        body = urlencode(form, doseq=True).encode()
        sent = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
        return self.send("POST", path, body, {**sent, **(headers or {})}, follow=follow)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool,
    ) -> Shown:
        given = {name: value for name, value in {"host": self.host, **(headers or {})}.items() if value is not None}
        # As Lambda does: what cannot be written as JSON fails here and not in production.
        answer = json.loads(json.dumps(self.handler(self._event(method, path, body, given), SimpleNamespace())))
        shown = Shown(
            answer["statusCode"],
            {name.lower(): value for name, value in answer["headers"].items()},
            answer.get("cookies", []),
            answer["body"],
        )
        for cookie in shown.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in cookie:
                del self.cookies[name]
        if follow and shown.status == 303:
            return self.get(shown.headers["location"], {"sec-fetch-site": "same-origin"})
        return shown

    def ask_api(self, path: str, **query: object) -> Any:
        """The JSON that the API answers to the key."""
        target = f"{path}?{urlencode(query)}" if query else path
        event = self._event("GET", target, None, {"host": self.host, "authorization": f"Bearer {self.key}"})
        answer = self.handler(event, SimpleNamespace())
        assert answer["statusCode"] == 200, answer["body"]
        return json.loads(answer["body"])

    def _event(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        parts = urlsplit(target)
        http = {"method": method, "path": parts.path, "protocol": "HTTP/1.1", "sourceIp": self.source_ip}
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": "ANY /console/{proxy+}",
            "rawPath": parts.path,
            "rawQueryString": parts.query,
            "headers": headers,
            "requestContext": {
                "domainName": self.host,
                "http": http,
                "requestId": uuid.uuid4().hex,
                "stage": "$default",
            },
            "isBase64Encoded": body is not None,
        }
        if parts.query:
            event["queryStringParameters"] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if self.cookies:
            event["cookies"] = [f"{name}={value}" for name, value in self.cookies.items()]
        if body is not None:
            # Forms come in base64.
            event["body"] = base64.b64encode(body).decode()
        return event
