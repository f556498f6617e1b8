"""Every page that the console has registered, with much to show: it opens, it is light, and a viewer is refused nothing
that a page offers."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from console import assets
from local.ses_simulator import SesSimulator
from testbed import console_pages
from testbed.console_browser import Browser
from tests.functions.campaign_api.console.test_campaign_pages import ses_account

__all__ = ["ses_account"]

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

MOST_BYTES = 100_000
FORM = re.compile(r'<form(?=[^>]*method="post")[^>]*>(?:(?!</form>).)*?<button', re.DOTALL)
ANYBODYS = re.compile(r'action="/console/(session|session/end|templates/preview-html)"')
"""Forms that change nothing of the product."""


@pytest.fixture
def addresses(browser: Browser, engine: sa.Engine, ses: SesSimulator, ses_account: None) -> list[str]:
    """All addresses, and those of lists with filters, on a database with much in it."""
    console_pages.fill(engine, leads=4_000, campaigns=100, templates=210)
    ids = console_pages.ids_of(browser.ask_api)
    return [*console_pages.every_page(ids), *console_pages.lists_with_filters(ids)]


def test_every_page_opens_and_is_light(browser: Browser, addresses: list[str]) -> None:
    files = sum(len(assets.read(name).encode()) for name in assets.TYPES)
    shown = {address: browser.get(address) for address in addresses}
    assert {address: page.status for address, page in shown.items() if page.status != 200} == {}
    sizes = {address: len(page.html.encode()) + files for address, page in shown.items()}
    assert {address: size for address, size in sizes.items() if size > MOST_BYTES} == {}


def test_no_page_offers_a_viewer_what_would_be_refused(browsers: dict[str, Browser], addresses: list[str]) -> None:
    viewer = browsers["viewer"]
    viewer.sign_in()
    shown = {address: viewer.get(address) for address in addresses}
    assert {page.status for page in shown.values()} <= {200, 403}
    offered = {
        address: forms
        for address, page in shown.items()
        if (forms := [form for form in FORM.findall(page.html) if not ANYBODYS.search(form)])
    }
    assert offered == {}
    # Nor does a page lead to one that is refused.
    refused = {address for address, page in shown.items() if page.status == 403}
    links = {
        link for page in shown.values() if page.status == 200 for link in re.findall(r'href="([^"?#]+)', page.html)
    }
    assert refused & links == set()
