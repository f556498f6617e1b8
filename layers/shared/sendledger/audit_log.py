"""The audit log: who did what to which thing, written in the transaction of the deed itself. Writes `audit_log`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.tables import audit_log


def record(
    connection: sa.Connection,
    actor: str,
    action: str,
    entity_type: str,
    entity_id: object,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry; it stands or falls with the caller's transaction and can never be changed afterwards."""
    connection.execute(
        sa.insert(audit_log).values(
            actor=actor,
            action=action,
            entity_type=entity_type,
            entity_id=str(entity_id),
            detail=dict(detail or {}),
        )
    )
