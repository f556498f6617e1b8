"""The audience of a campaign: who is in it, and who of them gets no mail and why. This is the only such rule.

The audience are the leads of the campaign's lead batches, its list and its segments. Reads `leads`, `campaign_leads`,
`segments`, `suppressions`, and what the conditions of the segments ask about.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.core.ledger_rules import address_of, no_mail_for_lead
from sendledger.core.tables import segments
from sendledger.segments.conditions import of_json
from sendledger.segments.matching_leads import as_text, matching

REASON_LEFT_OUT = f"CASE {no_mail_for_lead('a', 'a.address', ':campaign_id')} END"
"""Of a row `a` with `status` and `address`, and a parameter `campaign_id`; NULL for a lead that gets mail."""

_IN_BUCKET = (
    f"mod(abs(hashtext(coalesce({address_of('leads')}, leads.id::text))::bigint), CAST(:buckets AS bigint)) = :bucket"
)
_IS_NEW = """
    NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.lead_id = leads.id AND e.campaign_id = :campaign_id)
    AND NOT EXISTS (SELECT FROM left_out_leads o WHERE o.lead_id = leads.id AND o.campaign_id = :campaign_id)
"""
_HAS_TWIN = """EXISTS (
    SELECT FROM leads other JOIN scheduled_emails e ON e.lead_id = other.id
    WHERE lower(other.email) = judged.address AND other.id <> judged.id AND e.campaign_id = :campaign_id)"""
"""Whether another lead with the same address is in the campaign already."""
_EXACT = 'address COLLATE "C"'
"""Sorted by bytes, which is several times faster than by the rules of a language."""
_ELSEWHERE = """
SELECT l.id, count(*) OVER () AS total
FROM ranked r JOIN leads l ON l.id = r.id CROSS JOIN LATERAL (SELECT lower(btrim(l.email))) a (address)
WHERE r.reason IS NULL AND a.address <> ALL(:names) AND split_part(a.address, '@', 2) <> ALL(:names)
ORDER BY l.id LIMIT :examples
"""
# The parts of a UNION ALL are read one after the other.
_COUNTS_AND_LEADS = """
SELECT (NULL::leads).*, reason AS left_out, count(*) AS counted FROM ranked GROUP BY reason
UNION ALL
SELECT l.*, NULL, NULL FROM ranked r JOIN leads l ON l.id = r.id WHERE r.reason IS NULL
"""


@dataclass(frozen=True)
class ReadAudience:
    """How many leads get mail, how many do not, by reason, and those that do."""

    reachable: int
    left_out: Counter[str]
    chunks: Iterator[Sequence[sa.RowMapping]]


@dataclass(frozen=True)
class Audience:
    """The SQL of an audience, with all its parameters except those of a bucket."""

    leads: str
    """SQL for `id`, `status`, `address`, `time_zone` and `country` of each lead; a condition on `leads` may follow."""
    parameters: tuple[sa.BindParameter[Any], ...]
    newcomers: bool = False
    """Whether the campaign has started: only those that no start and no intake has judged are meant."""

    def statement(self, sql: str, *parameters: sa.BindParameter[Any]) -> sa.TextClause:
        """A statement that contains `leads`."""
        return sa.text(sql).bindparams(*self.parameters, *parameters)

    def judged(
        self, tail: str, bucket: int = 0, buckets: int = 1, *parameters: sa.BindParameter[Any], head: str = ""
    ) -> sa.TextClause:
        """A statement about `ranked`: each lead of a bucket, with the reason why it gets no mail, or NULL."""
        leads, of_bucket = self._of_bucket(bucket, buckets)
        sql = f"""{head}
            WITH audience AS MATERIALIZED ({leads}
            ), judged AS MATERIALIZED (
                SELECT a.id, a.address, a.time_zone, a.country, {REASON_LEFT_OUT} AS reason FROM audience a
            ), ranked AS (
                SELECT id, address, time_zone, country,
                       coalesce(reason, CASE WHEN row_number() OVER (PARTITION BY {_EXACT}, reason ORDER BY id) > 1
                                               OR {_HAS_TWIN if self.newcomers else "false"}
                                        THEN 'duplicate_address' END) AS reason
                FROM judged
            ) {tail}"""
        return self.statement(sql, *of_bucket, *parameters)

    def places(self, bucket: int, buckets: int) -> sa.TextClause:
        """The time zones and countries of a bucket, also of leads that get no mail; '' for none."""
        leads, of_bucket = self._of_bucket(bucket, buckets)
        # Without NULL, as they are compared later: two places that are equal there would give a lead two rows.
        sql = f"""
            SELECT DISTINCT coalesce(time_zone, '') AS time_zone, coalesce(country, '') AS country
            FROM ({leads}) audience
        """
        return self.statement(sql, *of_bucket)

    def _of_bucket(self, bucket: int, buckets: int) -> tuple[str, tuple[sa.BindParameter[Any], ...]]:
        of_bucket: tuple[sa.BindParameter[Any], ...] = ()
        conditions = []
        if buckets > 1:
            of_bucket = sa.bindparam("bucket", bucket, sa.BigInteger), sa.bindparam("buckets", buckets, sa.BigInteger)
            conditions.append(_IN_BUCKET)
        if buckets > 1 or self.newcomers:
            # If an address is edited between two buckets, its lead moves from one into the other.
            conditions.append(_IS_NEW)
        return " AND ".join([self.leads, *conditions]), of_bucket


def audience_of(
    connection: sa.Connection,
    campaign: sa.RowMapping,
    *,
    with_segments: bool = True,
    lock: bool = False,
    newcomers: bool = False,
) -> Audience:
    """The audience of a campaign as it is now. With `lock` its segments stay as they are until the transaction ends."""
    condition, parameters = _segments(connection, campaign["segment_ids"] if with_segments else [], lock=lock)
    sql = f"""
    SELECT leads.id, leads.status, {address_of("leads")} AS address, leads.time_zone, leads.country
    FROM leads
    WHERE (leads.batch_id = ANY(:batch_ids)
           OR leads.id IN (SELECT cl.lead_id FROM campaign_leads cl WHERE cl.campaign_id = :campaign_id){condition})
    """
    own = (
        sa.bindparam("campaign_id", campaign["id"], sa.UUID),
        sa.bindparam("batch_ids", list(campaign["batch_ids"]), sa.ARRAY(sa.UUID)),
    )
    return Audience(sql, (*own, *parameters), newcomers)


def audience_of_leads(campaign: sa.RowMapping, lead_ids: Sequence[uuid.UUID]) -> Audience:
    """Single leads that come into a campaign after its start."""
    return _newcomers(campaign, "leads.id = ANY(:ids)", lead_ids)


def audience_of_imports(campaign: sa.RowMapping, batch_ids: Sequence[uuid.UUID]) -> Audience:
    """The leads of imports for a campaign under way: those of their lead batches, and known ones, which are on its
    list."""
    by_index = """leads.id IN (
        SELECT id FROM leads WHERE batch_id = ANY(:ids)
        UNION SELECT lead_id FROM campaign_leads WHERE campaign_id = :campaign_id)"""
    return _newcomers(campaign, by_index, batch_ids)


def _newcomers(campaign: sa.RowMapping, condition: str, ids: Sequence[uuid.UUID]) -> Audience:
    sql = f"""
    SELECT leads.id, leads.status, {address_of("leads")} AS address, leads.time_zone, leads.country
    FROM leads WHERE {condition}
    """
    given = sa.bindparam("ids", list(ids), sa.ARRAY(sa.UUID))
    return Audience(sql, (sa.bindparam("campaign_id", campaign["id"], sa.UUID), given), newcomers=True)


def _segments(
    connection: sa.Connection, ids: Sequence[uuid.UUID], *, lock: bool
) -> tuple[str, Sequence[sa.BindParameter[Any]]]:
    if not ids:
        return "", ()
    own = segments.c.id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.UUID)))
    query = sa.select(segments.c.filter).where(own).order_by(segments.c.id)
    filters = connection.scalars(query.with_for_update(read=True, key_share=True) if lock else query).all()
    if not filters:
        return "", ()
    text = as_text(sa.or_(*(matching(of_json(stored)) for stored in filters)))
    return f"\n           OR ({text.sql})", text.parameters


def audience_size(connection: sa.Connection, audience: Audience) -> int:
    """How many leads are in the audience, before any is left out."""
    sql = f"{audience.leads} AND {_IS_NEW}" if audience.newcomers else audience.leads
    return int(connection.scalar(audience.statement(f"SELECT count(*) FROM ({sql}) a")) or 0)


def leads_left_out(connection: sa.Connection, audience: Audience) -> tuple[int, Counter[str]]:
    """How many leads would get mail, and how many would not, by reason; writes nothing."""
    rows = connection.execute(audience.judged("SELECT reason, count(*) FROM ranked GROUP BY reason"))
    return _split({reason: count for reason, count in rows})  # noqa: C416 (typed)


def _split(counts: Mapping[str | None, int]) -> tuple[int, Counter[str]]:
    return counts.get(None, 0), Counter({reason: count for reason, count in counts.items() if reason is not None})


def leads_elsewhere(
    connection: sa.Connection, audience: Audience, names: Sequence[str], examples: int
) -> tuple[int, list[uuid.UUID]]:
    """How many leads with addresses and domains that are not among `names` would get mail, and some of these leads.

    The names are in lower case.
    """
    named = sa.bindparam("names", list(names), sa.ARRAY(sa.Text)), sa.bindparam("examples", examples, sa.BigInteger)
    rows = connection.execute(audience.judged(_ELSEWHERE, 0, 1, *named)).all()
    return rows[0].total if rows else 0, [row.id for row in rows]


def read_audience(connection: sa.Connection, audience: Audience, chunk: int) -> ReadAudience:
    """Who would get mail after a start. Each lead is judged once, and a cursor keeps memory constant.

    Used once in a transaction, which closes the cursor when it ends. A chunk has room for a count of each reason.
    """
    connection.execute(audience.judged(_COUNTS_AND_LEADS, head="DECLARE read_audience NO SCROLL CURSOR FOR"))
    fetch = sa.text(f"FETCH {chunk:d} FROM read_audience")
    first = connection.execute(fetch).mappings().all()
    counts: dict[str | None, int] = {row["left_out"]: row["counted"] for row in first if row["counted"] is not None}

    def reachable() -> Iterator[Sequence[sa.RowMapping]]:
        yield first[len(counts) :]
        while rows := connection.execute(fetch).mappings().all():
            yield rows

    return ReadAudience(*_split(counts), reachable())
