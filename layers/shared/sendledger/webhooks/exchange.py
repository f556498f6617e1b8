"""The inner half of delivering webhooks, at the database: takes what became of deliveries, hands out signed ones.

    {"results": [Result, …], "busy": [endpoint id, …], "most": 200}  →  {"deliveries": [Delivery, …]}

A delivery that is handed out is the caller's for `LEASE`; if it says nothing until then, it is handed out again. So an
event that was committed is delivered at least once, whatever dies in between, and nothing is delivered that was not
committed. Reads and writes `webhook_endpoints` and `webhook_deliveries`; reads addresses of `leads` and `suppressions`.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.audit_log import SYSTEM
from sendledger.core.vocabulary import AuditAction, WebhookOutcome
from sendledger.webhooks.endpoints import content

LEASE = dt.timedelta(minutes=2)
GIVEN_UP_AFTER = dt.timedelta(hours=24)
KEPT = dt.timedelta(days=7)
MOST_AT_ONCE = 2000
"""Deliveries in one answer: Lambda carries 6 MB."""
DELETED_AT_ONCE = 10_000
CLEAN_SECONDS = 10.0
PROBED_AFTER = 3
"""Failures in a row, after which an endpoint gets one event at a time until one succeeds."""
LONGEST_PAUSE = 5
"""The place in `_BACKOFF` of the longest time between two probes of an endpoint: what works again is found soon."""

_BACKOFF = "ARRAY[15, 60, 120, 300, 600, 1800, 3600, 7200, 14400]"
_JITTER = "(0.8 + 0.4 * random())"

_LEASE = sa.text("""
    WITH picked AS MATERIALIZED (
        SELECT found.id FROM webhook_endpoints w CROSS JOIN LATERAL (
            SELECT d.id FROM webhook_deliveries d
            WHERE d.endpoint_id = w.id AND d.status = 'pending' AND d.next_attempt_at <= now()
            ORDER BY d.next_attempt_at, d.id
            LIMIT CASE WHEN w.failures >= :probed_after THEN 1 ELSE :most END
            FOR NO KEY UPDATE SKIP LOCKED
        ) found
        WHERE w.is_enabled AND w.next_attempt_at <= now() AND w.id <> ALL (:busy)
        LIMIT :most_at_once
    ), leased AS (
        UPDATE webhook_deliveries d
        SET next_attempt_at = now() + :lease, attempts = d.attempts + 1, last_attempt_at = now(),
            first_attempt_at = coalesce(d.first_attempt_at, now())
        -- As an array: a join would read the whole table where very many events wait.
        WHERE d.id = ANY (ARRAY(SELECT id FROM picked))
        RETURNING d.*
    )
    SELECT l.id, l.endpoint_id, l.event_type, l.data, l.occurred_at, l.attempts, w.url, w.secret,
           CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END AS previous_secret,
           CASE WHEN w.include_addresses THEN coalesce(s.value, p.email) END AS address
    FROM leased l JOIN webhook_endpoints w ON w.id = l.endpoint_id
    LEFT JOIN leads p ON w.include_addresses AND p.id = CAST(l.data ->> 'lead_id' AS uuid)
    LEFT JOIN suppressions s ON w.include_addresses AND s.id = CAST(l.data ->> 'suppression_id' AS uuid)
    ORDER BY l.endpoint_id, l.id
""").bindparams(sa.bindparam("busy", type_=sa.ARRAY(sa.UUID)), sa.bindparam("lease", type_=sa.Interval))

# A result of an attempt after which the delivery was handed out again says less than the next one will, but a success
# is a success.
_RECORD = sa.text(f"""
    WITH told AS (
        SELECT * FROM json_to_recordset(CAST(:results AS json))
            AS told (id bigint, attempts smallint, outcome text, status integer, text text)
    )
    UPDATE webhook_deliveries d SET
        status = CASE WHEN t.outcome = 'delivered' THEN 'delivered'
                      WHEN t.outcome = 'failed' AND d.first_attempt_at < now() - :given_up_after THEN 'failed'
                      ELSE 'pending' END,
        attempts = CASE WHEN t.outcome = 'untried' THEN d.attempts - 1 ELSE d.attempts END,
        first_attempt_at = CASE WHEN t.outcome = 'untried' AND d.attempts = 1 THEN NULL ELSE d.first_attempt_at END,
        next_attempt_at = CASE WHEN t.outcome = 'untried' THEN now()
            ELSE now() + make_interval(secs => {_JITTER}
                * ({_BACKOFF})[least(d.attempts, cardinality({_BACKOFF}))]) END,
        response_status = CASE WHEN t.outcome = 'untried' THEN d.response_status ELSE t.status END,
        response_text = CASE WHEN t.outcome = 'untried' THEN d.response_text ELSE t.text END
    FROM told t
    WHERE d.id = t.id AND d.status = 'pending' AND (t.outcome = 'delivered' OR d.attempts = t.attempts)
    RETURNING d.endpoint_id, t.outcome, t.status = 410
""").bindparams(sa.bindparam("given_up_after", type_=sa.Interval))

# One success shows that the endpoint works, whatever else has failed.
_HEALTH = sa.text(f"""
    UPDATE webhook_endpoints w SET
        failures = CASE WHEN t.successes > 0 THEN 0 ELSE w.failures + t.failures END,
        failing_since = CASE WHEN t.successes > 0 THEN NULL ELSE coalesce(w.failing_since, now()) END,
        last_delivered_at = CASE WHEN t.successes > 0 THEN now() ELSE w.last_delivered_at END,
        next_attempt_at = CASE WHEN t.successes > 0 OR w.failures + t.failures < :probed_after THEN now()
            ELSE now() + make_interval(secs => {_JITTER}
                * ({_BACKOFF})[least(w.failures + t.failures - :probed_after + 1, {LONGEST_PAUSE})]) END
    FROM json_to_recordset(CAST(:told AS json)) AS t (endpoint_id uuid, successes integer, failures integer)
    WHERE w.id = t.endpoint_id
""")
_DISABLE = sa.text("""
    UPDATE webhook_endpoints w SET is_enabled = false, updated_at = now(), disabled_reason = CASE
        WHEN w.id = ANY (:gone) THEN 'It answered 410 Gone: it wants no more events.'
        ELSE 'Each attempt has failed for 24 hours.' END
    WHERE w.is_enabled AND (
        w.id = ANY (:gone) OR w.id = ANY (:failing) AND w.failing_since < now() - :given_up_after)
    RETURNING w.id, w.disabled_reason
""").bindparams(
    sa.bindparam("failing", type_=sa.ARRAY(sa.UUID)),
    sa.bindparam("gone", type_=sa.ARRAY(sa.UUID)),
    sa.bindparam("given_up_after", type_=sa.Interval),
)
_DELETE_OLD = sa.text("""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries WHERE occurred_at < now() - :kept ORDER BY occurred_at LIMIT :most
        FOR UPDATE SKIP LOCKED)
""").bindparams(kept=KEPT)
# Of endpoints that were deleted. One look into the index for each endpoint finds them, and not one for each delivery.
_DELETE_ORPHANS = sa.text("""
    WITH RECURSIVE told (id) AS (
        (SELECT endpoint_id FROM webhook_deliveries ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.endpoint_id FROM webhook_deliveries d WHERE d.endpoint_id > told.id
                ORDER BY d.endpoint_id LIMIT 1)
        FROM told WHERE told.id IS NOT NULL
    )
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT orphan.id FROM told CROSS JOIN LATERAL (
            SELECT d.id FROM webhook_deliveries d WHERE d.endpoint_id = told.id
            ORDER BY d.id LIMIT :most FOR UPDATE SKIP LOCKED
        ) orphan
        WHERE told.id IS NOT NULL AND NOT EXISTS (SELECT FROM webhook_endpoints w WHERE w.id = told.id) LIMIT :most)
""")


def exchange(engine: sa.Engine, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Record results and hand out what is due, each in a transaction of its own. See the top of this module."""
    results, busy = asked.get("results", ()), asked.get("busy", ())
    if results:
        with engine.begin() as connection:
            record(connection, results)
    with engine.begin() as connection:
        deliveries = lease(connection, [UUID(id_) for id_ in busy], asked.get("most", 0))
    if not results and not busy:
        # The first question of a run.
        _clean(engine)
    return {"deliveries": deliveries}


def _clean(engine: sa.Engine) -> None:
    """Delete what is too old and what has no endpoint, in small transactions, until nothing is left or time is up."""
    until = time.monotonic() + CLEAN_SECONDS
    for statement in (_DELETE_OLD, _DELETE_ORPHANS):
        deleted = DELETED_AT_ONCE
        while deleted >= DELETED_AT_ONCE and time.monotonic() < until:
            with engine.begin() as connection:
                deleted = connection.execute(statement, {"most": DELETED_AT_ONCE}).rowcount


def lease(connection: sa.Connection, busy: Sequence[UUID], most: int) -> list[dict[str, Any]]:
    """Hand out at most so many deliveries for each endpoint that is not busy, each as it is to be posted."""
    if most <= 0:
        return []
    parameters = {"busy": list(busy), "most": most, "most_at_once": MOST_AT_ONCE, "lease": LEASE}
    rows = connection.execute(_LEASE, {**parameters, "probed_after": PROBED_AFTER}).mappings().all()
    now = connection.scalar(sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS bigint)"))
    return [_signed(row, int(now or 0)) for row in rows]


def _signed(row: sa.RowMapping, timestamp: int) -> dict[str, Any]:
    id_, body = f"evt_{row['id']}", content(dict(row), row["address"])
    secrets = [secret for secret in (row["secret"], row["previous_secret"]) if secret]
    return {
        "id": row["id"],
        "attempts": row["attempts"],
        "endpoint_id": str(row["endpoint_id"]),
        "url": row["url"],
        "headers": {
            "webhook-id": id_,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signature(secret, id_, timestamp, body) for secret in secrets),
        },
        "body": body,
    }


def signature(secret: str, id_: str, timestamp: int, body: str) -> str:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{id_}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def record(connection: sa.Connection, results: Iterable[Mapping[str, Any]]) -> None:
    """Write what became of deliveries, and what that says about their endpoints. Doing it again changes nothing."""
    told = sorted(results, key=lambda result: int(result["id"]))
    parameters = {"results": json.dumps(told), "given_up_after": GIVEN_UP_AFTER}
    counts: dict[UUID, Counter[str]] = {}
    gone = set()
    for endpoint_id, outcome, is_gone in connection.execute(_RECORD, parameters):
        counts.setdefault(endpoint_id, Counter())[outcome] += 1
        if is_gone and outcome == WebhookOutcome.FAILED:
            gone.add(endpoint_id)
    tried = [
        {
            "endpoint_id": str(endpoint_id),
            "successes": count[WebhookOutcome.DELIVERED],
            "failures": count[WebhookOutcome.FAILED],
        }
        for endpoint_id, count in sorted(counts.items())
        if count[WebhookOutcome.DELIVERED] or count[WebhookOutcome.FAILED]
    ]
    if not tried:
        return
    connection.execute(_HEALTH, {"told": json.dumps(tried), "probed_after": PROBED_AFTER})
    failing = [endpoint_id for endpoint_id, count in counts.items() if not count[WebhookOutcome.DELIVERED]]
    _disable(connection, failing, sorted(gone))


def _disable(connection: sa.Connection, failing: Sequence[UUID], gone: Sequence[UUID]) -> None:
    """End attempts where all have failed for too long, or where the endpoint wants no more."""
    parameters = {"failing": failing, "gone": gone, "given_up_after": GIVEN_UP_AFTER}
    for endpoint_id, reason in connection.execute(_DISABLE, parameters).all():
        action = AuditAction.WEBHOOK_ENDPOINT_DISABLE
        audit_log.record(connection, SYSTEM, action, "webhook_endpoint", endpoint_id, {"reason": reason})
