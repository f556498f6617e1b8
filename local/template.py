"""What template.yaml says about the functions: their code, environment, routes, schedules, and the files they get.

The local stack has no other wiring, so that what runs here is what is deployed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from local.cloudformation import ACCOUNT_ID, STACK_NAME, TemplateError, Values, as_text, load

_FUNCTION = "AWS::Serverless::Function"
_HTTP_API = "AWS::Serverless::HttpApi"
_BUCKET = "AWS::S3::Bucket"
_QUEUE = "AWS::SQS::Queue"
_INTEGRATION = re.compile(r"arn:aws:apigateway:[^:/]+:lambda:path/2015-03-31/functions/(arn:[^/]+)/invocations")
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
# Where the events of a function come from that the local stack does not deliver by itself.
_OTHER_SOURCES = {"SQS", "SNS", "EventBridgeRule", "CloudWatchEvent", "CloudWatchLogs"}


@dataclass(frozen=True)
class Function:
    """One Lambda function. `environment` is what the template gives it, nothing else."""

    logical_id: str
    name: str
    arn: str
    folder: Path
    handler: str
    timeout: float
    memory: int
    environment: Mapping[str, str]
    maximum_event_age: float


@dataclass(frozen=True)
class JwtAuthorizer:
    """Whose tokens an HTTP API takes, and whom they must be meant for."""

    issuer: str
    audience: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """One route of an HTTP API; `method` may be ANY, `path` may be $default and may have {variables} and {greedy+}."""

    method: str
    path: str
    function: str
    timeout: float
    authorizer: JwtAuthorizer | None

    @property
    def key(self) -> str:
        return self.path if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True)
class Schedule:
    """One rule that invokes a function at a fixed rate, with `input` if it has one, else with EventBridge's event."""

    name: str
    function: str
    interval: timedelta
    input: Any | None
    enabled: bool


@dataclass(frozen=True)
class BucketNotification:
    """A function that is told of each new object of a bucket whose key begins with `prefix`."""

    bucket: str
    prefix: str
    function: str


@dataclass(frozen=True)
class Template:
    functions: Mapping[str, Function]
    routes: tuple[Route, ...]
    schedules: tuple[Schedule, ...]
    buckets: tuple[str, ...]
    notifications: tuple[BucketNotification, ...]
    region: str


def read_template(
    path: Path,
    parameters: Mapping[str, str],
    region: str = "us-east-1",
    given: Mapping[str, str] | None = None,
    api_endpoint: str | None = None,
) -> Template:
    """Read a SAM template.

    `parameters` are values for those of its parameters that it has; the others have their defaults. `given` are values
    of environment variables that win over the template's, in every function that declares them; a variable that is
    given need not be resolvable here. `api_endpoint` is where its HTTP APIs answer.

    Raises:
        TemplateError: the template is broken or needs a value that does not exist locally.
    """
    document = load(path)
    resources: Mapping[str, Any] = document.get("Resources", {})
    endpoint = api_endpoint or f"https://local.execute-api.{region}.amazonaws.com"
    apis = [logical_id for logical_id, resource in resources.items() if resource.get("Type") == _HTTP_API]
    names: dict[str, str] = {}
    references: dict[str, str] = {}
    values = Values(document, parameters, region, names, {f"{api}.ApiEndpoint": endpoint for api in apis}, references)
    buckets = {logical_id: f"{STACK_NAME}-{logical_id.lower()}" for logical_id in _made(resources, values, _BUCKET)}
    queues = f"https://sqs.{region}.amazonaws.com/{ACCOUNT_ID}/{STACK_NAME}"
    references |= buckets | {logical_id: f"{queues}-{logical_id}" for logical_id in _made(resources, values, _QUEUE)}
    shared = document.get("Globals", {}).get("Function", {})
    found = {
        logical_id: _with_globals(resources[logical_id].get("Properties", {}), shared)
        for logical_id in _made(resources, values, _FUNCTION)
    }
    for logical_id, properties in found.items():
        name = values.resolve(properties.get("FunctionName", logical_id), f"{logical_id}.FunctionName")
        names[logical_id] = as_text(name, f"{logical_id}.FunctionName")
    references.update(_secrets(resources, values))
    reader = _Reader(path.parent, values, given or {})
    routes: list[Route] = []
    for logical_id in _made(resources, values, _HTTP_API):
        routes += reader.api(logical_id, resources[logical_id].get("Properties", {}), found)
    events = [
        reader.event(logical_id, event_name, event)
        for logical_id, properties in found.items()
        for event_name, event in properties.get("Events", {}).items()
    ]
    return Template(
        functions={
            logical_id: reader.function(logical_id, names[logical_id], properties)
            for logical_id, properties in found.items()
        },
        routes=(*routes, *(event for event in events if isinstance(event, Route))),
        schedules=tuple(event for event in events if isinstance(event, Schedule)),
        buckets=tuple(buckets.values()),
        notifications=tuple(event for event in events if isinstance(event, BucketNotification)),
        region=region,
    )


def _made(resources: Mapping[str, Any], values: Values, type_: str) -> list[str]:
    """The logical ids of this type whose condition holds."""
    return [
        logical_id
        for logical_id, resource in resources.items()
        if resource.get("Type") == type_ and values.is_made(resource, logical_id)
    ]


def _secrets(resources: Mapping[str, Any], values: Values) -> Iterator[tuple[str, str]]:
    """Here a secret's reference is the secret itself. One that is generated, or has no value, has none."""
    for logical_id, resource in resources.items():
        if resource.get("Type") == "AWS::SecretsManager::Secret" and values.is_made(resource, logical_id):
            with contextlib.suppress(KeyError, TemplateError):
                secret = values.resolve(resource["Properties"]["SecretString"], f"{logical_id}.SecretString")
                yield logical_id, as_text(secret, f"{logical_id}.SecretString")


def _with_globals(own: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A function's own value wins; the variables of both environments are merged, as SAM does."""
    variables = {
        **shared.get("Environment", {}).get("Variables", {}),
        **own.get("Environment", {}).get("Variables", {}),
    }
    return {**shared, **own, "Environment": {"Variables": variables}}


class _Reader:
    def __init__(self, folder: Path, values: Values, given: Mapping[str, str]) -> None:
        self._folder = folder
        self._values = values
        self._given = given
        self._authorizers: dict[str, JwtAuthorizer | None] = {}

    def api(self, logical_id: str, properties: Mapping[str, Any], functions: Iterable[str]) -> list[Route]:
        """Read an API before the functions whose events belong to it: the routes that its own definition has."""
        authorizer = self._authorizer(properties["Auth"], f"{logical_id}.Auth") if "Auth" in properties else None
        self._authorizers[logical_id] = authorizer
        where = f"{logical_id}.DefinitionBody"
        arns = {self._values.function_arn(function): function for function in functions}
        routes = []
        for path, methods in self._values.resolve(properties.get("DefinitionBody", {}), where).get("paths", {}).items():
            for method, operation in methods.items():
                integration = operation.get("x-amazon-apigateway-integration", {})
                target = _INTEGRATION.fullmatch(str(integration.get("uri")))
                if target is None or target[1] not in arns or integration.get("payloadFormatVersion") != "2.0":
                    raise TemplateError(f"{where}: {path} does not lead to a function in PayloadFormatVersion 2.0")
                if "security" in operation:
                    raise TemplateError(f"{where}: the local stack knows the DefaultAuthorizer of an API only")
                routes.append(
                    Route(
                        method="ANY" if method == "x-amazon-apigateway-any-method" else method.upper(),
                        path=path,
                        function=arns[target[1]],
                        timeout=integration.get("timeoutInMillis", 30_000) / 1000,
                        authorizer=authorizer,
                    )
                )
        return routes

    def _authorizer(self, auth: Mapping[str, Any], where: str) -> JwtAuthorizer:
        read = self._values.resolve(auth, where)
        authorizer = read.get("Authorizers", {}).get(read.get("DefaultAuthorizer"), {})
        if authorizer.get("IdentitySource") != "$request.header.Authorization" or "JwtConfiguration" not in authorizer:
            raise TemplateError(f"{where}: the local stack knows a DefaultAuthorizer for JWTs in Authorization only")
        configuration = authorizer["JwtConfiguration"]
        return JwtAuthorizer(configuration["issuer"], tuple(configuration["audience"]))

    def function(self, logical_id: str, name: str, properties: Mapping[str, Any]) -> Function:
        def plain(key: str, default: Any = None, of: Mapping[str, Any] = properties) -> Any:
            given = {key: of[key]} if key in of else {}
            value = self._values.resolve(given, logical_id).get(key, default)
            if value is None:
                raise TemplateError(f"{logical_id}.{key} is missing")
            return value

        variables = {}
        for variable, value in properties["Environment"]["Variables"].items():
            where = f"{logical_id}.Environment.Variables.{variable}"
            if variable in self._given:
                variables[variable] = self._given[variable]
            else:
                variables[variable] = as_text(self._values.resolve(value, where), where)
        # The rest of EventInvokeConfig is ignored: its destinations exist only on AWS.
        maximum_event_age = properties.get("EventInvokeConfig", {}).get("MaximumEventAgeInSeconds", 21_600)
        return Function(
            logical_id=logical_id,
            name=name,
            arn=self._values.function_arn(logical_id),
            folder=(self._folder / as_text(plain("CodeUri"), f"{logical_id}.CodeUri")).resolve(),
            handler=as_text(plain("Handler"), f"{logical_id}.Handler"),
            timeout=float(plain("Timeout", 3)),
            memory=int(plain("MemorySize", 128)),
            environment=variables,
            # https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html
            maximum_event_age=float(self._values.resolve(maximum_event_age, f"{logical_id}.EventInvokeConfig")),
        )

    def event(
        self, logical_id: str, name: str, event: Mapping[str, Any]
    ) -> Route | Schedule | BucketNotification | None:
        where = f"{logical_id}.Events.{name}"
        kind = event["Type"]
        if kind == "HttpApi":
            return self._route(logical_id, event.get("Properties", {}), where)
        if kind == "Schedule":
            return self._schedule(logical_id, name, event["Properties"], where)
        if kind == "S3":
            return self._notification(logical_id, event["Properties"], where)
        if kind in _OTHER_SOURCES:
            return None
        raise TemplateError(f"{where}: the local stack does not know events of type {kind}")

    def _route(self, logical_id: str, properties: Mapping[str, Any], where: str) -> Route:
        # ApiId refers to a resource that exists only on AWS.
        read = self._values.resolve({key: value for key, value in properties.items() if key != "ApiId"}, where)
        if "Auth" in read:
            raise TemplateError(f"{where}: the local stack knows the DefaultAuthorizer of an API only")
        if str(read.get("PayloadFormatVersion", "2.0")) != "2.0":
            raise TemplateError(f"{where}: the local stack speaks PayloadFormatVersion 2.0 only")
        return Route(
            method=read.get("Method", "ANY").upper(),
            path=read.get("Path", "$default"),
            function=logical_id,
            timeout=read.get("TimeoutInMillis", 30_000) / 1000,
            authorizer=self._authorizers.get(properties.get("ApiId", {}).get("Ref")),
        )

    def _notification(self, logical_id: str, properties: Mapping[str, Any], where: str) -> BucketNotification:
        read = self._values.resolve(properties, where)
        rules = {rule["Name"]: rule["Value"] for rule in read.get("Filter", {}).get("S3Key", {}).get("Rules", [])}
        if read["Events"] not in ("s3:ObjectCreated:*", ["s3:ObjectCreated:*"]) or rules.keys() - {"prefix"}:
            raise TemplateError(f"{where}: the local stack tells of s3:ObjectCreated:* only, filtered by a prefix")
        return BucketNotification(read["Bucket"], rules.get("prefix", ""), logical_id)

    def _schedule(self, logical_id: str, name: str, properties: Mapping[str, Any], where: str) -> Schedule:
        read = self._values.resolve(properties, where)
        rate = _RATE.fullmatch(read["Schedule"])
        if rate is None:
            raise TemplateError(
                f"{where}: the local stack keeps schedules such as rate(1 minute), not {read['Schedule']}"
            )
        enabled = read.get("Enabled", read.get("State", "ENABLED") != "DISABLED")
        return Schedule(
            name=f"{logical_id}{name}",
            function=logical_id,
            interval=timedelta(**{f"{rate[2]}s": int(rate[1])}),
            input=json.loads(read["Input"]) if "Input" in read else None,
            enabled=enabled in (True, "true"),
        )
