"""Workflows that are edited while their campaign takes in leads: who gets what, and what the statistics say."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, campaign_counts, intake, lifecycle, schedule_emails, variants, winners
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core.errors import NotFound
from sendledger.core.reader import Source
from sendledger.core.tables import (
    campaign_steps,
    campaigns,
    email_templates,
    leads,
    workflow_step_variants,
    workflow_steps,
)
from sendledger.exports.export_rows import LEDGER_HEADER, ledger_rows
from sendledger.feedback import lead_timeline
from sendledger.ledger import claim_emails, scheduled_emails
from sendledger.policy.planned_campaigns import SesLimits
from sendledger.preflight import check_content, plan
from sendledger.preflight.diagnose import diagnose
from sendledger.preflight.findings import Findings
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import (
    DAY,
    NO_DELAY,
    campaign_row,
    make_batch,
    make_campaign,
    make_template,
    make_variants,
    make_workflow,
    pass_time,
    rows_of,
    statuses,
)
from testbed.databases import working_as
from testbed.invariants import assert_ledger_is_consistent, let_it_settle
from tests.campaigns.test_intake import new_leads

HOUR = DAY / 24


def evergreen(engine: sa.Engine, connection: sa.Connection, delays: Sequence[Any], **values: Any) -> uuid.UUID:
    """A running evergreen campaign with the lead old@example.com."""
    campaign_id = make_campaign(connection, ["old@example.com"], delays, **{"evergreen": True, **values})
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def edit_template(connection: sa.Connection, campaign_id: uuid.UUID, step: int, **values: Any) -> None:
    """Edit the template of a step of the campaign's workflow."""
    of_campaign = sa.select(campaigns.c.workflow_id).where(campaigns.c.id == campaign_id).scalar_subquery()
    of_step = sa.select(workflow_steps.c.email_template_id).where(
        workflow_steps.c.workflow_id == of_campaign, workflow_steps.c.step_number == step
    )
    connection.execute(
        sa.update(email_templates).where(email_templates.c.id == of_step.scalar_subquery()).values(values)
    )
    connection.commit()


def replace_steps(connection: sa.Connection, campaign_id: uuid.UUID, delays: Sequence[Any], subject: str) -> None:
    """Give the campaign's workflow other steps."""
    workflow_id = connection.scalar(sa.select(campaigns.c.workflow_id).where(campaigns.c.id == campaign_id))
    connection.execute(sa.delete(workflow_steps).where(workflow_steps.c.workflow_id == workflow_id))
    for number, delay in enumerate(delays, 1):
        template_id = make_template(connection, subject=f"{subject} {number}")
        values = {"workflow_id": workflow_id, "step_number": number, "delay": delay, "email_template_id": template_id}
        connection.execute(sa.insert(workflow_steps).values(values))
    connection.commit()


def come_in(engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, *addresses: str) -> intake.TakenIn:
    return intake.add_leads(engine, campaign_id, new_leads(connection, *addresses), "ann")


def revisions(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[int, int]:
    """The emails of each revision."""
    return dict(Counter(row["revision"] for row in rows_of(engine, campaign_id)))


def sent_to(ses: SesSimulator, address: str) -> list[str]:
    return [email.subject for email in ses.accepted() if address in email.destination]


def test_later_lead_gets_the_edited_workflow_and_the_one_under_way_keeps_its_own(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY, DAY])
    replace_steps(connection, campaign_id, [NO_DELAY, HOUR], "New")

    taken = come_in(engine, connection, campaign_id, "new@example.com")

    assert (taken.revision, taken.emails, taken.problems) == (2, 2, [])
    assert revisions(engine, campaign_id) == {1: 3, 2: 2}
    intake.finish_intake(engine, campaign_id, "ann")
    let_it_settle(engine, resources)
    assert sent_to(ses, "old@example.com") == ["Step 1 for Ann0", "Step 2 for Ann0", "Step 3 for Ann0"]
    assert sent_to(ses, "new@example.com") == ["New 1", "New 2"]
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert_ledger_is_consistent(engine, ses)


def test_step_that_an_edit_adds_goes_to_later_leads_only(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY])
    replace_steps(connection, campaign_id, [NO_DELAY, DAY, DAY], "New")

    come_in(engine, connection, campaign_id, "new@example.com")

    of_revision = {1: [1], 2: [1, 2, 3]}
    for revision, steps in of_revision.items():
        own = [row["workflow_step_number"] for row in rows_of(engine, campaign_id) if row["revision"] == revision]
        assert own == steps


def test_workflow_that_is_as_it_was_makes_no_revision(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    come_in(engine, connection, campaign_id, "b@example.com")
    edit_template(connection, campaign_id, 2, name="Another name")

    assert come_in(engine, connection, campaign_id, "c@example.com").revision == 1


def test_revision_is_made_once_for_each_edit_and_is_in_the_audit_log(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    for number in range(2, 4):
        edit_template(connection, campaign_id, 2, subject=f"Subject {number}")
        for lead in "ab":
            taken = come_in(engine, connection, campaign_id, f"{lead}{number}@example.com")
            assert taken.revision == number

    audited = sa.text("SELECT actor, detail FROM audit_log WHERE action = 'campaign.revision' ORDER BY id")
    assert connection.execute(audited).all() == [("ann", {"revision": 2}), ("ann", {"revision": 3})]


def test_edit_that_cannot_be_sent_is_named_and_leads_get_the_revision_before(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    edit_template(connection, campaign_id, 2, subject="Hello {{ first_name")

    broken = come_in(engine, connection, campaign_id, "b@example.com")

    assert (broken.revision, broken.emails, [problem.field for problem in broken.problems]) == (
        1,
        2,
        ["steps.2.subject"],
    )
    edit_template(connection, campaign_id, 2, subject="Hello {{ first_name }}")
    assert come_in(engine, connection, campaign_id, "c@example.com").revision == 2


def test_intake_in_the_background_says_what_is_wrong_with_an_edit_until_it_is_fixed(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = evergreen(engine, connection, [HOUR], intake={"every": "1 day"})
    (batch_id,) = campaign_row(engine, campaign_id)["batch_ids"]

    def comes_in_by_itself(address: str) -> None:
        (lead_id,) = new_leads(connection, address)
        connection.execute(sa.update(leads).where(leads.c.id == lead_id).values(batch_id=batch_id))
        connection.execute(sa.update(campaigns).values(next_intake_at=sa.func.now()))
        connection.commit()
        send_due_emails(resources, 60.0)

    edit_template(connection, campaign_id, 1, subject="Hello {{ first_name")
    comes_in_by_itself("b@example.com")
    comes_in_by_itself("c@example.com")

    assert revisions(engine, campaign_id) == {1: 3}
    (error,) = campaign_row(engine, campaign_id)["workflow_errors"]
    assert error["field"] == "steps.1.subject"
    found = diagnose(connection, campaign_id, "test")
    assert (found.cause, found.detail["workflow_errors"]) == ("not_due", [error])
    assert error["message"] in found.message
    audited = sa.text("SELECT detail FROM audit_log WHERE action = 'campaign.revision_refused'")
    assert connection.scalars(audited).all() == [{"errors": [error]}]
    connection.rollback()

    edit_template(connection, campaign_id, 1, subject="Hello")
    comes_in_by_itself("d@example.com")

    assert revisions(engine, campaign_id) == {1: 3, 2: 1}
    assert campaign_row(engine, campaign_id)["workflow_errors"] == []


def test_workflow_that_was_deleted_goes_on_as_it_was(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    connection.execute(sa.text("DELETE FROM workflows"))
    connection.commit()

    taken = come_in(engine, connection, campaign_id, "b@example.com")

    assert (taken.emails, [problem.field for problem in taken.problems]) == (2, ["email_template_id"])


def test_campaign_that_was_started_before_there_were_revisions_gets_one_with_its_next_edit(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    connection.execute(sa.update(campaigns).values(revision_digest=None))
    edit_template(connection, campaign_id, 2, subject="Before")
    assert come_in(engine, connection, campaign_id, "b@example.com").revision == 1
    edit_template(connection, campaign_id, 2, subject="After")
    assert come_in(engine, connection, campaign_id, "c@example.com").revision == 2


def test_single_template_has_revisions_too(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["old@example.com"], evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.update(email_templates).values(subject="New"))
    come_in(engine, connection, campaign_id, "new@example.com")

    send_due_emails(resources, 60.0)

    assert (sent_to(ses, "old@example.com"), sent_to(ses, "new@example.com")) == (["Hello Ann0"], ["New"])


def test_gap_of_each_lead_is_that_of_its_revision(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    replace_steps(connection, campaign_id, [NO_DELAY, 3 * DAY], "New")
    come_in(engine, connection, campaign_id, "new@example.com")
    pass_time(engine, HOUR)  # the first steps go out late, so the second ones are moved

    send_due_emails(resources, 60.0)

    rows = rows_of(engine, campaign_id)
    sent = {row["revision"]: row["sent_at"] for row in rows if row["workflow_step_number"] == 1}
    due = {row["revision"]: row["scheduled_for"] for row in rows if row["workflow_step_number"] == 2}
    assert {revision: due[revision] - sent[revision] for revision in (1, 2)} == {1: DAY, 2: 3 * DAY}


def test_thread_and_condition_are_those_of_the_revision(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY], track_clicks=True)
    connection.execute(sa.update(workflow_steps).where(workflow_steps.c.step_number == 2).values(in_thread=True))
    connection.commit()
    come_in(engine, connection, campaign_id, "thread@example.com")
    connection.execute(
        sa.update(workflow_steps)
        .where(workflow_steps.c.step_number == 2)
        .values(in_thread=False, only_if_event="clicked", only_if_step=1)
    )
    connection.commit()
    come_in(engine, connection, campaign_id, "condition@example.com")
    intake.finish_intake(engine, campaign_id, "ann")

    let_it_settle(engine, resources)

    assert sent_to(ses, "old@example.com") == ["Step 1 for Ann0", "Step 2 for Ann0"]
    assert sent_to(ses, "thread@example.com") == ["Step 1 for Ann0", "Re: Step 1 for Ann0"]
    assert sent_to(ses, "condition@example.com") == ["Step 1 for Ann0"]
    assert statuses(engine, campaign_id) == {"sent": 5, "skipped": 1}


def test_intake_in_the_background_makes_one_revision_for_all_its_buckets(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY, DAY], intake={"every": "1 hour"})
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 4)
    batch_id = make_batch(connection, [f"l{number}@example.com" for number in range(10)])
    connection.execute(sa.update(campaigns).values(batch_ids=[batch_id], next_intake_at=sa.func.now()))
    replace_steps(connection, campaign_id, [NO_DELAY, DAY], "New")

    with working_as("sender", engine) as sender:
        with sender.begin() as working:
            assert intake.begin_due_intakes(working) == 1
        background_work.work_until(sender, campaign_id, float("inf"))

    assert revisions(engine, campaign_id) == {1: 3, 2: 20}


def test_email_that_is_added_to_a_lead_is_of_its_revision(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    replace_steps(connection, campaign_id, [NO_DELAY, DAY, DAY], "New")
    come_in(engine, connection, campaign_id, "new@example.com")
    rows = rows_of(engine, campaign_id)
    old = next(row["lead_id"] for row in rows if row["revision"] == 1)
    connection.execute(sa.text("DELETE FROM scheduled_emails WHERE revision = 1 AND workflow_step_number = 2"))
    kept = sa.select(campaign_steps.c.email_template_id).where(
        campaign_steps.c.revision == 1, campaign_steps.c.step_number == 2
    )
    template_id = connection.scalar(kept)
    assert template_id is not None

    schedule_emails.schedule_email_for_lead(connection, campaign_id, old, template_id, NO_DELAY, 2)
    connection.commit()

    assert revisions(engine, campaign_id) == {1: 2, 2: 3}


@pytest.mark.parametrize("keep", [True, False])
def test_leads_of_a_revision_are_split_exactly_by_themselves(
    engine: sa.Engine, connection: sa.Connection, keep: bool
) -> None:
    weights = (4, 3, 2, 1)
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, weights)
    connection.execute(sa.update(workflow_steps).values(keep_variant=keep))
    campaign_id = make_campaign(connection, 1, workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    edit_template(connection, campaign_id, 1, body_text="Edited")

    for number in range(6):
        come_in(engine, connection, campaign_id, f"new{number}@example.com")

        found = Counter(row["variant"] for row in rows_of(engine, campaign_id) if row["revision"] == 2)
        for variant, weight in enumerate(weights, 1):
            assert abs(found[variant] - found.total() * weight / sum(weights)) < 1, found


def test_retired_variant_stays_retired_in_later_revisions(engine: sa.Engine, connection: sa.Connection) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1, 2))
    campaign_id = make_campaign(connection, 8, workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 3, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))
    edit_template(connection, campaign_id, 1, body_text="Edited")

    come_in(engine, connection, campaign_id, *(f"new{number}@example.com" for number in range(8)))

    found = Counter((row["revision"], row["variant"]) for row in rows_of(engine, campaign_id))
    assert found == {(1, 1): 4, (1, 2): 4, (2, 1): 4, (2, 2): 4}
    kept = {each["variant"]: each["replaced_by"] for each in variants.kept_variants(connection, campaign_id)}
    assert kept == {1: None, 2: None, 3: 1}


def test_retiring_covers_each_revision_with_the_same_template(engine: sa.Engine, connection: sa.Connection) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1))
    campaign_id = make_campaign(connection, 4, workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    edit_template(connection, campaign_id, 1, body_text="Edited")
    come_in(engine, connection, campaign_id, *(f"new{number}@example.com" for number in range(4)))

    with engine.begin() as retiring, pytest.raises(NotFound):
        variants.retire(retiring, campaign_id, 1, 2, "ann", revision=3)
    with engine.begin() as retiring:
        assert variants.retire(retiring, campaign_id, 1, 2, "ann")["revision"] == 2
    background_work.work_until(engine, campaign_id, float("inf"))

    found = Counter((row["revision"], row["variant"]) for row in rows_of(engine, campaign_id))
    assert found == {(1, 1): 4, (2, 1): 4}


def take_away_first_variant(connection: sa.Connection, campaign_id: uuid.UUID) -> None:
    """Edit the first step of the campaign's workflow, so that its other variants have other numbers."""
    own = workflow_step_variants
    connection.execute(sa.delete(own).where(own.c.variant == 1))
    connection.execute(sa.update(own).values(variant=own.c.variant - 1))
    connection.commit()


def test_retired_variant_stays_retired_when_an_edit_changes_its_number(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1, 1))
    campaign_id = make_campaign(connection, 6, workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 2, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))
    take_away_first_variant(connection, campaign_id)

    come_in(engine, connection, campaign_id, *(f"new{number}@example.com" for number in range(4)))

    found = Counter((row["revision"], row["variant"]) for row in rows_of(engine, campaign_id))
    assert found == {(1, 1): 3, (1, 3): 3, (2, 2): 4}


def test_retiring_covers_the_same_template_under_another_number(engine: sa.Engine, connection: sa.Connection) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1, 1))
    campaign_id = make_campaign(connection, 6, workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    take_away_first_variant(connection, campaign_id)
    come_in(engine, connection, campaign_id, *(f"new{number}@example.com" for number in range(4)))

    with engine.begin() as retiring:
        assert variants.retire(retiring, campaign_id, 1, 2, "ann")["revision"] == 2
    background_work.work_until(engine, campaign_id, float("inf"))

    found = Counter((row["revision"], row["variant"]) for row in rows_of(engine, campaign_id))
    assert found == {(1, 1): 3, (1, 2): 3, (2, 1): 4}


@pytest.fixture
def tested(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """An evergreen campaign whose first step has two variants, of which half of the leads test."""
    workflow_id = make_workflow(connection, [NO_DELAY, DAY])
    make_variants(connection, workflow_id, (1, 1))
    winner = {"by": "replied", "test_share": 50, "after_seconds": 4 * 3600}
    connection.execute(sa.update(workflow_steps).where(workflow_steps.c.step_number == 1).values(winner=winner))
    campaign_id = make_campaign(connection, 8, workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def test_decision_stays_while_its_variants_do(engine: sa.Engine, connection: sa.Connection, tested: uuid.UUID) -> None:
    with engine.begin() as deciding:
        winners.choose(deciding, tested, 1, 2, "ann")
    background_work.work_until(engine, tested, float("inf"))
    edit_template(connection, tested, 2, body_text="Edited")

    come_in(engine, connection, tested, "a@example.com", "b@example.com")

    found = winners.decisions(connection, tested)
    assert {key: each["variant"] for key, each in found.items()} == {(1, 1): 2, (2, 1): 2}
    new = [row for row in rows_of(engine, tested) if row["revision"] == 2 and row["workflow_step_number"] == 1]
    assert {row["variant"] for row in new} == {None}


def test_decision_stays_with_its_template_when_an_edit_moves_the_variants(
    engine: sa.Engine, connection: sa.Connection, tested: uuid.UUID
) -> None:
    with engine.begin() as deciding:
        winners.choose(deciding, tested, 1, 2, "ann")
    background_work.work_until(engine, tested, float("inf"))
    own = workflow_step_variants
    first, second = connection.scalars(sa.select(own.c.email_template_id).order_by(own.c.variant))
    moved = sa.case((own.c.variant == 1, second), else_=first)
    connection.execute(sa.update(own).values(email_template_id=moved))
    connection.execute(
        sa.update(workflow_steps).where(workflow_steps.c.step_number == 1).values(email_template_id=second)
    )
    connection.commit()

    come_in(engine, connection, tested, "a@example.com", "b@example.com")

    found = winners.decisions(connection, tested)
    assert {key: each["variant"] for key, each in found.items()} == {(1, 1): 2, (2, 1): 1}


def test_edited_variants_are_tested_again_by_their_own_leads(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, tested: uuid.UUID
) -> None:
    send_due_emails(resources, 60.0)
    with engine.begin() as deciding:
        winners.choose(deciding, tested, 1, 2, "ann")
    pass_time(engine, HOUR)
    edit_template(connection, tested, 1, body_text="Edited")
    come_in(engine, connection, tested, *(f"new{number}@example.com" for number in range(8)))
    send_due_emails(resources, 60.0)
    assert winners.decisions(connection, tested)[2, 1]["decided_at"] is None
    first_step = sa.text("workflow_step_number = 1 AND revision = 2")
    emails = connection.execute(
        sa.text(f"SELECT variant, status FROM scheduled_emails WHERE {first_step} ORDER BY id")
    ).all()
    assert Counter(emails) == {(1, "sent"): 2, (2, "sent"): 2, (None, "pending"): 4}
    connection.rollback()
    pass_time(engine, 4 * HOUR)

    assert winners.decide_due(engine) == 1

    audited = sa.text("SELECT detail FROM audit_log WHERE action = 'campaign.winner' ORDER BY id DESC LIMIT 1")
    assert connection.scalar(audited) == {
        "revision": 2,
        "step_number": 1,
        "variant": None,
        "counts": {"1": [0, 2], "2": [0, 2]},
    }


def test_statistics_have_the_steps_of_each_revision(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    assert campaign_counts.campaign_stats(connection, get_campaign(connection, campaign_id))["by_revision"] == []
    connection.rollback()
    replace_steps(connection, campaign_id, [NO_DELAY], "New")
    come_in(engine, connection, campaign_id, "a@example.com", "b@example.com")
    send_due_emails(resources, 60.0)

    stats = campaign_counts.campaign_stats(connection, get_campaign(connection, campaign_id))

    counted = [
        (each["revision"], step["step_number"], step["by_status"]["sent"], step["by_status"]["pending"])
        for each in stats["by_revision"]
        for step in each["steps"]
    ]
    assert counted == [(1, 1, 1, 0), (1, 2, 0, 1), (2, 1, 2, 0)]
    assert [step["by_status"]["sent"] for step in stats["by_step"]] == [3, 0]
    assert stats["by_revision"][1]["steps"][0]["funnel"]["sent"] == 2


def test_lists_exports_and_timelines_name_the_revision(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY])
    edit_template(connection, campaign_id, 1, subject="New")
    come_in(engine, connection, campaign_id, "new@example.com")
    (lead_id,) = [row["lead_id"] for row in rows_of(engine, campaign_id) if row["revision"] == 2]

    listed = scheduled_emails.list_page(connection, 10, None, campaign_id=campaign_id).items
    exported = [row for page in ledger_rows(Source(engine, None), campaign_id) for row in page]
    happened = lead_timeline.list_page(connection, lead_id, 10, None).items

    assert sorted(row["revision"] for row in listed) == [1, 2]
    assert sorted(row[LEDGER_HEADER.index("revision")] for row in exported) == [1, 2]  # type: ignore[type-var]
    assert [each["revision"] for each in happened] == [None, 2]


def test_refresh_renews_the_revisions_with_as_many_steps_as_the_workflow_has_now(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = evergreen(engine, connection, [HOUR])
    edit_template(connection, campaign_id, 1, subject="Second")
    come_in(engine, connection, campaign_id, "second@example.com")
    replace_steps(connection, campaign_id, [HOUR, DAY], "Third")
    come_in(engine, connection, campaign_id, "third@example.com")
    replace_steps(connection, campaign_id, [HOUR], "Last")
    come_in(engine, connection, campaign_id, "last@example.com")
    lifecycle.pause_campaign(engine, campaign_id)
    edit_template(connection, campaign_id, 1, subject="Renewed")
    findings = Findings()
    mail = resources.settings
    check_content.check_refreshed_content(connection, get_campaign(connection, campaign_id), mail, findings, 10.0)
    assert findings.facts["leads_rendered"] == 3
    connection.rollback()

    resumed = lifecycle.resume_campaign(engine, campaign_id, refresh_content=True)
    pass_time(engine, HOUR)
    send_due_emails(resources, 60.0)

    assert resumed.refreshed_steps == [1]
    assert {sent_to(ses, f"{name}@example.com")[0] for name in ("old", "second", "last")} == {"Renewed"}
    assert sent_to(ses, "third@example.com") == ["Third 1"]


def test_leads_after_a_refresh_get_the_revision_that_it_has_renewed(
    engine: sa.Engine, connection: sa.Connection, tested: uuid.UUID
) -> None:
    lifecycle.pause_campaign(engine, tested)
    edit_template(connection, tested, 1, body_text="Renewed")

    assert lifecycle.resume_campaign(engine, tested, refresh_content=True).refreshed_steps == [1]

    assert come_in(engine, connection, tested, "later@example.com").revision == 1


def test_refresh_leaves_an_edited_delay_to_the_next_revision(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, HOUR])
    lifecycle.pause_campaign(engine, campaign_id)
    connection.execute(sa.update(workflow_steps).where(workflow_steps.c.step_number == 2).values(delay=DAY))
    connection.commit()
    edit_template(connection, campaign_id, 1, body_text="Renewed")

    lifecycle.resume_campaign(engine, campaign_id, refresh_content=True)

    assert come_in(engine, connection, campaign_id, "later@example.com").revision == 2


def test_plan_counts_the_steps_of_each_revision(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY, DAY])
    replace_steps(connection, campaign_id, [NO_DELAY], "New")
    come_in(engine, connection, campaign_id, "new@example.com")

    days = plan.plan(connection, campaign_id, SesLimits(rate=10.0)).days

    planned: Counter[int] = Counter()
    for day in days:
        for (step, _), count in day.emails.items():
            planned[step] += count
    assert planned == {1: 2, 2: 1, 3: 1}


def test_version_that_does_not_know_revisions_claims_nothing_of_a_campaign_with_several(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(engine, connection, [NO_DELAY, DAY])
    edit_template(connection, campaign_id, 1, subject="Edited")
    come_in(engine, connection, campaign_id, "new@example.com")
    assert campaign_row(engine, campaign_id)["revision"] == 2
    connection.execute(sa.text("SET sendledger.knows_revisions = ''"))
    with pytest.raises(sa.exc.DBAPIError, match="several revisions"):
        claim_emails.claim(connection, 10, uuid.uuid4())
    connection.rollback()
    connection.execute(sa.text("SET sendledger.knows_revisions = 'on'"))
    claimed = claim_emails.claim(connection, 10, uuid.uuid4())
    connection.rollback()
    assert [email.revision for email in claimed] == [1, 2]
