"""The functions that import and export in the background find their work by events and by their schedules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

import export_handler
import lead_import_handler
from local.threaded_server import RequestHandler, ThreadedServer
from sendledger.core.tables import exports as exports_table
from sendledger.core.tables import lead_batches as batches_table
from sendledger.core.tables import lead_changes
from sendledger.exports import exports
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import change_leads, lead_batches
from testbed.databases import url_as
from testbed.object_store import bucket, object_store, s3

__all__ = ["bucket", "object_store", "s3"]


def invocation(seconds: float = 900) -> Any:
    """What Lambda tells a handler of its invocation."""
    return SimpleNamespace(
        function_name="background",
        memory_limit_in_mb=1769,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:background",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: seconds * 1000,
    )


class LambdaService(RequestHandler):
    """Takes every invocation, as the Lambda API does with asynchronous ones."""

    invocations: list[tuple[str, Any]]

    def do_POST(self) -> None:  # noqa: N802 (named by http.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.invocations.append((self.path, json.loads(body)))
        self.respond(202, [], b"")


@pytest.fixture(autouse=True)
def environment(database_url: str, bucket: FileBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", url_as("files", database_url))
    monkeypatch.setenv("FILE_BUCKET", bucket.name)
    cached = (lead_import_handler._engine, lead_import_handler._bucket, export_handler._engine, export_handler._bucket)
    for each in cached:
        each.cache_clear()
    yield
    for engine in (lead_import_handler._engine, export_handler._engine):
        if engine.cache_info().currsize:
            engine().dispose()
    for each in cached:
        each.cache_clear()


def upload(engine: sa.Engine, bucket: FileBucket, s3: Any, rows: int) -> sa.RowMapping:
    with engine.begin() as connection:
        batch = lead_batches.create_pending(connection, {"name": "Fair"})
    content = "email\n" + "".join(f"lead{number}@acme.com\n" for number in range(rows))
    s3.put_object(Bucket=bucket.name, Key=batch["source_object"], Body=content.encode())
    return batch


def s3_event(bucket: FileBucket, key: str) -> dict[str, Any]:
    return {"Records": [{"s3": {"bucket": {"name": bucket.name}, "object": {"key": key}}}]}


def status(engine: sa.Engine, batch: sa.RowMapping) -> tuple[str, int]:
    with engine.begin() as connection:
        row = lead_batches.get(connection, batch["id"])
    return row["status"], row["total_leads"]


def test_arrival_of_a_file_imports_it(engine: sa.Engine, bucket: FileBucket, s3: Any) -> None:
    batch = upload(engine, bucket, s3, 10)
    lead_import_handler.lambda_handler(s3_event(bucket, batch["source_object"]), invocation())
    assert status(engine, batch) == ("completed", 10)


@pytest.mark.parametrize("key", ["imports/notes.txt", "imports/00000000-0000-0000-0000-000000000000.csv"])
def test_file_that_no_lead_batch_waits_for_is_ignored(engine: sa.Engine, bucket: FileBucket, key: str) -> None:
    lead_import_handler.lambda_handler(s3_event(bucket, key), invocation())
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(batches_table)) == 0


def test_import_without_time_left_invokes_itself_to_go_on(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    LambdaService.invocations = []
    service = ThreadedServer(0, LambdaService)
    service.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{service.port}")
    batch = upload(engine, bucket, s3, 6_000)
    try:
        lead_import_handler.lambda_handler(s3_event(bucket, batch["source_object"]), invocation(seconds=1))
    finally:
        service.stop()
    assert status(engine, batch) == ("importing", 5_000)
    ((path, event),) = LambdaService.invocations
    assert path == "/2015-03-31/functions/background/invocations"
    lead_import_handler.lambda_handler(event, invocation())
    assert status(engine, batch) == ("completed", 6_000)


def test_change_of_leads_that_fails_does_not_stop_others_and_imports(
    engine: sa.Engine, bucket: FileBucket, s3: Any
) -> None:
    batch = upload(engine, bucket, s3, 10)
    with engine.begin() as connection:
        good = change_leads.condition_of(connection, {"status": "new"})
        broken_id, good_id = (change_leads.create(connection, good, ["vip"], [], {}, "ann")["id"] for _ in range(2))
        ago = sa.func.now() - sa.text("interval '11 min'")
        connection.execute(sa.update(lead_changes).values(updated_at=ago))
        # As a version of the future would write it.
        broken = sa.update(lead_changes).where(lead_changes.c.id == broken_id)
        connection.execute(broken.values(filter={"kind": "other"}, updated_at=ago - sa.text("interval '1 min'")))
        connection.execute(sa.update(batches_table).values(status="importing", updated_at=ago))
    lead_import_handler.lambda_handler({"bucket": bucket.name}, invocation())
    with engine.connect() as connection:
        assert change_leads.get(connection, good_id)["completed_at"] is not None
        assert change_leads.get(connection, broken_id)["completed_at"] is None
    assert status(engine, batch) == ("completed", 10)
    with pytest.raises(ValueError, match="other"):
        lead_import_handler.lambda_handler({"bucket": bucket.name, "lead_change_id": str(broken_id)}, invocation())


def test_import_that_cannot_invoke_itself_is_left_for_the_schedule(
    engine: sa.Engine, bucket: FileBucket, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")
    batch = upload(engine, bucket, s3, 6_000)
    lead_import_handler.lambda_handler(s3_event(bucket, batch["source_object"]), invocation(seconds=1))
    assert status(engine, batch) == ("importing", 5_000)
    lead_import_handler.lambda_handler({"bucket": bucket.name}, invocation())
    assert status(engine, batch) == ("importing", 5_000), "somebody may still be working on it"
    with engine.begin() as connection:
        connection.execute(sa.update(batches_table).values(updated_at=sa.func.now() - sa.text("interval '11 min'")))
    lead_import_handler.lambda_handler({"bucket": bucket.name}, invocation())
    assert status(engine, batch) == ("completed", 6_000)


def test_schedule_writes_the_exports_that_were_not_announced(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        told, untold = (exports.create(connection, "leads", None, {}, "ann")["id"] for _ in range(2))
    export_handler.lambda_handler({"export_id": str(told)}, invocation())
    with engine.begin() as connection:
        assert exports.get(connection, told)["status"] == "completed"
        connection.execute(sa.update(exports_table).values(updated_at=sa.func.now() - sa.text("interval '2 min'")))
    export_handler.lambda_handler({"detail-type": "Scheduled Event"}, invocation())
    with engine.begin() as connection:
        assert exports.get(connection, untold)["status"] == "completed"
