"""An import adds each address once, counts every row, and can be taken up where it was interrupted."""

from __future__ import annotations

import io
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core.errors import Conflict
from sendledger.core.tables import lead_batches
from sendledger.core.tables import leads as leads_table
from sendledger.core.tables import suppressions as suppressions_table
from sendledger.files.read_csv import RowError
from sendledger.files.read_text import UnreadableFile
from sendledger.leads import import_leads, leads
from sendledger.leads.import_leads import ImportedFile, chunks, import_chunk, import_file
from sendledger.leads.read_leads import read_leads
from testbed.campaigns import DAY, NO_DELAY, make_campaign, statuses

BATCH = {"name": "May"}


def run(connection: sa.Connection, content: str | bytes) -> ImportedFile:
    return import_file(connection, io.BytesIO(content.encode() if isinstance(content, str) else content), BATCH, "ann")


def ignore(warning: RowError) -> None:
    """Nothing is made of warnings."""


def counts(batch: sa.RowMapping) -> tuple[int, int, int, int]:
    """Rows read, imported, failed, duplicates."""
    return batch["total_leads"], batch["successful_imports"], batch["failed_imports"], batch["duplicates_skipped"]


def stored(connection: sa.Connection) -> list[sa.RowMapping]:
    return list(connection.execute(sa.select(leads_table).order_by(leads_table.c.email)).mappings())


def addresses(number: int, start: int = 0) -> str:
    return "email\n" + "".join(f"lead{index}@example.com\n" for index in range(start, start + number))


def test_ids_of_leads_are_in_the_order_of_the_file(connection: sa.Connection) -> None:
    """Campaigns send in this order."""
    names = [f"lead{number * 7 % 40}@example.com" for number in range(40)]
    run(connection, "email\n" + "\n".join(names))
    by_id = sa.select(leads_table.c.email).order_by(leads_table.c.id)
    assert connection.scalars(by_id).all() == names


def test_good_rows_are_stored_and_bad_ones_reported(connection: sa.Connection) -> None:
    imported = run(
        connection,
        "Email,First Name,Company,Plan,Tags\n"
        "ann@acme.com,Ann,Acme,Pro,VIP\n"
        "nobody,Bob,,,\n"
        "ANN@acme.com,Ann again,,,\n"
        "eve@acme.com,Eve,,,,too,many\n",
    )
    assert counts(imported.lead_batch) == (4, 1, 2, 1)
    assert [(error.row, error.field, error.code) for error in imported.errors] == [
        (3, "email", "invalid_email"),
        (5, "row", "too_many_fields"),
    ]
    (lead,) = stored(connection)
    expected: dict[str, Any] = {
        "email": "ann@acme.com",
        "company_name": "Acme",
        "contact_name": "Ann",
        "industry": "",
        "source": "csv_import",
        "status": "new",
        "tags": ["VIP"],
        "custom_fields": {"Plan": "Pro", "first_name": "Ann"},
        "batch_id": imported.lead_batch["id"],
        "emails_sent": 0,
    }
    assert {name: lead[name] for name in expected} == expected


def test_finished_batch_knows_its_time_in_utc(connection: sa.Connection) -> None:
    now = connection.scalar(sa.select(sa.func.now()))
    batch = run(connection, addresses(1)).lead_batch
    assert batch["created_at"] == batch["completed_at"] == batch["updated_at"] == now


def test_text_survives_the_way_into_the_database(connection: sa.Connection) -> None:
    value = "Ünïcode 🚀 \\ \" ' {{ x }} :name %s"
    run(connection, 'email,note,city\nann@acme.com,"a\nb","{}"\n'.format(value.replace('"', '""')))
    (lead,) = stored(connection)
    assert (lead["city"], lead["notes"]) == (value, "a\nb")


def test_same_file_twice_adds_nothing(connection: sa.Connection) -> None:
    run(connection, addresses(3))
    again = run(connection, addresses(3))
    assert counts(again.lead_batch) == (3, 0, 0, 3)
    assert again.lead_batch["completed_at"] is not None
    assert len(stored(connection)) == 3


def test_existing_lead_is_left_as_it_is(connection: sa.Connection) -> None:
    leads.create(connection, {"email": "Ann@acme.com", "company_name": "Acme"}, {})
    run(connection, "email,company\nann@ACME.com,Other\n")
    assert [lead["company_name"] for lead in stored(connection)] == ["Acme"]


def test_duplicates_in_an_adopted_database_do_not_matter(connection: sa.Connection) -> None:
    connection.execute(
        sa.insert(leads_table),
        [{"email": "Old@acme.com", "company_name": "Acme", "industry": "spa", "source": "google"}] * 2,
    )
    assert counts(run(connection, "email\nold@acme.com\nnew@acme.com\n").lead_batch) == (2, 1, 0, 1)


def test_duplicates_are_found_across_chunks(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_leads, "ROWS_PER_CHUNK", 2)
    imported = run(connection, "email\na@x.com\nb@x.com\nA@x.com\nc@x.com\nB@X.com\n")
    assert counts(imported.lead_batch) == (5, 3, 0, 2)


def test_listed_errors_are_limited_and_all_are_counted(connection: sa.Connection) -> None:
    imported = run(connection, "email\n" + "nobody\n" * 1_500 + "ann@acme.com\n")
    assert counts(imported.lead_batch) == (1_501, 1, 1_500, 0)
    assert [error.row for error in imported.errors] == list(range(2, 1_002))


def test_file_without_rows_makes_an_empty_batch(connection: sa.Connection) -> None:
    assert counts(run(connection, "email,name\n").lead_batch) == (0, 0, 0, 0)


def test_unreadable_file_leaves_nothing_behind(engine: sa.Engine) -> None:
    with pytest.raises(UnreadableFile), engine.begin() as connection:
        run(connection, addresses(6_000) + "x" * 1_000_001)
    with engine.connect() as connection:
        assert stored(connection) == []
        assert connection.execute(sa.select(lead_batches)).all() == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_encoding_is_stored_the_same(connection: sa.Connection, encoding: str) -> None:
    run(connection, "email;city\r\nann@acme.com;Köln\r\n".encode(encoding))
    assert [lead["city"] for lead in stored(connection)] == ["Köln"]


def test_ten_thousand_rows_are_imported_in_few_statements(engine: sa.Engine) -> None:
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with engine.begin() as connection:
        assert counts(run(connection, addresses(10_000)).lead_batch) == (10_000, 10_000, 0, 0)
    assert len(statements) < 12


def new_batch(engine: sa.Engine) -> uuid.UUID:
    with engine.begin() as connection:
        inserted = connection.execute(sa.insert(lead_batches).values(BATCH).returning(lead_batches.c.id))
        found: uuid.UUID = inserted.scalar_one()
        return found


def batch_row(engine: sa.Engine, batch_id: uuid.UUID) -> sa.RowMapping:
    with engine.connect() as connection:
        return connection.execute(sa.select(lead_batches).where(lead_batches.c.id == batch_id)).mappings().one()


def test_interrupted_import_goes_on_after_its_last_chunk(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_leads, "ROWS_PER_CHUNK", 10)
    content = (addresses(25) + "nobody\n" + addresses(25, start=10)[6:]).encode()
    batch_id = new_batch(engine)

    def work(crash_after: int | None) -> None:
        position = batch_row(engine, batch_id)["total_leads"]
        rows = read_leads(io.BytesIO(content), ignore).rows
        for _ in range(position):
            next(rows)
        for number, chunk in enumerate(chunks(rows)):
            with engine.begin() as connection:
                import_chunk(connection, batch_id, position, chunk)
                position += len(chunk)
                if number == crash_after:
                    raise ConnectionError

    for crash_after in (0, 2, 1):
        with pytest.raises(ConnectionError):
            work(crash_after)
    work(None)
    assert counts(batch_row(engine, batch_id)) == (51, 35, 1, 15)
    with engine.connect() as connection:
        assert len({lead["email"] for lead in stored(connection)}) == len(stored(connection)) == 35


def test_same_chunk_cannot_be_imported_twice(engine: sa.Engine) -> None:
    batch_id = new_batch(engine)
    (chunk,) = chunks(read_leads(io.BytesIO(addresses(3).encode()), ignore).rows)
    with engine.begin() as connection:
        import_chunk(connection, batch_id, 0, chunk)
    with pytest.raises(Conflict), engine.begin() as connection:
        import_chunk(connection, batch_id, 0, chunk)
    assert counts(batch_row(engine, batch_id)) == (3, 3, 0, 0)


def test_imports_of_one_file_at_once_add_each_address_once(engine: sa.Engine) -> None:
    ready = threading.Barrier(4)

    def work(_: int) -> int:
        with engine.begin() as connection:
            ready.wait()
            found: int = run(connection, addresses(300)).lead_batch["successful_imports"]
            return found

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(work, range(4)))
    assert sorted(added) == [0, 0, 0, 300]
    with engine.connect() as connection:
        assert len(stored(connection)) == 300


def test_import_and_new_lead_at_once_add_an_address_once(engine: sa.Engine) -> None:
    ready = threading.Barrier(2)

    def create() -> int:
        with engine.begin() as connection:
            ready.wait()
            try:
                leads.create(connection, {"email": "LEAD7@example.com"}, {})
            except Conflict:
                return 0
            return 1

    def work() -> int:
        with engine.begin() as connection:
            ready.wait()
            found: int = run(connection, addresses(10)).lead_batch["successful_imports"]
            return found

    with ThreadPoolExecutor(2) as pool:
        assert sum(future.result() for future in (pool.submit(create), pool.submit(work))) == 10


def test_person_who_opted_out_is_suppressed_with_or_without_a_lead(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        campaign_id = make_campaign(connection, ["Ann@acme.com", "bob@acme.com"], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    content = "email,Status\nann@ACME.com,Unsubscribed\neve@acme.com,Bounced\nnobody,Cleaned\nbob@acme.com,Active\n"
    with engine.begin() as connection:
        imported = run(connection, content)
    assert counts(imported.lead_batch) == (4, 0, 3, 1)
    assert [(error.row, error.field, error.code) for error in imported.errors] == [
        (2, "Status", "opted_out"),
        (3, "Status", "opted_out"),
        (4, "Status", "opted_out"),
    ]
    assert imported.suppressed.created == {"ann@acme.com", "eve@acme.com"}
    assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 2}
    with engine.begin() as connection:
        kept = connection.execute(sa.select(suppressions_table).order_by("value")).mappings().all()
        assert [(row["value"], row["reason"], row["created_by"]) for row in kept] == [
            ("ann@acme.com", "import", "ann"),
            ("eve@acme.com", "import", "ann"),
        ]
        assert "Status is Unsubscribed" in kept[0]["note"]
        assert run(connection, content).suppressed.created == frozenset()


def test_value_that_is_too_long_does_not_cost_the_lead(connection: sa.Connection) -> None:
    imported = run(connection, f"email,notes,city\nann@acme.com,{'x' * 150_000},Berlin\n")
    assert counts(imported.lead_batch) == (1, 1, 0, 0)
    assert [(warning.row, warning.field, warning.code) for warning in imported.warnings] == [(2, "notes", "too_long")]
    assert [(lead["notes"], lead["city"]) for lead in stored(connection)] == [(None, "Berlin")]


def test_listed_warnings_are_limited(connection: sa.Connection) -> None:
    rows = "".join(f"lead{number}@acme.com,{'1' * 51}\n" for number in range(1_100))
    imported = run(connection, f"email,phone\n{rows}")
    assert (len(imported.warnings), counts(imported.lead_batch)[1]) == (1_000, 1_100)
