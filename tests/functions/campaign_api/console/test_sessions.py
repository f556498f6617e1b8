"""Signing in to the console: cookies, their end, brute force, and writes from other sites."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from sendledger.access import console_sessions
from sendledger.core.tables import api_keys
from sendledger.core.tables import console_sessions as sessions
from sendledger.core.vocabulary import Role
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient

WRONG_KEY = "sl_" + "x" * 43
COOKIE = "__Host-sendledger"


def is_signed_in(browser: Browser) -> bool:
    shown = browser.get("/console/campaigns", follow=False)
    assert shown.status in (200, 303)
    return shown.status == 200


def change(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


# Signing in


@pytest.mark.parametrize("role", Role)
def test_key_of_each_role_signs_in(browsers: dict[str, Browser], role: Role) -> None:
    shown = browsers[role].sign_in()
    assert shown.status == 200
    assert f"{role} Sign out" in shown.text.replace(f"{role} {role}", role)


def test_cookie_is_for_this_host_and_no_script(browsers: dict[str, Browser]) -> None:
    shown = browsers["viewer"].post("/console/session", {"key": browsers["viewer"].key}, follow=False)
    (cookie,) = shown.cookies
    name, *attributes = cookie.split("; ")
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}", name)
    assert set(attributes) == {"Path=/", "HttpOnly", "Secure", "SameSite=Strict", "Max-Age=28800"}


def test_localhost_needs_no_https(browsers: dict[str, Browser]) -> None:
    browsers["viewer"].host = "localhost:8000"
    shown = browsers["viewer"].post("/console/session", {"key": browsers["viewer"].key}, follow=False)
    assert "Secure" not in shown.cookies[0]
    assert not shown.cookies[0].startswith("__Host-")
    assert is_signed_in(browsers["viewer"])


def test_another_host_cannot_pass_for_localhost(browsers: dict[str, Browser]) -> None:
    browsers["viewer"].host = "localhost.example.com"
    shown = browsers["viewer"].post("/console/session", {"key": browsers["viewer"].key}, follow=False)
    assert "Secure" in shown.cookies[0]


def test_signing_in_again_ends_the_session_before(browser: Browser) -> None:
    before = dict(browser.cookies)
    browser.sign_in()
    assert is_signed_in(browser)
    browser.cookies = before
    assert not is_signed_in(browser)


def test_wrong_key_leaves_the_session_as_it_is(browser: Browser) -> None:
    assert browser.sign_in(WRONG_KEY).status == 401
    assert is_signed_in(browser)


def test_token_is_stored_as_a_hash_only(browser: Browser, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        assert browser.cookies[COOKIE] not in str(connection.execute(sa.select(sessions)).all())


def test_session_is_recognised_by_its_cookie_alone(browser: Browser, browsers: dict[str, Browser]) -> None:
    other = browsers["viewer"]
    other.cookies = dict(browser.cookies)
    assert is_signed_in(other)


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "x" * 10_000])
def test_made_up_cookie_is_no_session(browsers: dict[str, Browser], token: str) -> None:
    browsers["viewer"].cookies = {COOKIE: token}
    assert not is_signed_in(browsers["viewer"])


@pytest.mark.parametrize("key", ["", "sl_short", WRONG_KEY, "' OR 1=1 --", "sl_\x00" + "x" * 42])
def test_wrong_key_opens_no_session(browsers: dict[str, Browser], key: str) -> None:
    shown = browsers["viewer"].sign_in(key)
    assert shown.status == 401
    assert shown.cookies == []
    assert key == "" or key not in shown.html


def test_page_that_was_asked_for_is_shown_after_signing_in(browsers: dict[str, Browser]) -> None:
    asked = browsers["viewer"].get("/console/leads?search=ann+lee")
    assert "Sign in" in asked.text
    shown = browsers["viewer"].sign_in(next_page=asked.field("next"))
    assert 'value="ann lee"' in shown.html


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/v1/leads",
        "javascript:alert(1)",
        "/console//\r\nX: y",
    ],
)
def test_signing_in_leads_to_no_other_site(browsers: dict[str, Browser], target: str) -> None:
    shown = browsers["viewer"].post("/console/session", {"key": browsers["viewer"].key, "next": target}, follow=False)
    assert shown.headers["location"] == "/console/campaigns"


def test_link_from_another_site_opens_the_page_of_somebody_who_is_signed_in(browser: Browser) -> None:
    kept, browser.cookies = browser.cookies, {}  # SameSite=Strict: a browser sends none
    first = browser.get("/console/leads", {"sec-fetch-site": "cross-site"}, follow=False)
    assert 'http-equiv="refresh"' in first.html
    browser.cookies = kept
    assert browser.get("/console/leads", {"sec-fetch-site": "same-origin"}, follow=False).status == 200


# The end of a session


def test_signing_out_ends_the_session(browser: Browser) -> None:
    kept = dict(browser.cookies)
    browser.post("/console/session/end")
    assert browser.cookies == {}
    browser.cookies = kept
    assert not is_signed_in(browser)


def test_signing_out_everywhere_ends_the_other_sessions_of_the_key(
    browser: Browser, browsers: dict[str, Browser]
) -> None:
    elsewhere = Browser(browser.handler, browser.key)
    elsewhere.sign_in()
    browsers["viewer"].sign_in()
    browser.post("/console/session/end", {"everywhere": "1"})
    assert not is_signed_in(elsewhere)
    assert is_signed_in(browsers["viewer"])


def test_session_ends_after_eight_hours(browser: Browser, engine: sa.Engine) -> None:
    change(engine, "UPDATE console_sessions SET expires_at = expires_at - interval '8 hours'")
    assert not is_signed_in(browser)


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = now()"])
def test_session_ends_with_its_key(browser: Browser, engine: sa.Engine, end: str) -> None:
    assert is_signed_in(browser)
    change(engine, f"UPDATE api_keys SET {end} WHERE role = 'admin'")
    assert not is_signed_in(browser)


def test_session_has_the_role_that_its_key_has_now(browser: Browser, engine: sa.Engine) -> None:
    change(engine, "UPDATE api_keys SET role = 'viewer' WHERE role = 'admin'")
    assert "viewer Sign out" in browser.get("/console/campaigns").text


def test_sessions_that_are_over_are_deleted(browser: Browser, browsers: dict[str, Browser], engine: sa.Engine) -> None:
    change(engine, "UPDATE console_sessions SET expires_at = now()")
    browsers["viewer"].sign_in()
    with engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(sessions)) == 1


# Brute force


def attempts(browser: Browser, count: int) -> list[int]:
    return [browser.sign_in(WRONG_KEY).status for _ in range(count)]


def test_many_attempts_from_one_address_have_to_wait(browsers: dict[str, Browser]) -> None:
    free = console_sessions.FREE_ATTEMPTS
    assert attempts(browsers["viewer"], free + 1) == [401] * free + [429]
    refused = browsers["viewer"].sign_in()  # with the right key
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.cookies == []


def test_another_address_does_not_wait(browsers: dict[str, Browser]) -> None:
    attempts(browsers["viewer"], console_sessions.FREE_ATTEMPTS + 1)
    browsers["admin"].source_ip = "192.0.2.2"
    assert browsers["admin"].sign_in().status == 200


def test_addresses_of_one_ipv6_network_wait_together(browsers: dict[str, Browser]) -> None:
    for host in range(console_sessions.FREE_ATTEMPTS):
        browsers["viewer"].source_ip = f"2001:db8::{host + 1}"
        attempts(browsers["viewer"], 1)
    browsers["viewer"].source_ip = "2001:db8::ffff"
    assert attempts(browsers["viewer"], 1) == [429]


def test_each_wait_is_twice_as_long_up_to_a_limit(browsers: dict[str, Browser], engine: sa.Engine) -> None:
    attempts(browsers["viewer"], console_sessions.FREE_ATTEMPTS - 1)
    waits = []
    for _ in range(13):
        attempts(browsers["viewer"], 1)
        with engine.begin() as connection:
            query = "SELECT extract(epoch FROM retry_at - last_at) FROM console_sign_in_attempts"
            waits.append(int(connection.scalar(sa.text(query)) or 0))
        change(engine, "UPDATE console_sign_in_attempts SET retry_at = now()")
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


def test_good_key_forgets_the_attempts_before(browsers: dict[str, Browser]) -> None:
    attempts(browsers["viewer"], console_sessions.FREE_ATTEMPTS - 1)
    assert browsers["viewer"].sign_in().status == 200
    assert attempts(browsers["viewer"], console_sessions.FREE_ATTEMPTS) == [401] * console_sessions.FREE_ATTEMPTS


def test_attempts_are_forgotten_after_an_hour(browsers: dict[str, Browser], engine: sa.Engine) -> None:
    attempts(browsers["viewer"], console_sessions.FREE_ATTEMPTS + 1)
    change(
        engine,
        "UPDATE console_sign_in_attempts SET last_at = now() - interval '61 minutes', retry_at = now()",
    )
    assert attempts(browsers["viewer"], 2) == [401, 401]


def test_text_that_cannot_be_a_key_is_refused_without_a_query(browsers: dict[str, Browser], engine: sa.Engine) -> None:
    for _ in range(20):
        assert browsers["viewer"].sign_in("password").status == 401
    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT * FROM console_sign_in_attempts")).all() == []


# Writes from other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": "https://console.example.com"},
        {"sec-fetch-site": None},
        {"sec-fetch-site": None, "origin": "https://evil.example"},
        {"sec-fetch-site": None, "origin": "null"},
        {"sec-fetch-site": None, "origin": "https://console.example.com.evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/console/session", "/console/session/end"])
def test_write_from_another_site_is_refused(browser: Browser, path: str, headers: dict[str, str]) -> None:
    kept = dict(browser.cookies)
    refused = browser.post(path, {"key": browser.key}, headers)
    assert refused.status == 403
    assert refused.cookies == []
    browser.cookies = kept
    assert is_signed_in(browser)


def test_browser_that_names_only_its_origin_may_write(browsers: dict[str, Browser]) -> None:
    headers: dict[str, str] = {"origin": "https://console.example.com"}
    form = {"key": browsers["viewer"].key}
    shown = browsers["viewer"].post("/console/session", form, {"sec-fetch-site": None, **headers})  # type: ignore[dict-item]
    assert shown.status == 200


# What the session is not


def test_cookie_does_not_open_the_api(browser: Browser) -> None:
    assert browser.get("/v1/campaigns").status == 401


def test_key_in_a_header_does_not_open_a_page(browsers: dict[str, Browser], clients: dict[str, ApiClient]) -> None:
    shown = browsers["admin"].get(
        "/console/campaigns", {"authorization": f"Bearer {clients['admin'].key}"}, follow=False
    )
    assert shown.status == 303


def test_key_used_for_signing_in_is_not_in_any_page(browser: Browser, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        (key_hash,) = connection.scalars(sa.select(api_keys.c.key_hash).where(api_keys.c.role == "admin"))
    page = browser.get("/console/campaigns").html
    assert browser.key not in page
    assert key_hash not in page
