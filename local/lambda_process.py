"""Runs a handler where AWS's own runtime client cannot be installed: it exists for Linux only.

    python lambda_process.py hello_handler.lambda_handler

It is the client's side of the Runtime API, in the working folder of the function. A handler and its errors look as they
do on Lambda. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

API = "/2018-06-01/runtime"


class Context:
    """https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self._deadline = int(headers["Lambda-Runtime-Deadline-Ms"])
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline - int(time.time() * 1000))


def _ask(method: str, path: str, content: Any = None) -> tuple[Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    body = None if method == "GET" else json.dumps(content).encode()
    connection.request(method, f"{API}{path}", body)
    answer = connection.getresponse()
    headers, read = dict(answer.getheaders()), answer.read()
    connection.close()
    return headers, read


def _described(error: BaseException) -> dict[str, Any]:
    traceback.print_exception(error)
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def main(handler: str) -> None:
    # The folder of this file has modules that are none of the function's business.
    sys.path[0] = os.getcwd()  # noqa: PTH109
    module, _, name = handler.rpartition(".")
    try:
        handle = getattr(importlib.import_module(module), name)
    except Exception as error:
        described = _described(error)
        if isinstance(error, ImportError):
            described["errorType"] = "Runtime.ImportModuleError"
            described["errorMessage"] = f"Unable to import module '{module}': {error}"
        _ask("POST", "/init/error", described)
        sys.exit(1)
    while True:
        headers, event = _ask("GET", "/invocation/next")
        context = Context(headers)
        invocation = f"/invocation/{context.aws_request_id}"
        try:
            result = handle(json.loads(event), context)
            _ask("POST", f"{invocation}/response", result)
        except Exception as error:  # whatever it is, Lambda reports it and goes on
            _ask("POST", f"{invocation}/error", _described(error))


if __name__ == "__main__":
    main(sys.argv[1])
