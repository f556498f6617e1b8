"""Pictures of the console for the documentation: `make pictures` writes them to docs/pictures.

It starts a stack of its own with the demo, and needs a Chromium.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from local.api_client import ApiClient
from local.demo import load_demo, past_campaigns
from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.access import api_keys
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from testbed import browser
from testbed.databases import let_functions_work, migrate

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "pictures"
SIZE = {"width": 1100, "height": 680}
QUALITY = 34
"""With it, all pictures together have less than 300 KB."""


def main() -> int:
    if browser.PATH is None:
        print(browser.MISSING, file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sl-")))
        server = Postgres(folder / "pg")
        running.callback(server.stop)
        migrate(server.url())
        let_functions_work(server.url())
        log = running.enter_context((folder / "functions.log").open("ab"))
        ses = running.enter_context(SesSimulator(rate=14, daily_quota=50_000))
        stack = LocalStack(ROOT / "template.yaml", database_url=server.url(), ses_url=ses.url, log=log)
        running.enter_context(stack)
        engine = database.engine(DatabaseSettings.read({"DATABASE_URL": server.url()}))
        running.callback(engine.dispose)
        with engine.begin() as connection:
            key = api_keys.create(connection, "Nora Lind", "admin").key
        _fill(ApiClient(stack.url, key), stack, engine)
        _take(stack.url, key)
    for picture in sorted(FOLDER.glob("*.jpg")):
        print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size // 1000} KB")
    return 0


def _fill(api: ApiClient, stack: LocalStack, engine: sa.Engine) -> None:
    load_demo.load(api)
    past_campaigns.load(api, engine)
    for _ in range(2):
        stack.tick()


def _take(url: str, key: str) -> None:
    api = ApiClient(url, key)
    by_name = {campaign["name"]: campaign["id"] for campaign in api.list("/v1/campaigns")}
    lead = next(lead for lead in api.list("/v1/leads") if lead["contact_name"] == "Anna Keller")
    template = next(each for each in api.list("/v1/email-templates") if each["name"] == "introduction")
    pages = {
        "campaigns": "/console/campaigns",
        "campaign": f"/console/campaigns/{by_name['Autumn fair follow-up']}?interval=day",
        "new-campaign": "/console/campaigns/new",
        "template": f"/console/templates/{template['id']}?lead={lead['id']}",
        "lead": f"/console/leads/{lead['id']}",
        "sending": "/console/sending",
    }
    with browser.chromium() as opened:
        page = opened.new_page(base_url=url, viewport={"width": SIZE["width"], "height": SIZE["height"]})
        page.goto(f"/console/sign-in#{key}")
        page.wait_for_url("**/console/campaigns")
        for name, path in pages.items():
            page.goto(path)
            height = SIZE["height"]
            if name == "campaign":  # down to its days ahead, which are loaded after the page
                box = page.locator("section[aria-labelledby=days-ahead]").bounding_box() or {"y": 0, "height": height}
                height = round(box["y"] + box["height"]) + 16
            page.set_viewport_size({"width": SIZE["width"], "height": height})
            page.screenshot(path=FOLDER / f"console-{name}.jpg", type="jpeg", quality=QUALITY)


if __name__ == "__main__":
    sys.exit(main())
