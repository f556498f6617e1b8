"""Invokes the functions of a template as Lambda does: in warm environments where there are any, else in new ones.

Events and results are JSON, as bytes. Invocations at the same time run in different environments, so a handler sees
the concurrency that it will see when it is deployed, and never more than one invocation at a time in one process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from local.execution_environment import ExecutionEnvironment, Outcome, failure
from local.template import Function

MAX_CONCURRENCY = 8
"""Environments that one function has at most; further invocations wait. On AWS they would be throttled much later."""

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Of the event and of the result of a synchronous invocation.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


class FunctionNotFoundError(Exception):
    """The template has no function of this name."""


class PayloadTooLargeError(Exception):
    """The event is larger than Lambda takes."""


class Functions:
    """`environment` is what every function gets besides its own variables: credentials, endpoints, PATH and so on."""

    def __init__(self, functions: Mapping[str, Function], environment: Mapping[str, str], log: IO[bytes]) -> None:
        self._functions = functions
        self._environment = environment
        self._log = log
        self._places = {logical_id: threading.BoundedSemaphore(MAX_CONCURRENCY) for logical_id in functions}
        self._idle: dict[str, list[ExecutionEnvironment]] = {logical_id: [] for logical_id in functions}
        self._running: set[ExecutionEnvironment] = set()
        self._waiting = 0  # invocations in the background that have not ended
        self._changed = threading.Condition()
        self._stopping = False
        self._background = ThreadPoolExecutor(MAX_CONCURRENCY * 2, thread_name_prefix="invoke")

    def find(self, name: str) -> Function:
        """The function with this logical id, name or ARN, each with or without a qualifier.

        Raises:
            FunctionNotFoundError
        """
        name = name.rpartition(":function:")[2].partition(":")[0]
        for function in self._functions.values():
            if name in (function.logical_id, function.name):
                return function
        raise FunctionNotFoundError(name)

    def invoke(self, function: Function, event: bytes, wanted: Callable[[], bool] = lambda: True) -> Outcome:
        """Run the function and wait for its result. It does not run if it is no longer `wanted` when its turn comes.

        Raises:
            PayloadTooLargeError: the function did not run.
        """
        if len(event) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLargeError(f"{len(event)} bytes exceed the limit of {MAX_PAYLOAD_BYTES}")
        with self._places[function.logical_id]:
            environment = self._take(function) if wanted() else None
            if environment is None:
                return failure("Stopped", "The local stack is stopping")
            try:
                outcome = environment.invoke(event)
            finally:
                self._give_back(function, environment)
        if len(outcome.payload) > MAX_PAYLOAD_BYTES:
            return failure(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes).",
            )
        return outcome

    def invoke_async(self, function: Function, event: bytes, cancelled: threading.Event | None = None) -> None:
        """Run the function in the background, once; not at all if it cannot begin within its maximum event age, or
        before `cancelled` is set."""
        too_late = time.monotonic() + function.maximum_event_age

        def wanted() -> bool:
            return time.monotonic() < too_late and not (cancelled and cancelled.is_set())

        def run() -> None:
            try:
                self.invoke(function, event, wanted)
            finally:
                with self._changed:
                    self._waiting -= 1
                    self._changed.notify_all()

        with self._changed:
            if self._stopping:
                return
            self._waiting += 1
        self._background.submit(run)

    def refuse_more(self) -> None:
        """Start no further invocation, and drop background invocations that have not started."""
        with self._changed:
            self._stopping = True

    def wait_until_idle(self) -> None:
        """Wait until no invocation runs and none waits in the background."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running and not self._waiting)

    def stop(self) -> None:
        """Kill every environment, also while it runs an invocation."""
        with self._changed:
            self._stopping = True
            for environment in self._running:
                environment.kill()
            self._changed.wait_for(lambda: not self._running and not self._waiting)
            idle = [environment for each in self._idle.values() for environment in each]
            for each in self._idle.values():
                each.clear()
        for environment in idle:
            environment.stop()
        self._background.shutdown()

    def _take(self, function: Function) -> ExecutionEnvironment | None:
        with self._changed:
            if self._stopping:
                return None
            idle = self._idle[function.logical_id]
            while idle:
                environment = idle.pop()
                if environment.alive:
                    break
                environment.stop()
            else:
                environment = ExecutionEnvironment(function, self._environment, self._log)
            self._running.add(environment)
            return environment

    def _give_back(self, function: Function, environment: ExecutionEnvironment) -> None:
        with self._changed:
            self._running.discard(environment)
            self._changed.notify_all()
            if environment.alive:
                self._idle[function.logical_id].append(environment)
                return
        environment.stop()
