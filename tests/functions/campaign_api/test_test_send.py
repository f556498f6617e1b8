"""Test emails go to whom the deployment allows, and leave no trace but in the audit log."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import api_resources
from local.ses_simulator import SesSimulator
from sendledger.core.settings import ApiSettings
from sendledger.core.tables import audit_log, emails, scheduled_emails
from sendledger.files.file_bucket import FileBucket
from tests.functions.campaign_api.api_client import Answer, ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

TEMPLATE = {"name": "Hello", "subject": "Hi {{ first_name }}", "body_text": "Dear {{ first_name }}"}
LEAD = {"first_name": "Ann"}


@pytest.fixture(autouse=True)
def _settings(api: ApiClient, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environ = {
        "TEST_SEND_ADDRESSES": "me@example.com,*@team.example.com",
        "SENDER_FROM_ADDRESS": "Sales <sales@example.com>",
        "SES_CONFIGURATION_SET": "sendledger",
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    api_resources.settings.cache_clear()
    api_resources.sending_ses_client.cache_clear()
    yield
    api_resources.settings.cache_clear()
    api_resources.sending_ses_client.cache_clear()


def send(api: ApiClient, *to: str, **body: object) -> Answer:
    template_id = api.post("/v1/email-templates", TEMPLATE).json["id"]
    return api.post(f"/v1/email-templates/{template_id}/test-send", {"to": to, "lead": LEAD, **body})


def test_test_email_is_what_the_preview_shows(api: ApiClient, ses: SesSimulator) -> None:
    answer = send(api, "Me@example.com", "bob@team.example.com", "me@example.com")
    assert answer.status == 200, answer.body
    (sent,) = ses.accepted()
    assert answer.json == {"ses_message_id": sent.message_id, "to": ["me@example.com", "bob@team.example.com"]}
    assert sent.destination == ("me@example.com", "bob@team.example.com")
    assert sent.subject == "[Test] Hi Ann"
    assert sent.tags == {"test": "true"}


def test_test_email_has_the_attachments(api: ApiClient, ses: SesSimulator, bucket: FileBucket) -> None:
    path = f"/v1/email-templates/{api.post('/v1/email-templates', TEMPLATE).json['id']}"
    file = {"file_name": "a.pdf", "content": base64.b64encode(b"%PDF").decode()}
    attached = api.post(f"{path}/attachments", file)
    assert attached.status == 201, attached.body
    to = {"to": ["me@example.com"], "lead": LEAD}
    assert api.post(f"{path}/test-send", to).status == 200
    assert [(each.file_name, each.content) for each in ses.accepted()[0].attachments] == [("a.pdf", b"%PDF")]
    bucket.delete_files([f"attachments/{attached.json['id']}"])
    missing = api.post(f"{path}/test-send", to)
    assert (missing.status, "a.pdf is not in the bucket" in missing.json["detail"]) == (409, True)


def test_ledger_is_not_touched_and_the_deed_is_on_record(api: ApiClient, engine: sa.Engine) -> None:
    assert send(api, "me@example.com").status == 200
    with engine.connect() as connection:
        for table in (scheduled_emails, emails):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0
        entry = connection.execute(
            sa.select(audit_log.c.detail).filter_by(action="email_template.test_send")
        ).scalar_one()
    assert entry["recipients"] == 1
    assert "example.com" not in str(entry)


@pytest.mark.parametrize("to", ["you@example.com", "me@evil.team.example.com", "me@example.com.evil.org", "no address"])
def test_others_get_nothing(api: ApiClient, ses: SesSimulator, to: str) -> None:
    answer = send(api, "me@example.com", to)
    assert (answer.status, answer.fields) == (422, ["to.1"])
    assert ses.accepted() == []


def test_without_the_setting_nobody_gets_one(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SEND_ADDRESSES", "")
    api_resources.settings.cache_clear()
    answer = send(api, "me@example.com")
    assert answer.status == 409
    assert "TEST_SEND_ADDRESSES" in answer.json["detail"]


def test_refusal_of_ses_is_reported(api: ApiClient, ses: SesSimulator) -> None:
    ses.add_fault("message_rejected")
    answer = send(api, "me@example.com")
    assert (answer.status, answer.json["ses_error"]) == (409, "MessageRejected")
    assert "not verified" in answer.json["detail"]


def test_lost_answer_is_not_asked_for_again(api: ApiClient, ses: SesSimulator) -> None:
    ses.add_fault("reset_after_accept")
    answer = send(api, "me@example.com")
    assert answer.status == 409
    assert "may have gone out" in answer.json["detail"]
    assert len(ses.accepted()) == 1


def test_template_that_cannot_be_rendered_is_not_sent(api: ApiClient, ses: SesSimulator) -> None:
    assert send(api, "me@example.com", lead={"city": "Rome"}).status == 422
    assert send(api, "me@example.com", lead=None, lead_id=str(uuid.uuid4())).fields == ["lead_id"]
    assert ses.accepted() == []


@pytest.mark.parametrize(
    "value", ["me", "Me@example.com", "*", "*@*", "me@example.com;you@example.com", "m*@example.com"]
)
def test_setting_takes_addresses_and_whole_domains_only(value: str) -> None:
    with pytest.raises(Exception, match="TEST_SEND_ADDRESSES"):
        ApiSettings.read({"TEST_SEND_ADDRESSES": value})


def thread_of_two(api: ApiClient) -> tuple[str, str]:
    """A workflow whose second step quotes the first, and the template of both."""
    template_id = api.post("/v1/email-templates", TEMPLATE).json["id"]
    first = {"step_number": 1, "email_template_id": template_id}
    steps = [first, {**first, "step_number": 2, "in_thread": True, "quote": True}]
    return api.post("/v1/workflows", {"name": "Thread", "steps": steps}).json["id"], template_id


def test_test_email_of_an_answer_is_in_the_thread_of_the_one_before(api: ApiClient, ses: SesSimulator) -> None:
    workflow_id, template_id = thread_of_two(api)
    body = {"to": ["me@example.com"], "lead": LEAD, "workflow_id": workflow_id}
    path = f"/v1/email-templates/{template_id}/test-send"
    first = api.post(path, {**body, "step_number": 1}).json["ses_message_id"]
    assert api.post(path, {**body, "step_number": 2, "in_reply_to": first}).status == 200
    answered, answer = ses.accepted()
    assert (answered.header("References"), answered.subject) == (None, "[Test] Hi Ann")
    assert answer.header("In-Reply-To") == answer.header("References") == f"<{first}@email.amazonses.com>"
    assert answer.subject == "[Test] Re: Hi Ann"
    assert answer.text is not None
    assert answer.text.endswith("Sales <sales@example.com> wrote:\n> Dear Ann\n")


def test_preview_shows_the_step_as_it_is_sent(api: ApiClient) -> None:
    workflow_id, template_id = thread_of_two(api)
    body = {"lead": LEAD, "workflow_id": workflow_id}
    path = f"/v1/email-templates/{template_id}/preview"
    first, second = (api.post(path, {**body, "step_number": number}).json for number in (1, 2))
    assert (first["subject"], first["subject_of_step"], first["answers_step"]) == ("Hi Ann", None, None)
    assert (second["subject"], second["subject_of_step"], second["answers_step"]) == ("Re: Hi Ann", 1, 1)
    assert second["body_text"].endswith("> Dear Ann\n")


def test_preview_of_a_step_that_the_workflow_does_not_send_names_the_field(api: ApiClient) -> None:
    workflow_id, template_id = thread_of_two(api)
    path = f"/v1/email-templates/{template_id}/preview"
    other = api.post("/v1/email-templates", TEMPLATE).json["id"]
    assert api.post(path, {"lead": LEAD, "workflow_id": workflow_id}).fields == ["step_number"]
    assert api.post(path, {"lead": LEAD, "step_number": 1}).fields == ["workflow_id"]
    assert api.post(path, {"lead": LEAD, "workflow_id": workflow_id, "step_number": 3}).fields == ["step_number"]
    assert api.post(path, {"lead": LEAD, "workflow_id": str(uuid.uuid4()), "step_number": 1}).fields == ["workflow_id"]
    path = f"/v1/email-templates/{other}/preview"
    assert api.post(path, {"lead": LEAD, "workflow_id": workflow_id, "step_number": 1}).fields == ["step_number"]


@pytest.mark.parametrize("given", ["<1@example.com>", "a b", ""])
def test_id_that_is_not_of_ses_is_refused(api: ApiClient, ses: SesSimulator, given: str) -> None:
    assert send(api, "me@example.com", in_reply_to=given).fields == ["in_reply_to"]
    assert ses.accepted() == []
