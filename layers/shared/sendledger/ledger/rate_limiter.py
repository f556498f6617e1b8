"""The shared rate limiter: all senders of a database together never exceed the rate. Writes `sender_state`."""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT

# No sender reserves minutes ahead. Such a reservation is from before the database's clock was set back.
_RESERVE = sa.text(f"""{KEPT}
    UPDATE sender_state
    SET rate_reserved_until = make_interval(secs => :seconds)
            + CASE WHEN rate_reserved_until < clock_timestamp() + interval '10 minutes'
                   THEN greatest(rate_reserved_until, clock_timestamp()) ELSE clock_timestamp() END
    WHERE id = 1
    RETURNING extract(epoch FROM rate_reserved_until - clock_timestamp()) - :seconds
""").bindparams(sa.bindparam("seconds", type_=sa.Double))


def reserve_rate(connection: sa.Connection, count: int, rate: float) -> float:
    """Reserve time for `count` emails at `rate` per second; returns the seconds until that time begins.

    All senders together stay within the rate, and a single one can use all of it. If a sender dies, only its last
    reservation is lost.
    """
    return max(0.0, float(connection.execute(_RESERVE, {"seconds": count / rate}).scalar_one()))
