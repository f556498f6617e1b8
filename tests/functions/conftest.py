"""Fixtures that run the built functions."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from local.postgres import as_user
from local.template import Template, read_template
from sendledger.core import invoke_function
from testbed.build_functions import ENVIRONMENT, build_functions
from testbed.databases import OWNER
from testbed.lambda_runtime import LambdaRuntime

StartFunction = Callable[..., LambdaRuntime]


@pytest.fixture(autouse=True)
def new_lambda_client() -> None:
    """A client remembers the endpoint of the test that made it."""
    invoke_function._client.cache_clear()


@pytest.fixture(scope="session")
def built_template() -> Template:
    if platform.system() != "Linux":
        pytest.skip("What is built for Lambda runs on Linux only.")
    return read_template(
        build_functions() / "template.yaml",
        {"ReplyDomain": "reply.example.com", "DatabaseUser": OWNER},
        given=ENVIRONMENT,
    )


@pytest.fixture
def start_function(built_template: Template, tmp_path: Path) -> Iterator[StartFunction]:
    """Starts a built function by its logical id, each call a new execution environment; all are stopped at the end.

    Given the DATABASE_URL of the owner, it logs in as the function's own user.
    """
    numbers = itertools.count(1)
    with ExitStack() as running:

        def start(
            logical_id: str, environment: Mapping[str, str] | None = None, timeout: int | None = None
        ) -> LambdaRuntime:
            log = tmp_path / f"{logical_id}-{next(numbers)}.log"
            function = built_template.functions[logical_id]
            own = dict(environment or {})
            if "DATABASE_URL" in own and make_url(own["DATABASE_URL"]).username == OWNER:
                own["DATABASE_URL"] = as_user(own["DATABASE_URL"], function.environment["DATABASE_USER"])
            runtime = LambdaRuntime(function, own, log, timeout)
            running.callback(runtime.stop)
            return runtime

        yield start
