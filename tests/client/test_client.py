"""The typed client against the API of the local stack."""

from __future__ import annotations

import asyncio
import inspect
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from local.openapi import DOCUMENT
from sendledger_client import (
    UNSET,
    ApiError,
    AsyncSendledger,
    NotReachable,
    Sendledger,
    WorkFailed,
    each,
    each_async,
    models,
    retries,
    waiting,
)
from tests.client.conftest import Running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.02)


def name() -> str:
    return uuid.uuid4().hex


def template(wanted: str) -> models.NewEmailTemplate:
    return models.NewEmailTemplate(name=wanted, subject="Hello", body_text="Hi {{ first_name }}")


def lead_file(folder: Path, *addresses: str) -> Path:
    file = folder / "leads.csv"
    file.write_text("Email,First Name\n" + "".join(f"{address},Ann\n" for address in addresses))
    return file


class LosesAnswers(httpx.BaseTransport):
    """The API gets each request; the first `lost` answers do not arrive."""

    def __init__(self, lost: int, answer: httpx.Response | None = None) -> None:
        self.inner = httpx.HTTPTransport()
        self.left = lost
        self.instead = answer
        self.keys: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        response = self.inner.handle_request(request)
        if self.left == 0:
            return response
        self.left -= 1
        response.read()
        response.close()
        if self.instead:
            return self.instead
        raise httpx.ReadError("the connection was reset")

    def close(self) -> None:
        self.inner.close()


def with_transport(running: Running, transport: httpx.BaseTransport) -> Sendledger:
    return Sendledger(running.stack.url, running.key, transport=transport)


@pytest.mark.parametrize("client", [Sendledger, AsyncSendledger])
def test_every_operation_of_the_contract_is_a_method(client: type) -> None:
    document = json.loads(DOCUMENT.read_text("utf-8"))
    for operation in (each_ for methods in document["paths"].values() for each_ in methods.values()):
        method = getattr(client, operation["operationId"])
        assert inspect.iscoroutinefunction(method) is (client is AsyncSendledger)
        named = inspect.signature(method).parameters
        # Python has keywords of its own; the generator writes for_ and from_.
        wanted = {parameter["name"].lower().replace("-", "_") for parameter in operation.get("parameters", ())}
        assert wanted <= {parameter.rstrip("_") for parameter in named}


def test_refusal_names_code_and_field(api: Sendledger) -> None:
    with pytest.raises(ApiError, match="email") as refused:
        api.create_lead(body=models.NewLead(email="nobody"))
    assert (refused.value.status, refused.value.code) == (422, "invalid_input")
    assert refused.value.errors[0]["field"] == "email"


def test_wrong_key_is_refused(running: Running) -> None:
    with Sendledger(running.stack.url, "sl_wrong") as client, pytest.raises(ApiError) as refused:
        client.list_leads()
    assert refused.value.status == 401


def test_change_whose_answers_are_lost_is_made_once(running: Running, api: Sendledger) -> None:
    wanted = name()
    transport = LosesAnswers(2)
    with with_transport(running, transport) as client:
        created = client.create_email_template(body=template(wanted))
    assert [found.id for found in each(api.list_email_templates) if found.name == wanted] == [created.id]
    assert len(transport.keys) == 3
    assert len(set(transport.keys)) == 1


def test_two_changes_have_different_keys(running: Running) -> None:
    transport = LosesAnswers(0)
    with with_transport(running, transport) as client:
        for _ in range(2):
            client.create_email_template(body=template(name()))
    assert len(set(transport.keys)) == 2


def test_key_of_the_caller_is_used(running: Running) -> None:
    transport = LosesAnswers(0)
    with with_transport(running, transport) as client:
        client.create_email_template(body=template(name()), idempotency_key="mine")
    assert transport.keys == ["mine"]


def test_request_is_repeated_while_the_api_is_unavailable(running: Running) -> None:
    transport = LosesAnswers(2, httpx.Response(503, headers={"Retry-After": "0"}))
    with with_transport(running, transport) as client:
        assert client.list_leads(limit=1).items is not None
    assert len(transport.keys) == 3


def test_refusal_is_not_repeated(running: Running) -> None:
    transport = LosesAnswers(0)
    with with_transport(running, transport) as client, pytest.raises(ApiError):
        client.get_lead(uuid.uuid4())
    assert len(transport.keys) == 1


def test_api_that_does_not_answer_is_given_up(running: Running) -> None:
    transport = LosesAnswers(100)
    with with_transport(running, transport) as client, pytest.raises(NotReachable, match="connection was reset"):
        client.list_leads()
    assert len(transport.keys) == retries.MOST_ATTEMPTS


def test_every_page_is_read(api: Sendledger) -> None:
    domain = f"{name()}.example"
    ids = {api.create_lead(body=models.NewLead(email=f"{number}@{domain}")).id for number in range(5)}
    assert {lead.id for lead in each(api.list_leads, search=domain, limit=2)} == ids


def test_small_file_is_imported_at_once(api: Sendledger, tmp_path: Path) -> None:
    batch = api.import_file(lead_file(tmp_path, f"{name()}@example.com", "broken"), name="Small")
    assert isinstance(batch, models.ImportedLeadBatch)
    assert (batch.successful_imports, batch.failed_imports) == (1, 1)


def test_large_file_is_uploaded_and_waited_for(
    api: Sendledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sendledger_client.client.LARGEST_DIRECT_FILE", 10)
    file = lead_file(tmp_path, f"{name()}@example.com", f"{name()}@example.com")
    sent: list[int] = []
    batch = api.import_file(file, name="Large", progress=sent.append)
    assert isinstance(batch, models.LeadBatchWithRejects)
    assert (batch.status, batch.successful_imports) == (models.LeadBatchStatus.COMPLETED, 2)
    assert sum(sent) == file.stat().st_size


def test_import_that_fails_says_why(api: Sendledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sendledger_client.client.LARGEST_DIRECT_FILE", 10)
    file = tmp_path / "leads.csv"
    file.write_text("Name,Town\nAnn,Berlin\n")
    with pytest.raises(WorkFailed, match=r"(?i)column"):
        api.import_file(file, name="Without addresses")


def test_export_is_waited_for_and_downloaded(api: Sendledger, tmp_path: Path) -> None:
    address = f"{name()}@example.com"
    api.create_lead(body=models.NewLead(email=address))
    export = api.wait(api.create_export(body=models.NewExport(kind=models.ExportKind.LEADS)))
    api.download(export, tmp_path / "leads.csv")
    assert address in (tmp_path / "leads.csv").read_text("utf-8")


def test_files_of_a_local_stack_go_through_no_proxy(
    api: Sendledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr("sendledger_client.client.LARGEST_DIRECT_FILE", 10)
    address = f"{name()}@example.com"
    api.import_file(lead_file(tmp_path, address), name="Large")
    api.download(api.wait(api.create_export(body=models.NewExport(kind=models.ExportKind.LEADS))), tmp_path / "all.csv")
    assert address in (tmp_path / "all.csv").read_text("utf-8")


def test_client_for_asyncio_does_the_same(running: Running) -> None:
    async def story() -> None:
        async with AsyncSendledger(running.stack.url, running.key) as api:
            domain = f"{name()}.example"
            create: list[Awaitable[models.Lead]] = [
                api.create_lead(body=models.NewLead(email=f"{number}@{domain}")) for number in range(3)
            ]
            ids = {lead.id for lead in await asyncio.gather(*create)}
            assert {lead.id async for lead in each_async(api.list_leads, search=domain, limit=2)} == ids
            export = await api.wait(await api.create_export(body=models.NewExport(kind=models.ExportKind.LEADS)))
            assert export.rows_written >= 3
            with pytest.raises(ApiError):
                await api.get_lead(uuid.uuid4())

    asyncio.run(story())


def test_filter_that_is_unset_is_not_sent(api: Sendledger) -> None:
    list_: Callable[..., models.LeadPage] = api.list_leads
    assert list_(search=UNSET, limit=1).items is not None
