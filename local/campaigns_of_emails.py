"""The campaign and step of each email in the simulator's inbox, read from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from local.ses_simulator.ledger import AcceptedEmail
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings

LONGEST_SECONDS = 1.0
"""The simulator waits for this query. A page without it is better than no page."""

_FIND = sa.text("""
    SELECT e.id, c.name, e.workflow_step_number
    FROM scheduled_emails e JOIN campaigns c ON c.id = e.campaign_id
    WHERE e.id = ANY(:ids)
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger)))


class CampaignsOfEmails:
    """Call it with emails: the campaign and the step of those that are of one, by message id."""

    def __init__(self, database_url: str) -> None:
        settings = DatabaseSettings.read({"DATABASE_URL": database_url})
        self._engine = database.engine(settings, pool_size=1, longest_statement=LONGEST_SECONDS)

    def close(self) -> None:
        """Close the connection; a further call opens one again."""
        self._engine.dispose()

    def __call__(self, emails: Sequence[AcceptedEmail]) -> Mapping[str, str]:
        tagged = {email.message_id: email.tags.get("scheduled_email_id", "") for email in emails}
        ids = {message_id: int(tag) for message_id, tag in tagged.items() if tag.isdecimal() and len(tag) < 19}
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(_FIND, {"ids": list(ids.values())}).all()
        except (sa.exc.SQLAlchemyError, OSError):
            return {}
        found = {id_: name if step is None else f"{name}, step {step}" for id_, name, step in rows}
        return {message_id: found[id_] for message_id, id_ in ids.items() if id_ in found}
