"""Steps with several variants: who gets which, and what is sent."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, intake, lifecycle, schedule_emails, variants
from sendledger.campaigns.audience import audience_of
from sendledger.campaigns.campaigns import get_campaign
from sendledger.content import workflows
from sendledger.core.errors import Conflict, InvalidInput, NotFound
from sendledger.core.tables import (
    campaign_step_variants,
    campaign_steps,
    campaigns,
    email_templates,
    leads,
    scheduled_emails,
    workflow_step_variants,
    workflow_steps,
)
from sendledger.ledger import claim_emails
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


def draft(
    connection: sa.Connection, leads: int, *weights: Sequence[int], keep: bool = True, **values: Any
) -> uuid.UUID:
    """A campaign with a step for each list of weights."""
    workflow_id = make_workflow(connection, [NO_DELAY] + [DAY] * (len(weights) - 1))
    for step, of_step in enumerate(weights, 1):
        make_variants(connection, workflow_id, of_step, step)
    connection.execute(sa.update(workflow_steps).values(keep_variant=keep))
    return make_campaign(connection, leads, workflow_id=workflow_id, **values)


def started(
    engine: sa.Engine, connection: sa.Connection, leads: int, *weights: Sequence[int], **values: Any
) -> uuid.UUID:
    campaign_id = draft(connection, leads, *weights, **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def counts(engine: sa.Engine, campaign_id: uuid.UUID, step: int = 1) -> dict[int | None, int]:
    return Counter(row["variant"] for row in rows_of(engine, campaign_id) if row["workflow_step_number"] == step)


def assert_split(found: dict[int | None, int], weights: Sequence[int]) -> None:
    total = sum(found.values())
    for number, weight in enumerate(weights, 1):
        assert abs(found.get(number, 0) - Fraction(total * weight, sum(weights))) <= 1, found


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (5, 3, 2, 7), (1,) * 8])
def test_leads_are_split_by_the_weights(engine: sa.Engine, connection: sa.Connection, weights: tuple[int, ...]) -> None:
    campaign_id = started(engine, connection, 23, weights)

    assert_split(counts(engine, campaign_id), weights)


def test_split_is_exact_over_all_buckets_of_a_large_campaign(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 10)
    campaign_id = started(engine, connection, 50, (1, 1, 1), (2, 1), keep=False)
    assert campaign_row(engine, campaign_id)["background_work"]

    background_work.work_until(engine, campaign_id, float("inf"))

    assert sum(counts(engine, campaign_id).values()) == 50
    assert_split(counts(engine, campaign_id, 1), (1, 1, 1))
    assert_split(counts(engine, campaign_id, 2), (2, 1))


def test_lead_keeps_its_variant_in_steps_with_the_same_variants(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection, 30, (2, 1), (1, 1, 1), (4, 2))

    rows = rows_of(engine, campaign_id)
    first, second, third = (
        [row["variant"] for row in rows if row["workflow_step_number"] == step] for step in (1, 2, 3)
    )
    assert first == third != second


def test_step_that_keeps_nothing_is_split_by_itself_and_as_exactly(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = started(engine, connection, 61, (1, 1), (1, 1), (1, 1), keep=False)

    rows = rows_of(engine, campaign_id)
    by_step = [[row["variant"] for row in rows if row["workflow_step_number"] == step] for step in (1, 2, 3)]
    assert by_step[0] != by_step[1] != by_step[2] != by_step[0]
    for step in (1, 2, 3):
        assert_split(counts(engine, campaign_id, step), (1, 1))


def test_each_lead_gets_the_content_of_its_variant(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 10, (1, 1), (1, 1))

    send_due_emails(resources, 60.0)
    pass_time(engine, DAY)
    send_due_emails(resources, 60.0)

    of_row = {row["id"]: row for row in rows_of(engine, campaign_id)}
    sent = {int(email.tags["scheduled_email_id"]): email for email in ses.accepted()}
    assert sent.keys() == of_row.keys()
    for id_, email in sent.items():
        assert email.subject == "AB"[of_row[id_]["variant"] - 1]
        assert (email.text or "").startswith(f"Step {of_row[id_]['workflow_step_number']} {email.subject} for")
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_row_names_the_template_of_its_variant(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection, 4, (1, 1))

    with engine.connect() as fresh:
        templates = {
            row.id: row.subject for row in fresh.execute(sa.select(email_templates.c.id, email_templates.c.subject))
        }
    assert all(templates[row["template_id"]] == "AB"[row["variant"] - 1] for row in rows_of(engine, campaign_id))


def test_edit_of_a_variants_template_does_not_reach_a_started_campaign(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, 4, (1, 1))
    connection.execute(sa.update(email_templates).values(subject="Changed"))
    connection.commit()

    send_due_emails(resources, 60.0)

    assert Counter(email.subject for email in ses.accepted()) == {"A": 2, "B": 2}


def test_resume_with_refreshed_content_refreshes_every_variant(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 4, (1, 1))
    lifecycle.pause_campaign(engine, campaign_id)
    connection.execute(sa.update(email_templates).values(subject=email_templates.c.subject + "!"))
    connection.commit()

    resumed = lifecycle.resume_campaign(engine, campaign_id, refresh_content=True)
    send_due_emails(resources, 60.0)

    assert resumed.refreshed_steps == [1]
    assert Counter(email.subject for email in ses.accepted()) == {"A!": 2, "B!": 2}


def reorder(connection: sa.Connection, *letters: str) -> None:
    """Let the step of the workflow have these variants, of the templates with these subjects, in this order."""
    connection.execute(sa.delete(workflow_step_variants))
    step_id = connection.scalar(sa.select(workflow_steps.c.id))
    for number, letter in enumerate(letters, 1):
        template_id = connection.scalar(sa.select(email_templates.c.id).where(email_templates.c.subject == letter))
        if template_id is None:
            template_id = make_template(connection, subject=letter)
        row = {"variant": number, "weight": 1, "workflow_step_id": step_id, "email_template_id": template_id}
        if len(letters) > 1:
            connection.execute(sa.insert(workflow_step_variants).values(row))
        if number == 1:
            connection.execute(sa.update(workflow_steps).values(email_template_id=template_id))
    connection.execute(sa.update(email_templates).values(subject=email_templates.c.subject + "!"))
    connection.commit()


def edited(engine: sa.Engine, connection: sa.Connection, retired: Sequence[int], now: str) -> uuid.UUID:
    """A paused campaign of nine leads whose workflow had the variants A, B and C and has others now."""
    campaign_id = started(engine, connection, 9, (1, 1, 1))
    for variant in retired:
        with engine.begin() as retiring:
            variants.retire(retiring, campaign_id, 1, variant, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))
    lifecycle.pause_campaign(engine, campaign_id)
    reorder(connection, *now)
    return campaign_id


@pytest.mark.parametrize(
    ("retired", "now", "sent"),
    [
        ([], "CAB", {"A!": 3, "B!": 3, "C!": 3}),
        ([], "ADC", {"A!": 3, "D!": 3, "C!": 3}),
        ([], "DAB", {"A!": 3, "B!": 3, "D!": 3}),
        ([1], "BAC", {"B!": 5, "C!": 4}),
        ([1], "BC", {"B!": 5, "C!": 4}),
        ([2], "AC", {"A!": 5, "C!": 4}),
        ([2], "CDA", {"A!": 5, "C!": 4}),
        ([1, 3], "CB", {"B!": 9}),
        ([1, 3], "B", {"B!": 9}),
        ([1, 3], "D", {"D!": 9}),
    ],
)
def test_refresh_gives_each_variant_the_texts_of_its_own_template(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    retired: list[int],
    now: str,
    sent: dict[str, int],
) -> None:
    """One that is new takes the place of one that is gone, but not of a retired one."""
    campaign_id = edited(engine, connection, retired, now)

    lifecycle.resume_campaign(engine, campaign_id, refresh_content=True)
    send_due_emails(resources, 60.0)

    assert Counter(email.subject for email in ses.accepted()) == sent


@pytest.mark.parametrize(("retired", "now"), [([], "A"), ([], "AB"), ([2], "AB"), ([2], "ABCD"), ([], "ABCD")])
def test_refresh_is_refused_when_a_variant_in_use_has_no_texts_any_more_or_the_workflow_has_more(
    engine: sa.Engine, connection: sa.Connection, retired: list[int], now: str
) -> None:
    campaign_id = edited(engine, connection, retired, now)

    with pytest.raises(InvalidInput) as refused:
        lifecycle.resume_campaign(engine, campaign_id, refresh_content=True)

    assert f"step 1 has {len(now)} variants and was started with 3" in refused.value.errors[0].message


def test_start_reads_a_workflow_as_a_whole_that_is_edited_meanwhile(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = draft(connection, 4, (1, 1))
    workflow_id = campaign_row(engine, campaign_id)["workflow_id"]
    kept = workflow_step_variants.c
    own = connection.execute(sa.select(kept.email_template_id, kept.weight).order_by(kept.variant)).mappings()
    step: dict[str, Any] = {"step_number": 1, "delay": NO_DELAY, "days_after_previous": 0, "variants": own.all()}
    step["email_template_id"] = step["variants"][0]["email_template_id"]
    connection.commit()
    edits: list[str] = []

    def edit(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM workflow_steps" in statement and not edits:
            edits.append(statement)
            workflows.update(connection, workflow_id, {}, [step])
            connection.commit()

    sa.event.listen(engine, "after_cursor_execute", edit)
    lifecycle.start_campaign(engine, campaign_id)

    assert edits
    assert counts(engine, campaign_id) == {1: 2, 2: 2}


def test_unsent_emails_of_a_retired_variant_are_split_over_the_others(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 40, (2, 1, 1))
    assert counts(engine, campaign_id) == {1: 20, 2: 10, 3: 10}

    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 1, "ann")
    send_due_emails(resources, 60.0)

    assert counts(engine, campaign_id) == {2: 20, 3: 20}
    assert Counter(email.subject for email in ses.accepted()) == {"B": 20, "C": 20}
    audited = connection.execute(
        sa.text("SELECT actor, detail FROM audit_log WHERE action = 'campaign.variant_retire'")
    )
    assert audited.all() == [("ann", {"step_number": 1, "variant": 1, "revisions": [1]})]


def test_failed_emails_of_a_retired_variant_are_split_when_they_are_put_back(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = started(engine, connection, 12, (1, 1, 1))
    failed = {"status": "failed", "error_code": "bad_certificate", "failed_at": sa.func.now()}
    connection.execute(sa.update(scheduled_emails).values(failed))
    connection.commit()
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 3, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))

    lifecycle.retry_failed_emails(engine, campaign_id, None, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))

    assert counts(engine, campaign_id) == {1: 6, 2: 6}
    assert statuses(engine, campaign_id) == {"pending": 12}


def test_retired_variant_of_a_paused_campaign_is_split_too(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 9, (1, 1, 1))
    lifecycle.pause_campaign(engine, campaign_id)
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 3, "ann")

    lifecycle.resume_campaign(engine, campaign_id)
    send_due_emails(resources, 60.0)

    assert_split(counts(engine, campaign_id), (1, 1))
    assert statuses(engine, campaign_id) == {"sent": 9}


def test_email_that_was_claimed_while_its_variant_was_retired_is_rendered_again(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 2, (1, 1))
    token = uuid.uuid4()
    with sender_engine.begin() as sending:
        claimed = claim_emails.claim(sending, 10, token)
    assert {email.variant for email in claimed} == {1, 2}
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 2, "ann")

    with sender_engine.begin() as sending:
        assert claim_emails.fence(sending, claimed, token).sendable == {}
    pass_time(engine, DAY / 24)
    send_due_emails(resources, 60.0)
    pass_time(engine, DAY / 24)
    send_due_emails(resources, 60.0)

    assert Counter(email.subject for email in ses.accepted()) == {"A": 2}
    rows = rows_of(engine, campaign_id)
    assert {row["variant"] for row in rows} == {1}
    assert len({row["template_id"] for row in rows}) == 1


def test_email_that_was_sent_keeps_a_variant_that_is_retired_later(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 4, (1, 1), (1, 1))
    send_due_emails(resources, 60.0)

    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 2, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))

    assert counts(engine, campaign_id, 1) == {1: 2, 2: 2}
    assert counts(engine, campaign_id, 2) == {1: 2, 2: 2}


@pytest.mark.parametrize(
    ("step", "variant", "error"),
    [(1, 3, NotFound), (2, 1, NotFound), (1, 2, Conflict)],
    ids=["variant", "step", "last"],
)
def test_what_cannot_be_retired_is_refused(
    engine: sa.Engine, connection: sa.Connection, step: int, variant: int, error: type[Exception]
) -> None:
    campaign_id = started(engine, connection, 4, (1, 1))
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 1, "ann")

    with engine.begin() as retiring, pytest.raises(error):
        variants.retire(retiring, campaign_id, step, variant, "ann")


def test_variant_of_a_draft_cannot_be_retired(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = draft(connection, 4, (1, 1))

    with engine.begin() as retiring, pytest.raises(Conflict):
        variants.retire(retiring, campaign_id, 1, 1, "ann")


def test_later_lead_gets_the_next_variant_that_is_left(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection, 5, (1, 1, 1))
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 2, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))
    batch = make_batch(connection, [f"later{number}@example.com" for number in range(4)])
    connection.commit()

    with engine.begin() as adding:
        adding.execute(sa.update(campaigns).values(batch_ids=[batch]))
        campaign = get_campaign(adding, campaign_id)
        schedule_emails.schedule_leads(adding, campaign, audience_of(adding, campaign), campaign["actual_started_at"])

    assert counts(engine, campaign_id).keys() == {1, 3}
    assert_split({1: counts(engine, campaign_id)[1], 2: counts(engine, campaign_id)[3]}, (1, 1))


def add_leads(engine: sa.Engine, campaign_id: uuid.UUID, count: int, at_once: int = 1) -> set[uuid.UUID]:
    """Add new leads to an evergreen campaign, so many in one request. Returns who they are."""
    added = set[uuid.UUID]()
    for _ in range(0, count, at_once):
        with engine.begin() as adding:
            batch_id = make_batch(adding, [f"{uuid.uuid4()}@example.com" for _ in range(at_once)])
            lead_ids = adding.scalars(sa.select(leads.c.id).where(leads.c.batch_id == batch_id)).all()
        intake.add_leads(engine, campaign_id, lead_ids, "ann")
        added.update(lead_ids)
    return added


def retire(engine: sa.Engine, campaign_id: uuid.UUID, variant: int, step: int = 1) -> None:
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, step, variant, "ann")
    background_work.work_until(engine, campaign_id, float("inf"))


def send_step(connection: sa.Connection, step: int = 1) -> None:
    of_step = sa.update(scheduled_emails).where(scheduled_emails.c.workflow_step_number == step)
    connection.execute(of_step.values(status="sent", sent_at=sa.func.now()))
    connection.commit()


@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize("leads", [4, 5])
@pytest.mark.parametrize("retired", [1, 3])
def test_variants_in_use_never_differ_by_two_emails_whenever_one_is_retired_and_leads_come_in_singly(
    engine: sa.Engine, connection: sa.Connection, leads: int, retired: int, is_sent: bool
) -> None:
    campaign_id = started(engine, connection, leads, (1, 1, 1), evergreen=True)
    if is_sent:
        send_step(connection)
    retire(engine, campaign_id, retired)
    low, high = sorted({1, 2, 3} - {retired})
    for _ in range(3):
        found = counts(engine, campaign_id)
        assert abs(found[low] - found[high]) <= 1, found
        add_leads(engine, campaign_id, 1)
    assert sum(counts(engine, campaign_id).values()) == leads + 3


def test_chunks_of_a_split_even_out_what_the_variants_have(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = started(engine, connection, 31, (1, 1, 1))
    monkeypatch.setattr(background_work, "ROWS_PER_CHUNK", 3)
    retire(engine, campaign_id, 3)
    assert counts(engine, campaign_id) == {1: 16, 2: 15}


def test_many_later_leads_even_out_what_a_retired_variant_has_left(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    """Its emails were sent."""
    campaign_id = started(engine, connection, 9, (3, 2, 2), evergreen=True)
    send_step(connection)
    retire(engine, campaign_id, 1)
    sent = counts(engine, campaign_id)
    assert sent[2] + sent[3] == 5

    add_leads(engine, campaign_id, 17, at_once=17)

    assert counts(engine, campaign_id) == {1: sent[1], 2: 11, 3: 11}


@pytest.mark.parametrize("at_once", [1, 5])
def test_later_lead_keeps_its_variant_in_steps_that_have_lost_the_same_one(
    engine: sa.Engine, connection: sa.Connection, at_once: int
) -> None:
    """The emails of the second step are not sent yet, so its counts are others than those of the first."""
    campaign_id = started(engine, connection, 8, (1, 1, 1), (1, 1, 1), evergreen=True)
    send_step(connection)
    for step in (1, 2):
        retire(engine, campaign_id, 1, step)
    later = add_leads(engine, campaign_id, 5, at_once)

    by_lead: dict[uuid.UUID, list[int]] = {}
    for row in rows_of(engine, campaign_id):
        if row["lead_id"] in later:
            by_lead.setdefault(row["lead_id"], []).append(row["variant"])
    assert {variant for first, second in by_lead.values() for variant in (first, second)} == {2, 3}
    assert [first for first, second in by_lead.values() if first != second] == []


def test_step_with_a_winner_goes_on_by_rank_after_a_retirement(engine: sa.Engine, connection: sa.Connection) -> None:
    """Each of the two splits begins without looking at what the variants have: that is 3 and 1, and then 4 and 1."""
    campaign_id = started(engine, connection, 4, (1, 1, 1), evergreen=True)
    test = {"by": "opened", "test_share": 100, "after_seconds": 3600}
    connection.execute(sa.update(campaign_steps).values(winner=test, winner_at=sa.func.now() + DAY))
    connection.commit()
    retire(engine, campaign_id, 3)
    assert counts(engine, campaign_id) == {1: 3, 2: 1}
    add_leads(engine, campaign_id, 1)
    assert counts(engine, campaign_id) == {1: 4, 2: 1}


def test_campaign_without_variants_has_none_in_its_rows(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)

    assert {row["variant"] for row in rows_of(engine, campaign_id)} == {None}
    assert connection.execute(sa.select(campaign_step_variants)).all() == []
