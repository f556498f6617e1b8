"""A receiver of webhooks on this machine: it keeps the requests and gives the answers that a test sets."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: str


class WebhookReceiver:
    """Use it as a context manager. It answers `status` and `answer`; with `release` it waits for that first."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 200
        self.answer = b"thanks"
        self.headers: dict[str, str] = {}
        self.release: threading.Event | None = None
        self.arrived = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                receiver.arrived.set()
                if receiver.release is not None:
                    receiver.release.wait()
                self.send_response(receiver.status)
                for name, value in {"Content-Length": str(len(receiver.answer)), **receiver.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.release is not None:
            self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
