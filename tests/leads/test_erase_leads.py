"""An erased lead is nowhere to be found, gets nothing more, and the ledger still adds up."""

from __future__ import annotations

import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import audit_log, campaign_leads, email_events, idempotency_keys, lead_batches, metadata
from sendledger.core.tables import leads as leads_table
from sendledger.core.tables import suppressions as stored
from sendledger.core.vocabulary import ReplySource, UnsubscribeMethod, UnsubscribeScope
from sendledger.feedback import replies, suppressions, unsubscribe
from sendledger.feedback.read_reply import reply_from_fields
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import record_events
from sendledger.feedback.suppressions import NewSuppression
from sendledger.leads import erase_leads, leads
from sendledger.leads.import_leads import import_file, lock_addresses
from sendledger.ledger import claim_emails
from sendledger.ledger.settle_unknown import mark_sent
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, rows_of, statuses
from testbed.legacy_database import adopt
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of
from tests.campaigns.test_lifecycle import wait_for_waiting_sessions

NAME = "Zweistein"
ADDRESS = f"{NAME.lower()}@example.com"
EVERYTHING = {
    "email": ADDRESS,
    "first_name": NAME,
    "last_name": NAME,
    "company_name": f"{NAME} Ltd",
    "phone": NAME,
    "website": f"https://{NAME}.example.com",
    "linkedin_url": NAME,
    "address": NAME,
    "city": NAME,
    "notes": NAME,
    "industry": NAME,
    "tags": [NAME],
}

NAME_A_LEAD = {
    "campaign_leads": "deleted",
    "email_events": "emptied of all but their type and time",
    "emails": "emptied of address and content",
    "left_out_leads": "without the lead",
    "past_contacts": "deleted",
    "replies": "deleted",
    "scheduled_emails": "without the lead",
    "unsubscribes": "ids and times only, the proof of an opt-out",
}
"""Table with the id of a lead → what an erasure makes of its rows."""


def test_each_table_that_names_a_lead_is_known_to_the_erasure() -> None:
    assert {table.name for table in metadata.tables.values() if "lead_id" in table.columns} == NAME_A_LEAD.keys()


def tables_that_know(engine: sa.Engine) -> set[str]:
    """The tables in which some row has the name in some column, an array or a document."""
    with engine.connect() as connection:
        return {
            table.name
            for table in metadata.sorted_tables
            if connection.scalar(
                sa.text(f"SELECT EXISTS (SELECT FROM {table.name} t WHERE t::text ILIKE :name)"), {"name": f"%{NAME}%"}
            )
        }


def erase(engine: sa.Engine, lead_id: uuid.UUID, *, keep_suppressed: bool = False) -> erase_leads.ErasedLead:
    with engine.begin() as connection:
        return erase_leads.erase(connection, lead_id, "test", keep_suppressed=keep_suppressed)


@pytest.fixture
def lead_id(engine: sa.Engine) -> uuid.UUID:
    with engine.begin() as connection:
        created: uuid.UUID = leads.create(connection, EVERYTHING, {"plan": NAME})["id"]
    return created


@pytest.fixture
def campaign_id(
    engine: sa.Engine, connection: sa.Connection, lead_id: uuid.UUID, resources: Resources, ses: SesSimulator
) -> uuid.UUID:
    """Two steps to the lead and to somebody else; the first was sent, and all that can come back has."""
    id_ = make_campaign(connection, ["other@example.com"], [NO_DELAY, DAY])
    with engine.begin() as changing:
        batch_id = changing.scalar(sa.select(lead_batches.c.id))
        changing.execute(sa.text("UPDATE leads SET batch_id = :id WHERE id = :lead"), {"id": batch_id, "lead": lead_id})
        changing.execute(sa.text("UPDATE email_templates SET subject = 'For {{ company_name }}'"))
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 30.0)
    with engine.begin() as changing:
        record_events(changing, events(ses))
    answer = reply_from_fields(ADDRESS, f"Re: {NAME}", NAME, message_id="<1@x>")
    replies.receive(engine, answer, ReplySource.API, "campaign", None)
    with engine.begin() as changing:
        suppressions.suppress_all(changing, [NewSuppression(ADDRESS, "unsubscribe", f"{NAME} called")], "test")
    return id_


def events(ses: SesSimulator) -> list[SesEvent]:
    return [reported(ses, "Delivery"), reported(ses, "Click", link=f"https://example.com/{NAME}")]


def reported(ses: SesSimulator, type_: str, **content: Any) -> SesEvent:
    (email,) = [email for email in ses.accepted() if ADDRESS in email.destination]
    event = read_ses_event(json.dumps(event_of(email, type_, **content)), ACCOUNT, CONFIGURATION_SET)
    assert isinstance(event, SesEvent)
    return event


def test_nothing_knows_an_erased_lead(engine: sa.Engine, lead_id: uuid.UUID, campaign_id: uuid.UUID) -> None:
    assert tables_that_know(engine) >= {"leads", "emails", "replies", "suppressions", "email_events"}
    erased = erase(engine, lead_id)
    assert (erased.leads_erased, erased.emails_erased, erased.replies_erased, erased.is_suppressed) == (1, 1, 1, False)
    assert tables_that_know(engine) == set()


def test_address_can_stay_as_a_suppression_only(engine: sa.Engine, lead_id: uuid.UUID, campaign_id: uuid.UUID) -> None:
    assert erase(engine, lead_id, keep_suppressed=True).is_suppressed
    assert tables_that_know(engine) == {"suppressions"}
    with engine.connect() as connection:
        kept = connection.execute(sa.select(stored.c.value, stored.c.reason, stored.c.note)).all()
    assert [tuple(row) for row in kept] == [(ADDRESS, "unsubscribe", None)]


def test_address_that_was_not_suppressed_is_from_then_on(engine: sa.Engine, lead_id: uuid.UUID) -> None:
    erase(engine, lead_id, keep_suppressed=True)
    with engine.connect() as connection:
        assert connection.execute(sa.select(stored.c.value, stored.c.reason)).one() == (ADDRESS, "manual")


def test_ledger_keeps_its_anonymous_rows(engine: sa.Engine, lead_id: uuid.UUID, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, ["other@example.com"], [NO_DELAY, DAY])
    batch = sa.select(lead_batches.c.id).scalar_subquery()
    connection.execute(sa.update(metadata.tables["leads"]).values(batch_id=batch))
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    assert erase(engine, lead_id).emails_skipped == 2
    assert statuses(engine, campaign_id) == {"skipped": 2, "pending": 2}
    assert {(row["status"], row["reason"]) for row in rows_of(engine, campaign_id) if row["lead_id"] is None} == {
        ("skipped", "lead_erased")
    }


def test_every_lead_with_the_address_is_erased(engine: sa.Engine, lead_id: uuid.UUID) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO leads (email, company_name, industry, source) VALUES (:email, :name, '', 'old')"),
            {"email": ADDRESS.upper(), "name": NAME},
        )
    assert erase(engine, lead_id).leads_erased == 2
    assert tables_that_know(engine) == set()


def test_late_event_brings_nothing_back(
    engine: sa.Engine, lead_id: uuid.UUID, campaign_id: uuid.UUID, ses: SesSimulator
) -> None:
    erase(engine, lead_id)
    late = reported(ses, "Click", after=9999.0, link=f"https://example.com/late/{NAME}")
    with engine.begin() as connection:
        assert dict(record_events(connection, [late]).counts) == {"unknown_email": 1}
    assert tables_that_know(engine) == set()


@pytest.fixture
def of_unknown_outcome(engine: sa.Engine, lead_id: uuid.UUID, campaign_id: uuid.UUID) -> int:
    """The sender died after SES had accepted the email, so it has no record of what was sent."""
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM email_events"))
        connection.execute(sa.text("UPDATE scheduled_emails SET email_id = NULL, ses_message_id = NULL"))
        connection.execute(sa.text("DELETE FROM emails"))
        connection.execute(
            sa.text("""
                UPDATE scheduled_emails
                SET status = 'failed', error_code = 'outcome_unknown', sent_at = NULL, failed_at = now()
                WHERE status = 'sent'
            """)
        )
    (row,) = (row for row in rows_of(engine, campaign_id) if row["lead_id"] == lead_id and row["status"] == "failed")
    return int(row["id"])


def test_event_about_an_email_of_unknown_outcome_brings_nothing_back(
    engine: sa.Engine, lead_id: uuid.UUID, of_unknown_outcome: int, ses: SesSimulator
) -> None:
    erase(engine, lead_id)
    bounce = reported(ses, "Bounce", after=60.0)
    with engine.begin() as connection:
        assert dict(record_events(connection, [bounce]).counts) == {"unknown_email": 1}
    assert tables_that_know(engine) == set()


def test_operator_can_settle_an_erased_email_of_unknown_outcome(
    engine: sa.Engine, lead_id: uuid.UUID, campaign_id: uuid.UUID, of_unknown_outcome: int
) -> None:
    erase(engine, lead_id)
    with engine.begin() as connection:
        mark_sent(connection, of_unknown_outcome, "test")
    (row,) = (row for row in rows_of(engine, campaign_id) if row["id"] == of_unknown_outcome)
    assert (row["status"], row["lead_id"]) == ("sent", None)
    assert tables_that_know(engine) == set()


def test_reply_to_an_erased_email_is_nobodys(
    engine: sa.Engine, lead_id: uuid.UUID, campaign_id: uuid.UUID, ses: SesSimulator
) -> None:
    erase(engine, lead_id)
    (email,) = [email for email in ses.accepted() if ADDRESS in email.destination]
    answer = reply_from_fields(
        ADDRESS, "Re: ?", "Yes?", message_id="<2@x>", references=[f"<{email.message_id}@email.amazonses.com>"]
    )
    received = replies.receive(engine, answer, ReplySource.API, "all", None)
    assert (received.lead_id, received.matched_by, received.emails_skipped) == (None, None, 0)
    assert "leads" not in tables_that_know(engine)


@pytest.mark.parametrize(
    "change", [{"email": ADDRESS}, {"notes": NAME}, {"custom_fields": {"a": NAME}}, {"status": "new"}]
)
def test_erased_lead_cannot_be_filled_again(engine: sa.Engine, lead_id: uuid.UUID, change: dict[str, Any]) -> None:
    erase(engine, lead_id)
    with engine.begin() as connection, pytest.raises(Conflict, match="was erased") as refused:
        leads.update(connection, lead_id, change)
    assert refused.value.data["erased_at"]
    assert tables_that_know(engine) == set()


def test_import_of_the_address_makes_a_new_lead_and_leaves_the_erased_one_empty(
    engine: sa.Engine, lead_id: uuid.UUID
) -> None:
    erase(engine, lead_id)
    with engine.begin() as connection:
        imported = import_file(connection, io.BytesIO(f"email\n{ADDRESS}\n".encode()), {"name": "again"}, "ann")
        assert imported.lead_batch["successful_imports"] == 1
        assert leads.get(connection, lead_id)["email"] is None


def test_change_that_waits_for_the_erasure_is_refused(
    engine: sa.Engine, connection: sa.Connection, lead_id: uuid.UUID
) -> None:
    with engine.connect() as erasing, ThreadPoolExecutor() as threads:
        erase_leads.erase(erasing, lead_id, "test", keep_suppressed=False)
        with engine.connect() as changing:
            change = threads.submit(leads.update, changing, lead_id, {"notes": NAME})
            wait_for_waiting_sessions(connection, 1)
            erasing.commit()
            with pytest.raises(Conflict, match="was erased"):
                change.result(300)


def test_adoption_leaves_an_erased_lead_out(engine: sa.Engine, lead_id: uuid.UUID, connection: sa.Connection) -> None:
    """The old application still has it in a campaign that is taken over afterwards."""
    campaign_id = make_campaign(connection, ["other@example.com"], status="active", campaign_type="automated")
    erase(engine, lead_id)
    connection.execute(sa.insert(campaign_leads).values(campaign_id=campaign_id, lead_id=lead_id))
    connection.commit()
    adopt(engine)
    assert {row["lead_id"] for row in rows_of(engine, campaign_id)}.isdisjoint({lead_id})
    assert tables_that_know(engine) == set()


def test_columns_that_counts_need_stay(engine: sa.Engine, lead_id: uuid.UUID) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.insert(email_events).values(
                event_key="k",
                lead_id=lead_id,
                ses_message_id="m",
                event_type="Bounce",
                occurred_at=sa.func.now(),
                detail={"bounce_type": "Transient", "diagnostic_code": f"550 {NAME}"},
            )
        )
    erase(engine, lead_id)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(email_events.c.detail)) == {"bounce_type": "Transient"}


def test_lead_with_an_email_on_its_way_is_not_erased(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, [ADDRESS])
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as claiming:
        claim_emails.claim(claiming, 10, uuid.uuid4())
    (row,) = rows_of(engine, campaign_id)
    with pytest.raises(Conflict):
        erase(engine, row["lead_id"])
    assert "leads" in tables_that_know(engine)


def test_erasing_again_changes_nothing_and_is_on_record(engine: sa.Engine, lead_id: uuid.UUID) -> None:
    first, second = erase(engine, lead_id), erase(engine, lead_id, keep_suppressed=True)
    assert (second.erased_at, second.is_suppressed) == (first.erased_at, False)
    with engine.connect() as connection:
        entries = connection.execute(sa.select(audit_log.c.action, audit_log.c.entity_id)).all()
    assert [tuple(entry) for entry in entries] == [("lead.erase", str(lead_id))] * 2


def test_address_can_be_a_new_lead_after_an_erasure(engine: sa.Engine, lead_id: uuid.UUID) -> None:
    erase(engine, lead_id)
    with engine.begin() as connection:
        assert leads.create(connection, {"email": ADDRESS}, {})["id"] != lead_id


def test_unknown_lead_is_not_found(engine: sa.Engine) -> None:
    with pytest.raises(NotFound):
        erase(engine, uuid.uuid4())


@pytest.mark.parametrize("other", ["delete", "erase"])
def test_lead_that_is_deleted_meanwhile_is_not_found(engine: sa.Engine, other: str) -> None:
    with engine.begin() as connection:
        campaign_id = make_campaign(connection, [ADDRESS], [NO_DELAY])
    lifecycle.start_campaign(engine, campaign_id)
    lead_id = rows_of(engine, campaign_id)[0]["lead_id"]

    def run() -> None:
        with engine.begin() as own:
            if other == "delete":
                leads.delete(own, lead_id)
            else:
                erase_leads.erase(own, lead_id, "ann", keep_suppressed=True)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as first:
            leads.delete(first, lead_id)
            second = pool.submit(run)
            with engine.connect() as watching:
                wait_for_waiting_sessions(watching, 1)
        with pytest.raises(NotFound):
            second.result()


def test_erasure_waits_for_an_opt_out_that_has_begun(engine: sa.Engine) -> None:
    """The person opts out with an email of one campaign, and has emails of another one, which is locked before it."""
    with engine.connect() as connection:
        campaign_ids = sorted(make_campaign(connection, [ADDRESS], [NO_DELAY]) for _ in range(2))
    for campaign_id in campaign_ids:
        lifecycle.start_campaign(engine, campaign_id)
    row = rows_of(engine, campaign_ids[1])[0]
    email = EmailReference(row["id"], campaign_ids[1], row["lead_id"])

    def opt_out() -> bool:
        with engine.begin() as own:
            return unsubscribe.opt_out(own, email, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.PAGE)

    with engine.connect() as holding, engine.connect() as watching, ThreadPoolExecutor(2) as pool:
        # The opt-out is counted, and its other emails are not skipped yet.
        holding.execute(sa.text("LOCK TABLE audit_log IN SHARE MODE"))
        opted_out = pool.submit(opt_out)
        wait_for_waiting_sessions(watching, 1)
        erased = pool.submit(erase, engine, row["lead_id"])
        wait_for_waiting_sessions(watching, 2)
        holding.rollback()
        assert (opted_out.result(), erased.result().leads_erased) == (True, 2)


def test_nothing_waits_while_an_erasure_looks_for_stored_answers(
    engine: sa.Engine, campaign_id: uuid.UUID, lead_id: uuid.UUID
) -> None:
    with engine.connect() as holding, engine.connect() as watching, ThreadPoolExecutor(1) as pool:
        holding.execute(sa.text("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"))
        erased = pool.submit(erase, engine, lead_id)
        wait_for_waiting_sessions(watching, 1)
        with engine.begin() as working:
            working.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            for table, id_ in (("campaigns", campaign_id), ("leads", lead_id)):
                working.execute(sa.text(f"SELECT FROM {table} WHERE id = :id FOR UPDATE NOWAIT"), {"id": id_})
            leads.create(working, {"email": "new@example.com"}, {})
        holding.rollback()
        assert erased.result().leads_erased == 1


@pytest.mark.parametrize("with_twin", [False, True])
def test_erasure_empties_answers_that_it_learns_of_while_it_waits(
    engine: sa.Engine, lead_id: uuid.UUID, with_twin: bool
) -> None:
    twin = uuid.uuid4()

    def store(about: object, age: str) -> None:
        with engine.begin() as storing:
            own = {"caller_id": uuid.uuid4(), "key": "k", "request_hash": "h", "status": 200}
            at = sa.func.now() - sa.cast(sa.literal(age), sa.Interval)
            storing.execute(sa.insert(idempotency_keys).values(**own, answer={"body": f"{about}"}, started_at=at))

    store(lead_id, "1 hour")
    store(twin, "1 hour")
    store(uuid.uuid4(), "1 hour")
    with engine.connect() as holding, engine.connect() as watching, ThreadPoolExecutor(1) as pool:
        lock_addresses(holding)
        erased = pool.submit(erase, engine, lead_id)
        wait_for_waiting_sessions(watching, 1)
        store(ADDRESS, "20 seconds")
        if with_twin:
            values = {"id": twin, "email": ADDRESS, "company_name": "Twin", "industry": "", "source": "test"}
            holding.execute(sa.insert(leads_table).values(values))
        holding.commit()
        assert erased.result().leads_erased == 1 + with_twin
        bodies = watching.scalars(sa.select(idempotency_keys.c.answer["body"].astext)).all()
    assert sorted(map(len, bodies)) == [0, 0, 0 if with_twin else 36, 36]


def test_undo_of_an_opt_out_locks_its_campaigns_before_it_changes_anything(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        campaign_ids = sorted(make_campaign(connection, [ADDRESS], [NO_DELAY]) for _ in range(2))
    lifecycle.start_campaign(engine, campaign_ids[0])
    (row,) = rows_of(engine, campaign_ids[0])
    first, second = (EmailReference(row["id"], campaign_id, row["lead_id"]) for campaign_id in campaign_ids)
    with engine.begin() as own:
        unsubscribe.opt_out(own, first, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.PAGE)

    def undo() -> bool:
        with engine.begin() as own:
            return unsubscribe.undo(own, second)

    with engine.connect() as holding, engine.connect() as watching, ThreadPoolExecutor(1) as pool:
        holding.execute(sa.text("SELECT FROM campaigns WHERE id = :id FOR UPDATE"), {"id": campaign_ids[0]})
        undone = pool.submit(undo)
        wait_for_waiting_sessions(watching, 1)
        holding.execute(sa.text("SELECT FROM campaigns WHERE id = :id FOR UPDATE NOWAIT"), {"id": campaign_ids[1]})
        for table in ("unsubscribes", "suppressions"):
            holding.execute(sa.text(f"SELECT FROM {table} FOR UPDATE NOWAIT"))
        holding.rollback()
        assert undone.result()


@pytest.mark.parametrize("round_", range(5))
def test_of_two_who_delete_and_two_who_erase_at_once_one_deletes_and_the_rest_finds_it_or_not(
    engine: sa.Engine, round_: int
) -> None:
    with engine.begin() as connection:
        lead_id = leads.create(connection, {"email": ADDRESS}, {})["id"]

    def delete() -> bool:
        with engine.begin() as own:
            leads.delete(own, lead_id)
        return True

    def erase_it() -> bool:
        erase(engine, lead_id)
        return True

    with ThreadPoolExecutor(4) as pool:
        deleting, erasing = [pool.submit(delete) for _ in range(2)], [pool.submit(erase_it) for _ in range(2)]
    assert sorted(str(type(each.exception())) for each in deleting) == sorted([str(type(None)), str(NotFound)])
    assert {type(each.exception()) for each in erasing} <= {type(None), NotFound}
