"""Campaigns whose meaning nobody can tell wait for a person, each by itself; the report says why and what was done."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sendledger.adoption.report import AdoptionReport, CampaignReport
from sendledger.campaigns import campaign_steps, lifecycle
from sendledger.core.errors import IllegalTransition, InvalidInput
from sendledger.leads import erase_leads
from testbed.campaigns import campaign_row, rows_of
from testbed.databases import plain_engine
from testbed.legacy_database import DAY, THREE_STEPS, OldApplication, adopt, old_rows


@pytest.fixture
def old(engine: sa.Engine) -> Iterator[OldApplication]:
    """Writes at once, as the old application does, into a database that is migrated."""
    other = plain_engine(engine.url, isolation_level="AUTOCOMMIT")
    with other.connect() as connection:
        yield OldApplication(connection)


def report_of(report: AdoptionReport, campaign_id: uuid.UUID) -> CampaignReport:
    (found,) = (campaign for campaign in report.campaigns if campaign.id == str(campaign_id))
    return found


def active(old: OldApplication, name: str = "odd", **values: object) -> uuid.UUID:
    """An active campaign with a lead that has had the first step."""
    workflow = values.pop("workflow_id", None) or old.workflow(THREE_STEPS)
    campaign = old.campaign(name, **{"status": "active", "workflow_id": workflow, **values})
    old.email(campaign, old.lead(f"{uuid.uuid4().hex}@example.com"), 1)
    return campaign


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("column", ["start_date", "end_date"])
@pytest.mark.parametrize("date", ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"])
def test_campaign_with_an_infinite_date_is_left_and_the_next_one_is_taken_over(
    engine: sa.Engine, old: OldApplication, column: str, date: str, dry_run: bool
) -> None:
    odd, sound = active(old, **{column: date}), active(old, "sound")
    before = campaign_row(engine, odd)
    report = adopt(engine, dry_run=dry_run)
    assert report_of(report, odd).problems == [f"left as it is: its date is infinite: {column}"]
    assert campaign_row(engine, odd) == before
    assert report_of(report, sound).status_after == "running"


@pytest.mark.parametrize("days", [None, -1, -2147483648, 3651, 2147483647])
def test_campaign_waits_for_a_person_where_a_step_has_no_clear_delay(
    engine: sa.Engine, old: OldApplication, days: int | None
) -> None:
    workflow = old.workflow([*THREE_STEPS[:1], ("Again", "Hi", 0), ("Last", "Bye", 5)])
    old.connection.execute(
        sa.text("UPDATE workflow_steps SET days_after_previous = :days WHERE step_number = 2"), {"days": days}
    )
    campaign = active(old, workflow_id=workflow)
    before = campaign_row(engine, campaign)
    stored = "NULL" if days is None else days
    (problem,) = report_of(adopt(engine), campaign).problems
    assert problem == (
        f"left as it is: days_after_previous of the workflow's step 2 is {stored}; "
        "it must be a number of days from 0 to 3650"
    )
    assert (campaign_row(engine, campaign), rows_of(engine, campaign)) == (before, [])


def test_campaign_is_taken_over_once_the_delay_was_corrected(engine: sa.Engine, old: OldApplication) -> None:
    workflow = old.workflow([*THREE_STEPS[:1], ("Again", "Hi", -3)])
    campaign = active(old, workflow_id=workflow)
    adopt(engine)
    old.connection.execute(sa.text("UPDATE workflow_steps SET days_after_previous = 3 WHERE step_number = 2"))
    assert report_of(adopt(engine), campaign).status_after == "running"
    first, second = rows_of(engine, campaign)
    assert second["scheduled_for"] - first["sent_at"] == 3 * DAY


def test_first_step_without_a_delay_waits_for_nothing(engine: sa.Engine, old: OldApplication) -> None:
    workflow = old.workflow(THREE_STEPS)
    old.connection.execute(sa.text("UPDATE workflow_steps SET days_after_previous = NULL WHERE step_number = 1"))
    campaign = active(old, workflow_id=workflow)
    assert report_of(adopt(engine), campaign).status_after == "running"


def test_campaign_waits_for_a_person_where_a_follow_up_has_a_negative_delay(
    engine: sa.Engine, old: OldApplication
) -> None:
    for stage in ("follow_up_1", "follow_up_2"):
        old.template(stage, follow_up_stage=stage)
    campaign = old.campaign(status="active", email_template_id=old.template("first"), follow_up_2_delay_days=-1)
    old.email(campaign, old.lead("ann@example.com"), 1)
    (problem,) = report_of(adopt(engine), campaign).problems
    assert problem.startswith("left as it is: its follow_up_2_delay_days is -1;")


def test_draft_whose_workflow_has_no_clear_delay_cannot_be_started(engine: sa.Engine, old: OldApplication) -> None:
    workflow = old.workflow([*THREE_STEPS[:1], ("Again", "Hi", -3)])
    draft = old.campaign(status="draft", campaign_type="outreach", workflow_id=workflow)
    with engine.connect() as connection, pytest.raises(InvalidInput) as refused:
        campaign_steps.planned_steps(connection, campaign_row(engine, draft))
    (error,) = refused.value.errors
    assert (error.field, "is -3; it must be" in error.message) == ("workflow_id", True)


def test_order_of_steps_with_one_number_is_reported(engine: sa.Engine, old: OldApplication) -> None:
    workflow = old.workflow(THREE_STEPS)
    old.insert(
        "workflow_steps",
        workflow_id=workflow,
        step_number=2,
        subject="Older",
        body="Hi",
        days_after_previous=1,
        created_at="2020-01-01",
    )
    campaign = active(old, workflow_id=workflow)
    found = report_of(adopt(engine), campaign)
    (note,) = (note for note in found.notes if "number 2" in note)
    assert note == (
        "its workflow has 2 steps with the number 2; they are sent one after the other, the oldest first: "
        "'Older', \"Again, {{ company_name | default('') }}\""
    )
    assert found.steps == 4


@pytest.mark.parametrize("status", ["active", "paused", "draft"])
def test_campaign_of_an_unknown_type_is_named_and_left(engine: sa.Engine, old: OldApplication, status: str) -> None:
    odd, sound = active(old, campaign_type="fax", status=status), active(old, "sound")
    before = campaign_row(engine, odd)
    report = adopt(engine)
    said = report_of(report, odd)
    (line,) = [*said.problems, *said.notes]
    assert "its campaign_type is 'fax', none of outreach, lead_generation, fully_automated" in line
    assert campaign_row(engine, odd) == before
    assert report_of(report, sound).status_after == "running"


def test_campaign_of_an_unknown_type_cannot_be_started(engine: sa.Engine, old: OldApplication) -> None:
    draft = old.campaign(status="draft", campaign_type="fax", workflow_id=old.workflow(THREE_STEPS))
    with engine.begin() as connection, pytest.raises(InvalidInput, match="cannot be started"):
        lifecycle.check_startable(connection, campaign_row(engine, draft))
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="campaigns_campaign_type_check"):
        connection.execute(sa.text("UPDATE campaigns SET status = 'running'"))


@pytest.mark.parametrize("odd", [{"campaign_type": "fax"}, {"end_date": "infinity"}])
def test_paused_campaign_that_was_left_as_it_is_is_not_resumed(
    engine: sa.Engine, old: OldApplication, odd: dict[str, str]
) -> None:
    campaign = active(old, status="paused", **odd)
    adopt(engine)
    before = campaign_row(engine, campaign)
    with pytest.raises(IllegalTransition, match="has not been taken over"):
        lifecycle.resume_campaign(engine, campaign)
    assert campaign_row(engine, campaign) == before


def test_campaign_of_an_unknown_type_is_not_cancelled_either(engine: sa.Engine, old: OldApplication) -> None:
    campaign = active(old, status="paused", campaign_type="fax")
    with pytest.raises(IllegalTransition, match="has not been taken over"):
        lifecycle.cancel_campaign(engine, campaign)


def test_campaign_that_the_database_refuses_is_named_and_the_next_one_is_taken_over(
    engine: sa.Engine, old: OldApplication
) -> None:
    odd, sound = active(old, "refused"), active(old, "sound")
    old.connection.execute(
        sa.text("ALTER TABLE campaign_steps ADD CONSTRAINT odd CHECK (campaign_id <> '" + str(odd) + "')")
    )
    for dry_run in (True, False):
        report = adopt(engine, dry_run=dry_run)
        (problem,) = report_of(report, odd).problems
        assert problem.startswith("left as it is: the database refuses it: new row for relation")
        assert report_of(report, sound).status_after == "running"


@pytest.mark.parametrize("code", ["40P01", "57014", "P0001"])
def test_campaign_that_ends_in_an_error_of_its_own_is_named_and_the_next_one_is_taken_over(
    engine: sa.Engine, old: OldApplication, code: str
) -> None:
    odd, sound = active(old, "odd"), active(old, "sound")
    old.connection.execute(
        sa.text(f"""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION E'not\nthis one' USING ERRCODE = '{code}';
            END $$;
            CREATE TRIGGER fail BEFORE INSERT ON campaign_steps FOR EACH ROW
                WHEN (NEW.campaign_id = '{odd}') EXECUTE FUNCTION fail()
        """)
    )
    for dry_run in (True, False):
        report = adopt(engine, dry_run=dry_run)
        assert report_of(report, odd).problems == ["left as it is: the database refuses it: not this one"]
        assert report_of(report, odd).name == "odd"
        assert report_of(report, sound).status_after == "running"


def test_copies_that_the_database_refuses_are_named_and_the_next_campaign_is_taken_over(
    engine: sa.Engine, old: OldApplication
) -> None:
    old.connection.execute(sa.text("CREATE UNIQUE INDEX theirs ON email_templates (name)"))
    workflows = [old.workflow(THREE_STEPS) for _ in range(2)]
    campaigns = [active(old, workflow_id=workflow) for workflow in workflows]
    report = adopt(engine)
    refusal = 'the database refuses it: duplicate key value violates unique constraint "theirs"'
    refused = max(workflows)  # they are looked at in the order of their ids
    assert report.problems == [f"workflow {refused}: {refusal}"]
    for workflow, campaign in zip(workflows, campaigns, strict=True):
        found = report_of(report, campaign)
        assert found.problems == ([f"left as it is: {refusal}"] if workflow == refused else [])


def test_report_has_the_statuses_that_are_stored(engine: sa.Engine, old: OldApplication) -> None:
    campaigns = [active(old), active(old, status="paused"), active(old, end_date="2020-01-01")]
    rehearsed = adopt(engine, dry_run=True)
    adopt(engine)
    for campaign in campaigns:
        stored = Counter(row["status"] for row in rows_of(engine, campaign))
        assert report_of(rehearsed, campaign).rows == stored


def test_dry_run_says_how_many_rows_each_table_gets(engine: sa.Engine, old: OldApplication) -> None:
    workflow = old.workflow(THREE_STEPS)
    for number in range(4):
        batch = old.batch()
        old.leads(5, f"batch{number}", batch_id=batch)
        old.leads(2, "everywhere", batch_id=batch)
        active(old, str(number), workflow_id=workflow, batch_id=batch)
    # One of their addresses has refused an email of another campaign, and is written in another way there.
    refused = old.lead(" EVERYWHERE0@example.com ")
    old.email(old.campaign(status="completed"), refused, 1, status="bounced")
    before = counts(engine)
    rehearsed = adopt(engine, dry_run=True)
    assert counts(engine) == before
    adopt(engine)
    grown = {table: count - before[table] for table, count in counts(engine).items() if count > before[table]}
    for made_of_the_others in ("campaign_counts", "daily_counts"):
        grown.pop(made_of_the_others, None)
    assert {table: rehearsed.tables[table] for table in grown} == grown


def counts(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        return {table: connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0 for table in tables}


@pytest.mark.parametrize("name", ["", "  ", "\t\x1b[31m\n"])
def test_text_without_a_name_is_called_by_its_id(engine: sa.Engine, old: OldApplication, name: str) -> None:
    template = old.template(name, body_text=" ")
    campaign = active(old, name, workflow_id=None)
    old.connection.execute(
        sa.text("UPDATE campaigns SET workflow_id = NULL, email_template_id = :id, follow_up_enabled = false"),
        {"id": template},
    )
    found = report_of(adopt(engine), campaign)
    lines = list(found.lines())
    assert all(line.isprintable() for line in lines)
    assert not re.search(r": :|:$|^ *\(", "\n".join(lines), re.M)
    if not name.strip():
        assert found.problems == [f"left as it is: email template {template}: there is no text"]
        assert lines[0].startswith(f"campaign without a name ({campaign}): active")


def test_lead_is_found_by_its_address_once_the_spaces_around_it_are_removed(
    engine: sa.Engine, old: OldApplication
) -> None:
    padded, twin, blank = (old.lead(address) for address in (" ANN@example.com ", "ann@example.com", "  "))
    for dry_run in (True, False):
        assert adopt(engine, dry_run=dry_run).tables["leads"] == 1
    assert adopt(engine).tables["leads"] == 0
    stored = {id_: lead["email"] for id_, lead in old_rows(engine)["leads"].items()}
    assert stored == {str(padded): "ANN@example.com", str(twin): "ann@example.com", str(blank): "  "}
    with engine.begin() as connection:
        assert erase_leads.erase(connection, twin, "test", keep_suppressed=True).leads_erased == 2


def test_address_of_a_lead_that_somebody_holds_is_left_to_the_next_run(engine: sa.Engine, old: OldApplication) -> None:
    old.lead("bob@example.com ")
    held = old.lead("ann@example.com ")
    with engine.begin() as other:
        other.execute(sa.text("SELECT FROM leads WHERE id = :id FOR UPDATE"), {"id": held})
        report = adopt(engine)
    problem = "the spaces around the addresses of 1 leads stay: somebody holds these leads"
    assert (report.tables["leads"], report.problems) == (1, [problem])
    report = adopt(engine)
    assert (report.tables["leads"], report.problems) == (1, [])


def test_addresses_stay_as_they_are_if_the_database_refuses_the_shorter_ones(
    engine: sa.Engine, old: OldApplication
) -> None:
    old.connection.execute(sa.text("CREATE UNIQUE INDEX theirs ON leads (lower(email))"))
    old.leads(1, "ann")
    old.lead("ann0@example.com ")
    campaign = active(old)
    report = adopt(engine)
    refusal = 'the database refuses it: duplicate key value violates unique constraint "theirs"'
    assert report.problems == [f"the spaces around the addresses of leads stay: {refusal}"]
    assert report_of(report, campaign).status_after == "running"


def test_placeholder_is_named_on_one_short_line(engine: sa.Engine, old: OldApplication) -> None:
    workflow = old.workflow([("Hi", f"On {{{{meeting\x1b[31m\nSlot {'x' * 100_000}}}}}", 0)], name="Meet")
    campaign = active(old, workflow_id=workflow)
    report = adopt(engine)
    problem = f"Meet, step 1: the placeholder {{{{meeting [31m Slot {'x' * 182}…}}}} cannot be translated"
    assert report.problems == [problem]
    assert report_of(report, campaign).problems == [f"left as it is: {problem}"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_batch_and_holder_without_names_are_called_by_their_ids(
    engine: sa.Engine, old: OldApplication, dry_run: bool
) -> None:
    batch = old.batch(" ")
    first, second = (
        active(old, "\n", batch_id=batch, created_at=f"2026-01-0{day}", follow_up_enabled=False) for day in (1, 2)
    )
    report = adopt(engine, dry_run=dry_run)
    assert f"its lead batch {batch} is held by campaign {first}" in report_of(report, second).notes


def test_campaign_without_a_status_is_reported_without_a_hole(engine: sa.Engine, old: OldApplication) -> None:
    campaign = active(old, status=None)
    (line, *_) = report_of(adopt(engine), campaign).lines()
    assert line == f"odd ({campaign}): no status"
