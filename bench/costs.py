"""What a month costs: `python -m bench.costs` prints the table that docs/operations/costs.md quotes.

List prices of us-east-1 in US dollars, without free tiers, taxes or discounts; they change, the sums do not. What
an email costs in time and bytes is measured by the other benchmarks or stated here as an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

HOURS = 730.0
MILLION = 1e6

# https://aws.amazon.com/ses/pricing/ and the pricing pages of the other services.
SES_PER_EMAIL = 0.10 / 1000
LAMBDA_PER_GB_SECOND = 0.0000133334  # arm64
LAMBDA_PER_REQUEST = 0.20 / MILLION
SQS_PER_REQUEST = 0.40 / MILLION
ENDPOINT_PER_HOUR = 0.01
ENDPOINT_PER_GB = 0.01
STORAGE_PER_GB = 0.115  # RDS gp3
LOGS_PER_GB = 0.50
METRIC = 0.30
ALARM = 0.10
SECRET = 0.40

SENDER_GB = 1769 / 1024
OTHER_GB = 0.5
TICKS = HOURS * 60
IDLE_TICK_SECONDS = 0.3
EVENTS_PER_EMAIL = 2.5
"""Send and Delivery, and for every second email an open or a click."""
SQS_REQUESTS_PER_EVENT = 1.3
"""One to put it in; it is taken out and deleted with up to nine others."""
EVENT_SECONDS = 0.0004
"""Of the events function, in batches of hundreds."""
EMAIL_BYTES = 8_000
"""Through the endpoint: the request, its answer and TLS."""
STORED_BYTES = 6_000
"""The ledger's row, the email with its content, its events, and their indexes."""
KEPT_MONTHS = 6
METRICS_WRITTEN = 14
ALARMS = 11


@dataclass(frozen=True)
class Size:
    """A month's volume and what it is run on; `rate` is the SES rate, at which a sender spends its time."""

    name: str
    emails: float
    rate: float
    instance: str
    instance_per_hour: float


SIZES = (
    Size("1 thousand", 1e3, 14, "db.t4g.micro", 0.016),
    Size("1 million", 1e6, 14, "db.t4g.small", 0.032),
    Size("100 million", 1e8, 200, "db.m7g.2xlarge", 0.674),
)


def monthly_costs(size: Size) -> dict[str, float]:
    """US dollars a month, by service."""
    sending = size.emails / size.rate
    events = size.emails * EVENTS_PER_EMAIL
    lambda_seconds = (TICKS * IDLE_TICK_SECONDS + sending) * SENDER_GB + events * EVENT_SECONDS * OTHER_GB
    stored = max(20.0, size.emails * STORED_BYTES * KEPT_MONTHS / 1e9)
    return {
        "SES": size.emails * SES_PER_EMAIL,
        "Database": size.instance_per_hour * HOURS + stored * STORAGE_PER_GB + SECRET,
        "Endpoint of SES": ENDPOINT_PER_HOUR * HOURS + size.emails * EMAIL_BYTES / 1e9 * ENDPOINT_PER_GB,
        "Lambda": lambda_seconds * LAMBDA_PER_GB_SECOND + (TICKS + events / 100) * LAMBDA_PER_REQUEST,
        "SQS": events * SQS_REQUESTS_PER_EVENT * SQS_PER_REQUEST,
        "CloudWatch": METRICS_WRITTEN * METRIC + ALARMS * ALARM + (TICKS + events / 100) * 1_000 / 1e9 * LOGS_PER_GB,
    }


def table() -> str:
    """Markdown: a row for each service, a column for each size."""
    columns = [monthly_costs(size) for size in SIZES]
    lines = [
        f"| | {' | '.join(f'{size.name} ({size.instance})' for size in SIZES)} |",
        f"| --- |{' ---: |' * len(SIZES)}",
    ]
    lines += [
        f"| {service} | {' | '.join(f'{column[service]:,.2f}' for column in columns)} |" for service in columns[0]
    ]
    totals = [sum(column.values()) for column in columns]
    lines.append(f"| **together** | {' | '.join(f'**{total:,.2f}**' for total in totals)} |")
    per_thousand = [total / size.emails * 1000 for total, size in zip(totals, SIZES, strict=True)]
    lines.append(f"| per 1,000 emails | {' | '.join(f'{each:,.2f}' for each in per_thousand)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
