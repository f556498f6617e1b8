"""Bodies for the routes of segments, replies, sending schedules, senders and webhooks that are made to cost much.

Some are valid and as large as the routes take; the others are to be refused. See `testbed.hostile`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

SEGMENTS, REPLIES, SCHEDULES = "POST /v1/segments", "POST /v1/replies", "POST /v1/sending-schedules"
SENDERS, WEBHOOKS = "POST /v1/senders", "POST /v1/webhook-endpoints"

Body = tuple[str, str]
"""The route, and the body as it is sent."""

_LEAF = {"kind": "tag", "tag": "x"}
_MANY = 190_000


def _nested(depth: int, kind: str = "not") -> str:
    """A filter of so many levels."""
    if kind == "not":
        return '{"kind":"not","condition":' * depth + json.dumps(_LEAF) + "}" * depth
    return '{"kind":"' + kind + '","conditions":[' * depth + json.dumps(_LEAF) + "]}" * depth


def _segment(filter_: str) -> Callable[[], Body]:
    return lambda: (SEGMENTS, '{"name": "s", "filter": ' + filter_ + "}")


def _wide(condition: Any, count: int) -> str:
    return json.dumps({"kind": "or", "conditions": [condition] * count})


def _reply(**fields: Any) -> Callable[[], Body]:
    return lambda: (REPLIES, json.dumps({"from_address": "ann@example.com", "text": "Yes", **fields}))


def _schedule(**fields: Any) -> Callable[[], Body]:
    whole = {"name": "s", "time_zone": "UTC", "hours": {"mon": [["09:00", "17:00"]]}, **fields}
    return lambda: (SCHEDULES, json.dumps(whole))


def _sender(**fields: Any) -> Callable[[], Body]:
    return lambda: (SENDERS, json.dumps({"from_address": "a@example.com", **fields}))


def _webhook(**fields: Any) -> Callable[[], Body]:
    whole = {"url": "https://example.com/hook", "event_types": ["lead.replied"], **fields}
    return lambda: (WEBHOOKS, json.dumps(whole))


_VALUES = ["%_\\" * 160 + str(number) for number in range(100)]

LATER_BODIES: Mapping[str, Callable[[], Body]] = {
    "segment: 30 levels of not": _segment(_nested(30)),
    "segment: 900 levels of not": _segment(_nested(900)),
    "segment: 30 levels of and": _segment(_nested(15, "and")),
    "segment: levels without an end": lambda: (
        SEGMENTS,
        '{"name":"s","filter":' + '{"kind":"not","condition":' * 90_000,
    ),
    "segment: 50 conditions of 100 patterns": _segment(
        _wide({"kind": "field", "field": "notes", "operator": "contains", "values": _VALUES}, 49)
    ),
    "segment: 50 conditions of 100 custom values": _segment(
        _wide({"kind": "custom_field", "name": "%" * 255, "operator": "contains", "values": _VALUES}, 49)
    ),
    "segment: 40,000 conditions": _segment(_wide(_LEAF, 40_000)),
    "segment: 40,000 conditions of no kind": _segment(_wide({"kind": "none"}, 40_000)),
    "segment: values without an end": _segment(json.dumps({"kind": "field", "field": "city", "values": ["x"] * _MANY})),
    "segment: conditions that are numbers": _segment(json.dumps({"kind": "and", "conditions": list(range(_MANY))})),
    "segment: number of 400 digits": _segment(
        '{"kind":"custom_field","name":"x","operator":"at_least","values":[' + "9" * 400 + "]}"
    ),
    "segment: number beyond floats": _segment(
        '{"kind":"custom_field","name":"x","operator":"at_most","values":[1e400]}'
    ),
    "segment: time zones": _segment(json.dumps({"kind": "time_zone", "values": ["../../etc/passwd"] * 90})),
    "segment: days beyond time": _segment('{"kind":"not_contacted_for","days":99999999999999999999}'),
    "reply: text of 500,000 [": _reply(text="[" * 499_000),
    "reply: text of quotes": _reply(text="> \n" * 160_000),
    "reply: text of NUL": _reply(text="\x00" * 400_000),
    "reply: subject of (": _reply(subject="(" * 2_000),
    "reply: address of (": _reply(from_address="(" * 400 + "a@b.co"),
    "reply: address of quotes": _reply(from_address='"\\' * 240 + "@b.co"),
    "reply: address of commas": _reply(from_address="a@b.co," * 70),
    "reply: recipients": _reply(to_addresses=["<" * 400 + "a@b.co"] * 100),
    "reply: references": _reply(references=["<" + "a" * 490 + ">"] * 100),
    "reply: references without an end": _reply(references=["<a@b>"] * _MANY),
    "reply: headers": _reply(headers={f"x-{number}": "=?utf-8?q?a?= " * 140 for number in range(100)}),
    "reply: Content-Type of parameters": _reply(headers={"Content-Type": "text/plain" + "; a*0*=b" * 240}),
    "reply: raw of no base64": _reply(raw="=" * 999_000),
    "reply: raw of <head": lambda: (REPLIES, json.dumps({"raw": "PGhlYWQg" * 124_000})),
    "reply: raw of line breaks": lambda: (REPLIES, json.dumps({"raw": "DQoNCg0K" * 124_000})),
    "schedule: 10,000 holidays": _schedule(holidays=["2026-12-25"] * 10_000),
    "schedule: 1,000 holidays": _schedule(holidays=[f"{2000 + number}-01-01" for number in range(1_000)]),
    "schedule: holidays at the edges of time": _schedule(holidays=["0001-01-01", "9999-12-31"]),
    "schedule: holidays that are numbers": _schedule(holidays=[10**30] * 900),
    "schedule: 24 spans of a minute": _schedule(
        hours={day: [[f"{hour:02}:00", f"{hour:02}:01"] for hour in range(24)] for day in ("mon", "sun")}
    ),
    "schedule: spans that overlap": _schedule(hours={"mon": [["00:00", "24:00"]] * 24}),
    "schedule: span that ends before it begins": _schedule(hours={"mon": [["24:00", "00:00"]]}),
    "schedule: span without length": _schedule(hours={"mon": [["09:00", "09:00"]]}),
    "schedule: spans without an end": _schedule(hours={"mon": [["00:00", "01:00"]] * 60_000}),
    "schedule: spans of 1,000 times": _schedule(hours={"mon": [["00:00"] * 1_000]}),
    "schedule: never open": _schedule(hours={}),
    "schedule: time of digits": _schedule(hours={"mon": [["9" * 90_000, "10:00"]]}),
    "schedule: zone that is a path": _schedule(time_zone="../" * 20),
    "schedule: zone of NUL": _schedule(time_zone="UTC\x00"),
    "schedule: zone of 1,000,000 letters": _schedule(time_zone="a/" * 500_000),
    "sender: address of @": _sender(from_address="@" * 1_000_000),
    "sender: address of (": _sender(from_address="(" * 300 + "@b.co"),
    "sender: address of quotes": _sender(from_address='"' * 300 + "@b.co"),
    "sender: address of a name in a name": _sender(from_address="<" * 100 + "a@b.co" + ">" * 100),
    "sender: address with a line break": _sender(from_address="a@b.co\r\nBcc: x@y.co"),
    "sender: domain of dots": _sender(from_address="a@" + "." * 300),
    "sender: domain of labels": _sender(from_address="a@" + "a." * 120 + "co"),
    "sender: domain of punycode": _sender(from_address="a@xn--" + "9" * 200 + ".co"),
    "sender: cap of 400 digits": lambda: (SENDERS, '{"from_address":"a@b.co","daily_cap":' + "9" * 400 + "}"),
    "sender: cap that is true": _sender(daily_cap=True),
    "webhook: own machine": _webhook(url="http://127.0.0.1/"),
    "webhook: metadata": _webhook(url="http://169.254.169.254/latest/meta-data/"),
    "webhook: address as a number": _webhook(url="https://2130706433/"),
    "webhook: address in brackets": _webhook(url="https://[::ffff:127.0.0.1]/"),
    "webhook: brackets": _webhook(url="https://" + "[" * 1_900),
    "webhook: name and password": _webhook(url="https://a:b@example.com/"),
    "webhook: port": _webhook(url="https://example.com:99999999/"),
    "webhook: port of digits": _webhook(url="https://example.com:" + "9" * 1_900),
    "webhook: file": _webhook(url="file:///etc/passwd"),
    "webhook: host of dots": _webhook(url="https://" + "." * 1_900),
    "webhook: host of full-width letters": _webhook(url="https://" + "\uff41" * 1_900),
    "webhook: line break": _webhook(url="https://example.com/\r\nHost: x"),
    "webhook: address of 1,000,000 letters": _webhook(url="https://example.com/" + "a" * 1_000_000),
    "webhook: types without an end": _webhook(event_types=["lead.replied"] * _MANY),
    "webhook: types that are none": _webhook(event_types=["x" * 50_000] * 50),
    "webhook: campaigns": _webhook(campaign_ids=["00000000-0000-0000-0000-000000000000"] * 100),
    "webhook: campaigns without an end": _webhook(campaign_ids=["x"] * _MANY),
}
