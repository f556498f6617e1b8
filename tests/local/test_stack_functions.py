"""How the local stack runs functions: real processes, started and reused as Lambda does."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import execution_environment
from local.execution_environment import Outcome
from local.functions import MAX_CONCURRENCY, MAX_PAYLOAD_BYTES, FunctionNotFoundError, Functions, PayloadTooLargeError
from local.template import Function
from testbed.invariants import wait_for

HANDLER = """
import os, sys, threading, time
from pathlib import Path

print("loading", flush=True)

def lambda_handler(event, context):
    print("handling", flush=True)
    if event.get("raise"):
        raise ValueError(event["raise"])
    if event.get("exit"):
        os._exit(7)
    if event.get("wait_for"):
        Path(event["here"]).touch()
        while not Path(event["wait_for"]).exists():
            time.sleep(0.01)
    return {
        "event": event,
        "process": os.getpid(),
        "name": context.function_name,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "request": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "greeting": os.environ.get("GREETING"),
        "home": os.environ.get("HOME"),
        "size": "x" * event.get("size", 0),
    }
"""


OURS = [str(Path(execution_environment.__file__).with_name("lambda_process.py"))]


@pytest.fixture(params=[execution_environment.PROGRAM, OURS], ids=["of AWS", "ours"], autouse=True)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the handler: AWS's client, and ours for machines that have no other."""
    monkeypatch.setattr(execution_environment, "PROGRAM", request.param)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Functions]]:
    made: list[Functions] = []
    with (tmp_path / "log").open("ab") as log:

        def make(handler: str = HANDLER, timeout: float = 30) -> Functions:
            (tmp_path / "hello_handler.py").write_text(handler)
            function = Function(
                logical_id="HelloFunction",
                name="hello",
                arn="arn:aws:lambda:us-east-1:123456789012:function:hello",
                folder=tmp_path,
                handler="hello_handler.lambda_handler",
                timeout=timeout,
                memory=256,
                environment={"GREETING": "hi"},
                maximum_event_age=60,
            )
            made.append(Functions({"HelloFunction": function}, {"PATH": os.environ["PATH"]}, log))
            return made[-1]

        yield make
        for functions in made:
            functions.stop()


def invoke(functions: Functions, **event: Any) -> Outcome:
    return functions.invoke(functions.find("HelloFunction"), json.dumps(event).encode())


def result(functions: Functions, **event: Any) -> dict[str, Any]:
    outcome = invoke(functions, **event)
    assert not outcome.failed, outcome
    answer: dict[str, Any] = json.loads(outcome.payload)
    return answer


def error(functions: Functions, **event: Any) -> dict[str, Any]:
    outcome = invoke(functions, **event)
    assert outcome.failed, outcome
    answer: dict[str, Any] = json.loads(outcome.payload)
    return answer


def test_a_handler_gets_its_event_and_a_context_like_lambdas(make: Callable[..., Functions]) -> None:
    answer = result(make(), text="ö")
    assert answer["event"] == {"text": "ö"}
    assert answer["name"] == "hello"
    assert answer["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:hello"
    assert answer["memory"] == "256"
    assert len(answer["request"]) == 36
    assert 0 < answer["remaining"] <= 30_000


def test_a_handler_sees_its_own_environment_and_not_that_of_the_stack(make: Callable[..., Functions]) -> None:
    answer = result(make())
    assert answer["greeting"] == "hi"
    assert answer["home"] is None


def test_the_next_invocation_finds_the_environment_warm(make: Callable[..., Functions]) -> None:
    functions = make()
    assert result(functions)["process"] == result(functions)["process"]


def test_invocations_at_the_same_time_run_in_different_processes(
    make: Callable[..., Functions], tmp_path: Path
) -> None:
    functions = make()
    answers: list[dict[str, Any]] = []

    def run(own: str, other: str) -> None:
        answers.append(result(functions, here=str(tmp_path / own), wait_for=str(tmp_path / other)))

    threads = [threading.Thread(target=run, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["process"] for answer in answers}) == 2


def test_an_exception_of_the_handler_is_described_and_leaves_the_environment_alive(
    make: Callable[..., Functions],
) -> None:
    functions = make()
    process = result(functions)["process"]
    answer = error(functions, **{"raise": "no"})
    assert (answer["errorType"], answer["errorMessage"]) == ("ValueError", "no")
    assert result(functions)["process"] == process


def test_a_handler_that_takes_too_long_is_killed(make: Callable[..., Functions], tmp_path: Path) -> None:
    functions = make(timeout=3)
    answer = error(functions, here=str(tmp_path / "here"), wait_for=str(tmp_path / "never"))
    assert answer["errorMessage"].endswith("Task timed out after 3.00 seconds")
    assert not invoke(functions).failed


def test_a_handler_that_exits_is_an_error_and_the_next_invocation_gets_a_new_environment(
    make: Callable[..., Functions],
) -> None:
    functions = make()
    answer = error(functions, exit=True)
    assert (answer["errorType"], answer["errorMessage"]) == (
        "Runtime.ExitError",
        "Runtime exited with error: exit status 7",
    )
    assert not invoke(functions).failed


def test_a_handler_that_cannot_be_loaded_is_an_error_that_says_why(make: Callable[..., Functions]) -> None:
    answer = error(make(handler="import nowhere_to_be_found"))
    assert answer["errorType"] == "Runtime.ImportModuleError"
    assert "nowhere_to_be_found" in answer["errorMessage"]


def test_output_of_functions_goes_to_the_log(make: Callable[..., Functions], tmp_path: Path) -> None:
    result(make())
    assert (tmp_path / "log").read_text() == "loading\nhandling\n"


def test_an_invocation_in_the_background_runs_once(make: Callable[..., Functions], tmp_path: Path) -> None:
    functions = make()
    functions.invoke_async(functions.find("hello"), b'{"raise": "no"}')
    functions.wait_until_idle()
    assert (tmp_path / "log").read_text().count("handling") == 1


def test_invocations_that_wait_for_their_turn_can_be_cancelled(make: Callable[..., Functions], tmp_path: Path) -> None:
    functions, cancelled = make(), threading.Event()
    event = json.dumps({"here": str(tmp_path / "here"), "wait_for": str(tmp_path / "go")}).encode()
    for _ in range(2 * MAX_CONCURRENCY + 2):
        functions.invoke_async(functions.find("hello"), event, cancelled)
    log = tmp_path / "log"
    wait_for(lambda: log.read_text().count("handling") == MAX_CONCURRENCY, "as many run as may")
    cancelled.set()
    (tmp_path / "go").touch()
    functions.wait_until_idle()
    assert log.read_text().count("handling") == MAX_CONCURRENCY


def test_stopping_ends_a_running_invocation(make: Callable[..., Functions], tmp_path: Path) -> None:
    functions = make()
    event = {"here": str(tmp_path / "here"), "wait_for": str(tmp_path / "never")}
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(invoke(functions, **event)))
    thread.start()
    while not (tmp_path / "here").exists():
        thread.join(0.01)
    functions.stop()
    thread.join()
    assert outcomes[0].failed


def test_a_stopped_stack_starts_nothing_more(make: Callable[..., Functions], tmp_path: Path) -> None:
    functions = make()
    functions.stop()
    assert error(functions)["errorType"] == "Stopped"
    assert (tmp_path / "log").read_text() == ""


def test_an_event_or_a_result_over_lambdas_limit_is_refused(make: Callable[..., Functions]) -> None:
    functions = make()
    with pytest.raises(PayloadTooLargeError):
        invoke(functions, text="x" * MAX_PAYLOAD_BYTES)
    assert error(functions, size=MAX_PAYLOAD_BYTES)["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize(
    "name",
    [
        "HelloFunction",
        "hello",
        "hello:$LATEST",
        "123456789012:function:hello",
        "arn:aws:lambda:us-east-1:123456789012:function:hello:live",
    ],
)
def test_a_function_is_found_by_each_of_its_names(make: Callable[..., Functions], name: str) -> None:
    assert make().find(name).logical_id == "HelloFunction"


def test_a_name_that_no_function_has_is_an_error(make: Callable[..., Functions]) -> None:
    with pytest.raises(FunctionNotFoundError):
        make().find("other")
