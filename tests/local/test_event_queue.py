"""Between the simulator and the function events wait, come again and end as dead letters as they do in SQS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.event_queue import EventQueue

NO_FAILURES: dict[str, Any] = {"batchItemFailures": []}


def event(number: int) -> dict[str, Any]:
    return {"detail-type": "Email Sent", "id": str(number)}


@pytest.fixture
def queue() -> Iterator[EventQueue]:
    queue = EventQueue(batch_size=2, max_receives=3, retry_seconds=0)
    yield queue
    queue.stop()


def test_events_come_in_batches_and_in_order(queue: EventQueue) -> None:
    batches: list[list[str]] = []

    def function(batch: dict[str, Any]) -> Any:
        batches.append([record["body"] for record in batch["Records"]])
        return NO_FAILURES

    for number in range(3):
        queue.put(event(number))
    queue.start(function)
    queue.drain()
    assert [len(batch) for batch in batches] == [2, 1]
    assert [body for batch in batches for body in batch] == [
        f'{{"detail-type": "Email Sent", "id": "{number}"}}' for number in range(3)
    ]


def test_only_messages_that_the_function_returns_are_redelivered(queue: EventQueue) -> None:
    seen: list[tuple[str, str]] = []

    def function(batch: dict[str, Any]) -> Any:
        seen.extend((each["body"], each["attributes"]["ApproximateReceiveCount"]) for each in batch["Records"])
        failed = [
            each["messageId"]
            for each in batch["Records"]
            if each["body"] == "b" and each["attributes"]["ApproximateReceiveCount"] == "1"
        ]
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}

    queue.put("a")
    queue.put("b")
    queue.start(function)
    queue.drain()
    assert seen == [("a", "1"), ("b", "1"), ("b", "2")]
    assert queue.dead_letters == []


def test_function_that_keeps_failing_leaves_dead_letters(queue: EventQueue) -> None:
    def function(batch: dict[str, Any]) -> Any:
        raise RuntimeError("broken")

    queue.put("a")
    queue.start(function)
    queue.drain()
    assert [(message.body, message.receives) for message in queue.dead_letters] == [("a", 3)]


def test_events_that_the_rule_does_not_match_stay_out(queue: EventQueue) -> None:
    seen: list[Any] = []
    queue.put({"detail-type": "AWS API Call via CloudTrail"})
    queue.start(lambda batch: seen.append(batch))
    queue.drain()
    assert seen == []
