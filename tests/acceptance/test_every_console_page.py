"""Every page of the console in a real browser, with much to show: axe finds no violation (WCAG 2.2 AA), nothing goes
beyond the edge of a small phone, and no script fails."""

from __future__ import annotations

import httpx
import sqlalchemy as sa
from playwright.sync_api import Page

from testbed import console_pages
from tests.acceptance.test_console_in_a_browser import (
    chromium,
    faults,
    key,
    page,
    pytestmark,
)

__all__ = ["chromium", "key", "page", "pytestmark"]


def test_every_page_is_good_to_use(page: Page, api: httpx.Client, engine: sa.Engine) -> None:
    console_pages.fill(engine, leads=400, campaigns=20, templates=6)
    ids = console_pages.ids_of(lambda path, **query: api.get(path, params=query).json())
    broken = {}
    for address in console_pages.every_page(ids):
        answer = page.request.get(address)
        assert answer.status == 200, address
        if "<html" in answer.text():  # the others are parts of pages
            page.goto(address)
            found = faults(page)
            if found:
                broken[address] = found
    assert broken == {}
