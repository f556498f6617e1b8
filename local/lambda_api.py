"""Lambda's Invoke API, for `aws lambda invoke --endpoint-url …`, boto3, and functions that invoke functions.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html; signatures are not checked.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from local.functions import FunctionNotFoundError, Functions, PayloadTooLargeError
from local.http_front import HttpRequest, HttpResponse

_INVOCATIONS = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")


class LambdaApi:
    """`handle` answers one request; it may be called from many threads."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    @staticmethod
    def takes(request: HttpRequest) -> bool:
        return request.path.startswith("/2015-03-31/")

    def handle(self, request: HttpRequest) -> HttpResponse:
        path = _INVOCATIONS.fullmatch(request.path)
        if path is None:
            return _error(404, "UnknownOperationException", f"The local stack does not answer {request.path}")
        if request.method != "POST":
            return _error(405, "InvalidRequestContentException", "Use POST")
        if request.header("origin"):
            # A browser sends the origin of a script. A page of a website must not invoke functions.
            return _error(403, "AccessDeniedException", "Pages cannot invoke functions")
        name = unquote(path[1])
        try:
            function = self._functions.find(name)
        except FunctionNotFoundError:
            return _error(404, "ResourceNotFoundException", f"Function not found: {name}")
        event = request.body or b"{}"
        try:
            json.loads(event)
        except ValueError as error:
            return _error(400, "InvalidRequestContentException", f"Could not parse request body into json: {error}")
        match request.header("x-amz-invocation-type") or "RequestResponse":
            case "RequestResponse":
                try:
                    outcome = self._functions.invoke(function, event)
                except PayloadTooLargeError as error:
                    return _error(413, "RequestTooLargeException", str(error))
                failed = (("x-amz-function-error", "Unhandled"),) if outcome.failed else ()
                return HttpResponse(200, outcome.payload, (*_headers(), *failed))
            case "Event":
                self._functions.invoke_async(function, event)
                return HttpResponse(202, b"", _headers())
            case "DryRun":
                return HttpResponse(204, b"", _headers())
            case other:
                return _error(400, "InvalidParameterValueException", f"There is no invocation type {other}")


def _headers() -> tuple[tuple[str, str], ...]:
    return (("content-type", "application/json"), ("x-amz-executed-version", "$LATEST"))


def _error(status: int, kind: str, message: str) -> HttpResponse:
    body = json.dumps({"Type": "User", "Message": message}).encode()
    return HttpResponse(status, body, (("content-type", "application/json"), ("x-amzn-errortype", kind)))
