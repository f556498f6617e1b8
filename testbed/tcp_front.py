"""Real TCP, with or without TLS, in front of the embedded PostgreSQL, which has neither: its build has no OpenSSL.
It can also be as far away as a database in another place.

Without a certificate what arrives goes on to PostgreSQL as it is, which then answers itself that it has no TLS.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class TcpFront:
    """Listens on a free port of 127.0.0.1 while the block lasts. An answer takes `round_trip` seconds longer."""

    def __init__(self, unix_socket: str, certificate: tuple[Path, Path] | None = None, round_trip: float = 0.0) -> None:
        self._unix_socket = unix_socket
        self._one_way = round_trip / 2
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(*certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0
        self.encrypted = 0
        """Connections whose TLS handshake has succeeded."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                if self._tls is not None:
                    assert await reader.readexactly(8) == _SSL_REQUEST
                    writer.write(b"S")
                    await writer.start_tls(self._tls)
                    self.encrypted += 1
                there, back = await asyncio.open_unix_connection(self._unix_socket)
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                # Closing a connection in TLS waits for the other side.
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what arrives. What is on its way does not wait for what is before it."""
        try:
            while received := await reader.read(65536):
                if self._one_way:
                    self._loop.call_later(self._one_way, writer.write, received)
                else:
                    writer.write(received)
                    await writer.drain()
            await asyncio.sleep(self._one_way)
        finally:
            writer.close()
