"""The calls of SES: each has exactly one result, they keep the pace, and none of them holds up another."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from local.ses_simulator import SesSimulator
from sendledger.content.render_email import RenderedEmail
from sendledger.ledger import claim_emails
from sendledger.sending import ses_calls
from sendledger.sending.compose_email import ComposedEmail
from sendledger.sending.refusals import RefusalGate
from sendledger.sending.ses_calls import Call, ReadyEmail, SesCalls
from sendledger.sending.tick import Resources
from sendledger.ses import connection as ses_connection
from sendledger.ses.answers import Answer
from sendledger.ses.connection import SesConnection
from sendledger.ses.ses_sender import SesSender
from sendledger.ses.sign_email import EmailSigner, OutgoingEmail
from testbed.certificates import Authority
from testbed.invariants import wait_for
from testbed.senders import sender_resources

SECONDS = 60.0
CAMPAIGN = uuid.UUID(int=2)
ADDRESS = "b@example.com"

Open = Callable[..., SesCalls]


@pytest.fixture
def ready(resources: Resources) -> ReadyEmail:
    email = claim_emails.ClaimedEmail(1, CAMPAIGN, 1, None)
    outgoing = OutgoingEmail(1, CAMPAIGN, uuid.UUID(int=3), "a@example.com", ADDRESS, (), "s", "t", None)
    composed = ComposedEmail(RenderedEmail("s", "t", None), outgoing)
    return ReadyEmail(email, composed, EmailSigner(resources.ses_client, None).signed(outgoing))


@pytest.fixture
def opened(resources: Resources) -> Iterator[Open]:
    """Makes calls of 100 a second over 8 connections, unless it is told otherwise."""
    made: list[SesCalls] = []

    def open_calls(url: str | None = None, **values: Any) -> SesCalls:
        given = {"rate": 100.0, "most": 8, "stop_at": time.monotonic() + SECONDS, **values}
        client = sender_resources(resources.engine, url).ses_client if url else resources.ses_client
        made.append(SesCalls(client, **given))
        made[-1].open()
        return made[-1]

    yield open_calls
    for each in made:
        each.close()


def answers(calls: SesCalls, given: Sequence[Call]) -> list[Answer]:
    """What comes of these calls, in the order in which they end."""
    calls.send(given)
    wait_for(lambda: len(calls.results) >= len(given), "every call has its result")
    return [result.outcome.answer for result in calls.results]


def now(ready: ReadyEmail, count: int = 1) -> list[Call]:
    """As many calls that are due now."""
    return [Call(ready, time.monotonic(), ADDRESS)] * count


# Their time


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_connection_of_a_thread_that_ended_in_the_middle_of_a_call_is_closed(
    resources: Resources, ready: ReadyEmail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SesSender, "outcome", lambda *_: sys.exit())
    calls = SesCalls(resources.ses_client, 100.0, 8, time.monotonic() + SECONDS)
    calls.open()
    calls.send(now(ready))
    wait_for(lambda: all(thread.name != "ses" for thread in threading.enumerate()), "the end of the thread")
    assert [connection.is_open for connection in calls._under_way] == [True]
    calls.close()
    assert [connection.is_open for connection in calls._under_way] == [False]


def test_calls_keep_the_pace_though_all_are_due(
    opened: Open, ready: ReadyEmail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause of the process."""
    monkeypatch.setattr(ses_calls, "LATE_SECONDS", SECONDS)  # the machine may be busy
    begin, begun = SesConnection.begin, list[float]()

    def noting_begin(connection: SesConnection, request: Sequence[bytes]) -> None:
        begun.append(time.monotonic())
        begin(connection, request)

    monkeypatch.setattr(SesConnection, "begin", noting_begin)
    calls, before = opened(rate=100.0), time.monotonic()
    assert answers(calls, now(ready, 20)) == [Answer.SENT] * 20
    fastest = 100 * ses_calls.CATCH_UP
    assert all(at >= before + number / fastest - ses_calls.BURST_SECONDS for number, at in enumerate(begun))


def test_calls_that_are_late_catch_up(opened: Open, ready: ReadyEmail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ses_calls, "LATE_SECONDS", SECONDS)
    monkeypatch.setattr(ses_calls, "CATCH_UP", 10.0)
    began = time.monotonic()
    # They would take 20 s at their rate, and take 2.
    assert answers(opened(rate=1.0), now(ready, 20)) == [Answer.SENT] * 20
    assert time.monotonic() - began < 15.0


def test_call_waits_for_its_time(opened: Open, ready: ReadyEmail) -> None:
    due = time.monotonic() + 0.5
    calls = opened()
    assert answers(calls, [Call(ready, due, ADDRESS)]) == [Answer.SENT]
    assert calls.results[0].ended_at > due


def test_call_that_cannot_begin_in_time_is_not_made(opened: Open, ready: ReadyEmail, ses: SesSimulator) -> None:
    ses.account.latency_ms = 800
    found = answers(opened(rate=1000.0, most=1), now(ready, 3))
    assert sorted(found, key=str) == [Answer.NOT_CALLED, Answer.NOT_CALLED, Answer.SENT]
    assert ses.counts.send_requests == 1


def test_no_call_begins_after_the_last_call(opened: Open, ready: ReadyEmail, ses: SesSimulator) -> None:
    assert answers(opened(stop_at=time.monotonic() - 2.0), now(ready)) == [Answer.NOT_CALLED]
    assert ses.counts.send_requests == 0


def test_calls_that_wait_when_all_is_halted_come_back(opened: Open, ready: ReadyEmail, ses: SesSimulator) -> None:
    calls = opened()
    calls.send([Call(ready, time.monotonic() + SECONDS, ADDRESS)] * 3)
    calls.halt.set()
    wait_for(lambda: len(calls.results) == 3, "their results")
    assert {result.outcome.answer for result in calls.results} == {Answer.NOT_CALLED}
    assert ses.counts.send_requests == 0


def test_address_that_has_changed_is_not_sent_to(opened: Open, ready: ReadyEmail, ses: SesSimulator) -> None:
    assert answers(opened(), [Call(ready, time.monotonic(), "c@example.com")]) == [Answer.NOT_CALLED]
    assert ses.counts.send_requests == 0


# Their connections


def test_slower_ses_gets_more_connections_before_its_first_answer(
    opened: Open, ready: ReadyEmail, ses: SesSimulator
) -> None:
    ses.account.latency_ms = 1000
    calls = opened(most=200)
    assert calls.useful == 26
    calls.send(now(ready))
    wait_for(lambda: calls.useful > 100, "it is known to be slow")
    assert not calls.results
    wait_for(lambda: calls.results, "its answer")
    assert calls.useful == 200
    assert calls.most_per_second < 200.0


def test_each_call_has_one_result_however_few_the_connections(
    opened: Open, ready: ReadyEmail, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses_calls, "LATE_SECONDS", SECONDS)
    ses.account.latency_ms = 5
    given = [
        Call(ready._replace(email=ready.email._replace(id=number)), time.monotonic(), ADDRESS) for number in range(100)
    ]
    calls = opened(rate=10_000.0, most=3)
    assert answers(calls, given) == [Answer.SENT] * 100
    assert sorted(result.email.id for result in calls.results) == list(range(100))
    assert ses.counts.send_requests == 100
    assert len(calls._idle) == 3


def test_call_that_stalls_holds_up_no_other(
    opened: Open, ready: ReadyEmail, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses_calls, "LATE_SECONDS", SECONDS)
    monkeypatch.setattr(ses_connection, "READ_TIMEOUT", 8.0)
    ses.add_fault("stall", count=1)
    calls = opened()
    assert answers(calls, now(ready, 10)) == [Answer.SENT] * 9 + [Answer.UNKNOWN]
    assert "did not answer within" in (calls.results[-1].outcome.message or "")


def test_connection_that_is_never_accepted_holds_up_no_other_and_proves_that_nothing_was_sent(
    opened: Open, ready: ReadyEmail, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses_calls, "LATE_SECONDS", SECONDS)
    monkeypatch.setattr(ses_connection, "CONNECT_TIMEOUT", 8.0)
    calls = opened()
    # Its backlog is full: whoever connects to it waits.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as dead, socket.create_connection(dead.getsockname()):
        assert calls._ses is not None
        ((*stream, living),) = calls._ses._addresses
        calls._ses._addresses = [(*stream, dead.getsockname())]
        calls.send(now(ready))
        wait_for(lambda: calls._under_way, "the call")
        calls._ses._addresses = [(*stream, living)]
        assert answers(calls, now(ready, 5))[:5] == [Answer.SENT] * 5
        wait_for(lambda: len(calls.results) == 6, "the last result")
        outcome = calls.results[-1].outcome
        assert (outcome.answer, outcome.error_code) == (Answer.NOT_REACHED, "cannot_connect")


def test_unreachable_ses_proves_that_nothing_was_sent(opened: Open, ready: ReadyEmail) -> None:
    gate = RefusalGate()
    calls = opened("http://127.0.0.1:9", gate=gate)
    assert answers(calls, now(ready)) == [Answer.NOT_REACHED]
    assert calls.results[0].outcome.error_code == "cannot_connect"
    wait_for(lambda: gate.is_quiet(CAMPAIGN), "the end of the call")


def test_bad_certificate_stops_all_sending(
    opened: Open, ready: ReadyEmail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    proving.load_cert_chain(*Authority("Other").certificate_of("localhost").write(tmp_path, "server"))
    bundle = tmp_path / "trusted.pem"
    bundle.write_bytes(Authority("Trusted").pem)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shake_hands() -> None:
            peer, _ = listener.accept()
            with pytest.raises(OSError, match="alert"), proving.wrap_socket(peer, server_side=True) as stream:
                stream.recv(1)

        thread = threading.Thread(target=shake_hands)
        thread.start()
        calls = opened(f"https://localhost:{listener.getsockname()[1]}", most=1)
        assert answers(calls, now(ready, 2)) == [Answer.STOP_UNTIL_OPERATOR, Answer.NOT_CALLED]
        thread.join()
    assert calls.results[0].outcome.error_code == "bad_certificate"
    assert calls.halt.is_set()


# Faults of our own


def test_fault_in_one_call_leaves_its_outcome_unknown_and_the_others_go_on(
    opened: Open, ready: ReadyEmail, ses: SesSimulator
) -> None:
    nothing: Any = None
    broken = ready._replace(request=(nothing,))
    calls = opened(most=1)
    assert answers(calls, [*now(broken), *now(ready)]) == [Answer.UNKNOWN, Answer.SENT]
    assert ses.counts.send_requests == 1


def test_fault_of_the_thread_loses_no_result(
    opened: Open, ready: ReadyEmail, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ses.account.latency_ms = 5000
    calls = opened(most=1)

    def fail(*_: object) -> None:
        if calls._under_way:
            raise RuntimeError("a fault of our own")

    monkeypatch.setattr(calls, "_end_late_calls", fail)
    assert answers(calls, now(ready, 3)) == [Answer.UNKNOWN, Answer.NOT_CALLED, Answer.NOT_CALLED]
    assert calls.halt.is_set()
