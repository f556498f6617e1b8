"""What needs no session: the pages to sign in with an API key and to sign out, and the files that pages load."""

from __future__ import annotations

import re
from http import HTTPStatus

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_resources
from console import assets
from console.visit import HEADERS, ROOT, HttpAnswer, Visit, answer_with, page, redirect
from http_errors import Problem, RequestRefused
from sendledger.access import api_keys, console_sessions

_COOKIE = "__Host-sendledger"
_COOKIE_OF_LOCALHOST = "sendledger"
"""Over HTTP no browser takes a cookie whose name begins with __Host-."""
_HOME = f"{ROOT}/campaigns"
_PAGE_OF_OURS = re.compile(rf"{ROOT}(?:/[\w./-]*)?(?:\?[\w.~%&=+:-]*)?", re.ASCII)


def token_of(request: APIGatewayProxyEventV2) -> str | None:
    """The token in the session's cookie. As with keys, the database is not asked for what cannot be one."""
    name = f"{_cookie_name(request)}="
    for cookie in request.cookies:
        if cookie.startswith(name):
            token = cookie.removeprefix(name)
            return token if console_sessions.has_form(token) else None
    return None


@page("GET", "")
def go_home(visit: Visit) -> HttpAnswer:
    return redirect(_HOME)


@page("GET", "/sign-in")
def ask_for_key(visit: Visit) -> HttpAnswer:
    return visit.page("sign_in.html", next=_next(visit.query.get("next", "")))


@page("POST", "/session")
def sign_in(visit: Visit) -> HttpAnswer:
    key = visit.form.get("key", "").strip()
    next_page = _next(visit.form.get("next", ""))
    token = None
    # As in the API: the database is not asked for what cannot be a key.
    if api_keys.has_form(key) or (key and key == api_resources.settings().fixed_api_key):
        address = visit.request.request_context.http.source_ip
        with api_resources.transaction() as connection:
            wait = console_sessions.count_attempt(connection, address)
        if wait is not None:
            message = f"There were too many attempts from your network. Try again in {_duration(wait)}."
            refused = visit.page("sign_in.html", status=429, message=message, next=next_page)
            refused["headers"]["Retry-After"] = str(wait)
            return refused
        with api_resources.transaction() as connection:
            token = console_sessions.open_session(connection, key, address)
            before = token_of(visit.request)
            if token is not None and before is not None:
                # Its cookie is replaced, so nobody could sign it out any more.
                console_sessions.end_session(connection, before)
    if token is None:
        message = "This API key is unknown, expired or revoked." if key else "Enter an API key. It begins with sl_."
        return visit.page("sign_in.html", status=401, message=message, next=next_page)
    lasts = int(console_sessions.SESSION_LASTS.total_seconds())
    return redirect(next_page, [_cookie(visit.request, token, lasts)])


@page("POST", "/session/end")
def sign_out(visit: Visit) -> HttpAnswer:
    """With `everywhere` on all devices."""
    token = token_of(visit.request)
    if token is not None:
        with api_resources.transaction() as connection:
            if "everywhere" in visit.form:
                caller = console_sessions.find_caller(connection, token)
                if caller is not None:
                    console_sessions.end_all_sessions(connection, caller)
            console_sessions.end_session(connection, token)
    return redirect(f"{ROOT}/sign-in", [_cookie(visit.request, "", 0)])


@page("GET", r"/assets/(?P<digest>[0-9a-f]{16})/(?P<name>[a-z.]+)")
def get_asset(visit: Visit, digest: str, name: str) -> HttpAnswer:
    if name not in assets.TYPES or assets.path_of(name) != visit.request.path:
        raise RequestRefused(Problem(HTTPStatus.NOT_FOUND, "not_found", "There is no such file."))
    # Its address has its digest: it never changes.
    kept = {"Content-Type": assets.TYPES[name], "Cache-Control": "public, max-age=31536000, immutable"}
    return answer_with(200, assets.read(name), {**HEADERS, **kept})


WITHOUT_SESSION = {ask_for_key, sign_in, sign_out, get_asset}


def _next(path: str) -> str:
    return path if _PAGE_OF_OURS.fullmatch(path) else _HOME


def _cookie_name(request: APIGatewayProxyEventV2) -> str:
    return _COOKIE_OF_LOCALHOST if _is_localhost(request) else _COOKIE


def _cookie(request: APIGatewayProxyEventV2, token: str, lasts: int) -> str:
    secure = "" if _is_localhost(request) else "; Secure"
    return f"{_cookie_name(request)}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={lasts}{secure}"


def _is_localhost(request: APIGatewayProxyEventV2) -> bool:
    """The local stack speaks HTTP. On AWS this is the name of the API or of its domain, whatever a client says."""
    return request.request_context.domain_name.partition(":")[0] in ("localhost", "127.0.0.1")


def _duration(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{-(-seconds // 60)} minutes"
