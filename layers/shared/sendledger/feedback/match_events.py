"""Finding what SES events belong to: the scheduled email and the claim that their tags name, else the email by its id.

Events go in, `Place`s come out. An event of another email has none. Reads `scheduled_emails`, `emails` and
`leads`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.core.ledger_rules import address_of
from sendledger.core.row_arrays import RowArrays
from sendledger.core.vocabulary import ErrorCode, ScheduledEmailStatus
from sendledger.feedback.read_ses_events import Effect, SesEvent


@dataclass(frozen=True)
class Place:
    """An event and what it belongs to."""

    event: SesEvent
    scheduled_email_id: int | None
    email_id: uuid.UUID | None
    campaign_id: uuid.UUID | None
    lead_id: uuid.UUID | None
    row: sa.RowMapping
    is_second_message: bool
    """SES accepted the scheduled email twice, and this is about the other message."""

    @property
    def addresses(self) -> set[str]:
        """The addresses concerned. For complaints and opt-outs, also the address that the lead has now."""
        now: str | None = self.row["address"]
        if now and _concerns_address(self.event):
            return {self.event.recipient, now}
        return {self.event.recipient}


_ITEMS = RowArrays(
    "v",
    {
        "key": "text",
        "scheduled_email_id": "bigint",
        "campaign_id": "uuid",
        "claim_token": "uuid",
        "message_id": "text",
        "concerns_address": "boolean",
    },
)
ITEMS = f"SELECT * FROM {_ITEMS.table}"
"""Events in a statement, with the parameters that `items_of` returns."""


def did_not_go(row: str) -> str:
    """Whether the ledger says of a row that no email has gone out or may have gone."""
    return f"{row}.status NOT IN ('sending', 'sent') AND {row}.error_code IS DISTINCT FROM 'outcome_unknown'"


# The row that the tags name and, if it does not have their claim, the email that has the message id. The lead is looked
# up only where its address decides.
_MATCH = sa.text(f"""{KEPT}
    WITH v AS MATERIALIZED ({ITEMS})
    SELECT v.key, e.id, e.campaign_id, e.lead_id, e.status, e.reason, e.error_code, e.email_id, e.ses_message_id,
           e.send_started_at IS NOT NULL AS fenced, {did_not_go("e")} AS did_not_go,
           coalesce(e.claim_token = v.claim_token, false) AS same_claim,
           {address_of("l")} AS address,
           m.id AS known_email_id, m.scheduled_email_id AS known_row_id, m.campaign_id AS known_campaign_id,
           m.lead_id AS known_lead_id
    FROM v
    LEFT JOIN scheduled_emails e ON e.id = v.scheduled_email_id AND e.campaign_id = v.campaign_id
    LEFT JOIN LATERAL (
        SELECT id, scheduled_email_id, campaign_id, lead_id FROM emails
        WHERE (e.claim_token = v.claim_token) IS NOT TRUE AND external_id = v.message_id
        ORDER BY id LIMIT 1) m ON true
    LEFT JOIN leads l ON l.id = CASE WHEN v.concerns_address OR (e.claim_token = v.claim_token) IS NOT TRUE
                                     THEN coalesce(e.lead_id, m.lead_id) END
""")


def match_events(connection: sa.Connection, by_key: Mapping[str, SesEvent]) -> list[Place]:
    if not by_key:
        return []
    rows = connection.execute(_MATCH, items_of(by_key.values())).mappings()
    return [place for row in rows if (place := _place(by_key[row["key"]], row)) is not None]


def _place(event: SesEvent, row: sa.RowMapping) -> Place | None:
    """What the event belongs to; None if it is not one of our emails."""
    of_row = (row["id"], row["campaign_id"], row["lead_id"])
    if row["same_claim"]:
        second = row["ses_message_id"] not in (None, event.message_id)
        return Place(event, of_row[0], None if second else row["email_id"], of_row[1], of_row[2], row, second)
    if row["known_email_id"] is not None:
        known = (row["known_row_id"], row["known_email_id"], row["known_campaign_id"], row["known_lead_id"])
        return Place(event, *known, row, False)
    # The row no longer has this claim token. The address tells whether it is the same row as when SES accepted it.
    if row["id"] is not None and event.claim_token is not None and row["address"] == event.recipient:
        may_be_sent = row["status"] in (ScheduledEmailStatus.SENT, ScheduledEmailStatus.SENDING)
        second = may_be_sent or row["error_code"] == ErrorCode.OUTCOME_UNKNOWN
        return Place(event, of_row[0], None, of_row[1], of_row[2], row, second)
    return None


def items_of(events: Iterable[SesEvent]) -> dict[str, str]:
    return _ITEMS.parameters(
        [
            {
                "key": event.key,
                "scheduled_email_id": event.scheduled_email_id,
                "campaign_id": event.campaign_id,
                "claim_token": event.claim_token,
                "message_id": event.message_id,
                "concerns_address": _concerns_address(event),
            }
            for event in events
        ]
    )


def _concerns_address(event: SesEvent) -> bool:
    """Whether the event is about all addresses of the person, also the one that the lead has now."""
    return event.effect in (Effect.COMPLAINT, Effect.OPT_OUT)
