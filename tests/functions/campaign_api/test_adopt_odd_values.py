"""Whatever the old schema permits can be read: every column with NULL and with every edge value of its type.

One value at a time is odd, in a row that is sound otherwise, so that the row gets as far as it can: its campaign is
taken over, shown and exported.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import api_resources
import campaign_api_handler
from console.visit import PAGES
from local.postgres import Postgres
from local.ses_simulator import AcceptedEmail, SesSimulator
from route_table import ROUTES
from sendledger.access import api_keys
from sendledger.adoption.report import AdoptionReport
from sendledger.exports import exports
from sendledger.exports.write_export import write_export
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import record_events
from sendledger.files.file_bucket import FileBucket
from sendledger.sending.tick import send_due_emails
from testbed.console_browser import Browser
from testbed.console_pages import NEEDED_QUERIES, WITHOUT_CONTENT
from testbed.databases import let_functions_work, plain_engine, url_as, working_as
from testbed.legacy_database import SCHEMA, adopt, legacy_engine, upgrade
from testbed.object_store import bucket, object_store, s3
from testbed.odd_values import edge_values
from testbed.senders import sender_resources
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of
from tests.functions.campaign_api.api_client import ApiClient
from tests.functions.campaign_api.conftest import MAIL_SETTINGS

__all__ = ["bucket", "object_store", "s3"]

SOUND: dict[str, dict[str, str]] = {
    "leads": {"company_name": "Acme", "contact_name": "Ann Lee", "industry": "spa", "source": "csv"},
    "campaigns": {"name": "sound", "status": "active", "leads_per_day": "1000000"},
    "email_templates": {"name": "sound", "subject": "Hi {{companyName}}", "body_text": "Hello {{contactName}}"},
    "workflows": {"name": "sound"},
    "workflow_steps": {"step_number": "1", "subject": "Hi {{companyName}}", "body": "Hello {{contactName}}"},
    "lead_batches": {"name": "sound"},
    "emails": {"subject": "Hi", "body_text": "Hello", "status": "sent", "sent_at": "2026-01-01"},
    "activity_log": {"entity_type": "lead", "entity_id": str(uuid.uuid4()), "action": "seen"},
    "custom_variables": {"label": "A", "value": "a"},
    "lead_source_roi": {"source": "csv"},
    "scraping_jobs": {"source": "csv"},
    "settings": {"value": "{}"},
    "smtp_config": {"provider": "a", "provider_name": "a", "host": "a", "port": "1", "from_email": "a@example.com"},
    "website_analysis_cache": {},
    "api_config": {},
    "api_performance": {"api_source": "a", "period_start": "2026-01-01", "period_end": "2026-01-01"},
    "api_usage": {"service": "a", "period_start": "2026-01-01", "period_end": "2026-01-01"},
    "campaign_leads": {},
}
READ = (
    "leads",
    "campaigns",
    "lead_batches",
    "email_templates",
    "workflows",
    "workflow_steps",
    "emails",
    "campaign_leads",
)
"""Tables that Sendledger reads. In the others there are odd values all the same."""
FOREIGN_KEYS = ("campaign_id", "lead_id", "workflow_id")
UNIQUE = {"custom_variables": "key", "settings": "key", "website_analysis_cache": "domain", "api_config": "api_source"}


class OddRows:
    """Writes rows as text, so that PostgreSQL alone decides what may be stored."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.numbers = iter(range(1_000_000))
        self.all_odd: dict[str, list[uuid.UUID]] = {}
        """Table → rows in which every value is odd."""
        self.rehearsed: AdoptionReport
        self.adopted: AdoptionReport

    def insert(self, table: str, **values: str | uuid.UUID | None) -> uuid.UUID:
        types = {column["name"]: column["type"] for column in SCHEMA["tables"][table]}
        row: dict[str, Any] = {"id": uuid.uuid4(), **SOUND[table], **values}
        if table in UNIQUE:
            row.setdefault(UNIQUE[table], f"unique{next(self.numbers)}")
        places = ", ".join(f"CAST(CAST(:{name} AS text) AS {types[name]})" for name in row)
        texts = {name: None if value is None else str(value) for name, value in row.items()}
        self.connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"), texts)
        return uuid.UUID(str(row["id"]))

    def lead(self, **values: str | uuid.UUID | None) -> uuid.UUID:
        return self.insert("leads", **{"email": f"lead{next(self.numbers)}@example.com", **values})

    def campaign_of(self, lead_id: uuid.UUID, **values: str | uuid.UUID | None) -> uuid.UUID:
        campaign_id = self.insert("campaigns", **values)
        self.insert("campaign_leads", campaign_id=campaign_id, lead_id=lead_id)
        return campaign_id

    def workflow(self, **step: str | uuid.UUID | None) -> uuid.UUID:
        """A workflow of three steps, the second one being this."""
        workflow_id = self.insert("workflows")
        for number in (1, 2, 3):
            odd = step if number == 2 else {}
            self.insert(
                "workflow_steps",
                **{"workflow_id": workflow_id, "step_number": str(number), "days_after_previous": "3", **odd},
            )
        return workflow_id

    def fill(self) -> None:
        """Each odd value alone in a row that is sound otherwise, and rows in which every value is odd."""
        self.sound_workflow, self.sound_template = self.workflow(), self.insert("email_templates")
        self.everybody = self.insert("campaigns", name="every odd lead", workflow_id=self.sound_workflow)
        for table, columns in SCHEMA["tables"].items():
            values = {column["name"]: odd_values(column) for column in columns if is_free(table, column["name"])}
            for column in columns if table in READ else []:
                for value in alone(column) if column["name"] in values else []:
                    self.odd_row(table, {column["name"]: value})
            for number in range(max(map(len, values.values()))):
                row = {name: odd[number % len(odd)] for name, odd in values.items()}
                row.pop("id", None)
                if UNIQUE.get(table) in row:
                    row[UNIQUE[table]] = f"odd{number}"
                self.all_odd.setdefault(table, []).append(self.odd_row(table, row))

    def odd_row(self, table: str, odd: dict[str, str | None]) -> uuid.UUID:
        match table:
            case "leads":
                id_ = self.lead(**odd)
                self.insert("campaign_leads", campaign_id=self.everybody, lead_id=id_)
            case "campaigns":
                id_ = self.campaign_of(self.lead(), **{"workflow_id": self.sound_workflow, **odd})
            case "email_templates":
                id_ = self.insert(table, **{"is_active": "false", **odd})
                self.campaign_of(self.lead(), email_template_id=id_, follow_up_enabled="false")
            case "workflow_steps":
                id_ = self.workflow(**odd)
                self.campaign_of(self.lead(), workflow_id=id_)
            case "workflows":
                id_ = self.insert(table, **odd)
                self.insert("workflow_steps", workflow_id=id_)
                self.campaign_of(self.lead(), workflow_id=id_)
            case "lead_batches":
                id_ = self.insert(table, **odd)
                self.campaign_of(self.lead(batch_id=id_), workflow_id=self.sound_workflow, batch_id=id_)
            case "emails" | "campaign_leads":
                id_ = self.insert(table, campaign_id=self.everybody, lead_id=self.lead(), **odd)
            case "lead_source_roi":
                id_ = self.insert(table, lead_id=self.lead(), **odd)
            case _:
                id_ = self.insert(table, **odd)
        return id_


def is_free(table: str, column: str) -> bool:
    """Whether anything may be in this column: keys of other tables are looked after."""
    return column not in FOREIGN_KEYS and (column != "id" or table in ("leads", "campaigns", "emails"))


def alone(column: dict[str, Any]) -> list[str | None]:
    """Of texts the shortest and the longest: what they say matters to none but themselves."""
    values = odd_values(column)
    return values if not column["type"].startswith("varchar") or "[]" in column["type"] else [values[0], *values[-2:]]


def odd_values(column: dict[str, Any]) -> list[str | None]:
    return [*dict.fromkeys(edge_values(column["type"])), *([None] if column["nullable"] else [])]


@pytest.fixture(scope="module")
def odd_rows(postgres: Postgres) -> Iterator[tuple[sa.Engine, OddRows]]:
    """An old database with every odd value, migrated, and taken over as far as it can be."""
    with legacy_engine(postgres) as engine:
        with plain_engine(engine.url).begin() as connection:
            rows = OddRows(connection)
            rows.fill()
        upgrade(engine)
        let_functions_work(engine.url.render_as_string(hide_password=False))
        rows.rehearsed, rows.adopted = adopt(engine, dry_run=True), adopt(engine)
        yield engine, rows


@pytest.fixture
def odd(odd_rows: tuple[sa.Engine, OddRows]) -> sa.Engine:
    return odd_rows[0]


@pytest.fixture
def rows(odd_rows: tuple[sa.Engine, OddRows]) -> OddRows:
    return odd_rows[1]


@pytest.fixture
def api(odd: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiClient]:
    monkeypatch.setenv("DATABASE_URL", url_as("api", odd.url.render_as_string(hide_password=False)))
    for name, value in MAIL_SETTINGS.items():
        monkeypatch.setenv(name, value)
    api_resources.engine.cache_clear()
    api_resources.settings.cache_clear()
    with odd.begin() as connection:
        key = api_keys.create(connection, "admin", "admin").key
    yield ApiClient(campaign_api_handler.lambda_handler, key)
    api_resources.engine().dispose()
    api_resources.engine.cache_clear()


LISTS = {
    "leads": ("created_at",),
    "campaigns": ("created_at", "name", "actual_started_at"),
    "lead-batches": ("created_at", "name"),
    "email-templates": ("created_at", "name"),
    "workflows": ("created_at", "name"),
    "suppressions": ("created_at", "value"),
    "scheduled-emails": ("id",),
    "audit-log": ("id",),
}
SORTED = [(name, sign + column) for name, columns in LISTS.items() for column in columns for sign in ("", "-")]
TABLES = {
    "lead_id": "leads",
    "campaign_id": "campaigns",
    "lead_batch_id": "lead_batches",
    "email_template_id": "email_templates",
    "workflow_id": "workflows",
    "email_id": "emails",
    # What the console calls some of them.
    "batch_id": "lead_batches",
    "template_id": "email_templates",
}
"""Id in an address → its table."""
READING = [
    route
    for routes in ROUTES.values()
    for route in routes
    if route.startswith("GET ") and re.findall(r"<(\w+)>", route)[:1] and re.findall(r"<(\w+)>", route)[0] in TABLES
]


def read_list(api: ApiClient, path: str, sort: str) -> list[str]:
    """The ids of every page."""
    ids: list[str] = []
    query: dict[str, object] = {"limit": 37, "sort": sort}
    while True:
        answer = api.get(path, **query)
        assert answer.status == 200, answer.body
        ids += [item["id"] for item in answer.json["items"]]
        if answer.json["next_cursor"] is None:
            return ids
        query["cursor"] = answer.json["next_cursor"]


@pytest.mark.parametrize(("name", "sort"), SORTED)
def test_list_with_odd_values_has_every_row_once(odd: sa.Engine, api: ApiClient, name: str, sort: str) -> None:
    listed = read_list(api, f"/v1/{name}", sort)
    with odd.connect() as connection:
        stored = connection.scalars(sa.text(f"SELECT id::text FROM {name.replace('-', '_')}"))
        assert sorted(map(str, listed)) == sorted(stored)


def odd_ids(rows: OddRows, parameter: str) -> list[uuid.UUID]:
    ids = rows.all_odd[TABLES[parameter]]
    return [*ids, rows.everybody] if parameter == "campaign_id" else ids


@pytest.mark.parametrize("route", READING)
def test_row_with_only_odd_values_can_be_read(api: ApiClient, rows: OddRows, route: str) -> None:
    (parameter,) = re.findall(r"<(\w+)>", route)
    paths = [route.removeprefix("GET ").replace(f"<{parameter}>", str(id_)) for id_ in odd_ids(rows, parameter)]
    answers = {path: api.get(path) for path in paths}
    assert {path: answer.body for path, answer in answers.items() if answer.status != 200} == {}


def pages_of(rows: OddRows) -> Iterator[str]:
    """The console's lists, and its pages of rows with only odd values."""
    for method, _, name, function in PAGES:
        parameters = re.findall(r"<(\w+)>", name)
        address = name.removeprefix("GET ")
        if method != "GET" or function in WITHOUT_CONTENT or name in NEEDED_QUERIES:
            continue
        if not parameters:
            yield address
        elif len(parameters) == 1 and parameters[0] in TABLES:
            yield from (address.replace(f"<{parameters[0]}>", str(id_)) for id_ in odd_ids(rows, parameters[0]))


def test_console_shows_odd_values(api: ApiClient, rows: OddRows) -> None:
    browser = Browser(api.handler, api.key or "")
    browser.sign_in()
    shown = {address: browser.get(address) for address in pages_of(rows)}
    assert len(shown) > 100
    assert {address: page.text for address, page in shown.items() if page.status != 200} == {}
    times = {time for page in shown.values() for time in re.findall(r'<time datetime="([^"]*)"', page.html)}
    assert "0001-01-01T00:00:00Z" in times
    # What a browser reads as a date.
    assert {time for time in times if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)} == set()


def test_overview_of_an_odd_database_can_be_read(api: ApiClient) -> None:
    assert api.get("/v1/overview").status == 200


@pytest.mark.parametrize("kind", ["leads", "campaign_ledger"])
def test_odd_database_can_be_exported(
    odd: sa.Engine, api: ApiClient, rows: OddRows, bucket: FileBucket, kind: str
) -> None:
    campaigns = [*rows.all_odd["campaigns"], rows.everybody] if kind == "campaign_ledger" else [None]
    for campaign_id in campaigns:
        with odd.begin() as connection:
            export_id = exports.create(connection, kind, campaign_id, {}, "test")["id"]
        write_export(odd, bucket, export_id, float("inf"))
        with odd.connect() as connection:
            export = exports.get(connection, export_id)
        assert (export["status"], export["failure_reason"]) == ("completed", None)


@pytest.fixture(scope="module")
def accepted(odd_rows: tuple[sa.Engine, OddRows]) -> list[AcceptedEmail]:
    """What SES has accepted of all that was due."""
    with SesSimulator(rate=None, daily_quota=-1) as ses, working_as("sender", odd_rows[0]) as engine:
        send_due_emails(sender_resources(engine, ses.url), 60)
        return ses.accepted()


def test_odd_leads_get_the_emails_that_are_due(odd: sa.Engine, rows: OddRows, accepted: list[AcceptedEmail]) -> None:
    open_rows = sa.text("""
        SELECT count(*) FROM scheduled_emails e JOIN campaigns c ON c.id = e.campaign_id
        WHERE c.status = 'running'
          AND (e.status IN ('sending', 'failed') OR (e.status = 'pending' AND e.scheduled_for <= now()))
    """)
    with odd.connect() as connection:
        assert connection.scalar(open_rows) == 0
    assert len(accepted) > len(rows.all_odd["leads"])


def test_events_of_odd_leads_are_recorded(odd: sa.Engine, accepted: list[AcceptedEmail]) -> None:
    documents = [json.dumps(event_of(email, type_)) for email in accepted for type_ in ("Delivery", "Open", "Click")]
    events = [read_ses_event(document, ACCOUNT, CONFIGURATION_SET) for document in documents]
    with working_as("events", odd) as engine, engine.begin() as connection:
        recorded = record_events(connection, [event for event in events if isinstance(event, SesEvent)])
    assert recorded.counts == {"Delivery": len(accepted), "Open": len(accepted), "Click": len(accepted)}


def test_replies_of_odd_leads_are_recorded(api: ApiClient, accepted: list[AcceptedEmail]) -> None:
    for email in accepted[:50]:
        reply = {"from_address": email.destination[0], "subject": "Re", "text": "Yes"}
        assert api.post("/v1/replies", reply).json["lead_id"]


def test_dry_run_on_odd_values_says_what_the_run_then_does(rows: OddRows) -> None:
    said, done = rows.rehearsed.as_dict(), rows.adopted.as_dict()
    assert {**said, "dry_run": False} == done


def test_odd_value_does_not_stop_other_campaigns_from_being_taken_over(rows: OddRows) -> None:
    left = [line for campaign in rows.adopted.campaigns for line in campaign.problems]
    assert [line for line in left if "the database refuses" in line] == []
