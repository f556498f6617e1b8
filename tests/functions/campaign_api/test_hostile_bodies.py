"""Whole requests that are made to cost much are answered cheaply, with 2xx or 4xx, on a real database."""

from __future__ import annotations

import pytest

from testbed.console_browser import Browser
from testbed.hostile import Cost, cost_of
from testbed.hostile_bodies import LATER_BODIES
from testbed.hostile_requests import CSV_FILES, FORMS
from tests.functions.campaign_api.api_client import ApiClient

MOST_CHARACTERS = 1_000_000
"""Of an answer: a client has to read what was wrong."""


def is_fine(cost: Cost, status: int, body: str | None) -> bool:
    return 200 <= status < 500 and len(body or "") <= MOST_CHARACTERS and not cost.is_too_much


@pytest.mark.parametrize("kind", ["segment", "reply", "schedule", "sender", "webhook"])
def test_body_of_a_kind_is_answered_cheaply(api: ApiClient, kind: str) -> None:
    cases = {name: make for name, make in LATER_BODIES.items() if name.startswith(f"{kind}:")}
    assert len(cases) > 9
    problems = []
    for name, make in cases.items():
        route, body = make()
        method, path = route.split()
        cost, answer = cost_of(name, lambda text: api.request(method, path, body=text), body)  # noqa: B023
        if answer is None or not is_fine(cost, answer.status, answer.body):
            problems.append((cost, answer and (answer.status, answer.body[:500])))
    assert problems == []


def test_segments_as_large_as_possible_are_evaluated_cheaply(api: ApiClient) -> None:
    problems = []
    for name in LATER_BODIES:
        if not name.startswith("segment:"):
            continue
        created = api.post("/v1/segments", LATER_BODIES[name]()[1])
        if created.status == 201:
            cost, answer = cost_of(name, api.get, f"/v1/segments/{created.json['id']}/leads")
            if answer is None or not is_fine(cost, answer.status, answer.body):
                problems.append((cost, answer))
    assert problems == []


@pytest.mark.parametrize("name", ["as many rows with an address as possible", "addresses of dots", "quotes", "NUL"])
def test_file_of_opt_outs_is_answered_cheaply(api: ApiClient, name: str) -> None:
    content = CSV_FILES[name]()
    send = {"headers": {"content-type": "text/csv"}}
    cost, answer = cost_of(
        name, lambda file: api.request("POST", "/v1/suppressions/import", body=file, **send), content
    )
    assert answer is not None, cost
    assert is_fine(cost, answer.status, answer.body), (cost, answer.status)


CONSOLE_FORMS = [
    "/console/session",
    "/console/campaigns",
    "/console/templates",
    "/console/import",
    "/console/workflows",
]


def test_form_of_the_console_is_answered_cheaply(api: ApiClient) -> None:
    browser = Browser(api.handler, api.key or "")
    browser.sign_in()
    large = {
        "3 MB": ("application/x-www-form-urlencoded", b"name=" + b"%41" * 990_000),
        "fields without an end": ("application/x-www-form-urlencoded", b"a=b&" * 740_000),
        "900 fields": ("application/x-www-form-urlencoded", b"lead=x&" * 900),
        "parts of 3 MB": ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n" * 290_000),
    }
    problems = []
    for name, (content_type, body) in {**{name: make() for name, make in FORMS.items()}, **large}.items():
        for path in CONSOLE_FORMS:
            headers = {"content-type": content_type, "sec-fetch-site": "same-origin"}
            send = lambda body: browser.send("POST", path, body, headers, follow=False)  # noqa: B023, E731
            cost, shown = cost_of(name, send, body)
            if shown is None or not is_fine(cost, shown.status, shown.html):
                problems.append((path, cost, shown and shown.status))
    assert problems == []
