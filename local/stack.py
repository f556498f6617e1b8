"""LocalStack: the functions, routes and schedules of template.yaml on this machine, behind one port of localhost."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from local.api_gateway import ApiGateway
from local.clock import Clock, scheduled_event
from local.event_queue import EventQueue
from local.functions import Functions
from local.http_front import HttpRequest, HttpResponse, http_front
from local.lambda_api import LambdaApi
from local.postgres import as_user
from local.template import Function, Schedule, read_template
from local.threaded_server import HOST

if TYPE_CHECKING:
    from local.object_store import ObjectStore

PARAMETERS = {
    "DeploymentId": "local",
    "SenderFromAddress": "Nora Lind <nora@harbour-booking.example>",
    # Locally no role limits the addresses that the sender may use.
    "SesIdentity": "",
    "Network": "none",
    "Database": "existing",
    "DatabaseHost": "localhost",
    "DatabaseCaBundle": "",
    # The user that the embedded server creates.
    "DatabaseUser": "postgres",
    "PostalAddress": "Harbour Booking, 1 Quay Street, Bristol BS1 4RB",
    "UnsubscribeKeys": "local:bm90IGEgc2VjcmV0OiBldmVyeWJvZHkgaGFzIHRoaXMga2V5",
    "ReplyDomain": "reply.harbour-booking.example",
    # Webhooks may go to receivers on this machine.
    "WebhookTargets": "any",
}
"""Values of the template's parameters that have no default. The database is where DATABASE_URL says."""

DUMMY_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""Enough for botocore to sign requests, and nothing that AWS would accept. The person's files may be broken."""

_OF_THE_MACHINE = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SYSTEMROOT", "SSL_CERT_FILE", "AWS_CA_BUNDLE")


def _as_own_user(function: Function, database_url: str) -> Function:
    user = function.environment.get("DATABASE_USER", PARAMETERS["DatabaseUser"])
    if user == PARAMETERS["DatabaseUser"]:
        return function
    return replace(function, environment={**function.environment, "DATABASE_URL": as_user(database_url, user)})


class FunctionError(Exception):
    """A function that was invoked failed; the message is the error that it reported."""


class LocalStack:
    """Use it as a context manager, or call `start` and `stop`. It listens from the moment that it is made.

    `variables` win over the template's values of environment variables, in the functions that declare them. `aws` are
    the AWS_* variables that functions get for credentials; without it they get dummies. `log` (a real file) gets what
    the functions print. Schedules are kept once `tick_every` says how fast. `ses_events` is where the SES simulator
    puts its events; from `start` on they are delivered to the function that ingests them. With `separate_users` each
    function but
    MigrateFunction logs in to the database as the user that the template gives it, without a password. `parameters` are
    values of the template's parameters that win over PARAMETERS; an API that they give an authorizer answers at
    `token_url`, which is None without one, and all others at `url`. `fixed_api_key` need not look like a key.
    `files` is a folder that keeps the attachments of templates.

    Raises:
        TemplateError: template.yaml cannot be run here.
        PortTakenError: something else listens on the port.
    """

    def __init__(
        self,
        template_path: Path,
        *,
        database_url: str,
        ses_url: str,
        log: IO[bytes],
        port: int = 0,
        token_port: int = 0,
        parameters: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        aws: Mapping[str, str] | None = None,
        region: str = "us-east-1",
        ses_events: EventQueue | None = None,
        separate_users: bool = True,
        fixed_api_key: str | None = None,
        files: Path | None = None,
    ) -> None:
        self._ses_events = ses_events
        self._server = http_front(port, self._handle)
        self._servers = [self._server]
        self.url = f"http://{HOST}:{self._server.port}"
        self.token_url: str | None = None
        try:
            users = {"DatabaseUsers": "separate" if separate_users else "one"}
            given = {**PARAMETERS, **users, **(parameters or {})}
            self._template = read_template(template_path, given, region, variables, self.url)
            if any(route.authorizer for route in self._template.routes):
                self._servers.append(http_front(token_port, lambda request: self._token_gateway.handle(request)))
                self.token_url = f"http://{HOST}:{self._servers[-1].port}"
        except BaseException:
            self._stop_servers()
            raise
        self._object_store = self._open_object_store(files)
        environment = {
            **{name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ},
            **(aws or DUMMY_CREDENTIALS),
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL_LAMBDA": self.url,
            "AWS_ENDPOINT_URL_SESV2": ses_url,
            **({"AWS_ENDPOINT_URL_S3": self._object_store.url} if self._object_store else {}),
            "DATABASE_URL": database_url,
            "FIXED_API_KEY": fixed_api_key or "",
            # What runs on this machine is not reached through a proxy.
            "NO_PROXY": "localhost,127.0.0.1",
        }
        functions = self._template.functions
        if separate_users:
            functions = {name: _as_own_user(function, database_url) for name, function in functions.items()}
        self._functions = Functions(functions, environment, log)
        routes = self._template.routes
        self._gateway = ApiGateway([route for route in routes if route.authorizer is None], self._functions)
        self._token_gateway = ApiGateway([route for route in routes if route.authorizer is not None], self._functions)
        self._lambda = LambdaApi(self._functions)
        self._clock: Clock | None = None
        self._finishing = threading.Event()

    def start(self) -> Self:
        for server in self._servers:
            server.start()
        if self._object_store is not None:
            self._object_store.start()
        if self._ses_events is not None:
            self._ses_events.start(lambda batch: self.invoke("SesEventsFunction", batch))
        return self

    def tick_every(self, seconds: float) -> None:
        """From now on a minute of the template's schedules lasts that many seconds; with 0 they are not kept."""
        if self._clock is not None:
            self._clock.stop()
        self._clock = Clock(self._template.schedules, self._template.region, seconds, self._invoke_scheduled)
        if seconds > 0:
            self._clock.start()

    def finish(self) -> None:
        """Start nothing more and wait for running invocations, so that no sender is killed while it sends.

        Schedules that wait for their turn, as they do where a minute is shorter than a tick, are dropped.
        """
        self._finishing.set()
        self.tick_every(0)
        self._functions.wait_until_idle()
        if self._ses_events is not None:
            with contextlib.suppress(TimeoutError):
                self._ses_events.drain()
        self._functions.refuse_more()
        self._functions.wait_until_idle()

    def stop(self) -> None:
        """Stop at once. A sender that is killed while it sends leaves emails whose outcome is unknown."""
        self.tick_every(0)
        self._functions.stop()
        if self._ses_events is not None:
            self._ses_events.stop()
        if self._object_store is not None:
            self._object_store.stop()
        self._stop_servers()

    def _stop_servers(self) -> None:
        for server in self._servers:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _open_object_store(self, kept_in: Path | None) -> ObjectStore | None:
        if not self._template.buckets:
            return None
        from local.object_store import ObjectStore  # loading moto takes a second

        return ObjectStore(self._template.buckets, self._template.region, self._tell_of_object, kept_in)

    def _tell_of_object(self, bucket: str, key: str, event: Any) -> None:
        for told in self._template.notifications:
            if told.bucket == bucket and key.startswith(told.prefix):
                self._functions.invoke_async(self._functions.find(told.function), json.dumps(event).encode())

    def invoke(self, name: str, event: Any) -> Any:
        """The result of a function, as it would be to a synchronous Lambda invocation.

        Raises:
            FunctionError
            FunctionNotFoundError
        """
        outcome = self._functions.invoke(self._functions.find(name), json.dumps(event).encode())
        result = json.loads(outcome.payload)
        if outcome.failed:
            raise FunctionError(f"{name}: {result.get('errorType')}: {result.get('errorMessage')}")
        return result

    def tick(self) -> Any:
        """Invoke the sender once, as the schedule does, and wait: its summary."""
        (schedule,) = (each for each in self._template.schedules if each.function == "SenderFunction")
        return self.invoke(schedule.function, scheduled_event(schedule, self._template.region))

    def wait_until_idle(self) -> None:
        """Wait until no function runs, those invoked in the background included."""
        self._functions.wait_until_idle()

    def _handle(self, request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD") and request.path == "/":
            # On AWS the root is not found. Here a person opens it first.
            return HttpResponse(302, b"", (("location", "/console"),))
        return self._lambda.handle(request) if LambdaApi.takes(request) else self._gateway.handle(request)

    def _invoke_scheduled(self, schedule: Schedule, event: bytes) -> None:
        self._functions.invoke_async(self._functions.find(schedule.function), event, self._finishing)
