"""One call of SES by itself, waited for."""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence

from sendledger.ses.answers import SendOutcome
from sendledger.ses.connection import Response, SesConnection
from sendledger.ses.ses_sender import SesSender
from sendledger.ses.sign_email import SignedRequest


def response_to(request: Sequence[bytes], connection: SesConnection, selector: selectors.BaseSelector) -> Response:
    """What the server answers. `selector` is the connection's, and watches nothing else. Raises what that raises."""
    connection.begin(request)
    while True:
        ready = selector.select(max(0.0, min(1.0, connection.give_up_at - time.monotonic())))
        if ready and (response := connection.advance()):
            return response
        if time.monotonic() >= connection.give_up_at and (response := connection.give_up()):
            return response


def send(sender: SesSender, request: SignedRequest) -> SendOutcome:
    """The outcome of one request, over a connection of its own."""
    with selectors.DefaultSelector() as selector:
        connection = sender.connection(selector)
        try:
            return sender.outcome(response_to(request, connection, selector))
        finally:
            connection.close()
