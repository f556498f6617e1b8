"""The recording of a tick: results are gathered and written a chunk at a time, in a thread beside the main one.

The sending goes on meanwhile. What could not be written is kept, tried again at the end of the tick, and then without
the result that keeps the others from being written, so that none is lost for the sake of another. Writes through
`record_results`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns import guardrails
from sendledger.core import database
from sendledger.core.settings import SenderSettings
from sendledger.ledger import record_results
from sendledger.ledger.record_results import Recorded, SendResult
from sendledger.ses.answers import Answer

logger = Logger(child=True)

TakeIn = Callable[[list[SendResult], Recorded, dict[uuid.UUID, str]], None]
"""Is given what was recorded, what came of it, and the campaigns to pause with their reasons."""


class ChunkRecorder:
    """Records under one claim token, until the tick's `deadline`. For the main thread, which calls `take_in` through
    it: all but the writing itself happens there."""

    def __init__(
        self, engine: sa.Engine, settings: SenderSettings, token: uuid.UUID, deadline: float, take_in: TakeIn
    ) -> None:
        self.results: list[SendResult] = []
        """What is not being recorded yet."""
        self._engine = engine
        self._settings = settings
        self._token = token
        self._deadline = deadline
        self._take_in = take_in
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._recording: tuple[list[SendResult], Future[tuple[Recorded, dict[uuid.UUID, str]]]] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether anything is not recorded and taken in."""
        return bool(self.results or self._recording)

    def record_if(self, enough: int, at_most: int) -> None:
        """Begin to record what is at hand if there is `enough` of it and no recording under way, or more than
        `at_most`, in which case the one under way is waited for."""
        if self._recording is not None and self._recording[1].done():
            self._take_in_recorded()
        # What is not recorded yet would be unknown after a crash: it shall neither wait for more nor pile up.
        if len(self.results) >= (enough if self._recording is None else at_most):
            self._begin()

    def begin_if_idle(self) -> None:
        """Begin to record what is at hand, if no recording is under way."""
        if self.results and self._recording is None:
            self._begin()

    def record_all(self) -> None:
        """Record what is at hand and wait until it is."""
        if self.results:
            self._begin()
        self._take_in_recorded()

    def close(self) -> None:
        """Record all that is left, and end the thread.

        Raises:
            sqlalchemy.exc.DBAPIError: something could not be written; all that could be is.
        """
        try:
            if self._recording is not None and (error := self._recording[1].exception()) is not None:
                # Once more, and with it what has come in since, which was not tried yet.
                logger.warning("The results could not be written yet", exc_info=error)
                self.results, self._recording = self._recording[0] + self.results, None
            self._record_halves()
        finally:
            self._thread.shutdown()

    def _begin(self) -> None:
        self._take_in_recorded()
        results, self.results = self.results, []
        self._recording = (results, self._thread.submit(self._record, results))

    def _record(self, results: list[SendResult]) -> tuple[Recorded, dict[uuid.UUID, str]]:
        """In the recording thread: write these results, and find the campaigns to pause for their errors; a lost
        connection is tried again until the tick's end."""
        while True:
            try:
                with self._engine.begin() as connection:
                    recorded = record_results.record(connection, results, self._token)
                    to_pause = guardrails.provider_errors(connection, _refused(results), self._settings)
                return recorded, to_pause
            except sa.exc.DBAPIError as error:
                if time.monotonic() > self._deadline - 1.0 or not database.is_transient(error):
                    raise
                logger.warning("The results could not be written yet", exc_info=True)
                time.sleep(0.2)

    def _take_in_recorded(self) -> None:
        """Wait for the recording under way, if there is one, and hand it on."""
        if self._recording is None:
            return
        (results, recording), self._recording = self._recording, None
        try:
            recorded, to_pause = recording.result()
        except BaseException:
            # The end of the tick tries once more.
            self.results = results + self.results
            raise
        self._take_in(results, recorded, to_pause)

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


def _refused(results: list[SendResult]) -> set[uuid.UUID]:
    """The campaigns with emails that SES was asked to send and did not say that it has."""
    refusals = [result for result in results if result.outcome.answer in (Answer.FAIL_ROW, Answer.UNKNOWN)]
    # What could not be rendered never got as far as SES.
    return {result.email.campaign_id for result in refusals if result.rendered is not None}
