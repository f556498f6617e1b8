"""A sender as a process of its own that kills itself (SIGKILL) at a named point.

    python -m testbed.sender_process     reads DATABASE_URL, SES_URL, SECONDS and FAILPOINT from the environment

The points are `<step>.<when>[:<nth time>]`: `before_commit` and `after_commit` of the step's transaction, `before` its
call begins and `after` it has returned. Nothing of this is in the product: the functions of its steps are wrapped here,
and the database driver's events say when a commit begins and when it is over.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

import sqlalchemy as sa

from sendledger.campaigns import background_work, completion, intake, revisions, variants, winners
from sendledger.core import audit_log, database
from sendledger.core.settings import DatabaseSettings, SenderSettings
from sendledger.ledger import claim_emails, rate_limiter, record_results, sweep
from sendledger.policy import budgets
from sendledger.sending import prepare_emails
from sendledger.sending.compose_email import Composer
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.ses.client import ses_client
from sendledger.ses.connection import SesConnection
from sendledger.ses.ses_sender import SesSender
from sendledger.webhooks import exchange as webhooks
from sendledger.webhooks.post import EndpointConnection
from testbed.aws_session import aws_session

STEPS: dict[str, tuple[Any, str]] = {
    "claim": (claim_emails, "claim"),
    "reserve": (rate_limiter, "reserve_rate"),
    "fence": (claim_emails, "fence"),
    "release": (claim_emails, "release"),
    "sweep": (sweep, "sweep"),
    "record": (record_results, "record"),
    "complete": (completion, "mark_campaign_complete"),
    "background_work": (background_work, "work_once"),
    "fold": (budgets, "fold"),
    "send": (SesConnection, "begin"),
    "answer": (SesSender, "outcome"),
    "lease_webhooks": (webhooks, "lease"),
    "sign_webhook": (webhooks, "_signed"),
    "post_webhook": (EndpointConnection, "post"),
    "record_webhooks": (webhooks, "record"),
    "begin_intake": (intake, "begin_due_intakes"),
    "new_revision": (revisions, "keep_revision"),
    "write_rows": (background_work, "schedule_leads"),
    "take_in": (intake, "schedule_leads"),
    "weigh": (winners, "best_variant"),
    "split": (variants, "split_again"),
    "audit": (audit_log, "record"),
}


@dataclass(frozen=True)
class SenderRun:
    """What one sender process does: a tick of so many seconds, killed at the failpoint if it gets there."""

    database_url: str
    ses_url: str
    seconds: float = 60.0
    failpoint: str | None = None
    further: bool = False
    poison: Literal["kill", "stall"] | None = None
    """What happens to the process when it composes an email to a lead whose company begins with "Poison"."""
    settings: dict[str, str] = field(default_factory=dict)
    rows_per_chunk: int = background_work.ROWS_PER_CHUNK
    call: Callable[[sa.Engine], object] | None = None
    """What it does in place of a tick."""


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def install(engine: sa.Engine, failpoint: str, act: Callable[[], None] = kill_this_process) -> Callable[[], None]:
    """Let `act` happen at the failpoint; returns a function that takes it all away again."""
    name, _, nth = failpoint.partition(":")
    step, _, when = name.partition(".")
    left, counting = int(nth or 1), threading.Lock()
    owner, attribute = STEPS[step]
    original = getattr(owner, attribute)
    undo: list[Callable[[], None]] = [lambda: setattr(owner, attribute, original)]

    def reach() -> None:
        nonlocal left
        with counting:
            left -= 1
            is_here = left == 0
        if is_here:
            act()

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            reach()
        result = original(*args, **kwargs)
        if when == "after":
            reach()
        if isinstance(args[0], sa.Connection):
            args[0].info["step"] = step
        return result

    def before_commit(connection: sa.Connection) -> None:
        if connection.info.pop("step", None) == step:
            if when == "before_commit":
                reach()
            connection.info["committed"] = True

    def after_commit(_dbapi_connection: Any, record: Any) -> None:
        if record.info.pop("committed", False) and when == "after_commit":
            reach()

    setattr(owner, attribute, wrapped)
    for target, event, listener in ((engine, "commit", before_commit), (engine.pool, "checkin", after_commit)):
        sa.event.listen(target, event, listener)
        undo.append(lambda target=target, event=event, listener=listener: sa.event.remove(target, event, listener))  # type: ignore[misc]

    def uninstall() -> None:
        for each in undo:
            each()

    return uninstall


def poison(kind: Literal["kill", "stall"]) -> None:
    """Let emails to leads of a company "Poison…" kill this process, or never be composed."""
    compose = Composer.compose
    if kind == "stall":
        prepare_emails.LONGEST_PREPARATION = 1.0

    def poisoned(
        self: Composer, content: Any, email: Any, claim_token: Any, thread: Any = None, attachments: Any = None
    ) -> Any:
        while email.lead["company_name"].startswith("Poison"):
            if kind == "kill":
                kill_this_process()
        return compose(self, content, email, claim_token, thread, attachments)

    Composer.compose = poisoned  # type: ignore[method-assign]


def run(work: SenderRun, answer: Connection | None = None) -> dict[str, Any]:
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": work.database_url}))
    environ = {
        "DEPLOYMENT_ID": "test",
        "SENDER_FROM_ADDRESS": "sales@example.com",
        "SENDER_CONNECTIONS": "8",
        "GUARDRAILS_ENABLED": "false",
    }
    resources = Resources(
        engine=engine,
        ses_client=ses_client(aws_session(), endpoint_url=work.ses_url),
        settings=SenderSettings.read({"SES_CONFIGURATION_SET": "sendledger", **environ, **work.settings}),
    )
    if work.failpoint:
        install(engine, work.failpoint)
    if work.poison:
        poison(work.poison)
    background_work.ROWS_PER_CHUNK = work.rows_per_chunk
    if work.call is not None:
        work.call(engine)
        return {}
    summary = send_due_emails(resources, work.seconds, further=work.further).as_dict()
    engine.dispose()
    if answer is not None:
        answer.send(summary)
    return summary


# A process that has imported everything and does nothing else forks the senders: a new one takes milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["testbed.sender_process"])


class SenderProcess:
    """A running sender, or another `target`. `wait` returns its summary, or None where it was killed."""

    def __init__(self, work: object, target: Callable[..., dict[str, Any]] = run) -> None:
        self._answer, other_end = _processes.Pipe(duplex=False)
        self._process = _processes.Process(target=target, args=(work, other_end), daemon=True)
        self._process.start()
        other_end.close()

    def kill(self) -> None:
        self._process.kill()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def wait(self, seconds: float = 300.0) -> dict[str, Any] | None:
        self._process.join(seconds)
        assert self._process.exitcode is not None, "the sender does not end"
        killed = self._process.exitcode == -signal.SIGKILL
        try:
            assert killed or self._process.exitcode == 0, f"the sender failed with {self._process.exitcode}"
            return None if killed else self._answer.recv()
        finally:
            self.end()

    def end(self) -> None:
        """Kill it where it still runs, and forget it."""
        if not self._answer.closed:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._answer.close()


def main() -> None:
    environ = os.environ
    work = SenderRun(
        environ["DATABASE_URL"],
        environ["SES_URL"],
        float(environ.get("SECONDS", "60")),
        environ.get("FAILPOINT"),
    )
    json.dump(run(work), sys.stdout)


if __name__ == "__main__":
    main()
