"""HTTP transports that repeat requests. A request that changes something gets an Idempotency-Key, so that this is safe.

The API carries out a request with the same key once, and answers a repeated one as it did the first. So it does not
matter what became of the first answer. What the API refuses is not repeated.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator

import httpx

from sendledger_client.errors import NotReachable

MOST_ATTEMPTS = 5
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
KEY = "Idempotency-Key"
_PASSING = (429, 502, 503, 504)


def _with_key(request: httpx.Request) -> None:
    if request.method in CHANGING and KEY not in request.headers:
        request.headers[KEY] = str(uuid.uuid4())


def _is_passing(response: httpx.Response, attempt: int) -> bool:
    if response.status_code in _PASSING:
        return True
    # The first attempt is still being worked on. Nobody but us has this key.
    return response.status_code == 409 and attempt > 0 and b":request_in_progress" in response.content


def _pauses() -> Iterator[float]:
    """Doubled each time, and jittered, so that clients which failed together do not come back together."""
    for attempt in range(MOST_ATTEMPTS - 1):
        yield FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311


def _pause(planned: float, response: httpx.Response | None) -> float:
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(max(planned, float(asked)), LONGEST_PAUSE) if asked.isdigit() else planned


class RetryingTransport(httpx.BaseTransport):
    """Repeats requests of a client."""

    def __init__(self, url: str, transport: httpx.BaseTransport) -> None:
        self._url = url
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _with_key(request)
        request.read()  # a stream could be sent once only
        for attempt, planned in enumerate(_pauses()):
            response = None
            try:
                response = self._transport.handle_request(request)
                response.read()
                if not _is_passing(response, attempt):
                    return response
                response.close()
            except httpx.TransportError:
                if response is not None:
                    response.close()
            time.sleep(_pause(planned, response))
        try:
            return self._transport.handle_request(request)
        except httpx.TransportError as error:
            raise NotReachable.because(self._url, error) from error

    def close(self) -> None:
        self._transport.close()


class AsyncRetryingTransport(httpx.AsyncBaseTransport):
    """Repeats requests of a client for asyncio."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport) -> None:
        self._url = url
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _with_key(request)
        await request.aread()
        for attempt, planned in enumerate(_pauses()):
            response = None
            try:
                response = await self._transport.handle_async_request(request)
                await response.aread()
                if not _is_passing(response, attempt):
                    return response
                await response.aclose()
            except httpx.TransportError:
                if response is not None:
                    await response.aclose()
            await asyncio.sleep(_pause(planned, response))
        try:
            return await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise NotReachable.because(self._url, error) from error

    async def aclose(self) -> None:
        await self._transport.aclose()
