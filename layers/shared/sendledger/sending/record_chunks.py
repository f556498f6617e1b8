"""Recording in a tick: results are collected and written a chunk at a time, in a second thread.

Sending continues meanwhile. Results that could not be written are kept and retried at the end of the tick. If one
result prevents the others from being written, it is left out, so that the others are not lost. Writes through
`record_results`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.core import database
from sendledger.ledger import record_results
from sendledger.ledger.record_results import Recorded, SendResult

logger = Logger(child=True)

OnRecorded = Callable[[list[SendResult], Recorded, float], None]
"""Called with the results that were recorded, their effects, and the seconds that it took."""


class ChunkRecorder:
    """Records under one claim token, until the tick's `deadline`.

    For the main thread only. `on_recorded` is called in it; only the writing runs in the other thread.
    """

    def __init__(self, engine: sa.Engine, token: uuid.UUID, deadline: float, on_recorded: OnRecorded) -> None:
        self.results: list[SendResult] = []
        """What is not being recorded yet."""
        self._engine = engine
        self._token = token
        self._deadline = deadline
        self._on_recorded = on_recorded
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._recording: tuple[list[SendResult], Future[tuple[Recorded, float]]] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether anything is not recorded yet."""
        return bool(self.results or self._recording)

    def holds_results_of(self, campaign_id: uuid.UUID) -> bool:
        """Whether a result of this campaign is not recorded yet."""
        in_hand = self.results + (self._recording[0] if self._recording is not None else [])
        return any(result.email.campaign_id == campaign_id for result in in_hand)

    def record_if(self, enough: int, at_most: int) -> None:
        """Begin to record the results if there are `enough` and no recording is under way, or more than
        `at_most`, in which case the one under way is waited for."""
        if self._recording is not None and self._recording[1].done():
            self._await_recording()
        # Results that are not recorded would be unknown after a crash, so they must not wait or pile up.
        if len(self.results) >= (enough if self._recording is None else at_most):
            self._begin()

    def begin_if_idle(self) -> None:
        """Begin to record the results, if no recording is under way."""
        if self.results and self._recording is None:
            self._begin()

    def record_all(self) -> None:
        """Record the results and wait for that."""
        if self.results:
            self._begin()
        self._await_recording()

    def close(self) -> None:
        """Record all that is left, and end the thread.

        Raises:
            sqlalchemy.exc.DBAPIError: something could not be written; all that could be is.
        """
        try:
            if self._recording is not None and (error := self._recording[1].exception()) is not None:
                # Once more, with the results that have come in since.
                logger.warning("The results could not be written yet", exc_info=error)
                self.results, self._recording = self._recording[0] + self.results, None
            self._record_halves()
        finally:
            self._thread.shutdown()

    def _begin(self) -> None:
        self._await_recording()
        results, self.results = self.results, []
        self._recording = (results, self._thread.submit(self._record, results))

    def _record(self, results: list[SendResult]) -> tuple[Recorded, float]:
        """In the recording thread: write these results. After a lost connection this is retried until the tick's
        end."""
        while True:
            began = time.monotonic()
            try:
                with self._engine.begin() as connection:
                    recorded = record_results.record(connection, results, self._token)
                return recorded, time.monotonic() - began
            except sa.exc.DBAPIError as error:
                if time.monotonic() > self._deadline - 1.0 or not database.is_transient(error):
                    raise
                logger.warning("The results could not be written yet", exc_info=True)
                time.sleep(0.2)

    def _await_recording(self) -> None:
        """Wait for the recording under way, if there is one, and report it."""
        if self._recording is None:
            return
        (results, recording), self._recording = self._recording, None
        try:
            recorded, seconds = recording.result()
        except BaseException:
            # It is retried at the end of the tick.
            self.results = results + self.results
            raise
        self._on_recorded(results, recorded, seconds)

    def _record_halves(self) -> None:
        """Record what is left; if one result keeps the others from being written, without that one."""
        results = self.results
        try:
            self.record_all()
        except sa.exc.DBAPIError as error:
            if len(results) < 2 or database.is_transient(error):
                raise
            middle = len(results) // 2
            failure: sa.exc.DBAPIError | None = None
            for half in (results[:middle], results[middle:]):
                self.results = half
                try:
                    self._record_halves()
                except sa.exc.DBAPIError as again:
                    failure = again
            if failure is not None:
                raise failure from error
