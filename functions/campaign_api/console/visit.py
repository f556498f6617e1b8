"""One visit of a page: what the browser sent, who is signed in, and the ways to answer.

A payload-2.0 event goes in; answers are what API Gateway takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_requests
from console import rendering
from console.api_calls import Api
from http_errors import Problem, RequestRefused

ROOT = "/console"
MAX_FIELDS = 1_000
"""In a form."""
PIECE = 30_000
"""Characters of a field that are decoded at once."""

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
}
"""Headers of every page: it loads only from here, no site embeds it, no cache keeps it."""

HttpAnswer = dict[str, Any]


def answer_with(
    status: int, body: str, headers: Mapping[str, str] = HEADERS, cookies: list[str] | None = None
) -> HttpAnswer:
    return {
        "statusCode": status,
        "headers": dict(headers),
        "cookies": cookies or [],
        "body": body,
        "isBase64Encoded": False,
    }


def redirect(path: str, cookies: list[str] | None = None) -> HttpAnswer:
    """After a write the browser gets another page, so that loading it again repeats nothing."""
    return answer_with(303, "", {**HEADERS, "Location": path}, cookies)


@dataclass(frozen=True)
class Visit:
    """`api` is None without a session, on pages that need none."""

    request: APIGatewayProxyEventV2
    signed_in: Api | None

    @property
    def api(self) -> Api:
        if self.signed_in is None:
            raise RuntimeError("a page without a session asks the API")
        return self.signed_in

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_string_parameters

    @cached_property
    def form(self) -> Mapping[str, str]:
        """The fields of a form. If a name occurs twice, the last one counts.

        Raises:
            RequestRefused: the body cannot be decoded, or there are more than `MAX_FIELDS`.
        """
        return dict(self._fields)

    @cached_property
    def form_lists(self) -> Mapping[str, list[str]]:
        """The fields of a form in which a name may occur often."""
        found: dict[str, list[str]] = {}
        for name, value in self._fields:
            found.setdefault(name, []).append(value)
        return found

    @cached_property
    def _fields(self) -> list[tuple[str, str]]:
        text = api_requests.body_bytes(self.request).decode("utf-8", "replace")
        # Browsers send each line break as CR LF.
        if text.count("&") >= MAX_FIELDS:
            detail = f"The form has more than {MAX_FIELDS:,} fields."
            raise RequestRefused(Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail))
        fields = (field.partition("=") for field in text.split("&") if field)
        return [(decoded_field(name), decoded_field(value).replace("\r\n", "\n")) for name, _, value in fields]

    @property
    def address(self) -> str:
        """The path with its query: where this page can be found again."""
        query = self.request.raw_query_string
        return f"{self.request.path}?{query}" if query else self.request.path

    def page(self, template: str, /, *, status: int = 200, **values: Any) -> HttpAnswer:
        """A page made of a template; it knows who is signed in and what that person may do."""
        return answer_with(status, rendering.render(template, visit=self, api=self.signed_in, **values))


PageHandler = Callable[..., HttpAnswer]
PAGES: list[tuple[str, re.Pattern[str], str, PageHandler]] = []
"""Method, pattern of the path, name in the log, and the function that answers."""

_KINDS = {
    "id": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "number": r"[1-9]\d{0,15}",
    "word": r"[a-z-]{1,40}",
}


def page(method: str, path: str) -> Callable[[PageHandler], PageHandler]:
    """Register a page. `<name:id>` in its path is a UUID, `<name:number>` a number; else it is a regular expression."""
    pattern = re.sub(r"<(\w+):(id|number)>", lambda found: f"(?P<{found[1]}>{_KINDS[found[2]]})", path)

    def register(function: PageHandler) -> PageHandler:
        name = re.sub(r"\(\?P<(\w+)>[^)]*\)|<(\w+):\w+>", lambda found: f"<{found[1] or found[2]}>", path)
        PAGES.append((method, re.compile(ROOT + pattern, re.ASCII), f"{method} {ROOT}{name}", function))
        return function

    return register


def decoded_field(text: str) -> str:
    """A name or value as in urllib's parse_qsl, which takes 230 MB for 3 MB of "%41": it makes objects of each one."""
    decoded, start = bytearray(), 0
    while start < len(text):
        end = start + PIECE
        cut = text.rfind("%", end - 2, end)  # a piece does not end within a %XX
        end = end if cut < 0 else cut
        decoded += unquote_to_bytes(text[start:end].replace("+", " "))
        start = end
    return decoded.decode("utf-8", "replace")
