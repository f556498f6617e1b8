"""The clock of the local stack keeps schedules as EventBridge does."""

from __future__ import annotations

import json
import queue
from datetime import datetime, timedelta
from typing import Any

from local.clock import Clock, scheduled_event
from local.template import Schedule


def schedule(**changes: Any) -> Schedule:
    values: dict[str, Any] = {
        "name": "SenderFunctionTick",
        "function": "SenderFunction",
        "interval": timedelta(minutes=1),
        "input": None,
        "enabled": True,
    }
    return Schedule(**(values | changes))


def test_the_event_is_that_of_an_eventbridge_rule() -> None:
    event = scheduled_event(schedule(), "eu-west-1")
    assert event.keys() == {
        "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
    }  # fmt: skip
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    assert event["resources"] == ["arn:aws:events:eu-west-1:123456789012:rule/sendledger-SenderFunctionTick"]
    assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)


def test_a_rule_with_an_input_hands_over_that_input() -> None:
    assert scheduled_event(schedule(input={"a": 1}), "eu-west-1") == {"a": 1}


def test_the_clock_invokes_at_once_and_then_again_and_again() -> None:
    invoked: queue.SimpleQueue[tuple[Schedule, bytes]] = queue.SimpleQueue()
    clock = Clock([schedule()], "us-east-1", 0.001, lambda each, event: invoked.put((each, event)))
    clock.start()
    events = [json.loads(invoked.get(timeout=300)[1]) for _ in range(3)]
    clock.stop()
    assert len({event["id"] for event in events}) == 3


def test_the_first_invocation_does_not_wait_for_the_interval() -> None:
    invoked: queue.SimpleQueue[Schedule] = queue.SimpleQueue()
    clock = Clock([schedule()], "us-east-1", 3600, lambda each, event: invoked.put(each))
    clock.start()
    assert invoked.get(timeout=300).function == "SenderFunction"
    clock.stop()
    assert invoked.empty()


def test_a_disabled_schedule_is_not_kept() -> None:
    invoked: list[Schedule] = []
    clock = Clock([schedule(enabled=False)], "us-east-1", 0.001, lambda each, event: invoked.append(each))
    clock.start()
    clock.stop()
    assert invoked == []
