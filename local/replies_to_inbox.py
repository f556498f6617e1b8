"""A reply that somebody writes in the simulator's inbox, reported to the API as another mail system would."""

from __future__ import annotations

from uuid import uuid4

from local.api_client import ApiClient, ApiError
from local.ses_simulator.ledger import AcceptedEmail


class RepliesToInbox:
    """Call it with the email that is answered and the text."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def __call__(self, email: AcceptedEmail, text: str) -> None:
        """Raises:
        ValueError: the API does not take it.
        """
        reply = {
            "from_address": email.destination[0],
            "to_addresses": list(email.reply_to) or [email.from_address],
            "subject": f"Re: {email.subject}"[:2_000],
            "text": text,
            "message_id": f"<{uuid4()}@inbox.example>",
        }
        try:
            self._api.post("/v1/replies", reply)
        except ApiError as error:
            raise ValueError(str(error)) from error
