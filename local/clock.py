"""Invokes the template's schedules like EventBridge: on time, even if the last invocation has not ended."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from local.cloudformation import ACCOUNT_ID, STACK_NAME
from local.template import Schedule


def scheduled_event(schedule: Schedule, region: str) -> Any:
    """What EventBridge hands to the target of a schedule: the rule's input, or else this.

    https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
    """
    if schedule.input is not None:
        return schedule.input
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT_ID,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{ACCOUNT_ID}:rule/{STACK_NAME}-{schedule.name}"],
        "detail": {},
    }


class Clock:
    """Calls `invoke` with a schedule and its event, which must return at once: first on `start`, then at its rate.

    `minute` is how many seconds a minute of the schedules lasts here.
    """

    def __init__(
        self,
        schedules: Iterable[Schedule],
        region: str,
        minute: float,
        invoke: Callable[[Schedule, bytes], None],
    ) -> None:
        self._schedules = [schedule for schedule in schedules if schedule.enabled]
        self._region = region
        self._minute = minute
        self._invoke = invoke
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(schedule,), name=f"clock-{schedule.name}", daemon=True)
            for schedule in self._schedules
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _keep(self, schedule: Schedule) -> None:
        interval = schedule.interval.total_seconds() / 60 * self._minute
        due = time.monotonic()
        while not self._stopped.is_set():
            self._invoke(schedule, json.dumps(scheduled_event(schedule, self._region)).encode())
            # Invocations that were missed while the machine slept are not repeated.
            due = max(due + interval, time.monotonic())
            self._stopped.wait(due - time.monotonic())
