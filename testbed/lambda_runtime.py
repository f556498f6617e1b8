"""Runs a built function as Lambda does: AWS's runtime interface client under AWS's Runtime Interface Emulator.

One `LambdaRuntime` is one execution environment: it starts with the first invocation, takes one at a time, is killed
and started anew after a timeout or a crash. On the function's path are what `sam build` made and Python's own library;
neither the sources nor the packages of the tests.
"""

from __future__ import annotations

import json
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import urllib3

from local.template import Function
from testbed.build_functions import PYTHON, SAM_ENVIRONMENT

_HOST = "127.0.0.1"
_STOP_SECONDS = 10.0


class FunctionError(Exception):
    """The function raised, could not be loaded, ran into its timeout or ended its process."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class LambdaRuntime:
    """`environment` is added to the function's own; `timeout` (seconds, whole) replaces the template's.

    The timeout covers the cold start too, which on Lambda has a limit of its own.
    """

    def __init__(
        self, function: Function, environment: Mapping[str, str], log: Path, timeout: int | None = None
    ) -> None:
        build = function.folder.parent
        self._timeout = timeout or int(function.timeout)
        self._log = log
        self._address = f"{_HOST}:{_free_port()}"
        path = (function.folder, build / "SharedLayer/python", build / "DependenciesLayer/python", build / "runtime")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(str(_emulator()), "--runtime-interface-emulator-address", self._address),
                    *("--runtime-api-address", f"{_HOST}:{_free_port()}"),
                    # The interpreter behind the virtual environment, without any installed packages (-S).
                    *(str(Path(sys.base_prefix) / "bin" / PYTHON), "-S", "-m", "awslambdaric", function.handler),
                ],
                cwd=function.folder,
                env={
                    "PATH": "/usr/local/bin:/usr/bin:/bin",
                    "PYTHONPATH": ":".join(str(folder) for folder in path),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "TZ": ":UTC",
                    "LANG": "en_US.UTF-8",
                    "LAMBDA_TASK_ROOT": str(function.folder),
                    "AWS_REGION": "us-east-1",
                    "AWS_DEFAULT_REGION": "us-east-1",
                    "AWS_ACCESS_KEY_ID": "test",
                    "AWS_SECRET_ACCESS_KEY": "test",
                    "AWS_LAMBDA_FUNCTION_NAME": function.name,
                    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
                    "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self._timeout),
                    **function.environment,
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def invoke(self, event: Any) -> Any:
        """The function's result.

        Raises:
            FunctionError
        """
        response = urllib3.request(
            "POST",
            f"http://{self._address}/2015-03-31/functions/function/invocations",
            body=json.dumps(event),
            timeout=self._timeout + _STOP_SECONDS,
            # Until the emulator listens.
            retries=urllib3.Retry(total=None, connect=40, read=0, backoff_factor=0.02, backoff_max=0.2),
        )
        if response.data.startswith(b"Task timed out"):
            raise FunctionError("Sandbox.Timedout", response.data.decode())
        result = json.loads(response.data)
        if isinstance(result, dict) and "errorType" in result:
            raise FunctionError(result["errorType"], result["errorMessage"])
        return result

    @property
    def log(self) -> str:
        """What the function and the emulator have printed."""
        return self._log.read_text()

    def freeze(self) -> None:
        """Suspend the function's process with all its threads. It is killed later."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            process.suspend()

    def stop(self) -> None:
        """End the emulator and with it the function."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _emulator() -> Path:
    machine = "arm64" if platform.machine() == "aarch64" else "x86_64"
    (path,) = SAM_ENVIRONMENT.glob(f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
