"""Pictures of the console for the documentation: `make pictures` writes them to docs/pictures.

It starts a stack of its own with the demo's leads and three campaigns in different states, and needs a Chromium.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from local.api_client import ApiClient
from local.demo import load_demo
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
WEEKS = 4
LEADS = 240

# As if it had been sent over weeks: in the mornings, and events some hours later.
_SENT = sa.text("""
    WITH planned AS (
        SELECT id, lead_id, campaign_id, workflow_step_number,
               date_trunc('day', now()) - interval '1 day' * (1 + mod(id * 7919, :days))
                   + interval '8 hours' + interval '1 minute' * mod(id * 613, 200) AS at
        FROM scheduled_emails WHERE campaign_id = :campaign AND workflow_step_number <= :steps
    ), handed AS (
        INSERT INTO emails (scheduled_email_id, campaign_id, lead_id, to_address, subject, body_text, status, sent_at,
                            external_id)
        SELECT p.id, p.campaign_id, p.lead_id, l.email, 'A place for ' || l.company_name, 'Dear ' || l.contact_name,
               'delivered', p.at AT TIME ZONE 'UTC', 'm-' || p.id
        FROM planned p JOIN leads l ON l.id = p.lead_id
        RETURNING id, scheduled_email_id
    )
    UPDATE scheduled_emails s SET status = 'sent', sent_at = p.at, email_id = h.id, ses_message_id = 'm-' || s.id
    FROM planned p JOIN handed h ON h.scheduled_email_id = p.id WHERE s.id = p.id
""")
_REPORTED = sa.text("""
    UPDATE emails SET
        delivered_at = CASE WHEN mod(scheduled_email_id, 61) > 0 THEN sent_at + interval '1 minute' END,
        bounced_at = CASE WHEN mod(scheduled_email_id, 61) = 0 THEN sent_at + interval '1 minute' END,
        opened_at = CASE WHEN mod(scheduled_email_id, 5) < 2 THEN sent_at + interval '3 hours' END,
        clicked_at = CASE WHEN mod(scheduled_email_id, 11) = 0 THEN sent_at + interval '3 hours' END
    WHERE campaign_id = :campaign
""")
_COUNTED = sa.text("""
    UPDATE campaigns SET actual_started_at = now() - interval '1 day' * :days, emails_sent_count = n.sent,
        emails_delivered_count = n.delivered, emails_opened_count = n.opened, emails_clicked_count = n.clicked,
        emails_bounced_count = n.bounced, emails_replied_count = n.sent / 40
    FROM (SELECT count(*) AS sent, count(delivered_at) AS delivered, count(opened_at) AS opened,
                 count(clicked_at) AS clicked, count(bounced_at) AS bounced
          FROM emails WHERE campaign_id = :campaign) n
    WHERE id = :campaign
""")


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
        ses = running.enter_context(SesSimulator(rate=None, daily_quota=-1))
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
    stack.tick()
    row = "lead{n}@practice-{n}.example,Lea,Berg {n},Practice {n},Owner,Dentist,Bristol,https://practice-{n}.example,paper"
    rows = [row.format(n=n) for n in range(LEADS)]
    header = "Email,First Name,Last Name,Company,Job Title,Industry,City,Website,booking_tool"
    content = "\n".join([header, *rows]).encode()
    batch = api.post_csv("/v1/lead-batches", content, name="Autumn fair, Bristol")
    workflow = next(api.list("/v1/workflows"))
    for name, steps, action in (("Autumn fair follow-up", 3, None), ("Booking widget, second wave", 2, "pause")):
        fields = {"name": name, "batch_ids": [batch["id"]], "workflow_id": workflow["id"]}
        fields |= {"track_opens": True, "track_clicks": True}
        campaign = api.post("/v1/campaigns", fields)
        api.post(f"/v1/campaigns/{campaign['id']}/start")
        with engine.begin() as connection:
            values = {"campaign": campaign["id"], "steps": steps, "days": 7 * WEEKS}
            for statement in (_SENT, _REPORTED, _COUNTED):
                connection.execute(statement, values)
        if action:
            api.post(f"/v1/campaigns/{campaign['id']}/{action}")
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
            page.screenshot(path=FOLDER / f"console-{name}.jpg", type="jpeg", quality=48)


if __name__ == "__main__":
    sys.exit(main())
