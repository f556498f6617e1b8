"""Events reach the endpoints that want them, signed, at least once, whatever dies in between."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook, WebhookVerificationError

from sendledger.core.tables import audit_log, webhook_deliveries, webhook_endpoints
from sendledger.feedback import suppressions
from sendledger.webhooks import deliver as deliver_module
from sendledger.webhooks import endpoints, replay
from sendledger.webhooks import exchange as webhooks_exchange
from sendledger.webhooks.deliver import deliver_all
from sendledger.webhooks.post import ANSWER_SECONDS
from testbed.webhook_receiver import WebhookReceiver

Deliver = Callable[[], dict[str, int]]
Inside = Callable[[dict[str, Any]], dict[str, Any]]
MakeEndpoint = Callable[..., sa.RowMapping]


def add_tests(engine: sa.Engine, endpoint_id: UUID, count: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.insert(webhook_deliveries),
            [{"endpoint_id": endpoint_id, "event_type": "webhook.test", "data": {"n": n}} for n in range(count)],
        )


def deliveries(engine: sa.Engine) -> list[sa.RowMapping]:
    with engine.connect() as connection:
        query = sa.select(webhook_deliveries).order_by(webhook_deliveries.c.id)
        return list(connection.execute(query).mappings().all())


def endpoint_row(engine: sa.Engine, endpoint_id: UUID) -> sa.RowMapping:
    with engine.connect() as connection:
        return endpoints.get(connection, endpoint_id)


def set_times(engine: sa.Engine, table: sa.Table, **ages: str | None) -> None:
    """Move times of all rows into the past by these intervals."""
    values = {name: sa.text(f"now() - interval '{age}'") for name, age in ages.items()}
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(values))


def lease_is_over(engine: sa.Engine) -> None:
    set_times(engine, webhook_deliveries, next_attempt_at="1 s")


def test_event_arrives_once_and_its_signature_verifies(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    with engine.begin() as connection:
        added = endpoints.add_test(connection, endpoint["id"])
    assert deliver() == {"delivered": 1}
    assert deliver() == {}
    (received,) = receiver.received
    event = Webhook(endpoint["secret"]).verify(received.body, received.headers)
    assert (event["type"], received.headers["webhook-id"]) == ("webhook.test", f"evt_{added['id']}")
    assert received.headers["content-type"] == "application/json"
    (row,) = deliveries(engine)
    assert (row["status"], row["response_status"], row["response_text"]) == ("delivered", 200, "thanks")


def test_changed_body_does_not_verify(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_tests(engine, endpoint["id"], 1)
    deliver()
    (received,) = receiver.received
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint["secret"]).verify(received.body.replace("webhook.test", "email.sent"), received.headers)


def test_both_secrets_sign_for_a_day_after_a_rotation(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    old = make_endpoint(receiver.url, "campaign.completed")
    with engine.begin() as connection:
        new = endpoints.rotate_secret(connection, old["id"], "ann")
    add_tests(engine, old["id"], 1)
    deliver()
    for secret in (old["secret"], new["secret"]):
        Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
    set_times(engine, webhook_endpoints, previous_secret_until="1 s")
    add_tests(engine, old["id"], 1)
    deliver()
    with pytest.raises(WebhookVerificationError):
        Webhook(old["secret"]).verify(receiver.received[1].body, receiver.received[1].headers)


# What dies between two steps


def test_death_before_the_post_loses_nothing(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, inside: Inside, deliver: Deliver
) -> None:
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 3)
    assert len(inside({"most": 10})["deliveries"]) == 3  # and whoever asked dies
    assert deliver() == {}
    lease_is_over(engine)
    assert deliver() == {"delivered": 3}


def test_death_after_the_post_delivers_again_under_the_same_id(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, inside: Inside, deliver: Deliver
) -> None:
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 1)

    def dies_before_it_reports(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["results"]:
            raise KeyboardInterrupt
        return inside(asked)

    with pytest.raises(KeyboardInterrupt):
        deliver_all(dies_before_it_reports, float("inf"), any_target=True)
    lease_is_over(engine)
    assert deliver() == {"delivered": 1}
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_report_that_comes_twice_counts_once(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, inside: Inside
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_tests(engine, endpoint["id"], 1)
    (leased,) = inside({"most": 1})["deliveries"]
    failed = {"id": leased["id"], "attempts": 1, "outcome": "failed", "status": 500, "text": "no"}
    for _ in range(2):
        inside({"results": [failed]})
        lease_is_over(engine)
        inside({"most": 1})
    (row,) = deliveries(engine)
    assert (row["attempts"], endpoint_row(engine, endpoint["id"])["failures"]) == (3, 1)


def test_late_report_of_a_success_counts(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, inside: Inside
) -> None:
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 1)
    (leased,) = inside({"most": 1})["deliveries"]
    lease_is_over(engine)
    inside({"most": 1})
    inside({"results": [{"id": leased["id"], "attempts": 1, "outcome": "delivered", "status": 200, "text": ""}]})
    assert [row["status"] for row in deliveries(engine)] == ["delivered"]


def test_two_senders_at_once_never_get_the_same_delivery(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, inside: Inside
) -> None:
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 4)
    first, second = (inside({"most": 2})["deliveries"] for _ in range(2))
    assert len({each["id"] for each in [*first, *second]}) == 4


# Failures


def test_failure_is_tried_again_later_and_later(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    receiver.status, receiver.answer = 500, b"x" * 2000
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 1)
    pauses = []
    for _ in range(2):
        assert deliver() == {"failed": 1}
        (row,) = deliveries(engine)
        pauses.append((row["next_attempt_at"] - row["last_attempt_at"]).total_seconds())
        assert (row["status"], row["response_status"], len(row["response_text"])) == ("pending", 500, 1024)
        lease_is_over(engine)
    assert 11 < pauses[0] < 20
    assert 47 < pauses[1] < 74
    receiver.status = 204
    receiver.answer = b""
    assert deliver() == {"delivered": 1}


def test_delivery_that_cannot_be_posted_is_a_failure() -> None:
    impossible = {"id": 1, "attempts": 1, "endpoint_id": "e", "url": "http://127.0.0.1:1/", "headers": None, "body": ""}
    asked: list[dict[str, Any]] = []

    def exchange(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"deliveries": [impossible] if len(asked) == 1 else []}

    assert deliver_all(exchange, float("inf"), any_target=True) == {"failed": 1}
    (result,) = asked[1]["results"]
    assert (result["outcome"], result["text"]) == ("failed", "It was not posted: TypeError.")


def test_failing_endpoint_is_only_probed(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    receiver.status = 503
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_tests(engine, endpoint["id"], 50)
    deliver()
    tried = len(receiver.received)
    assert 3 <= tried <= 10
    assert deliver() == {}
    set_times(engine, webhook_endpoints, next_attempt_at="1 s")
    assert deliver() == {"failed": 1}
    receiver.status = 200
    set_times(engine, webhook_endpoints, next_attempt_at="1 s")
    lease_is_over(engine)
    assert deliver() == {"delivered": 50}
    row = endpoint_row(engine, endpoint["id"])
    assert (row["failures"], row["failing_since"]) == (0, None)


def test_event_is_given_up_after_a_day_and_its_endpoint_disabled(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    receiver.status = 500
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    # One, as a second may not be tried any more when the first has failed; it then waits with the endpoint.
    add_tests(engine, endpoint["id"], 1)
    deliver()
    set_times(engine, webhook_deliveries, first_attempt_at="25 h", next_attempt_at="1 s")
    set_times(engine, webhook_endpoints, failing_since="25 h", next_attempt_at="1 s")
    deliver()
    assert {row["status"] for row in deliveries(engine)} == {"failed"}
    row = endpoint_row(engine, endpoint["id"])
    assert (row["is_enabled"], "24 hours" in row["disabled_reason"]) == (False, True)
    with engine.connect() as connection:
        actions = connection.scalars(sa.select(audit_log.c.action)).all()
        assert "webhook_endpoint.disable" in actions
        assert endpoints.count_disabled(connection) == 1


def test_disabled_endpoint_keeps_its_events_until_it_is_enabled(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    with engine.begin() as connection:
        endpoints.update(connection, endpoint["id"], {"is_enabled": False}, "ann", any_target=True)
    add_tests(engine, endpoint["id"], 2)
    assert deliver() == {}
    with engine.begin() as connection:
        endpoints.update(connection, endpoint["id"], {"is_enabled": True}, "ann", any_target=True)
    assert deliver() == {"delivered": 2}


@pytest.mark.parametrize("change", [{"is_enabled": True}, {"url": "http://127.0.0.1:1/new"}])
def test_events_have_a_day_again_after_their_endpoint_was_enabled(
    engine: sa.Engine, make_endpoint: MakeEndpoint, deliver: Deliver, change: dict[str, Any]
) -> None:
    endpoint = make_endpoint("http://127.0.0.1:1/", "campaign.completed")
    add_tests(engine, endpoint["id"], 1)
    assert deliver() == {"failed": 1}
    set_times(engine, webhook_deliveries, first_attempt_at="25 h", next_attempt_at="1 s")
    with engine.begin() as connection:
        endpoints.update(connection, endpoint["id"], change, "ann", any_target=True)
    assert deliver() == {"failed": 1}
    assert [row["status"] for row in deliveries(engine)] == ["pending"]


def test_day_of_an_event_begins_with_its_first_attempt(
    engine: sa.Engine, make_endpoint: MakeEndpoint, inside: Inside
) -> None:
    add_tests(engine, make_endpoint("http://127.0.0.1:1/", "campaign.completed")["id"], 1)
    (leased,) = inside({"most": 1})["deliveries"]
    inside({"results": [{"id": leased["id"], "attempts": 1, "outcome": "untried"}]})
    assert [(row["attempts"], row["first_attempt_at"]) for row in deliveries(engine)] == [(0, None)]


def test_endpoint_that_is_gone_is_disabled_at_once(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    receiver.status = 410
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_tests(engine, endpoint["id"], 1)
    deliver()
    assert endpoint_row(engine, endpoint["id"])["is_enabled"] is False


def test_replay_delivers_what_happened_since_under_the_same_ids(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_tests(engine, endpoint["id"], 2)
    deliver()
    since = deliveries(engine)[0]["occurred_at"]
    assert replay.replay(engine, endpoint["id"], since, "ann") == (2, None)
    assert deliver() == {"delivered": 2}
    ids = [received.headers["webhook-id"] for received in receiver.received]
    assert sorted(ids[:2]) == sorted(ids[2:])


def test_replay_of_many_events_goes_on_where_it_has_ended(
    engine: sa.Engine,
    receiver: WebhookReceiver,
    make_endpoint: MakeEndpoint,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "REPLAYED_AT_ONCE", 2)
    endpoint, other = (make_endpoint(receiver.url, "campaign.completed") for _ in range(2))
    add_tests(engine, endpoint["id"], 5)
    add_tests(engine, other["id"], 2)
    deliver()
    since, ids = deliveries(engine)[0]["occurred_at"], [row["id"] for row in deliveries(engine)]
    monkeypatch.setattr(replay, "SECONDS", -1)
    assert replay.replay(engine, endpoint["id"], since, "ann") == (2, ids[1])
    monkeypatch.setattr(replay, "SECONDS", 60)
    assert replay.replay(engine, endpoint["id"], since, "ann", ids[1]) == (3, None)
    assert deliver() == {"delivered": 5}


def test_events_are_forgotten_after_seven_days(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver, inside: Inside
) -> None:
    endpoint = make_endpoint(receiver.url, "campaign.completed")
    add_tests(engine, endpoint["id"], 1)
    deliver()
    set_times(engine, webhook_deliveries, occurred_at="7 days 1 min")
    add_tests(engine, endpoint["id"], 1)
    deliver()
    assert len(deliveries(engine)) == 1


@pytest.mark.parametrize("is_deleted", [False, True])
def test_everything_that_nobody_needs_is_deleted_however_much_it_is(
    engine: sa.Engine,
    receiver: WebhookReceiver,
    make_endpoint: MakeEndpoint,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
    is_deleted: bool,
) -> None:
    monkeypatch.setattr(webhooks_exchange, "DELETED_AT_ONCE", 2)
    endpoint, other = (make_endpoint(receiver.url, "campaign.completed") for _ in range(2))
    add_tests(engine, endpoint["id"], 5)
    if is_deleted:
        with engine.begin() as connection:
            endpoints.delete(connection, endpoint["id"], "ann")
    else:
        set_times(engine, webhook_deliveries, occurred_at="7 days 1 min", next_attempt_at="-1 h")
    add_tests(engine, other["id"], 1)
    assert deliver() == {"delivered": 1}
    assert [row["endpoint_id"] for row in deliveries(engine)] == [other["id"]]


def test_deleting_an_endpoint_does_not_hold_up_what_tells_it(engine: sa.Engine, make_endpoint: MakeEndpoint) -> None:
    endpoint = make_endpoint("http://127.0.0.1:1/", "lead.suppressed")
    with engine.connect() as deleting, engine.begin() as telling:
        endpoints.delete(deleting, endpoint["id"], "ann")
        telling.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
        suppressions.suppress(telling, "ann@example.com", "manual", "bob")
        deleting.commit()
    assert [row["event_type"] for row in deliveries(engine)] == ["lead.suppressed"]


def test_no_post_begins_whose_answer_could_come_after_the_deadline(receiver: WebhookReceiver) -> None:
    """The deliveries were handed out in time, and got their turn too late."""
    delivery = {"id": 1, "attempts": 1, "url": receiver.url, "headers": {}, "body": ""}
    for spare, outcome in ((-1, "untried"), (20, "delivered")):
        (result,) = deliver_module._drive([delivery], time.monotonic() + ANSWER_SECONDS + spare, any_target=True)
        assert result["outcome"] == outcome
    assert len(receiver.received) == 1


def test_many_results_are_told_in_parts_that_lambda_takes(
    engine: sa.Engine,
    receiver: WebhookReceiver,
    make_endpoint: MakeEndpoint,
    inside: Inside,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliver_module, "RESULTS_AT_ONCE", 2)
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 5)
    told: list[int] = []

    def exchange(asked: dict[str, Any]) -> dict[str, Any]:
        told.append(len(asked["results"]))
        return inside(asked)

    assert deliver_all(exchange, float("inf"), any_target=True) == {"delivered": 5}
    assert [count for count in told if count] == [2, 2, 1]
    assert {row["status"] for row in deliveries(engine)} == {"delivered"}


def test_address_in_an_answer_is_not_kept(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    receiver.status, receiver.answer = 400, b'{"error": "unknown: ann@example.com"}' + b" " * 980 + b"bob@example.com"
    add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 1)
    deliver()
    (row,) = deliveries(engine)
    assert row["response_text"][:30] == '{"error": "unknown: (address)"'
    assert "bob" not in row["response_text"]


def test_slow_endpoint_does_not_hold_up_another(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    with WebhookReceiver() as slow:
        slow.release = threading.Event()
        add_tests(engine, make_endpoint(slow.url, "campaign.completed")["id"], 5)
        add_tests(engine, make_endpoint(receiver.url, "campaign.completed")["id"], 450)
        run = threading.Thread(target=deliver)
        run.start()
        slow.arrived.wait(300)
        # More than it gets at once: it is asked for again while the other one is still waited for.
        while len(receiver.received) < 450:
            assert run.is_alive()
            receiver.arrived.clear()
            receiver.arrived.wait(0.2)
        assert not slow.release.is_set()
        slow.release.set()
        run.join()
    assert {row["status"] for row in deliveries(engine)} == {"delivered"}


def test_addresses_are_only_in_events_of_an_endpoint_that_asks_for_them(
    engine: sa.Engine, receiver: WebhookReceiver, make_endpoint: MakeEndpoint, deliver: Deliver
) -> None:
    with WebhookReceiver() as asking:
        make_endpoint(receiver.url, "lead.suppressed")
        make_endpoint(asking.url, "lead.suppressed", include_addresses=True)
        with engine.begin() as connection:
            suppressions.suppress(connection, "ann@example.com", "manual", "bob")
        deliver()
        assert json.loads(asking.received[0].body)["data"]["address"] == "ann@example.com"
    assert "ann@example.com" not in receiver.received[0].body
    assert "ann@example.com" not in str(deliveries(engine))


def test_run_does_not_read_all_that_waits_for_a_dead_endpoint(engine: sa.Engine, make_endpoint: MakeEndpoint) -> None:
    endpoint = make_endpoint("http://127.0.0.1:1/", "campaign.completed")
    waiting = """
        INSERT INTO webhook_deliveries (endpoint_id, event_type, data)
        SELECT :id, 'webhook.test', '{}' FROM generate_series(1, 20000)
    """
    given = {"busy": [], "most": 200, "most_at_once": 2000, "lease": webhooks_exchange.LEASE, "probed_after": 3}
    with engine.begin() as connection:
        connection.execute(sa.text(waiting), {"id": endpoint["id"]})
        connection.execute(sa.text("ANALYZE webhook_deliveries"))
        for statement in (webhooks_exchange._LEASE, webhooks_exchange._DELETE_ORPHANS):
            explained = sa.text(f"EXPLAIN (ANALYZE, COSTS OFF) {statement.text}")
            bound = {name: bind for name, bind in statement._bindparams.items() if name in ("busy", "lease")}
            plan = "\n".join(connection.scalars(explained.bindparams(*bound.values()), given))
            assert "Seq Scan on webhook_deliveries" not in plan
            assert "Rows Removed by Filter: 20000" not in plan
