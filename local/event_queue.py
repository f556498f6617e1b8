"""The local stand-in for EventBridge's rule and the SQS queue between SES and the SES events function.

Events of the SES simulator go in, as EventBridge JSON; batches in the form of SQS go to the function, in the order of
their arrival. Messages that the function returns, and batches on which it fails, are delivered again a little later.
After five attempts they are dead letters. https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.cloudformation import ACCOUNT_ID

DETAIL_TYPES = frozenset(
    {
        "Email Sent",
        "Email Delivered",
        "Email Bounced",
        "Email Complaint Received",
        "Email Opened",
        "Email Clicked",
        "Email Rejected",
        "Email Rendering Failed",
        "Email Delivery Delayed",
        "Email Subscribed",
    }
)
"""The types of events that the rule passes on."""

logger = logging.getLogger(__name__)


@dataclass
class Message:
    """One event on its way; `body` is its JSON."""

    body: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent_at: float = field(default_factory=time.time)
    receives: int = 0
    visible_at: float = 0.0

    def record(self) -> dict[str, Any]:
        """https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event"""
        return {
            "messageId": self.id,
            "receiptHandle": f"{self.id}:{self.receives}",
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": str(self.receives),
                "SentTimestamp": str(int(self.sent_at * 1000)),
                "SenderId": "events.amazonaws.com",
                "ApproximateFirstReceiveTimestamp": str(int(time.time() * 1000)),
            },
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:us-east-1:{ACCOUNT_ID}:ses-events",
            "awsRegion": "us-east-1",
        }


class EventQueue:
    """Takes events from any thread; hands them on from one of its own once it is started."""

    def __init__(self, *, batch_size: int = 500, max_receives: int = 5, retry_seconds: float = 1.0) -> None:
        self._batch_size = batch_size
        self._max_receives = max_receives
        self._retry_seconds = retry_seconds
        self._waiting: list[Message] = []
        self._under_way = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.dead_letters: list[Message] = []

    def put(self, event: Any) -> None:
        """Accept an event, or a text in its place. Events that the rule does not match are ignored."""
        if isinstance(event, dict) and event.get("detail-type") not in DETAIL_TYPES:
            return
        with self._changed:
            self._waiting.append(Message(event if isinstance(event, str) else json.dumps(event)))
            self._changed.notify_all()

    def start(self, function: Callable[[dict[str, Any]], Any]) -> None:
        """From now on `function` gets the events; it answers as a Lambda that reports batch item failures."""
        self._thread = threading.Thread(target=self._run, args=(function,), name="event-queue", daemon=True)
        self._thread.start()

    def drain(self, timeout: float = 30.0) -> None:
        """Wait until every event so far was delivered or has become a dead letter. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._waiting and not self._under_way, timeout):
                raise TimeoutError(f"the events were not taken within {timeout} s")

    def stop(self) -> None:
        """Stop after the current batch. Waiting events are dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self, function: Callable[[dict[str, Any]], Any]) -> None:
        while batch := self._next_batch():
            failed = self._deliver(function, batch)
            with self._changed:
                for message in batch:
                    if message.id not in failed:
                        continue
                    if message.receives >= self._max_receives:
                        self.dead_letters.append(message)
                        logger.error("An event was put aside after %d attempts", message.receives)
                    else:
                        message.visible_at = time.monotonic() + self._retry_seconds
                        self._waiting.append(message)
                self._under_way = 0
                self._changed.notify_all()

    def _next_batch(self) -> list[Message]:
        """The messages whose time has come; empty once the queue is stopped."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                batch = [message for message in self._waiting if message.visible_at <= now][: self._batch_size]
                if batch:
                    taken = {message.id for message in batch}
                    self._waiting = [message for message in self._waiting if message.id not in taken]
                    self._under_way = len(batch)
                    for message in batch:
                        message.receives += 1
                    return batch
                soonest = min((message.visible_at for message in self._waiting), default=None)
                self._changed.wait(None if soonest is None else soonest - now)
            return []

    def _deliver(self, function: Callable[[dict[str, Any]], Any], batch: list[Message]) -> set[str]:
        """The ids of the messages that are delivered again."""
        try:
            answer = function({"Records": [message.record() for message in batch]})
            return {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        except Exception:
            logger.exception("The function failed on a batch of %d events", len(batch))
            return {message.id for message in batch}
