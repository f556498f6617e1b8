"""`make run`: the local stack as a person starts, watches, stops and continues it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import boto3
import httpx
import pytest
import sqlalchemy as sa

from local import postgres
from local.demo import load_demo, past_campaigns
from local.run import Options, another_database
from local.threaded_server import HOST, RequestHandler, ThreadedServer
from testbed.campaigns import pass_time

ROOT = Path(__file__).parents[2]
LEADS = 14
FOLDER = 'o\'neill, "$x"%41 \u00e9' + ("\n\udcff" if postgres._WORKING_FOLDER.exists() else "")
"""A name with all that a shell, a URL or PostgreSQL takes for its own.

On Linux it has a line break and a byte that is no text, too, which are refused elsewhere.
"""
TICK_SECONDS = "2"
"""Longer than a sender needs to load: one that is due before the last has loaded starts a process of its own."""
LATER = "13 {status}, 1 skipped"  # one of the addresses bounces


class Run:
    """A run in a process of its own; what it prints can be waited for."""

    def __init__(self, folder: Path, project: Path, **environment: str) -> None:
        self.port = _free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local"],
            cwd=project,
            env={"PATH": os.environ["PATH"], "DATA_FOLDER": str(folder), "PORT": str(self.port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.printed: list[str] = []

    def wait_for(self, text: str) -> str:
        """The first line with this text; the run is killed if it does not come."""
        assert self.process.stdout is not None
        patience = threading.Timer(600, self.process.kill)
        patience.start()
        try:
            for line in self.process.stdout:
                self.printed.append(line)
                if text in line:
                    return line
        finally:
            patience.cancel()
        pytest.fail(f"{text!r} was not printed:\n{''.join(self.printed)}\n{self.end()[1]}")

    def end(self) -> tuple[int, str]:
        """Exit code and standard error, once it has ended by itself."""
        output, errors = self.process.communicate(timeout=600)
        self.printed.append(output)
        return self.process.returncode, errors

    def stop(self, number: int = signal.SIGINT) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(number)
        code, errors = self.end()
        assert (code, errors) == (0, "")

    def get(self, path: str, key: str) -> Any:
        request = urllib.request.Request(f"http://{HOST}:{self.port}{path}", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a run on one data folder."""
    with ExitStack() as running:

        def start(project: Path = ROOT, **environment: str) -> Run:
            run = Run(tmp_path / FOLDER, project, **environment)
            running.enter_context(run.process)  # closes its pipes
            running.callback(run.process.kill)
            return run

        yield start


def test_the_demo_goes_on_after_ctrl_c_in_its_middle_and_completes(
    start: Start, database_url: str, engine: sa.Engine
) -> None:
    environment = {"DATABASE_URL": database_url, "TICK_SECONDS": TICK_SECONDS, "SENDLEDGER_API_KEY": "sl_fixed"}
    first = start(**environment)
    assert "14 leads, 2 duplicates, 4 broken" in first.wait_for("leads.csv")
    waits = f"running; step 1: {LEADS} sent; step 2: {LATER.format(status='pending')}"
    first.wait_for(waits)
    first.stop()

    pass_time(engine, timedelta(hours=7))  # so late that a sender in AWS would wait for a person
    second = start(**environment)
    later = LATER.format(status="sent")
    second.wait_for(f"step 2: {later}; step 3: {LATER.format(status='pending')}")
    pass_time(engine, timedelta(minutes=1))
    second.wait_for(f"completed; step 1: {LEADS} sent; step 2: {later}; step 3: {later}")
    inbox = httpx.get(next(line for line in second.printed if "Inbox" in line).split()[-1]).text
    assert '">Online booking for independent practices, step 3</td>' in inbox.replace("<wbr>", "")
    items = second.get("/v1/campaigns", "sl_fixed")["items"]
    (campaign,) = (each for each in items if each["name"] == load_demo.CAMPAIGN)
    assert {each["name"] for each in items} == {load_demo.CAMPAIGN, *past_campaigns.CAMPAIGNS}
    assert (campaign["status"], campaign["emails_sent_count"]) == ("completed", 3 * LEADS - 2)
    second.wait_for("See the demo again, when this run has stopped: make run with another DATABASE_URL")
    second.stop(signal.SIGTERM)

    said = "".join(second.printed)
    assert "The campaign is completed: 40 of its 42 emails were sent." in said
    assert (
        "bounce@simulator.amazonses.com was skipped in step 2, 3: the first one bounced, and an address that bounces "
        "gets nothing more."
    ) in said
    assert "What to do next" in said

    third = start(**environment)
    third.wait_for("The demo ran earlier; its emails are in the inbox: http://")
    third.wait_for(f"The sender runs every {TICK_SECONDS} s")
    third.stop()
    assert "leads.csv" not in "".join(third.printed)


class _Refusing(RequestHandler):
    """An SES that takes no request."""

    def answer(self) -> None:
        headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "UnrecognizedClientException")]
        self.respond(400, headers, b'{"message": "The security token included in the request is invalid."}')


def test_due_emails_that_do_not_move_are_explained_in_the_words_of_ses(start: Start, database_url: str) -> None:
    server = ThreadedServer(0, _Refusing)
    server.start()
    run = start(
        DATABASE_URL=database_url, TICK_SECONDS=TICK_SECONDS, AWS_ENDPOINT_URL_SESV2=f"http://{HOST}:{server.port}"
    )
    run.wait_for("SES lets nothing be sent now: SES did not say what may be sent.")
    run.wait_for("UnrecognizedClientException")
    run.wait_for("request is invalid.")
    run.stop()
    server.stop()


class _Recording(RequestHandler):
    """An SES that notes the paths of its requests."""

    requests: ClassVar[list[str]] = []

    def answer(self) -> None:
        self.requests.append(self.path)
        self.respond(400, [], b"")


def test_database_with_leads_of_the_demo_is_for_no_real_ses(start: Start, database_url: str, engine: sa.Engine) -> None:
    environment = {"DATABASE_URL": database_url, "SENDLEDGER_API_KEY": "sl_fixed"}
    loading = start(**environment)
    loading.wait_for("Loading the demo")
    loading.stop()
    with engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT last_tick_at FROM sender_state")) is None, "a sender ran"
        # Another campaign to these leads could follow, by a segment or from a list.
        connection.execute(sa.text("UPDATE campaigns SET status = 'cancelled'"))
    server = ThreadedServer(0, _Recording)
    server.start()
    # It leads to this machine, but does not look so.
    refused = start(**environment, TICK_SECONDS=TICK_SECONDS, AWS_ENDPOINT_URL_SESV2=f"http://0.0.0.0:{server.port}")
    code, errors = refused.end()
    server.stop()
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("This database has leads of the demo")
    assert errors.endswith("Nothing was sent. Use another database: make run with another DATABASE_URL\n")
    assert _Recording.requests == []


def test_database_without_leads_of_the_demo_may_use_a_real_ses(
    start: Start, database_url: str, engine: sa.Engine
) -> None:
    # A person's own leads, by chance in a lead batch of the same name.
    own = sa.text("""
        WITH batch AS (INSERT INTO lead_batches (name) VALUES (:name) RETURNING id)
        INSERT INTO leads (batch_id, email, company_name, industry, source)
        SELECT id, 'ann@example.com', 'Example Ltd', '', 'csv' FROM batch
    """)
    with engine.begin() as connection:
        connection.execute(own, {"name": load_demo.LEADS})
    run = start(DATABASE_URL=database_url, TICK_SECONDS="0", AWS_ENDPOINT_URL_SESV2="http://0.0.0.0:9")
    run.wait_for("No demo: its mail is for an SES on this machine, not for a real one.")
    run.wait_for("Ctrl-C stops everything")
    run.stop()


def test_root_of_the_address_leads_to_the_console(start: Start, database_url: str) -> None:
    run = start(DATABASE_URL=database_url, DEMO="0", SENDLEDGER_API_KEY="sl_fixed")
    run.wait_for("Ctrl-C stops everything")
    address = f"http://{HOST}:{run.port}"
    answer = httpx.get(address, follow_redirects=True)
    documentation = httpx.get(f"{address}/v1/docs", auth=("anybody", "sl_fixed"))
    run.stop()
    assert (answer.status_code, answer.url.path) == (200, "/console/sign-in")
    assert "swagger" in documentation.text


def test_project_may_be_in_a_folder_of_any_name(start: Start, database_url: str, tmp_path: Path) -> None:
    # Those with $ or : in their names are refused by the installation.
    project = tmp_path / 'o\'neill, "x" 100%41 %(here)s #1 \u00e9 `y` & \\'
    for folder in ("functions", "layers/shared", "local", "migrations"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "template.yaml", project)
    run = start(project, DATABASE_URL=database_url, DEMO="0", SENDLEDGER_API_KEY="sl_fixed")
    run.wait_for("Ctrl-C stops everything")
    assert run.get("/v1/leads", "sl_fixed")["items"] == []
    run.stop()


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


def test_help_names_every_variable() -> None:
    shown = _ask("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for name in ("PORT", "DATA_FOLDER", "DATABASE_URL", "TICK_SECONDS", "DEMO", "VERBOSE", "JWT_ISSUER"):
        assert name in shown.stdout


def test_variable_without_a_value_counts_as_missing() -> None:
    names = ("PORT", "DATA_FOLDER", "DATABASE_URL", "AWS_ENDPOINT_URL_SESV2", "TICK_SECONDS", "SENDLEDGER_API_KEY")
    assert Options.read(dict.fromkeys(names, "")) == Options.read({})


def test_demo_is_seen_again_in_a_folder_that_is_not_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".data-2").mkdir()
    assert another_database(Options.read({"DATA_FOLDER": ".data-2"})) == "DATA_FOLDER=.data-3 make run"
    assert another_database(Options.read({"DATABASE_URL": "postgresql://x"})) == "make run with another DATABASE_URL"


def test_unknown_argument_is_an_error() -> None:
    refused = _ask("--prot=9000")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "unrecognized arguments: --prot=9000" in refused.stderr


def test_the_embedded_database_the_inbox_and_the_api_key_outlive_a_run(start: Start, tmp_path: Path) -> None:
    first = start(DEMO="0", TICK_SECONDS="0")
    key = first.wait_for("  API key  ").split()[-1]
    first.wait_for("Ctrl-C stops everything")
    client = boto3.client(
        "lambda",
        endpoint_url=f"http://{HOST}:{first.port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    assert json.load(client.invoke(FunctionName="SenderFunction")["Payload"])["sent"] == 0
    first.stop()
    assert not (tmp_path / FOLDER / "postgres" / "postmaster.pid").exists()
    assert (tmp_path / FOLDER / "api-key").stat().st_mode & 0o777 == 0o600

    second = start(DEMO="0", TICK_SECONDS="0")
    assert second.wait_for("  API key  ").split()[-1] == key
    second.wait_for("Ctrl-C stops everything")
    assert second.get("/v1/leads", key)["items"] == []
    another = start(DEMO="0")
    code, errors = another.end()
    assert code == 2
    assert errors.startswith("Another `make run` uses")
    second.stop()


def test_a_used_port_is_one_clear_line(start: Start) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = start(PORT=str(port)).end()
    assert (code, errors) == (2, f"Port {port} of {HOST} is not free: Address already in use.\n")


def test_a_port_that_a_browser_may_find_another_program_at_is_one_clear_line(start: Start) -> None:
    try:
        taken = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("This machine has no IPv6.")
    with taken:
        port = taken.getsockname()[1]
        code, errors = start(PORT=str(port)).end()
    assert code == 2
    assert errors == f"Port {port} of ::1 is not free, so http://localhost:{port} may be another program's.\n"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PORT": "http"}, "PORT and TICK_SECONDS must be numbers"),
        ({"TICK_SECONDS": "-1"}, "TICK_SECONDS 0 to 86400"),
        ({"PORT": "65534", "JWT_ISSUER": "https://idp.example", "JWT_AUDIENCE": "a"}, "PORT must be 1 to 65533"),
        ({"JWT_ISSUER": "https://idp.example"}, "JWT_ISSUER and JWT_AUDIENCE go together"),
        ({"JWT_ISSUER": "http://idp.example", "JWT_AUDIENCE": "a"}, "JWT_ISSUER: must be an https:// URL"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "The database cannot be reached"),
        ({"DATABASE_URL": "mysql://localhost/none"}, "DATABASE_URL: is not a postgresql:// URL"),
    ],
)
def test_a_mistake_is_one_line_and_no_stack_trace(start: Start, environment: dict[str, str], message: str) -> None:
    code, errors = start(**environment).end()
    assert code != 0
    assert message in errors
    assert errors.count("\n") == 1
