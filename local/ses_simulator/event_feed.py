"""Delivers the events of the ledger's emails: by number to those who ask, and to a sink from a thread of its own.

The thread keeps a slow sink from slowing the sending down. Like EventBridge it is best effort: it starts with the
emails accepted after it was started, and where the sink raises, the exception is logged and the next event follows.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from local.ses_simulator.account import Account
from local.ses_simulator.events import EVENTS_PER_EMAIL, Event, Outcome, events_of, outcome, simulator_mailbox
from local.ses_simulator.ledger import AcceptedEmail, Ledger

logger = logging.getLogger(__name__)


class EventFeed:
    def __init__(
        self,
        ledger: Ledger,
        account: Account,
        sink: Callable[[Event], object] | None,
        on_auto_reply: Callable[[AcceptedEmail], object] | None,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._sink = sink
        self._on_auto_reply = on_auto_reply
        self._fed = len(ledger)
        self._scripted: dict[int, list[Outcome]] = {}  # by the email's number
        self._unfed: deque[tuple[int, int]] = deque()  # number of the email and the event for each that was scripted
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def read(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` items {number, event} with a number above `after`, oldest first."""
        items: list[dict[str, Any]] = []
        for email in self._ledger.after(after // EVENTS_PER_EMAIL - 1):
            for number, event in self._events_of(email):
                if number > after:
                    items.append({"number": number, "event": event})
                if len(items) == limit:
                    return items
        return items

    def script(self, email: AcceptedEmail, event_type: str, at: datetime, changes: dict[str, Any]) -> dict[str, Any]:
        """Let an event happen to the email; returns the item as `read` does. Forgotten when the simulator stops.

        Raises:
            ValueError
        """
        happens = outcome(email, event_type, at, changes)
        with self._changed:
            self._scripted.setdefault(email.number, []).append(happens)
            number, event = self._events_of(email)[-1]
            self._unfed.append((email.number, number))
            self._changed.notify_all()
        return {"number": number, "event": event}

    def start(self) -> None:
        if self._sink is not None or self._on_auto_reply is not None:
            self._thread = threading.Thread(target=self._run, name="ses-simulator-events")
            self._thread.start()

    def stop(self) -> None:
        """Returns when the sink has had every event."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """To be called when the ledger has grown."""
        if self._thread is not None:
            with self._changed:
                self._changed.notify_all()

    def restart(self) -> None:
        """To be called when the ledger has been emptied."""
        with self._changed:
            self._fed = 0
            self._scripted.clear()
            self._unfed.clear()

    def flush(self, timeout: float) -> None:
        """Wait until the sink has had every event so far. Raises TimeoutError."""
        with self._changed:
            if self._thread is not None and not self._changed.wait_for(self._is_even, timeout):
                raise TimeoutError(f"the event sink has not taken all events within {timeout} s")

    def _is_even(self) -> bool:
        return self._fed >= len(self._ledger) and not self._unfed

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or not self._is_even())
                if self._is_even():
                    return
                # A scripted event of an email that has not been fed is fed with the others of the email.
                scripted = self._unfed[0] if self._unfed and self._unfed[0][0] <= self._fed else None
                email = self._ledger.read(scripted[0] if scripted else self._fed + 1)
                events = self._events_of(email)
            if scripted:
                self._feed(email, [event for number, event in events if number == scripted[1]])
            else:
                self._reply(email)
                self._feed(email, [event for _, event in events])
            with self._changed:
                # Not where the ledger was emptied meanwhile.
                if scripted:
                    if self._unfed and self._unfed[0] == scripted:
                        self._unfed.popleft()
                elif self._fed + 1 == email.number:
                    self._fed = email.number
                    fed = {number for number, _ in events}
                    self._unfed = deque(each for each in self._unfed if each[1] not in fed)
                self._changed.notify_all()

    def _reply(self, email: AcceptedEmail) -> None:
        try:
            if self._on_auto_reply and any(simulator_mailbox(each) == "ooto" for each in email.destination):
                self._on_auto_reply(email)
        except Exception:
            logger.exception("The hook for automatic replies failed for message %s", email.message_id)

    def _feed(self, email: AcceptedEmail, events: list[Event]) -> None:
        try:
            for event in events:
                if self._sink is not None:
                    self._sink(event)
        except Exception:
            logger.exception("The event sink failed for message %s", email.message_id)

    def _events_of(self, email: AcceptedEmail) -> list[tuple[int, Event]]:
        return list(
            events_of(
                email,
                region=self._account.region,
                account_id=self._account.account_id,
                scripted=self._scripted.get(email.number, ()),
            )
        )
