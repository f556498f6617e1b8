"""What is deleted while somebody begins to use it: one of the two gives way, on two real connections."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from sendledger.campaigns import campaigns
from sendledger.content import email_templates, workflows
from sendledger.core.errors import Conflict, InvalidInput
from testbed.campaigns import NO_DELAY, make_batch, make_template, make_workflow

Use = Callable[[sa.Connection, UUID], object]
Delete = Callable[[sa.Connection, UUID], None]


def use_template_in_workflow(connection: sa.Connection, template_id: UUID) -> object:
    return workflows.create(connection, {"name": "w"}, [step_of(template_id, 1, days=0)])


def step_of(template_id: UUID, number: int, *, days: int) -> dict[str, Any]:
    variants = [{"email_template_id": template_id, "weight": 1}]
    step = {"step_number": number, "email_template_id": template_id, "days_after_previous": days, "delay": None}
    return {**step, "variants": variants}


def use_template_in_campaign(connection: sa.Connection, template_id: UUID) -> object:
    batch_ids = [make_batch(connection, ["a@example.com"])]
    return campaigns.create(connection, {"name": "c", "batch_ids": batch_ids, "email_template_id": template_id})


def use_workflow_in_campaign(connection: sa.Connection, workflow_id: UUID) -> object:
    batch_ids = [make_batch(connection, ["a@example.com"])]
    return campaigns.create(connection, {"name": "c", "batch_ids": batch_ids, "workflow_id": workflow_id})


def make_one_step_workflow(connection: sa.Connection) -> UUID:
    return make_workflow(connection, [NO_DELAY])


CASES: list[tuple[Callable[[sa.Connection], UUID], Use, Delete]] = [
    (make_template, use_template_in_workflow, email_templates.delete),
    (make_template, use_template_in_campaign, email_templates.delete),
    (make_one_step_workflow, use_workflow_in_campaign, workflows.delete),
]
IDS = ["template of a workflow", "template of a campaign", "workflow of a campaign"]


def wait_until_one_waits(engine: sa.Engine) -> None:
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20)
    while dt.datetime.now(dt.UTC) < deadline:
        with engine.connect() as connection:
            if connection.scalar(waiting):
                return
    raise AssertionError("nobody waits for a lock")


@pytest.mark.parametrize(("make", "use", "delete"), CASES, ids=IDS)
def test_deletion_sees_a_use_that_is_being_committed(
    engine: sa.Engine, make: Callable[[sa.Connection], UUID], use: Use, delete: Delete
) -> None:
    with engine.begin() as connection:
        thing = make(connection)

    def delete_it() -> None:
        with engine.begin() as connection:
            delete(connection, thing)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            use(connection, thing)
            deletion = pool.submit(delete_it)
            wait_until_one_waits(engine)
        with pytest.raises(Conflict):
            deletion.result(timeout=300)


@pytest.mark.parametrize(("make", "use", "delete"), CASES, ids=IDS)
def test_use_sees_a_deletion_that_is_being_committed(
    engine: sa.Engine, make: Callable[[sa.Connection], UUID], use: Use, delete: Delete
) -> None:
    with engine.begin() as connection:
        thing = make(connection)

    def use_it() -> None:
        with engine.begin() as connection:
            use(connection, thing)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            delete(connection, thing)
            using = pool.submit(use_it)
            wait_until_one_waits(engine)
        with pytest.raises(InvalidInput):
            using.result(timeout=300)


def test_steps_replaced_concurrently_are_those_of_one_request(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        workflow_id = make_one_step_workflow(connection)
        template_id = make_template(connection)

    def replace(connection: sa.Connection, count: int) -> None:
        steps = [step_of(template_id, number, days=count) for number in range(1, count + 1)]
        workflows.update(connection, workflow_id, {}, steps)

    def replace_with_two() -> None:
        with engine.begin() as connection:
            replace(connection, 2)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            replace(connection, 3)
            other = pool.submit(replace_with_two)
            wait_until_one_waits(engine)
        other.result(timeout=300)
    with engine.connect() as connection:
        workflow = workflows.get(connection, workflow_id)
    assert [step["days_after_previous"] for step in workflow["steps"]] == [2, 2]
    assert workflow["steps_count"] == 2
