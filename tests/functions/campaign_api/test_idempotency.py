"""A request that is repeated with its Idempotency-Key is carried out once."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from sendledger.access import idempotency
from sendledger.core.tables import idempotency_keys, leads
from tests.functions.campaign_api.api_client import Answer, ApiClient

LEAD = {"email": "ann@example.com"}


def post(api: ApiClient, path: str, body: object, key: str) -> Answer:
    return api.request("POST", path, body=body, headers={"Idempotency-Key": key})


def count(engine: sa.Engine, table: sa.Table) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_repeated_request_gets_the_first_answer(api: ApiClient, engine: sa.Engine) -> None:
    first = post(api, "/v1/leads", LEAD, "a")
    again = post(api, "/v1/leads", LEAD, "a")
    assert (first.status, first.body) == (again.status, again.body)
    assert first.status == 201
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert count(engine, leads) == 1


def test_refusals_are_repeated_too(api: ApiClient) -> None:
    first = post(api, "/v1/leads", {"email": "nonsense"}, "a")
    assert first.status == 422
    assert post(api, "/v1/leads", {"email": "nonsense"}, "a").body == first.body


@pytest.mark.parametrize(("path", "body"), [("/v1/leads", {"email": "bob@example.com"}), ("/v1/email-templates", LEAD)])
def test_another_request_with_the_same_key_is_refused(api: ApiClient, path: str, body: object) -> None:
    post(api, "/v1/leads", LEAD, "a")
    answer = post(api, path, body, "a")
    assert answer.status == 422
    assert answer.fields == ["Idempotency-Key"]


def test_request_that_is_still_being_answered_is_a_conflict(api: ApiClient, engine: sa.Engine) -> None:
    post(api, "/v1/leads", LEAD, "a")
    with engine.begin() as connection:
        connection.execute(sa.update(idempotency_keys).values(status=None, answer=None))
    answer = post(api, "/v1/leads", LEAD, "a")
    assert answer.status == 409
    assert answer.json["type"].endswith("request_in_progress")


def test_request_whose_lambda_died_may_be_tried_again(api: ApiClient, engine: sa.Engine) -> None:
    post(api, "/v1/leads", LEAD, "a")
    with engine.begin() as connection:
        earlier = sa.func.now() - dt.timedelta(minutes=2)
        connection.execute(sa.update(idempotency_keys).values(status=None, answer=None, started_at=earlier))
    assert post(api, "/v1/leads", LEAD, "a").status == 409  # the lead is there: carried out, and answered this time
    assert post(api, "/v1/leads", LEAD, "a").headers["idempotency-replayed"] == "true"


def test_key_is_forgotten_after_a_day(api: ApiClient, engine: sa.Engine) -> None:
    post(api, "/v1/leads", LEAD, "a")
    with engine.begin() as connection:
        connection.execute(sa.update(idempotency_keys).values(started_at=sa.func.now() - dt.timedelta(hours=25)))
    assert post(api, "/v1/leads", {"email": "bob@example.com"}, "a").status == 201


def test_keys_of_two_callers_do_not_meet(clients: dict[str, ApiClient]) -> None:
    assert post(clients["admin"], "/v1/leads", LEAD, "a").status == 201
    assert post(clients["editor"], "/v1/leads", {"email": "bob@example.com"}, "a").status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "ä"])
def test_malformed_key_is_refused(api: ApiClient, key: str) -> None:
    answer = post(api, "/v1/leads", LEAD, key)
    assert (answer.status, answer.fields) == (422, ["Idempotency-Key"])


def test_of_four_requests_at_once_one_is_worked_on(engine: sa.Engine) -> None:
    barrier = threading.Barrier(4)
    caller_id = uuid.uuid4()

    # Not through the handler, which serves one request at a time, as on Lambda.
    def begin(_: int) -> str:
        barrier.wait(300)
        try:
            with engine.begin() as own:
                return str(idempotency.begin(own, caller_id, "start", "hash"))
        except idempotency.RequestInProgress:
            return "in progress"

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(begin, range(4)))
    assert answers == ["None", *["in progress"] * 3]


def test_secret_of_an_api_key_is_not_kept(api: ApiClient, engine: sa.Engine) -> None:
    body = {"name": "script", "role": "viewer"}
    first, again = post(api, "/v1/api-keys", body, "a"), post(api, "/v1/api-keys", body, "a")
    assert first.json["key"].startswith("sl_")
    assert again.json == {**first.json, "key": None}
    with engine.connect() as connection:
        kept = connection.scalars(sa.select(sa.cast(idempotency_keys.c.answer, sa.Text))).all()
    assert not any(first.json["key"] in answer for answer in kept)
