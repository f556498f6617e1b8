"""The outer half of delivering webhooks: asks the inner one for signed deliveries, posts them, and reports.

It reaches the internet and no database, and knows signatures but no secret. Each endpoint has a lane of its own, so
that a slow one holds up nobody else. After the first failure a lane gives the rest of its deliveries back untried.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import groupby
from typing import Any

from sendledger.core.vocabulary import WebhookOutcome
from sendledger.webhooks.post import ANSWER_SECONDS, Answered, EndpointConnection

MOST_FOR_ONE_ENDPOINT = 200
"""Deliveries that an endpoint gets at once."""
CONNECTIONS = 4
"""To one endpoint at a time."""
LANE_SECONDS = 20.0
"""After which a lane begins no more posts: its deliveries are leased for two minutes."""
SPARE_SECONDS = 2 * ANSWER_SECONDS
RESULTS_AT_ONCE = 500
"""Each has at most 1 KB of text, up to 6 KB as JSON: Lambda takes 6 MB."""
LANES = 20
"""Endpoints at a time; see `endpoints.MOST_ENDPOINTS`."""

Exchange = Callable[[dict[str, Any]], dict[str, Any]]
Delivery = dict[str, Any]
Result = dict[str, Any]


def deliver_all(exchange: Exchange, deadline: float, *, any_target: bool) -> dict[str, int]:
    """Deliver until nothing is due, or until shortly before the deadline (of `time.monotonic`); counts by outcome.

    What `exchange` raises ends it once the lanes have ended. Results that it has not taken are lost: those deliveries
    are delivered again.
    """
    counts: dict[str, int] = {}
    lanes: dict[Future[list[Result]], str] = {}
    results: list[Result] = []
    with ThreadPoolExecutor(LANES, "lane") as lanes_pool:
        while True:
            going_on = time.monotonic() < deadline - SPARE_SECONDS
            most = MOST_FOR_ONE_ENDPOINT if going_on else 0
            if most or results:
                answer = exchange({"results": results[:RESULTS_AT_ONCE], "busy": list(lanes.values()), "most": most})
                del results[:RESULTS_AT_ONCE]
                for endpoint_id, group in groupby(answer["deliveries"], key=lambda each: str(each["endpoint_id"])):
                    lanes[lanes_pool.submit(_drive, list(group), deadline, any_target)] = endpoint_id
            if not lanes:
                if results:
                    continue
                return counts
            # An endpoint that is free again gets its next deliveries, whatever the others do.
            done, _ = wait(lanes, timeout=1.0, return_when=FIRST_COMPLETED)
            for lane in done:
                del lanes[lane]
                results += lane.result()
            for result in (each for lane in done for each in lane.result()):
                counts[result["outcome"]] = counts.get(result["outcome"], 0) + 1


def _drive(deliveries: Sequence[Delivery], deadline: float, any_target: bool) -> list[Result]:
    """Post the deliveries of one endpoint, over a few connections. The last answer is there before the deadline."""
    waiting = deque(deliveries)
    results: list[Result] = []
    stop, until = threading.Event(), min(time.monotonic() + LANE_SECONDS, deadline - ANSWER_SECONDS)

    def work() -> None:
        connection = EndpointConnection(any_target=any_target)
        try:
            while not stop.is_set() and time.monotonic() < until:
                try:
                    delivery = waiting.popleft()
                except IndexError:
                    return
                try:
                    answered = connection.post(delivery["url"], delivery["headers"], delivery["body"])
                except Exception as error:
                    # Whatever it is: a thread that dies says nothing, and the same would happen every minute.
                    answered = Answered(WebhookOutcome.FAILED, None, f"It was not posted: {type(error).__name__}.")
                if answered.outcome is WebhookOutcome.FAILED:
                    stop.set()
                results.append(_result(delivery, answered))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(min(CONNECTIONS, len(deliveries)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    untried = [{"id": each["id"], "attempts": each["attempts"], "outcome": WebhookOutcome.UNTRIED} for each in waiting]
    return [*results, *untried]


def _result(delivery: Delivery, answered: Answered) -> Result:
    return {"id": delivery["id"], "attempts": delivery["attempts"], **answered._asdict()}
