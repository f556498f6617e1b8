"""What a month costs: `python -m bench.costs` prints the table that docs/operations/costs.md quotes.

List prices of us-east-1 in US dollars, without free tiers, taxes or discounts; they change, the model does not. What
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
ALARM_METRIC = 0.10
"""For each metric that an alarm looks at."""
DASHBOARD = 3.00
SECRET = 0.40

SENDER_GB = 1769 / 1024
OTHER_GB = 0.5
TICKS = HOURS * 60
IDLE_TICK_SECONDS = 0.3
EVENTS_PER_EMAIL = 2.5
"""Send and Delivery, and for every second email an open or a click."""
SQS_REQUESTS_PER_EVENT = 1.3
"""One to send it; it is received and deleted with up to nine others."""
EVENT_SECONDS = 0.0004
"""Of the events function, in batches of hundreds."""
EMAIL_BYTES = 8_000
"""Through the endpoint: the request, its answer and TLS."""
STORED_BYTES = 6_000
"""The ledger's row, the email with its content, its events, and their indexes."""
KEPT_MONTHS = 6
METRICS_OF_EVERY_TICK = 3
"""Ticks, OldestDueSeconds and Claimed; a metric costs by the hour in which it has a value."""
METRICS_OF_SENDING = 14
ALARM_METRICS = 25
"""Of a deployment with its own database, without replies and tokens; two of the alarms look at two metrics each."""
POLLS = 5 * HOURS * 3600 / 20
"""Lambda asks the queue of events five times at once, for 20 seconds each."""
FIVE_MINUTES = 2 * HOURS * 12
"""For imports and for exports: whether a file is left unfinished."""
WEBHOOK_RUNS = 2 * TICKS
"""For the two functions of webhooks, each minute, with nothing to deliver."""
WEBHOOK_SECONDS = 0.1
SECRETS = 2
"""The database's administrator, and the keys of unsubscribe links."""
ENDPOINTS = 2
"""Of SES and of Secrets Manager, with Network=create; none with dual-stack."""


@dataclass(frozen=True)
class Size:
    """A month's volume and what it is run on; `rate` is the SES rate, at which a sender spends its time, and `busy` the
    share of hours in which something is sent."""

    name: str
    emails: float
    rate: float
    busy: float
    instance: str
    instance_per_hour: float


SIZES = (
    Size("idle", 0, 14, 0, "db.t4g.small", 0.032),
    Size("1 thousand", 1e3, 14, 0.05, "db.t4g.small", 0.032),
    Size("1 million", 1e6, 14, 0.33, "db.t4g.small", 0.032),
    Size("100 million", 1e8, 200, 1, "db.m7g.2xlarge", 0.674),
)


def monthly_costs(size: Size) -> dict[str, float]:
    """US dollars a month, by service."""
    sending = size.emails / size.rate
    events = size.emails * EVENTS_PER_EMAIL
    idle_seconds = (TICKS + FIVE_MINUTES) * IDLE_TICK_SECONDS
    lambda_seconds = (idle_seconds + sending) * SENDER_GB + events * EVENT_SECONDS * OTHER_GB
    lambda_seconds += WEBHOOK_RUNS * WEBHOOK_SECONDS * OTHER_GB
    invocations = TICKS + FIVE_MINUTES + WEBHOOK_RUNS + events / 100
    stored = max(20.0, size.emails * STORED_BYTES * KEPT_MONTHS / 1e9)
    return {
        "SES": size.emails * SES_PER_EMAIL,
        "Database": size.instance_per_hour * HOURS + stored * STORAGE_PER_GB,
        "Secrets": SECRETS * SECRET,
        "Endpoints": ENDPOINTS * ENDPOINT_PER_HOUR * HOURS + size.emails * EMAIL_BYTES / 1e9 * ENDPOINT_PER_GB,
        "Lambda": lambda_seconds * LAMBDA_PER_GB_SECOND + invocations * LAMBDA_PER_REQUEST,
        "SQS": (POLLS + events * SQS_REQUESTS_PER_EVENT) * SQS_PER_REQUEST,
        "CloudWatch": (METRICS_OF_EVERY_TICK + METRICS_OF_SENDING * size.busy) * METRIC
        + ALARM_METRICS * ALARM_METRIC
        + DASHBOARD
        + invocations * 1_000 / 1e9 * LOGS_PER_GB,
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
    without_endpoints = [total - column["Endpoints"] for total, column in zip(totals, columns, strict=True)]
    lines.append(f"| with `Network: dual-stack` | {' | '.join(f'{total:,.2f}' for total in without_endpoints)} |")
    per_thousand = [
        f"{total / size.emails * 1000:,.2f}" if size.emails else "" for total, size in zip(totals, SIZES, strict=True)
    ]
    lines.append(f"| per 1,000 emails | {' | '.join(per_thousand)} |")
    return "\n".join(lines)


def idle_sum() -> str:
    """The sentence of the documentation about an installation that sends nothing."""
    costs = monthly_costs(SIZES[0])
    total = sum(costs.values())
    return f"{total:.2f} a month idle, {total - costs['Endpoints']:.2f} with `Network: dual-stack`"


if __name__ == "__main__":
    print(table())
    print(f"\n{idle_sum()}")
