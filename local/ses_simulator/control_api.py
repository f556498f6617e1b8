"""What lies under /_simulator/: scripting of faults, events and account state; reading of ledger, events and counts.

JSON in, JSON out; an error is {"error": "…"}. Writing calls must say `Content-Type: application/json`, which no page of
another site can make a browser send without asking first.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from local.ses_simulator.account import Account
from local.ses_simulator.eml import assemble
from local.ses_simulator.event_feed import EventFeed
from local.ses_simulator.faults import Fault, Faults
from local.ses_simulator.http_server import HttpResponse, Request
from local.ses_simulator.ledger import AcceptedEmail, Ledger
from local.ses_simulator.ses_api import SesApi

PREFIX = "/_simulator/"
MAX_LIMIT = 1000

_ACCOUNT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "max_send_rate": (int, float, type(None)),
    "max_24_hour_send": int,
    "sending_enabled": bool,
    "production_access": bool,
    "enforcement_status": str,
    "latency_ms": (int, float),
    "identities": dict,
    "configuration_sets": dict,
}
_EVENT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "message_id": str,
    "event_type": str,
    # After the email was accepted; without it the event happens now.
    "seconds": (int, float),
    # What differs from the usual content of the object of such an event.
    "content": dict,
}
_FAULT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "operation": str,
    "address": (str, type(None)),
    "tags": dict,
    "nth": int,
    "count": (int, type(None)),
    "seconds": (int, float),
    "message": (str, type(None)),
}


class ControlApi:
    def __init__(
        self,
        *,
        account: Account,
        ledger: Ledger,
        faults: Faults,
        feed: EventFeed,
        ses_api: SesApi,
        clear: Callable[[], None],
    ) -> None:
        self._account = account
        self._ledger = ledger
        self._faults = faults
        self._feed = feed
        self._ses_api = ses_api
        self._clear = clear
        self._routes: dict[tuple[str, str], Callable[[Request], HttpResponse]] = {
            ("GET", "ledger"): self._read_ledger,
            ("GET", "events"): self._read_events,
            ("POST", "events"): self._add_event,
            ("GET", "counts"): lambda _: _json(asdict(ses_api.counts)),
            ("GET", "account"): lambda _: _json(self._describe_account()),
            ("PATCH", "account"): self._change_account,
            ("POST", "account"): self._change_account,
            ("GET", "faults"): lambda _: _json({"items": faults.describe()}),
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "clear"): self._clear_all,
        }

    def handle(self, request: Request) -> HttpResponse:
        name = request.path.removeprefix(PREFIX)
        if request.method == "GET" and name.startswith("ledger/") and name.endswith(".eml"):
            return self._read_eml(name.removeprefix("ledger/").removesuffix(".eml"))
        route = self._routes.get((request.method, name))
        if route is None:
            return _error(404, f"there is no {request.method} {request.path}")
        writes = request.method in ("POST", "PATCH")
        if writes and not request.header("Content-Type").startswith("application/json"):
            return _error(415, "Content-Type must be application/json")
        try:
            return route(request)
        except (ValueError, TypeError) as error:
            return _error(400, str(error))

    def _read_ledger(self, request: Request) -> HttpResponse:
        after, limit = _window(request)
        items = [_describe_email(email) for email, _ in zip(self._ledger.after(after), range(limit), strict=False)]
        next_after = items[-1]["number"] if items else after
        return _json({"items": items, "next_after": next_after, "total": len(self._ledger)})

    def _read_eml(self, message_id: str) -> HttpResponse:
        email = self._ledger.find(message_id)
        if email is None:
            return _error(404, f"there is no message {message_id}")
        disposition = f'attachment; filename="{email.message_id}.eml"'
        return HttpResponse(
            body=assemble(email, region=self._account.region),
            content_type="message/rfc822",
            headers=(("Content-Disposition", disposition), ("X-Content-Type-Options", "nosniff")),
        )

    def _read_events(self, request: Request) -> HttpResponse:
        after, limit = _window(request)
        items = self._feed.read(after, limit)
        return _json({"items": items, "next_after": items[-1]["number"] if items else after})

    def _add_event(self, request: Request) -> HttpResponse:
        given = _object(request, _EVENT_FIELDS)
        email = self._ledger.find(str(given.get("message_id")))
        if email is None:
            return _error(404, f"there is no message {given.get('message_id')}")
        seconds = given.get("seconds")
        at = datetime.now(UTC) if seconds is None else email.accepted_at + timedelta(seconds=seconds)
        item = self._feed.script(email, str(given.get("event_type")), at, given.get("content", {}))
        return _json(item, status=201)

    def _describe_account(self) -> dict[str, Any]:
        suppressed = {address: reason for address, (reason, _) in self._account.suppressed.items()}
        return {name: getattr(self._account, name) for name in _ACCOUNT_FIELDS} | {"suppressed": suppressed}

    def _change_account(self, request: Request) -> HttpResponse:
        changes = _object(request, _ACCOUNT_FIELDS)
        for name in changes.keys() & {"identities", "configuration_sets"}:
            if not all(isinstance(each, dict | None) for each in changes[name].values()):
                raise ValueError(f"{name} must map names to objects or null")
        for name, value in changes.items():
            setattr(self._account, name, value)
        return _json(self._describe_account())

    def _add_fault(self, request: Request) -> HttpResponse:
        fault = self._faults.add(Fault(**_object(request, _FAULT_FIELDS)))
        return _json(asdict(fault), status=201)

    def _clear_faults(self, _request: Request) -> HttpResponse:
        self._faults.clear()
        return HttpResponse(status=204)

    def _clear_all(self, _request: Request) -> HttpResponse:
        self._clear()
        return HttpResponse(status=204)


def _describe_email(email: AcceptedEmail) -> dict[str, Any]:
    return {
        "number": email.number,
        "accepted_at": email.accepted_at.isoformat(),
        "message_id": email.message_id,
        "from_address": email.from_address,
        "destination": {"to": email.to, "cc": email.cc, "bcc": email.bcc},
        "reply_to": email.reply_to,
        "subject": email.subject,
        "headers": [{"name": name, "value": value} for name, value in email.headers],
        "text": email.text,
        "html": email.html,
        "tags": email.tags,
        "configuration_set": email.configuration_set,
    }


def _window(request: Request) -> tuple[int, int]:
    query = request.query
    after, limit = int(query.get("after", ["0"])[0]), int(query.get("limit", ["100"])[0])
    if after < 0 or not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"after must not be negative, limit must be 1 to {MAX_LIMIT}")
    return after, limit


def _object(request: Request, types: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    document = json.loads(request.body)
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")
    for name, value in document.items():
        if name not in types:
            raise ValueError(f"there is no {name}; there are {', '.join(types)}")
        if not isinstance(value, types[name]):
            raise ValueError(f"{name} has the wrong type")
    return document


def _json(document: dict[str, Any], status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, body=json.dumps(document).encode())


def _error(status: int, message: str) -> HttpResponse:
    return _json({"error": message}, status)
