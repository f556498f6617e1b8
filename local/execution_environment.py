"""One execution environment of a Lambda function: a process that AWS's own runtime interface client runs in.

The process loads the handler and builds the context object exactly as in Lambda, because it is the same code
(awslambdaric, or lambda_process.py where that cannot be installed); this module is the other side, the Runtime API
(https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html). As in Lambda an environment takes one invocation at a
time, and one whose invocation timed out is killed.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local.template import Function
from local.threaded_server import HOST, RequestHandler, ThreadedServer

INIT_SECONDS = 60.0
"""How long loading the handler may take. Lambda allows 10 s; a busy laptop gets more."""


@dataclass(frozen=True)
class Outcome:
    """The result of an invocation: the handler's result as JSON, or with `failed` a description of the error."""

    payload: bytes
    failed: bool = False


_AWS_CLIENT = ["-m", "awslambdaric"]
PROGRAM = (
    _AWS_CLIENT if importlib.util.find_spec("awslambdaric") else [str(Path(__file__).with_name("lambda_process.py"))]
)
"""What the process runs. AWS's client exists for Linux only."""

_TAKEN = Outcome(b"")


@dataclass(frozen=True)
class _Invocation:
    id: str
    event: bytes


def failure(error_type: str, message: str) -> Outcome:
    return Outcome(json.dumps({"errorType": error_type, "errorMessage": message}).encode(), failed=True)


class ExecutionEnvironment:
    """Starts the process at once; `invoke` waits until it is ready. `log` gets what the function prints."""

    def __init__(self, function: Function, environment: Mapping[str, str], log: IO[bytes]) -> None:
        self._function = function
        self._next: queue.SimpleQueue[_Invocation | None] = queue.SimpleQueue()
        # What the process does, in order: _TAKEN, then how the invocation ended, or that the process did.
        self._reports: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._server = ThreadedServer(0, functools.partial(_RuntimeApi, function, self._next, self._reports))
        self._server.start()
        self._process = subprocess.Popen(
            [sys.executable, *PROGRAM, function.handler],
            cwd=function.folder,
            env={
                **environment,
                **function.environment,
                "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
                "AWS_LAMBDA_FUNCTION_NAME": function.name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
                "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[$LATEST]{uuid.uuid4().hex}",
                "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{self._server.port}",
                "LAMBDA_TASK_ROOT": str(function.folder),
                "TZ": ":UTC",
                "_HANDLER": function.handler,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal reaches the stack only, which lets running invocations end.
            start_new_session=True,
        )
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{function.name}", daemon=True)
        self._watcher.start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, event: bytes) -> Outcome:
        """Run the handler once. After a timeout or a crash the environment is dead and must be stopped."""
        invocation = _Invocation(str(uuid.uuid4()), event)
        self._next.put(invocation)
        seconds = INIT_SECONDS
        try:
            outcome = self._reports.get(timeout=seconds)
            if outcome is _TAKEN:
                seconds = self._function.timeout
                outcome = self._reports.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()
            self._watcher.join()
            message = f"RequestId: {invocation.id} Error: Task timed out after {seconds:.2f} seconds"
            return failure("Sandbox.Timedout", message)
        return outcome

    def kill(self) -> None:
        """Kill the process; a running invocation fails at once."""
        self._process.kill()

    def stop(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.kill()
        self._watcher.join()
        self._next.put(None)
        self._server.stop()

    def _watch(self) -> None:
        status = self._process.wait()
        reason = f"signal: {-status}" if status < 0 else f"exit status {status}"
        self._reports.put(failure("Runtime.ExitError", f"Runtime exited with error: {reason}"))


class _RuntimeApi(RequestHandler):
    def __init__(
        self,
        function: Function,
        next_: queue.SimpleQueue[_Invocation | None],
        reports: queue.SimpleQueue[Outcome],
        *connection: Any,
    ) -> None:
        self._function = function
        self._next = next_
        self._reports = reports
        super().__init__(*connection)

    def answer(self) -> None:
        if self.command == "GET":
            self._answer_next()
        else:  # the result or the error of an invocation, or of loading the handler
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._reports.put(Outcome(body, failed=self.path.endswith("/error")))
            self.respond(202, [], b"")

    def _answer_next(self) -> None:
        invocation = self._next.get()
        if invocation is None:
            self.close_connection = True
            return
        self._reports.put(_TAKEN)
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", invocation.id),
            ("Lambda-Runtime-Deadline-Ms", str(int((time.time() + self._function.timeout) * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", self._function.arn),
        ]
        self.respond(200, headers, invocation.event)
