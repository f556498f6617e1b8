"""What is suppressed gets nothing more: planned rows are skipped at once, and removal and import are on record."""

from __future__ import annotations

import threading
import uuid

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import completion, lifecycle
from sendledger.core.errors import Conflict, InvalidInput, NotFound
from sendledger.core.tables import audit_log
from sendledger.core.tables import suppressions as table
from sendledger.feedback import suppressions
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses


def started(connection: sa.Connection, engine: sa.Engine, addresses: list[str | None]) -> uuid.UUID:
    """A campaign of two steps that has been started and has sent nothing."""
    campaign_id = make_campaign(connection, addresses, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def suppress(
    engine: sa.Engine, value: str, reason: str = "manual", campaign_id: uuid.UUID | None = None
) -> suppressions.Suppressed:
    with engine.begin() as connection:
        return suppressions.suppress(connection, value, reason, "ann", campaign_id)


def test_planned_rows_of_every_campaign_are_skipped(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_ids = [started(connection, engine, ["Ann@Example.com", f"bob{n}@example.com"]) for n in range(2)]
    done = suppress(engine, " ann@example.COM ")
    assert done.created == {"ann@example.com"}
    assert (done.emails_skipped, done.campaign_ids) == (4, frozenset(campaign_ids))
    for campaign_id in campaign_ids:
        assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 2}
        assert {row["reason"] for row in rows_of(engine, campaign_id)} == {None, "suppressed"}


def test_suppressing_again_changes_nothing(engine: sa.Engine, connection: sa.Connection) -> None:
    started(connection, engine, ["ann@example.com", "bob@example.com"])
    suppress(engine, "ann@example.com")
    again = suppress(engine, "ann@example.com")
    assert (again.created, again.emails_skipped, again.campaign_ids) == (frozenset(), 0, frozenset())
    assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 1


def test_stronger_reason_wins_in_whatever_order(engine: sa.Engine, connection: sa.Connection) -> None:
    for reasons in (("bounce", "complaint"), ("complaint", "bounce")):
        address = f"{reasons[0]}@example.com"
        for reason in reasons:
            suppress(engine, address, reason)
        assert suppressions.find(connection, address, None)["reason"] == "complaint"


def test_domain_covers_its_addresses_but_not_its_subdomains(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(connection, engine, ["a@example.com", "b@sub.example.com", "c@Example.com"])
    suppress(engine, "@Example.com")
    assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 4}


def test_suppression_of_one_campaign_leaves_the_others(engine: sa.Engine, connection: sa.Connection) -> None:
    first, second = (started(connection, engine, ["ann@example.com"]) for _ in range(2))
    suppress(engine, "ann@example.com", campaign_id=first)
    assert statuses(engine, first) == {"skipped": 2}
    assert statuses(engine, second) == {"pending": 2}


def test_rows_that_a_pause_holds_back_are_skipped_too(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(connection, engine, ["ann@example.com", "bob@example.com"])
    lifecycle.pause_campaign(engine, campaign_id)
    suppress(engine, "ann@example.com")
    lifecycle.resume_campaign(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 2}


def test_suppressed_between_two_steps_gets_no_second_email(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(connection, engine, ["ann@example.com"])
    send_due_emails(resources, 60.0)
    for campaign in suppress(engine, "ann@example.com").campaign_ids:
        completion.mark_campaign_complete(engine, campaign)
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    pass_time(engine, DAY)
    send_due_emails(resources, 60.0)
    assert len(ses.accepted()) == 1


def test_address_that_was_removed_can_be_scheduled_again(engine: sa.Engine, connection: sa.Connection) -> None:
    suppress(engine, "ann@example.com", "complaint")
    suppression = suppressions.find(connection, "ann@example.com", None)
    removed = suppressions.remove(connection, suppression["id"], "she asked for it", "bob")
    connection.commit()
    assert (removed["removed_by"], removed["removal_reason"]) == ("bob", "she asked for it")
    campaign_id = started(connection, engine, ["ann@example.com"])
    assert statuses(engine, campaign_id) == {"pending": 2}


def test_removal_is_in_the_audit_log_without_the_address(engine: sa.Engine, connection: sa.Connection) -> None:
    suppress(engine, "ann@example.com", "bounce")
    suppression = suppressions.find(connection, "ann@example.com", None)
    suppressions.remove(connection, suppression["id"], "typo", "bob")
    entry = connection.execute(sa.select(audit_log).where(audit_log.c.action == "suppression.remove")).mappings().one()
    assert (entry["actor"], entry["entity_id"]) == ("bob", str(suppression["id"]))
    assert entry["detail"] == {"reason": "typo", "suppressed_for": "bounce"}


def test_suppression_is_removed_once(engine: sa.Engine, connection: sa.Connection) -> None:
    suppress(engine, "ann@example.com")
    suppression = suppressions.find(connection, "ann@example.com", None)
    suppressions.remove(connection, suppression["id"], "typo", "bob")
    with pytest.raises(Conflict):
        suppressions.remove(connection, suppression["id"], "typo", "bob")
    with pytest.raises(NotFound):
        suppressions.remove(connection, uuid.uuid4(), "typo", "bob")


def test_import_takes_addresses_and_domains_and_names_the_rest(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(connection, engine, ["a@example.com", "b@example.org", "c@example.net"])
    values = ["A@example.com", "example.org", "nonsense", "a@example.com"]
    entries = [suppressions.ListEntry(f"values.{index}", value) for index, value in enumerate(values)]
    done = suppressions.import_suppressions(connection, entries, "ann", "old tool")
    connection.commit()
    assert done.total == 4
    assert done.suppressed.created == {"a@example.com", "example.org"}
    assert [error.field for error in done.errors] == ["values.2"]
    assert statuses(engine, campaign_id) == {"pending": 2, "skipped": 4}


@pytest.mark.parametrize("value", ["", "ann", "ann@", "a@b@c", "exa mple.com", "ann@example.com, bob@example.com"])
def test_text_that_is_neither_address_nor_domain_is_refused(connection: sa.Connection, value: str) -> None:
    with pytest.raises(InvalidInput):
        suppressions.suppress(connection, value, "manual", "ann")


def test_concurrent_suppressions_of_the_same_addresses_wait_for_each_other(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    addresses = [f"lead{number}@example.com" for number in range(50)]
    campaign_id = started(connection, engine, list(addresses))
    failures: list[Exception] = []

    def run(order: list[str]) -> None:
        try:
            with engine.begin() as own:
                suppressions.suppress_all(own, [suppressions.NewSuppression(each, "bounce") for each in order], "ann")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(order,)) for order in (addresses, addresses[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert statuses(engine, campaign_id) == {"skipped": 100}
