"""SesSimulator: a local stand-in for the SESv2 API that boto3 talks to over HTTP, with its ledger, events and inbox."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.ses_simulator.account import Account
from local.ses_simulator.control_api import PREFIX, ControlApi
from local.ses_simulator.event_feed import EventFeed
from local.ses_simulator.events import Event
from local.ses_simulator.faults import Fault, Faults
from local.ses_simulator.http_server import HttpResponse, Request, listen, serve
from local.ses_simulator.inbox import Inbox
from local.ses_simulator.ledger import AcceptedEmail, Ledger
from local.ses_simulator.ses_api import Counts, SesApi


class PortTakenError(Exception):
    """The simulator cannot listen on its port."""


class SesSimulator:
    """Use it as a context manager, or call `start` and `stop` once each; it serves from a thread of its own.

    `rate` is MaxSendRate (None or 0: unlimited), `daily_quota` is Max24HourSend (-1: unlimited); both count recipients.
    Without `ledger_path` the ledger is gone when the simulator stops. `event_sink` gets every published event as
    EventBridge JSON, in order, from another thread; `on_auto_reply` likewise every email to
    ooto@simulator.amazonses.com. `account` and `inbox.describe` can be changed while it runs. Raises
    LedgerInUseError; `start` raises PortTakenError.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ledger_path: str | Path | None = None,
        rate: float | None = 14.0,
        daily_quota: int = 50_000,
        latency_ms: float = 0.0,
        region: str = "us-east-1",
        event_sink: Callable[[Event], object] | None = None,
        on_auto_reply: Callable[[AcceptedEmail], object] | None = None,
    ) -> None:
        self._host, self._port = host, port
        self.account = Account(region=region, max_send_rate=rate, max_24_hour_send=daily_quota, latency_ms=latency_ms)
        self.ledger = Ledger(Path(ledger_path) if ledger_path is not None else None)
        for accepted_at, recipients in self.ledger.sent_since(datetime.now(UTC) - timedelta(hours=24)):
            self.account.count_sent(recipients, accepted_at)
        self.faults = Faults()
        self._feed = EventFeed(self.ledger, self.account, event_sink, on_auto_reply)
        self._api = SesApi(self.account, self.ledger, self.faults, self._feed.wake)
        self._control = ControlApi(
            account=self.account,
            ledger=self.ledger,
            faults=self.faults,
            feed=self._feed,
            ses_api=self._api,
            clear=self._clear,
        )
        self.inbox = Inbox(self.ledger, region)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self.url = ""

    def start(self) -> Self:
        try:
            listener = listen(self._host, self._port)
        except OSError as error:
            self.ledger.close()
            address = f"{self._host}:{self._port}"
            raise PortTakenError(f"The SES simulator cannot listen on {address}: {error.strerror}") from error
        self.url = f"http://{self._host}:{listener.getsockname()[1]}"
        started = threading.Event()

        async def run() -> None:
            self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
            started.set()
            await serve(listener, self._handle, self._stopped)

        self._thread = threading.Thread(target=asyncio.run, args=(run(),), name="ses-simulator")
        self._thread.start()
        started.wait()
        self._feed.start()
        return self

    def stop(self) -> None:
        """Drops every connection, hands the remaining events to the sink and closes the ledger."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._thread = None
        self._feed.stop()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def accepted(self) -> list[AcceptedEmail]:
        """Every accepted email, oldest first, those of earlier runs on the same ledger too."""
        return list(self.ledger.after(0))

    @property
    def counts(self) -> Counts:
        return self._api.counts

    def events(self, after: int = 0, limit: int = 1_000_000) -> list[Event]:
        return [item["event"] for item in self._feed.read(after, limit)]

    def add_event(self, email: AcceptedEmail, event_type: str, seconds: float | None = None, **content: Any) -> Event:
        """Let something happen to an accepted email: an open, a click, a delay, a transient bounce, …

        It happens now, or so many `seconds` after the email was accepted; `content` replaces what its object usually
        holds. Raises ValueError for an unknown type.
        """
        at = datetime.now(UTC) if seconds is None else email.accepted_at + timedelta(seconds=seconds)
        event: Event = self._feed.script(email, event_type, at, content)["event"]
        return event

    def flush_events(self, timeout: float = 10.0) -> None:
        """Wait until the sink has had the events of every email accepted so far. Raises TimeoutError."""
        self._feed.flush(timeout)

    def add_fault(self, kind: str, **matching: Any) -> Fault:
        """Script a fault; `matching` are the fields of Fault. Raises ValueError for an unknown kind."""
        return self.faults.add(Fault(kind, **matching))

    def clear(self) -> None:
        """Forget everything: ledger (the file too), faults, counts, suppressions; the account as it was made."""
        if self._thread is None:
            self._clear()
            return
        cleared: Future[None] = Future()

        def clear() -> None:
            self._clear()
            cleared.set_result(None)

        self._loop.call_soon_threadsafe(clear)
        cleared.result()

    def _clear(self) -> None:
        self.faults.clear()
        self.ledger.clear()
        self._feed.restart()
        self.account.reset()
        self._api.counts = Counts()

    def _handle(self, request: Request) -> HttpResponse:
        if request.target.startswith("/v2/"):
            return self._api.handle(request)
        if request.target.startswith(PREFIX):
            return self._control.handle(request)
        return self.inbox.handle(request)
