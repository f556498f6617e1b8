"""What the campaigns of an existing installation become: what was sent stays sent, what is missing is planned."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.adoption.campaign import AdoptionOptions
from sendledger.adoption.report import AdoptionReport, CampaignReport
from sendledger.adoption.run import adopt_existing_campaigns
from sendledger.campaigns import background_work, intake, lifecycle
from sendledger.core.errors import Conflict
from sendledger.core.tables import (
    adopted_campaigns,
    campaigns,
    email_templates,
    emails,
    lead_batches,
    left_out_leads,
    suppressions,
    workflow_steps,
)
from testbed.campaigns import campaign_row, rows_of, statuses
from testbed.databases import plain_engine
from testbed.legacy_database import DAY, THREE_STEPS, OldApplication, adopt, old_application, old_rows


@pytest.fixture
def legacy(engine: sa.Engine) -> sa.Engine:
    """Migrated and empty, which is the same for a database that was LeadNexConnect's (test_adopt_schema.py)."""
    return engine


@pytest.fixture
def old(legacy: sa.Engine) -> Iterator[OldApplication]:
    """Writes at once, as the old application does."""
    other = plain_engine(legacy.url, isolation_level="AUTOCOMMIT")
    with other.connect() as connection:
        yield OldApplication(connection)


def planned(engine: sa.Engine, campaign_id: uuid.UUID, lead_id: uuid.UUID) -> dict[int, tuple[str, str | None]]:
    """Step → status and reason."""
    rows = [row for row in rows_of(engine, campaign_id) if row["lead_id"] == lead_id]
    return {row["workflow_step_number"]: (row["status"], row["reason"]) for row in rows}


def due_in_days(engine: sa.Engine, campaign_id: uuid.UUID, lead_id: uuid.UUID, step: int) -> float:
    (row,) = (
        row for row in rows_of(engine, campaign_id) if (row["lead_id"], row["workflow_step_number"]) == (lead_id, step)
    )
    left: dt.timedelta = row["scheduled_for"] - dt.datetime.now(dt.UTC)
    return left / DAY


def report_of(report: AdoptionReport, campaign_id: uuid.UUID) -> CampaignReport:
    (found,) = (campaign for campaign in report.campaigns if campaign.id == str(campaign_id))
    return found


SENT, PENDING = ("sent", None), ("pending", None)


def test_active_campaign_runs_with_what_was_sent_and_what_is_missing(legacy: sa.Engine, old: OldApplication) -> None:
    batch = old.batch()
    fresh, one, two, three = old.leads(4, "lead", batch_id=batch)
    campaign = old.campaign(
        status="active", campaign_type="manual", batch_id=batch, workflow_id=old.workflow(THREE_STEPS)
    )
    old.email(campaign, one, 1)
    for stage, days in (("initial", 4), ("follow_up_1", 1)):
        old.email(campaign, two, days, follow_up_stage=stage)
    for stage, days in (("initial", 20), ("follow_up_1", 17), ("follow_up_2", 12)):
        old.email(campaign, three, days, follow_up_stage=stage)
    report = adopt(legacy)
    assert planned(legacy, campaign, fresh) == {1: PENDING, 2: PENDING, 3: PENDING}
    assert planned(legacy, campaign, one) == {1: SENT, 2: PENDING, 3: PENDING}
    assert planned(legacy, campaign, two) == {1: SENT, 2: SENT, 3: PENDING}
    assert planned(legacy, campaign, three) == {1: SENT, 2: SENT, 3: SENT}
    row = campaign_row(legacy, campaign)
    assert (row["status"], row["campaign_type"], row["batch_ids"]) == ("running", "outreach", [batch])
    assert (row["total_leads_targeted"], row["emails_scheduled_count"], row["emails_sent_count"]) == (4, 12, 6)
    assert row["current_workflow_step"] == 3
    assert not report.needs_a_person


def test_next_step_is_due_after_its_gap_from_the_last_email(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, lead, 1)
    adopt(legacy)
    assert due_in_days(legacy, campaign, lead, 1) == pytest.approx(-1, abs=0.01)
    assert due_in_days(legacy, campaign, lead, 2) == pytest.approx(2, abs=0.01)
    assert due_in_days(legacy, campaign, lead, 3) == pytest.approx(7, abs=0.01)


def test_overdue_steps_are_spread_over_days_the_longest_overdue_first(legacy: sa.Engine, old: OldApplication) -> None:
    leads = old.leads(5, "lead")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS), leads_per_day=2)
    for number, lead in enumerate(leads):
        old.email(campaign, lead, 50 - number)
    adopt(legacy)
    days = [due_in_days(legacy, campaign, lead, 2) for lead in leads]
    assert days == pytest.approx([0, 0, 1, 1, 2], abs=0.01)
    assert due_in_days(legacy, campaign, leads[4], 3) == pytest.approx(7, abs=0.01)


def test_campaign_that_begins_later_does_not_send_before(legacy: sa.Engine, old: OldApplication) -> None:
    batch = old.batch()
    (lead,) = old.leads(1, "lead", batch_id=batch)
    begin = dt.datetime.now(dt.UTC).replace(tzinfo=None) + 4 * DAY
    campaign = old.campaign(status="active", batch_id=batch, workflow_id=old.workflow(THREE_STEPS), start_date=begin)
    adopt(legacy)
    assert due_in_days(legacy, campaign, lead, 1) == pytest.approx(4, abs=0.01)
    assert campaign_row(legacy, campaign)["scheduled_start_at"] == begin.replace(tzinfo=dt.UTC)


def test_sent_row_and_its_email_know_each_other(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    email = old.email(campaign, lead, 1, external_id="0100abc", status="opened")
    adopt(legacy)
    row = rows_of(legacy, campaign)[0]
    with legacy.connect() as connection:
        stored = connection.execute(sa.select(emails).where(emails.c.id == email)).mappings().one()
    assert (row["email_id"], row["ses_message_id"], row["sent_at"]) == (email, "0100abc", stored["sent_at"])
    assert stored["scheduled_email_id"] == row["id"]


@pytest.mark.parametrize(
    ("stages", "had"),
    [
        ([None, None], {1, 2}),
        (["initial", "initial"], {1, 2}),
        (["initial", None, "follow_up_1"], {1, 2, 3}),
        (["follow_up_1"], {2}),
        (["unheard of"], {1}),
        (["follow_up_1", "follow_up_1"], {2}),
    ],
)
def test_steps_that_were_sent_are_found_by_stage_and_then_by_order(
    legacy: sa.Engine, old: OldApplication, stages: list[str | None], had: set[int]
) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    for number, stage in enumerate(stages):
        old.email(campaign, lead, 10 - number, follow_up_stage=stage, subject=f"Subject {number}")
    adopt(legacy)
    assert {step for step, (status, _) in planned(legacy, campaign, lead).items() if status == "sent"} == had


def test_same_email_sent_twice_is_one_step(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, lead, 2)
    old.email(campaign, lead, 1)
    report = adopt(legacy)
    assert planned(legacy, campaign, lead) == {1: SENT, 2: PENDING, 3: PENDING}
    assert due_in_days(legacy, campaign, lead, 2) == pytest.approx(2, abs=0.01)
    assert "1 emails were sent twice or beyond the last step" in report_of(report, campaign).notes


def test_step_before_the_last_one_sent_is_not_sent_any_more(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, lead, 1, follow_up_stage="follow_up_1")
    adopt(legacy)
    assert planned(legacy, campaign, lead) == {1: ("skipped", "later_step_sent"), 2: SENT, 3: PENDING}


@pytest.mark.parametrize(
    ("status", "days", "sent"),
    [
        *(("sent", 1, True), ("delivered", 1, True), ("opened", 1, True), ("clicked", None, True)),
        *(("queued", None, False), ("queued", 1, True), ("failed", None, False), ("failed", 1, False)),
        *((None, 1, True), (None, None, False)),
    ],
)
def test_queued_and_failed_emails_were_not_sent(
    legacy: sa.Engine, old: OldApplication, status: str | None, days: float | None, sent: bool
) -> None:
    batch = old.batch()
    (lead,) = old.leads(1, "lead", batch_id=batch)
    campaign = old.campaign(status="active", batch_id=batch, workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, lead, days, status=status)
    adopt(legacy)
    assert planned(legacy, campaign, lead)[1] == (SENT if sent else PENDING)


def test_leads_that_may_get_nothing_more_get_nothing_more(legacy: sa.Engine, old: OldApplication) -> None:
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    had = {
        "bounced": old.lead("bounced@example.com"),
        "spam": old.lead("Spam@example.com"),
        "lead_responded": old.lead("r@example.com", status="responded"),
        "lead_converted": old.lead("c@example.com", status="converted"),
        "no_address": old.lead(None),
        "invalid_address": old.lead("nobody"),
    }
    for reason, lead in had.items():
        old.email(campaign, lead, 10, status=reason if reason in ("bounced", "spam") else "delivered")
    new = [
        old.lead("i@example.com", status="invalid"),
        old.lead("n@example.com", status="not_interested"),
        old.lead(""),
    ]
    for lead in new:
        old.insert("campaign_leads", campaign_id=campaign, lead_id=lead)
    report = adopt(legacy)
    for reason, lead in had.items():
        expected = ("skipped", "suppressed" if reason in ("bounced", "spam") else reason)
        assert planned(legacy, campaign, lead) == {1: SENT, 2: expected, 3: expected}
    assert not any(planned(legacy, campaign, lead) for lead in new)
    left_out = {"lead_invalid": 1, "lead_not_interested": 1, "no_address": 1}
    assert campaign_row(legacy, campaign)["leads_left_out"] == left_out
    assert report_of(report, campaign).leads_left_out == left_out
    with legacy.connect() as connection:
        found = {row.value: row.reason for row in connection.execute(sa.select(suppressions))}
        kept = {row.lead_id: row.reason for row in connection.execute(sa.select(left_out_leads))}
    assert found == {"bounced@example.com": "bounce", "spam@example.com": "complaint"}
    assert kept == dict(zip(new, ("lead_invalid", "lead_not_interested", "no_address"), strict=True))


def test_suppression_that_an_operator_removed_does_not_come_back(legacy: sa.Engine, old: OldApplication) -> None:
    old.email(None, old.lead("bounced@example.com"), 10, status="bounced")
    assert adopt(legacy).tables["suppressions"] == 1
    with legacy.begin() as connection:
        connection.execute(sa.update(suppressions).values(removed_at=sa.func.now()))
    assert adopt(legacy).tables["suppressions"] == 0


def test_of_two_leads_with_one_address_the_one_that_has_had_more_goes_on(
    legacy: sa.Engine, old: OldApplication
) -> None:
    batch = old.batch()
    leads = sorted(old.lead(address, batch_id=batch) for address in ("ann@example.com", "ANN@example.com "))
    campaign = old.campaign(status="active", batch_id=batch, workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, leads[1], 1)
    adopt(legacy)
    assert planned(legacy, campaign, leads[1]) == {1: SENT, 2: PENDING, 3: PENDING}
    assert planned(legacy, campaign, leads[0]) == {}


def test_paused_campaign_stays_paused_until_it_is_resumed(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="paused", workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, lead, 1)
    adopt(legacy)
    waiting = ("cancelled", "paused")
    assert planned(legacy, campaign, lead) == {1: SENT, 2: waiting, 3: waiting}
    assert campaign_row(legacy, campaign)["status"] == "paused"
    lifecycle.resume_campaign(legacy, campaign)
    assert planned(legacy, campaign, lead) == {1: SENT, 2: PENDING, 3: PENDING}
    assert due_in_days(legacy, campaign, lead, 2) == pytest.approx(2, abs=0.01)


def test_completed_campaign_with_missing_emails_is_listed_and_reopened_when_asked(
    legacy: sa.Engine, old: OldApplication
) -> None:
    lead = old.lead("ann@example.com")
    incomplete, other, complete = (
        old.campaign(name, status="completed", workflow_id=old.workflow(THREE_STEPS)) for name in "abc"
    )
    old.email(incomplete, lead, 30)
    old.email(other, lead, 30)
    for stage in ("initial", "follow_up_1", "follow_up_2"):
        old.email(complete, lead, 30, follow_up_stage=stage)
    report = adopt(legacy)
    assert report_of(report, incomplete).missing == 2
    assert report_of(report, complete).missing == 0
    assert campaign_row(legacy, incomplete)["status"] == "completed"
    assert not report.needs_a_person
    adopt(legacy, reopen=[incomplete])
    assert campaign_row(legacy, incomplete)["status"] == "running"
    assert statuses(legacy, incomplete) == {"sent": 1, "pending": 2}
    assert campaign_row(legacy, other)["status"] == "completed"
    adopt(legacy, reopen=True)
    assert [campaign_row(legacy, campaign)["status"] for campaign in (incomplete, other, complete)] == [
        *("running", "running", "completed")
    ]


def test_campaign_that_cannot_be_reopened_is_named(legacy: sa.Engine) -> None:
    unknown = uuid.uuid4()
    assert adopt(legacy, reopen=[unknown]).problems == [f"campaign {unknown} is not one that could be reopened"]


def test_campaign_whose_end_date_has_passed_is_paused_for_a_person(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS), end_date=dt.datetime(2020, 1, 1))  # noqa: DTZ001
    old.email(campaign, lead, 1)
    report = adopt(legacy)
    assert campaign_row(legacy, campaign)["status"] == "paused"
    assert report.needs_a_person


@pytest.mark.parametrize("campaign_type", ["automated", "manual", None])
def test_columns_get_their_new_names(legacy: sa.Engine, old: OldApplication, campaign_type: str | None) -> None:
    batch = old.batch()
    start = dt.datetime(2024, 5, 1, 8, 30)  # noqa: DTZ001
    values: dict[str, Any] = {"batch_id": batch, "emails_sent": 7, "leads_generated": 9, "start_date": start}
    values["email_template_id"] = old.template("t", subject="plain", body_text="plain")
    campaign = old.campaign(campaign_type=campaign_type, status="archived", **values)
    adopt(legacy)
    row = campaign_row(legacy, campaign)
    assert (row["campaign_type"], row["batch_ids"], row["scheduled_start_at"]) == (
        *("outreach", [batch], start.replace(tzinfo=dt.UTC)),
    )
    assert (row["emails_sent_count"], row["total_leads_targeted"]) == (7, 9)
    assert (row["emails_sent"], row["leads_generated"], row["batch_id"]) == (7, 9, batch)


def test_campaign_that_only_generated_leads_stays_with_the_old_application(
    legacy: sa.Engine, old: OldApplication
) -> None:
    campaign = old.campaign(status="active", campaign_type="automated", leads_generated=30, uses_apollo=True)
    old.insert("campaign_leads", campaign_id=campaign, lead_id=old.lead("ann@example.com"))
    report = adopt(legacy)
    row = campaign_row(legacy, campaign)
    assert (row["campaign_type"], row["status"], row["total_leads_targeted"]) == ("lead_generation", "active", 30)
    assert rows_of(legacy, campaign) == []
    assert not report.needs_a_person


def test_follow_ups_without_a_workflow_become_one(legacy: sa.Engine, old: OldApplication) -> None:
    first = old.template("First", industry="spa")
    old.template("General", follow_up_stage="follow_up_1", is_default=True)
    wanted = old.template("Spa follow-up", "Again {{company_name}}", follow_up_stage="follow_up_1", industry="spa")
    old.template("Off", follow_up_stage="follow_up_2", industry="spa", is_active=False)
    old.template("Last", follow_up_stage="follow_up_2")
    lead = old.lead("ann@example.com")
    campaign = old.campaign(
        status="active", industry="spa", email_template_id=first, follow_up_1_delay_days=2, follow_up_2_delay_days=None
    )
    old.email(campaign, lead, 1)
    adopt(legacy)
    assert planned(legacy, campaign, lead) == {1: SENT, 2: PENDING, 3: PENDING}
    assert due_in_days(legacy, campaign, lead, 2) == pytest.approx(1, abs=0.01)
    assert due_in_days(legacy, campaign, lead, 3) == pytest.approx(6, abs=0.01)
    row = campaign_row(legacy, campaign)
    assert row["use_workflow"]
    with legacy.connect() as connection:
        query = sa.select(workflow_steps, email_templates.c.subject.label("ours")).join(email_templates)
        steps = connection.execute(query.order_by("step_number")).mappings().all()
    assert [step["workflow_id"] for step in steps] == [row["workflow_id"]] * 3
    assert [step["days_after_previous"] for step in steps] == [0, 2, 5]
    assert (steps[1]["subject"], steps[1]["ours"]) == (
        *("Again {{company_name}}", "Again {{ company_name | default('') }}"),
    )
    assert wanted not in [step["email_template_id"] for step in steps]


def test_campaign_with_one_template_and_no_follow_ups_sends_one_email(legacy: sa.Engine, old: OldApplication) -> None:
    batch = old.batch()
    had, fresh = old.leads(2, "lead", batch_id=batch)
    template = old.template("Only one")
    campaign = old.campaign(status="active", batch_id=batch, email_template_id=template, follow_up_enabled=False)
    old.email(campaign, had, 5)
    adopt(legacy)
    assert planned(legacy, campaign, had) == {1: SENT}
    assert planned(legacy, campaign, fresh) == {1: PENDING}
    row = campaign_row(legacy, campaign)
    assert (row["workflow_id"], row["email_template_id"]) == (None, template)


def test_draft_can_be_started_with_its_follow_ups(legacy: sa.Engine, old: OldApplication) -> None:
    batch = old.batch()
    old.leads(2, "lead", batch_id=batch)
    for stage in ("follow_up_1", "follow_up_2"):
        old.template(stage, follow_up_stage=stage)
    campaign = old.campaign(batch_id=batch, email_template_id=old.template("First"), campaign_type="manual")
    report = adopt(legacy)
    assert report_of(report, campaign).status_after == "draft"
    lifecycle.start_campaign(legacy, campaign)
    assert statuses(legacy, campaign) == {"pending": 6}


def test_step_texts_become_templates_without_changes(legacy: sa.Engine, old: OldApplication) -> None:
    old.insert("custom_variables", key="sender", label="Sender", value="Nora", default_value=None)
    workflow = old.workflow([("Hi {{companyName}}", "<p>{{contactName}}, {{sender}} {% x %}</p>", 0)], name="Spring")
    before = old_rows(legacy)["workflow_steps"]
    report = adopt(legacy)
    assert old_rows(legacy)["workflow_steps"] == before
    assert (report.tables["email_templates"], report.tables["workflow_steps"]) == (1, 1)
    with legacy.connect() as connection:
        query = sa.select(email_templates).join(workflow_steps).where(workflow_steps.c.workflow_id == workflow)
        template = connection.execute(query).mappings().one()
    assert template["name"] == "Spring, step 1"
    assert template["subject"] == "Hi {{ company_name | default('') }}"
    assert template["body_html"] == (
        "<p>{{ contact_name | default('') }}, {{ custom_fields['sender'] | default('Nora') }} {{ '{' }}% x %}</p>"
    )
    assert template["is_active"] is False


def test_untranslatable_placeholder_is_named_and_its_campaign_left_alone(
    legacy: sa.Engine, old: OldApplication
) -> None:
    lead = old.lead("ann@example.com")
    workflow = old.workflow([("Hi", "On {{meetingSlot}}", 0), ("Again", "Hi", 3)], name="Meet")
    campaign = old.campaign(status="active", workflow_id=workflow)
    old.email(campaign, lead, 1)
    before = old_rows(legacy)["campaigns"]
    report = adopt(legacy)
    problem = "Meet, step 1: the placeholder {{meetingSlot}} cannot be translated"
    assert report.problems == [problem]
    assert report_of(report, campaign).problems == [f"left as it is: {problem}"]
    assert report.needs_a_person
    assert old_rows(legacy)["campaigns"] == before
    assert rows_of(legacy, campaign) == []
    old.insert("custom_variables", key="meetingSlot", label="Slot", value="Monday", default_value=None)
    assert not adopt(legacy).needs_a_person
    assert statuses(legacy, campaign) == {"sent": 1, "pending": 1}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "neither an email template nor a workflow"),
        ({"email_template_id": uuid.uuid4()}, "does not exist"),
        ({"template": True}, "no active email template for follow_up_1"),
        ({"template": True, "follow_up_enabled": False}, "no leads"),
    ],
)
def test_campaign_that_cannot_be_sent_needs_a_person(
    legacy: sa.Engine, old: OldApplication, values: dict[str, Any], problem: str
) -> None:
    if values.pop("template", False):
        values = {**values, "email_template_id": old.template("First")}
    campaign = old.campaign(status="active", campaign_type="manual", **values)
    report = adopt(legacy)
    assert problem in report_of(report, campaign).problems[0]
    assert campaign_row(legacy, campaign)["status"] == "active"
    with legacy.connect() as connection:
        assert connection.execute(sa.select(adopted_campaigns)).all() == []


def test_lead_batch_goes_to_the_first_of_two_campaigns(legacy: sa.Engine, old: OldApplication) -> None:
    batch = old.batch("Spas")
    old.leads(1, "lead", batch_id=batch)
    workflow = old.workflow(THREE_STEPS)
    values = {"status": "active", "batch_id": batch, "workflow_id": workflow}
    first, second = (old.campaign(f"c{day}", created_at=f"2024-01-0{day}", **values) for day in (1, 2))
    for report in (adopt(legacy, dry_run=True), adopt(legacy)):
        assert report_of(report, second).notes == ["its lead batch 'Spas' is held by campaign 'c1'"]
        assert report_of(report, first).notes == []
    with legacy.connect() as connection:
        assert connection.scalar(sa.select(lead_batches.c.active_campaign_id)) == first


def test_emails_that_are_still_queued_are_mentioned(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS), emails_sent=1)
    old.email(campaign, lead, 1)
    old.email(campaign, lead, None, status="queued", follow_up_stage="follow_up_1")
    (note,) = report_of(adopt(legacy), campaign).notes
    assert note.startswith("1 emails are still queued by the old application")


def test_change_without_a_backup_is_refused(legacy: sa.Engine, old: OldApplication) -> None:
    old.campaign(status="active")
    before = old_rows(legacy)
    with pytest.raises(Conflict, match="Take a backup first"):
        adopt_existing_campaigns(legacy, AdoptionOptions())
    assert old_rows(legacy) == before


def test_dry_run_reports_what_a_run_does_and_changes_nothing(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    workflow = old.workflow(THREE_STEPS)
    for status in ("active", "paused", "completed", "draft"):
        campaign = old.campaign(status, status=status, workflow_id=workflow, emails_sent=1)
        old.email(campaign, lead, 1, status="bounced" if status == "draft" else "sent")
    old.campaign("single", status="active", email_template_id=old.template("t"), follow_up_enabled=False)
    before = everything(legacy)
    rehearsed = adopt(legacy, dry_run=True, backup=None)
    assert everything(legacy) == before
    done = adopt(legacy)
    assert {**rehearsed.as_dict(), "dry_run": False} == done.as_dict()
    assert everything(legacy) != before


def test_second_run_changes_nothing(legacy: sa.Engine, old: OldApplication) -> None:
    test_dry_run_reports_what_a_run_does_and_changes_nothing(legacy, old)
    before = everything(legacy)
    report = adopt(legacy)
    assert everything(legacy) == before
    assert +report.tables == {}


def test_run_that_was_killed_is_finished_by_the_next(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    workflow = old.workflow(THREE_STEPS)
    campaigns = [old.campaign(f"c{number}", status="active", workflow_id=workflow) for number in range(3)]
    for campaign in campaigns:
        old.email(campaign, lead, 1)

    def die(result: CampaignReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adopt_existing_campaigns(legacy, AdoptionOptions(backup="taken"), progress=die)
    assert [campaign_row(legacy, campaign)["status"] for campaign in campaigns].count("running") == 1
    adopt(legacy)
    assert all(statuses(legacy, campaign) == {"sent": 1, "pending": 2} for campaign in campaigns)


@pytest.mark.parametrize("dry_run", [True, False])
def test_nothing_is_locked_while_somebody_reads_what_became_of_a_campaign(
    legacy: sa.Engine, old: OldApplication, dry_run: bool
) -> None:
    for number in range(3):
        old.campaign(f"c{number}", status="active", campaign_type="manual")
    transactions = sa.text("""
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sendledger'
            AND xact_start IS NOT NULL
    """)
    read: list[int | None] = []
    adopt_existing_campaigns(
        legacy,
        AdoptionOptions(dry_run=dry_run, backup="taken"),
        progress=lambda _: read.append(old.connection.scalar(transactions)),
    )
    assert read == [0, 0, 0]


def test_run_whose_time_is_up_reports_that_it_is_not_finished(legacy: sa.Engine, old: OldApplication) -> None:
    old.campaign(status="archived", emails_sent=1)
    report = adopt_existing_campaigns(legacy, AdoptionOptions(backup="taken"), time_is_up=lambda: True)
    assert not report.finished
    assert +report.tables == {}


def everything(engine: sa.Engine) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        return {
            table: sorted(connection.scalars(sa.text(f"SELECT t::text FROM {table} t"))) for table in sorted(tables)
        }


def test_old_application_continues_to_work(legacy: sa.Engine, old: OldApplication) -> None:
    lead = old.lead("ann@example.com")
    campaign = old.campaign(status="active", workflow_id=old.workflow(THREE_STEPS))
    old.email(campaign, lead, 1)
    adopt(legacy)
    with old_application(legacy) as connection:
        connection.exec_driver_sql("UPDATE campaigns SET emails_sent = emails_sent + 1, emails_opened = 3")
        connection.exec_driver_sql("UPDATE emails SET status = 'opened', open_count = 2")
        later = OldApplication(connection).campaign("later", status="active", campaign_type="automated")
        assert connection.execute(sa.text("SELECT 'active'::campaign_status")).scalar_one() == "active"
    assert campaign_row(legacy, later)["status"] == "active"


@pytest.mark.parametrize(
    ("interval", "every"),
    [("daily", "1 day"), ("2_days", "2 days"), ("weekly", "1 week"), ("6 hours", "6 hours"), (None, "1 day")],
)
def test_recurring_campaign_takes_in_new_leads_of_its_batches(
    legacy: sa.Engine, old: OldApplication, interval: str | None, every: str
) -> None:
    batch = old.batch()
    old.leads(1, "lead", batch_id=batch)
    campaign = old.campaign(status="active", batch_id=batch, workflow_id=old.workflow(THREE_STEPS))
    ended = old.campaign(status="completed")
    with legacy.begin() as connection:
        connection.execute(sa.update(campaigns).values(is_recurring=True, recurring_interval=interval))
    adopt(legacy)
    row = campaign_row(legacy, campaign)
    assert (row["status"], row["evergreen"], row["intake"]) == ("running", True, {"every": every})
    assert (row["is_recurring"], row["recurring_interval"]) == (True, interval)
    assert not campaign_row(legacy, ended)["evergreen"]
    old.leads(1, "new", batch_id=batch)
    with legacy.begin() as connection:
        assert intake.begin_due_intakes(connection) == 1
    background_work.work_until(legacy, campaign, float("inf"))
    assert campaign_row(legacy, campaign)["total_leads_targeted"] == 2
    assert campaign_row(legacy, campaign)["next_intake_at"] > dt.datetime.now(dt.UTC)
