"""A stand-in for SES that costs next to nothing: every email is accepted after a latency, nothing is kept.

    python -m bench.sink --latency-ms 20

For benchmarks in which senders, PostgreSQL and SES share two cores. There the simulator's own CPU time would distort
the result.
Prints the URL it listens at.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json

import httptools

_ACCOUNT = json.dumps(
    {
        "ProductionAccessEnabled": True,
        "SendingEnabled": True,
        "EnforcementStatus": "HEALTHY",
        "SendQuota": {"Max24HourSend": -1.0, "MaxSendRate": 1_000_000.0, "SentLast24Hours": 0.0},
    }
).encode()
# Without a request id django-ses counts an email as refused and sends it again.
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-amzn-RequestId: sink\r\nContent-Length: %d\r\n\r\n"
_numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    """One connection of a sender; the parser calls the methods named `on_…`."""

    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            self._answer(_ACCOUNT)
        else:
            self._loop.call_later(self.latency, self._answer, b'{"MessageId":"%016x"}' % next(_numbers))

    def _answer(self, body: bytes) -> None:
        self._transport.write(_HEAD % len(body) + body)


async def serve(latency: float) -> None:
    Connection.latency = latency
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    asyncio.run(serve(parser.parse_args().latency_ms / 1000))
