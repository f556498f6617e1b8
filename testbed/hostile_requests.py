"""Requests, files and events that are made to exhaust their reader; see `testbed.hostile`."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from testbed.ses_events import ACCOUNT, documented

LARGEST = 2_990_000
"""Bytes of a body that the API reads."""
CONFIGURATION_SET = "ConfigSet"
MAX_ANSWER = 1_000_000
"""Lambda answers with 6 MB at most, and a client must be able to read the error."""

Body = tuple[str, str]
"""The route, and the body as it was sent."""


def _fill(part: str, size: int = LARGEST) -> str:
    return part * (size // len(part))


def _of(route: str, body: Callable[[], str]) -> Callable[[], Body]:
    return lambda: (route, body())


_SUPPRESSIONS, _LEAD, _CAMPAIGN = "POST /v1/suppressions/import", "POST /v1/leads", "POST /v1/campaigns"

JSON_BODIES: Mapping[str, Callable[[], Body]] = {
    "[ without end": _of(_LEAD, lambda: _fill("[")),
    '{"a": without end': _of(_LEAD, lambda: _fill('{"a":')),
    "900 levels of objects": _of(_LEAD, lambda: '{"a":' * 900 + "1" + "}" * 900),
    "lists within lists": _of(_LEAD, lambda: '{"a": [' + "[[[[[[[[]]]]]]]]," * 170_000 + "0]}"),
    "digits": _of(_LEAD, lambda: '{"a": ' + _fill("9", LARGEST - 10) + "}"),
    "digits behind a point": _of(_LEAD, lambda: '{"a": 0.' + _fill("9", LARGEST - 10) + "}"),
    "1e400": _of(_LEAD, lambda: '{"a": [' + "1e400," * 400_000 + "0]}"),
    "numbers of 400 digits": _of(_LEAD, lambda: '{"a": [' + f"{'9' * 400}," * 7_000 + "0]}"),
    "NUL in every text": _of(_LEAD, lambda: '{"a": [' + '"\\u0000",' * 300_000 + "0]}"),
    "half pairs": _of(_LEAD, lambda: '{"a": [' + '"\\ud800",' * 300_000 + "0]}"),
    "NUL in every name": _of(_LEAD, lambda: "{" + ",".join(f'"\\u0000{n}":0' for n in range(180_000)) + "}"),
    "one text": _of(_LEAD, lambda: '{"email": "' + _fill("a", LARGEST - 20) + '"}'),
    "one text of escapes": _of(_LEAD, lambda: '{"email": "' + _fill("\\u00e9", LARGEST - 20) + '"}'),
    "an address of @": _of(_LEAD, lambda: '{"email": "' + "@" * 1_000 + '"}'),
    "an address of <": _of(_LEAD, lambda: '{"email": "' + "<" * 1_000 + '"}'),
    "unknown fields": _of(_LEAD, lambda: "{" + ",".join(f'"f{n}":0' for n in range(250_000)) + "}"),
    "custom fields": _of(
        _LEAD, lambda: json.dumps({"email": "a@b.co", "custom_fields": {f"f{n}": {} for n in range(150_000)}})
    ),
    "lead ids that are none": _of(_CAMPAIGN, lambda: json.dumps({"name": "c", "lead_ids": list(range(300_000))})),
    "batch ids that are none": _of(_CAMPAIGN, lambda: json.dumps({"name": "c", "batch_ids": ["x"] * 500_000})),
    "suppressions that are numbers": _of(_SUPPRESSIONS, lambda: json.dumps({"values": list(range(149_000))})),
    "suppressions without end": _of(_SUPPRESSIONS, lambda: '{"values": [' + '"a",' * 700_000 + '"a"]}'),
    "a pattern's worst": _of(_CAMPAIGN, lambda: json.dumps({"name": " " * 2_900_000, "from_address": "\t" * 90_000})),
    "the same name again": _of(_LEAD, lambda: "{" + '"a":0,' * 490_000 + '"a":0}'),
    "cut off": _of(_LEAD, lambda: '{"a": "' + _fill("\\\\", LARGEST - 10)),
}


def answer(body: Body) -> int:
    """Read a body as the API does, up to the models of its routes; the length of the answer."""
    from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
    from pydantic import BaseModel, ValidationError

    import api_requests
    import campaign_fields
    import leads_routes
    import suppressions_routes
    from http_errors import problem_of

    route, text = body
    models: dict[str, type[BaseModel]] = {
        _LEAD: leads_routes.NewLead,
        _CAMPAIGN: campaign_fields.NewCampaign,
        _SUPPRESSIONS: suppressions_routes.SuppressionList,
    }
    try:
        api_requests.check(_request(route, "application/json", text), route)
        models[route].model_validate(api_requests.read_json(text))
        return 0
    except ValidationError as error:
        found: Exception = RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()])
    except Exception as error:
        found = error
    problem = problem_of(found, "hostile")
    length = len(problem.body())
    if problem.status >= 500 or length > MAX_ANSWER:
        raise ValueError(f"answered with {problem.status.value} in {length} characters") from found
    return length


CSV_FILES: Mapping[str, Callable[[], bytes]] = {
    "as many short rows as possible": lambda: b"Email\n" + b"a\n" * 99_000,
    "as many rows with an address as possible": lambda: b"Email\n" + b"a@b.co\n" * 99_000,
    "quotes": lambda: b"Email\n" + b'"' * LARGEST,
    "quotes and line breaks": lambda: b"Email\n" + b'"\n' * (LARGEST // 2),
    "a quote that is not closed in each line": lambda: b"Email,Name\n" + b'a@b.co,"x\n' * (LARGEST // 10),
    "blanks behind quotes": lambda: b"Email,Name\n" + b'"a" ,"" \n' * 99_000,
    "blanks behind quotes of addresses": lambda: b"Email,Name\n" + b'"a@b.co" ,"b"\n' * 99_000,
    "lines quoted whole": lambda: b"Email,Name\n" + b'"a,b"\n' * 99_000,
    "more lines quoted whole than are taken": lambda: b"Email,Name\n" + b'"a,b"\n' * (LARGEST // 6),
    "quotes within text": lambda: b"Email\n" + b'a"b"c,' * (LARGEST // 6),
    "commas": lambda: b"Email\n" + b"," * LARGEST,
    "commas of a header": lambda: b"Email" + b"," * LARGEST,
    "line breaks": lambda: b"Email\n" + b"\n" * LARGEST,
    "line breaks before the header": lambda: b"\n" * LARGEST + b"Email\n",
    "carriage returns": lambda: b"Email\r" + b"\r" * LARGEST,
    "one line": lambda: b"Email\n" + b"x" * LARGEST,
    "delimiters of every kind": lambda: b"Email;Name\tAge|x\n" + b",;\t|" * (LARGEST // 4),
    "NUL": lambda: b"Email\n" + b"\0" * LARGEST,
    "bytes of no encoding": lambda: b"Email\n" + bytes(range(128, 256)) * (LARGEST // 128),
    "UTF-16 of halves": lambda: b"\xff\xfe" + b"\x00\xd8" * (LARGEST // 2),
    "UTF-16 cut off": lambda: "\ufeffEmail\n".encode("utf-16-le") + b"a" * (LARGEST - 21),
    "addresses of @": lambda: b"Email\n" + (b"@" * 250 + b"\n") * (LARGEST // 251),
    "addresses of <": lambda: b"Email\n" + (b"<" * 250 + b"\n") * (LARGEST // 251),
    "addresses of dots": lambda: b"Email\n" + (b"a." * 125 + b"@b.co\n") * (LARGEST // 256),
    "short rows": lambda: b"Email\n" + b"a\n" * (LARGEST // 2),
    "formulas": lambda: b"Email,Name\n" + b"a@b.co,'=''''''=1\n" * (LARGEST // 18),
    "many columns": lambda: b"Email," + b",".join(b"c%d" % n for n in range(400)) + b"\n" + b"x," * (LARGEST // 2),
}


def import_csv(content: bytes) -> int:
    """Read a file as the import in a request does; how many rows it has."""
    import api_requests
    from http_errors import RequestRefused
    from sendledger.core.errors import InvalidInput
    from sendledger.leads.read_leads import read_leads

    route = "POST /v1/lead-batches"
    try:
        request = _request(route, "text/csv", base64.b64encode(content).decode(), is_base64=True)
        api_requests.check(request, route)
        stream = io.BytesIO(api_requests.body_bytes(request))
        return sum(1 for _ in read_leads(stream, lambda warning: None).rows)
    except (RequestRefused, InvalidInput):
        return 0


def import_opt_outs(content: bytes) -> int:
    """Read a list of addresses that must not be mailed as its import does; how many entries it has."""
    import api_requests
    from http_errors import RequestRefused
    from sendledger.core.errors import InvalidInput
    from sendledger.leads.read_opt_outs import read_opt_outs

    try:
        request = _request(_SUPPRESSIONS, "text/csv", base64.b64encode(content).decode(), is_base64=True)
        api_requests.check(request, _SUPPRESSIONS)
        return sum(1 for _ in read_opt_outs(io.BytesIO(api_requests.body_bytes(request))))
    except (RequestRefused, InvalidInput):
        return 0


def _mega(piece: bytes, size: int = 60_000_000, head: bytes = b"Email,Name\n") -> Callable[[], Iterator[bytes]]:
    """A file of this size, in blocks: it is never in memory as a whole."""
    block = piece * (65_536 // len(piece))

    def blocks() -> Iterator[bytes]:
        yield head
        for _ in range(size // len(block)):
            yield block

    return blocks


UPLOADS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "one line of 60 MB": _mega(b"x"),
    "one cell of 60 MB in quotes": _mega(b"x", head=b'Email,Name\na@b.co,"'),
    "quotes": _mega(b'"', 3_000_000),
    "a quote that is never closed, then lines": _mega(b"a@b.co,x\n", 1_000_000, head=b'Email,Name\na@b.co,"'),
    "commas": _mega(b",", 3_000_000),
    "NUL": _mega(b"\0"),
    "blank lines": _mega(b"\n", 1_000_000),
    "carriage returns": _mega(b"\r", 1_000_000),
    "a header of 60 MB": _mega(b"Email", head=b""),
    "a header of commas": _mega(b",", head=b"Email"),
    "blank lines before the header": _mega(b"\n", 1_000_000, head=b""),
    "bytes of no encoding": _mega(bytes(range(128, 256)), 3_000_000),
    "UTF-16 of one line": _mega(b"x\0", head=b"\xff\xfeE\0m\0a\0i\0l\0\n\0"),
    "picture": _mega(b"\x00\x01\xff\xd8\n\r", 3_000_000, head=b"\x89PNG\r\n\x1a\n"),
    "archive": _mega(b"PK\x03\x04" + b"\x00" * 60, 3_000_000, head=b"PK\x03\x04"),
    "short rows": _mega(b"a,b\n", 400_000),
    "cells of 300 characters": _mega(b"a@b.co," + b"x" * 300 + b"\n", 6_000_000),
}


class _Blocks(io.RawIOBase):
    """A stream of blocks, as a file in the bucket is read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._blocks, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def import_file(blocks: Iterator[bytes]) -> int:
    """Read an uploaded file as the importer does; how many rows it has."""
    from sendledger.files.read_text import UnreadableFile
    from sendledger.leads.read_leads import read_leads

    try:
        return sum(1 for _ in read_leads(_Blocks(blocks), lambda warning: None).rows)
    except UnreadableFile:
        return 0


def _request(route: str, content_type: str, body: str, *, is_base64: bool = False) -> APIGatewayProxyEventV2:
    method, path = route.split(" ")
    return APIGatewayProxyEventV2(
        {
            "headers": {"content-type": content_type},
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
            "rawPath": path,
            "rawQueryString": "",
            "body": body,
            "isBase64Encoded": is_base64,
        }
    )


_KEY = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

Form = tuple[str, bytes]
"""The media type, and the body."""

_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"

FORMS: Mapping[str, Callable[[], Form]] = {
    "&": lambda: (_URLENCODED, b"&" * 9_999),
    "%": lambda: (_URLENCODED, b"%" * 9_999),
    "broken percent signs": lambda: (_URLENCODED, b"a=%zz" * 1_999),
    "parts": lambda: (_MULTIPART, b"--b\r\n\r\n\r\n" * 1_100),
    "parts within parts": lambda: (
        _MULTIPART,
        b"".join(b"--b\nContent-Type: multipart/x; boundary=b\n\n" for _ in "x" * 220),
    ),
    "names": lambda: (_MULTIPART, b"--b\nContent-Disposition: " + b";name" * 1_900 + b"\n\nx\n--b--"),
    "blanks in a header": lambda: (_MULTIPART, b"--b\nContent-Disposition: ;" + b" " * 9_900 + b"\n\nx\n--b--"),
    "quotes in a header": lambda: (_MULTIPART, b'--b\nContent-Disposition: ; name="' + b'"' * 9_900 + b"\n\nx\n--b--"),
    "boundary of blanks": lambda: (f"multipart/form-data;{' ' * 10_000}boundary=", b"x"),
    "boundaries": lambda: (f"multipart/form-data{';boundary=' * 1_000}", b"x"),
    "number of 5,000 digits": lambda: (f"multipart/form-data; boundary*{'9' * 5_000}=b", b"x"),
    "10 MB": lambda: (_URLENCODED, b"a=b&" * 2_500_000),
    "bytes of no encoding": lambda: (_MULTIPART, bytes(range(256)) * 39),
}


def unsubscribe(form: Form) -> None:
    """Post a form that asks for nothing to an unsubscribe link that is valid: 400, and the database is not asked."""
    os.environ |= {"UNSUBSCRIBE_KEYS": _KEY, "SENDER_FROM_ADDRESS": "ann@example.com"}
    import unsubscribe_handler

    content_type, body = form
    event = {
        "requestContext": {"http": {"method": "POST"}, "requestId": "r"},
        "headers": {"content-type": content_type},
        "pathParameters": {"token": _token()},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    answered = unsubscribe_handler.lambda_handler(event, None)  # type: ignore[arg-type]
    if answered["statusCode"] != 400:
        raise ValueError(f"answered with {answered['statusCode']}")


@functools.cache
def _token() -> str:
    from sendledger.core.settings import UnsubscribeSettings
    from sendledger.core.signed_tokens import EmailReference

    keys = UnsubscribeSettings.read().unsubscribe_keys
    return keys.unsubscribe_token(EmailReference(1, uuid.UUID(int=1), uuid.UUID(int=2)))


def _event(type_: str, member: str, content: Mapping[str, Any]) -> Callable[[], str]:
    def make() -> str:
        event = documented(type_)
        tags = {"ses:configuration-set": [CONFIGURATION_SET], "scheduled_email_id": ["7"]}
        event["account"] = ACCOUNT
        event["detail"]["mail"] |= {"sendingAccountId": ACCOUNT, "tags": tags}
        event["detail"][member] = {**(event["detail"].get(member) or {}), **content}
        return json.dumps(event)

    return make


def _diagnosed(code: str) -> Callable[[], str]:
    recipient = {"emailAddress": "ann@example.com", "diagnosticCode": code, "status": "5.0.0"}
    return _event("Bounce", "bounce", {"bouncedRecipients": [recipient]})


EVENTS: Mapping[str, Callable[[], str]] = {
    "diagnostic of a": _diagnosed("a" * 200_000),
    "diagnostic of a.": _diagnosed("a." * 100_000),
    "diagnostic of @": _diagnosed("@" * 200_000),
    "diagnostic of a@": _diagnosed("a@" * 100_000),
    "diagnostic of <": _diagnosed("<" * 200_000),
    "diagnostic of addresses": _diagnosed("ann@example.com " * 12_000),
    "diagnostic of blanks": _diagnosed(" \t" * 100_000),
    "many recipients": _event("Bounce", "bounce", {"bouncedRecipients": [{"emailAddress": "a@b.co"}] * 7_000}),
    "link": _event("Click", "click", {"link": "https://x/?" + "a=%" * 60_000}),
    "link tags": _event("Click", "click", {"linkTags": {f"t{n}": ["x"] for n in range(10_000)}}),
    "user agent": _event("Open", "open", {"userAgent": "Mozilla " * 25_000}),
    "user agent of bots": _event("Open", "open", {"userAgent": "bo" * 100_000}),
    "times": _event("Bounce", "bounce", {"timestamp": "9" * 200_000}),
    "[ without end": lambda: "[" * 250_000,
    "objects without end": lambda: '{"a":' * 50_000,
    "digits": lambda: '{"source": ' + "9" * 250_000 + "}",
    "1e400": lambda: '{"source": "aws.ses", "x": 1e400}',
    "10 MB": lambda: json.dumps({"source": "aws.ses", "x": "x" * 10_000_000}),
}
