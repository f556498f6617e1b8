"""What all senders of a database share: whose database it is, and whether sending is stopped. One row, `sender_state`.

The same row holds the shared rate limiter (rate_limiter.py) and the time of the last tick (late_emails.py).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.errors import Conflict, NotThisDeployment
from sendledger.core.tables import sender_state
from sendledger.core.vocabulary import AuditAction


@dataclass(frozen=True)
class SenderState:
    """The shared state. With a `stop_code` sending is stopped, until `stopped_until` or until a person ends it."""

    deployment_id: str | None
    last_tick_at: dt.datetime | None
    stop_code: str | None
    stop_reason: str | None
    stopped_until: dt.datetime | None


def check_in(connection: sa.Connection, deployment_id: str, sending_day_time_zone: str) -> None:
    """Check that this deployment owns the database. The first deployment whose sender ticks becomes its owner.

    Also store where the day of caps begins: the API, which shows what is left of them, must count the same day.

    Raises:
        NotThisDeployment: another deployment owns it. This is a copy, and a copy must not send.
    """
    owner = connection.scalar(
        sa.update(sender_state)
        .values(
            deployment_id=sa.func.coalesce(sender_state.c.deployment_id, deployment_id),
            sending_day_time_zone=sending_day_time_zone,
        )
        .where(sa.func.coalesce(sender_state.c.deployment_id, deployment_id) == deployment_id)
        .returning(sender_state.c.deployment_id)
    )
    if owner is None:
        owner = connection.scalar(sa.select(sender_state.c.deployment_id))
        raise NotThisDeployment(
            f"This database belongs to deployment {owner!r} and this is {deployment_id!r}: a copy must not send. "
            "If the other deployment is gone for good, take the database over as the documentation says.",
            owner=owner,
        )


def read(connection: sa.Connection) -> SenderState:
    """The state now. An expired stop is not shown."""
    row = connection.execute(
        sa.text("""
            SELECT deployment_id, last_tick_at, s.stop_code, s.stop_reason, s.stopped_until
            FROM sender_state LEFT JOIN LATERAL (
                SELECT stop_code, stop_reason, stopped_until
                WHERE stop_code IS NOT NULL AND (stopped_until IS NULL OR stopped_until > now())) s ON true
        """)
    ).one()
    return SenderState(*row)


def stop(connection: sa.Connection, code: str, reason: str, seconds: float | None) -> None:
    """Stop all sending for some seconds, or with None until an operator ends the stop. A stop without end stays."""
    connection.execute(
        sa.text("""
            UPDATE sender_state SET stop_code = :code, stop_reason = :reason,
                   stopped_until = now() + make_interval(secs => CAST(:seconds AS float8))
            WHERE CAST(:seconds AS float8) IS NULL OR stop_code IS NULL OR stopped_until IS NOT NULL
        """),
        {"code": code, "reason": reason, "seconds": seconds},
    )


def forget_expired_stop(connection: sa.Connection) -> None:
    """Sending works again, so that the next stop is a new one, and is told as such."""
    expired = sender_state.c.stopped_until <= sa.func.now()
    values = {"stop_code": None, "stop_reason": None, "stopped_until": None}
    connection.execute(sa.update(sender_state).where(expired).values(values))


def clear_stop(connection: sa.Connection, actor: str) -> None:
    """An operator has solved the problem that stopped the sending.

    Raises:
        Conflict: sending is not stopped.
    """
    state = read(connection)
    if state.stop_code is None:
        raise Conflict("Sending is not stopped.")
    connection.execute(sa.update(sender_state).values(stop_code=None, stop_reason=None, stopped_until=None))
    audit_log.record(connection, actor, AuditAction.SENDER_RESUME, "sender", "sender", {"stop_code": state.stop_code})
