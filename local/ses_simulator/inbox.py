"""The inbox as web pages: what the simulator has accepted, newest first, and each message as its recipient sees it."""

from local.ses_simulator.http_server import Answer, Request
from local.ses_simulator.ledger import Ledger


class Inbox:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def handle(self, request: Request) -> Answer:
        return Answer(status=404, body=b"not found", content_type="text/plain")
