"""The two clients: all operations of the API as methods, and what takes more than one request.

Answers are objects of `models`. What the API refuses is raised as `ApiError`.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import httpx

from sendledger_client import waiting
from sendledger_client.errors import ApiError, NotReachable
from sendledger_client.generated import models
from sendledger_client.generated.api import AsyncOperations, Operations
from sendledger_client.generated.client import AuthenticatedClient
from sendledger_client.generated.types import File, Response
from sendledger_client.retries import AsyncRetryingTransport, RetryingTransport

LARGEST_DIRECT_FILE = 3_000_000
"""Bytes that a request can carry; a larger file goes over the upload route."""
UPLOAD_SECONDS = 3600

Progress = Callable[[int], object]
"""Is told how many bytes more have been sent."""
Work = TypeVar("Work", models.Export, models.LeadBatchWithRejects)


def _client(url: str, api_key: str, timeout: float) -> AuthenticatedClient:
    return AuthenticatedClient(url.rstrip("/"), api_key.strip(), timeout=httpx.Timeout(timeout))


def _headers(client: AuthenticatedClient, fresh: bool) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {client.token}", "User-Agent": "sendledger-client"}
    return headers | ({"Cache-Control": "no-cache"} if fresh else {})


def _parsed(response: Response[Any]) -> Any:
    if response.status_code >= 300:
        raise ApiError.of(int(response.status_code), response.content)
    return response.parsed


def _uses_proxy(url: str) -> bool:
    """Whether the variables for proxies count: what runs on this machine, as a local stack does, needs none."""
    return httpx.URL(url).host not in ("localhost", "127.0.0.1", "::1")


def _parts(opened: IO[bytes], progress: Progress | None) -> Iterator[bytes]:
    while part := opened.read(1_048_576):
        yield part
        if progress:
            progress(len(part))


class Sendledger(Operations):
    """A client that waits for each answer. Close it, or use it as a context manager.

    With `fresh` no list is some seconds old, also where the deployment has a reader endpoint. `transport` is for tests
    and for proxies; requests are repeated around it.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 60,
        fresh: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._client = _client(url, api_key, timeout)
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers=_headers(self._client, fresh),
            timeout=timeout,
            transport=RetryingTransport(url, transport or httpx.HTTPTransport()),
        )
        self._client.set_httpx_client(self._http)

    def _parsed(self, response: Response[Any]) -> Any:
        return _parsed(response)

    def import_file(
        self,
        file: Path,
        *,
        name: str,
        timeout: float = UPLOAD_SECONDS,
        progress: Progress | None = None,
    ) -> models.ImportedLeadBatch | models.LeadBatchWithRejects:
        """Import leads from a CSV file of any size, and wait until it is done.

        Raises:
            ApiError: it was refused.
            WorkFailed: a large file could not be imported to its end; leads of the rows before were imported.
        """
        size = file.stat().st_size
        if size <= LARGEST_DIRECT_FILE:
            content = File(io.BytesIO(file.read_bytes()), file.name)
            batch = self.import_lead_batch(body=content, name=name, source_file=file.name)
            if progress:
                progress(size)
            return batch
        upload = self.create_upload(body=models.NewUpload(name=name, file_name=file.name))
        self.put_file(upload, file, progress)
        return self.wait(self.get_lead_batch(upload.id), timeout=timeout)

    def put_file(self, upload: models.Upload, file: Path, progress: Progress | None = None) -> None:
        """Put a file where an upload wants it; its arrival starts the import."""
        with file.open("rb") as opened:
            headers = {**upload.upload_headers.additional_properties, "Content-Length": str(file.stat().st_size)}
            url = str(upload.upload_url)
            try:
                # Not with the API's client: the bucket must not see the key.
                answer = httpx.put(
                    url,
                    content=_parts(opened, progress),
                    headers=headers,
                    timeout=UPLOAD_SECONDS,
                    trust_env=_uses_proxy(url),
                )
            except httpx.HTTPError as error:
                raise NotReachable.because("The place for the file", error) from error
        if answer.is_error:
            raise ApiError(answer.status_code, "upload_refused", "The bucket did not take the file.", [], {})

    def download(self, export: models.Export, file: Path | IO[bytes]) -> int:
        """Write a completed export to a file that only this user can read; the answer is its size in bytes.

        A file that is there is replaced once everything has arrived. An open file, a named pipe or a device gets it as
        it arrives.
        """
        if not isinstance(file, Path):
            return self._download(export, file)
        if file.exists() and not file.is_file():
            with file.open("wb") as opened:
                return self._download(export, opened)
        part = file.with_name(f"{file.name}.part")
        part.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                size = self._download(export, opened)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        return size

    def _download(self, export: models.Export, opened: IO[bytes]) -> int:
        size, url = 0, str(export.download_url)
        try:
            with httpx.stream("GET", url, timeout=60, trust_env=_uses_proxy(url)) as answer:
                if answer.is_error:
                    raise ApiError(answer.status_code, "download_refused", "The bucket did not give the file.", [], {})
                for part in answer.iter_bytes():
                    size += opened.write(part)
        except httpx.HTTPError as error:
            raise NotReachable.because("The place of the file", error) from error
        return size

    def wait(self, work: Work, *, timeout: float = 600) -> Work:
        """Wait until an export is written, or a lead batch imported, and return it as it is then.

        Raises:
            WorkFailed: it failed.
            StillWorking: it is not done after `timeout` seconds. It goes on.
        """
        for pause in waiting.pauses(timeout):
            if waiting.is_done(work):
                return work
            time.sleep(pause)
            work = self.get_export(work.id) if isinstance(work, models.Export) else self.get_lead_batch(work.id)
        return waiting.done_at_last(work, timeout)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncSendledger(AsyncOperations):
    """A client for asyncio. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 60,
        fresh: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._client = _client(url, api_key, timeout)
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers=_headers(self._client, fresh),
            timeout=timeout,
            transport=AsyncRetryingTransport(url, transport or httpx.AsyncHTTPTransport()),
        )
        self._client.set_async_httpx_client(self._http)

    def _parsed(self, response: Response[Any]) -> Any:
        return _parsed(response)

    async def wait(self, work: Work, *, timeout: float = 600) -> Work:
        """Wait until an export is written, or a lead batch imported, and return it as it is then.

        Raises:
            WorkFailed: it failed.
            StillWorking: it is not done after `timeout` seconds. It goes on.
        """
        for pause in waiting.pauses(timeout):
            if waiting.is_done(work):
                return work
            await asyncio.sleep(pause)
            if isinstance(work, models.Export):
                work = await self.get_export(work.id)
            else:
                work = await self.get_lead_batch(work.id)
        return waiting.done_at_last(work, timeout)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
