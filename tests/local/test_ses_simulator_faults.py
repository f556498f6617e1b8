"""Scripted faults look to boto3 exactly as they would at SES, strike as scripted, and accept only where they say so."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from local.ses_simulator import SesSimulator
from tests.local.ses_simulator_client import get_json, http, request_to, ses_client


@pytest.fixture
def simulator() -> Iterator[SesSimulator]:
    with SesSimulator(rate=None) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: SesSimulator) -> Any:
    return ses_client(simulator.url)


def outcome(client: Any, *recipients: str, **changes: Any) -> str:
    """The error code that a send was answered with, or "sent"."""
    try:
        client.send_email(**request_to(*recipients or ("ann@example.org",), **changes))
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "sent"


@pytest.mark.parametrize(
    ("kind", "code", "status", "message"),
    [
        ("reject_429", "TooManyRequestsException", 429, "Maximum sending rate exceeded."),
        ("daily_quota", "TooManyRequestsException", 429, "Daily message quota exceeded."),
        ("limit_exceeded", "LimitExceededException", 400, None),
        ("error_500", "InternalServiceErrorException", 500, None),
        ("account_suspended", "AccountSuspendedException", 400, None),
        ("sending_paused", "SendingPausedException", 400, None),
        ("mail_from_not_verified", "MailFromDomainNotVerifiedException", 400, None),
        ("config_set_not_found", "NotFoundException", 404, None),
        ("message_rejected", "MessageRejected", 400, None),
        ("bad_request", "BadRequestException", 400, None),
    ],
)
def test_error_fault_has_the_models_name_and_status_and_accepts_nothing(
    simulator: SesSimulator, client: Any, kind: str, code: str, status: int, message: str | None
) -> None:
    simulator.add_fault(kind)
    with pytest.raises(ClientError) as failed:
        client.send_email(**request_to("ann@example.org"))
    response = failed.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert message is None or response["Error"]["Message"] == message
    assert simulator.accepted() == []
    assert (simulator.counts.send_requests, simulator.counts.faulted, simulator.counts.accepted) == (1, 1, 0)
    declared = {shape.name for shape in client.meta.service_model.operation_model("SendEmail").error_shapes}
    assert code in declared | {"InternalServiceErrorException"}
    assert outcome(client) == "sent"


def test_message_of_an_error_can_be_given(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("message_rejected", message="Email address is not verified: x")
    with pytest.raises(client.exceptions.MessageRejected, match="Email address is not verified: x"):
        client.send_email(**request_to("ann@example.org"))


def test_error_after_accept_leaves_the_email_in_the_ledger(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("error_500_after_accept")
    assert outcome(client) == "InternalServiceErrorException"
    assert len(simulator.accepted()) == 1
    assert (simulator.counts.accepted, simulator.counts.faulted, simulator.counts.faulted_after_accept) == (1, 0, 1)


@pytest.mark.parametrize(("kind", "accepted"), [("reset", 0), ("reset_after_accept", 1)])
def test_reset_breaks_the_connection(simulator: SesSimulator, client: Any, kind: str, accepted: int) -> None:
    simulator.add_fault(kind)
    with pytest.raises(ConnectionClosedError) as failed:
        client.send_email(**request_to("ann@example.org"))
    assert "reset" in str(failed.value.kwargs["error"]).lower()
    assert (len(simulator.accepted()), simulator.counts.send_requests) == (accepted, 1)
    assert outcome(client) == "sent"


@pytest.mark.parametrize(("kind", "accepted"), [("stall", 0), ("stall_after_accept", 1)])
def test_stall_makes_the_client_give_up(simulator: SesSimulator, kind: str, accepted: int) -> None:
    simulator.add_fault(kind)
    client = ses_client(simulator.url, read_timeout=3)
    with pytest.raises(ReadTimeoutError):
        client.send_email(**request_to("ann@example.org"))
    assert (len(simulator.accepted()), simulator.counts.send_requests) == (accepted, 1)
    assert outcome(client) == "sent"


def test_stall_after_accept_ends_in_success(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("stall_after_accept", seconds=0.1)
    before = time.monotonic()
    assert outcome(client) == "sent"
    assert time.monotonic() - before >= 0.1


def test_stall_ends_without_an_answer(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("stall", seconds=0.1)
    with pytest.raises(ConnectionClosedError):
        client.send_email(**request_to("ann@example.org"))
    assert simulator.accepted() == []


def test_simulator_stops_while_a_request_is_stalled() -> None:
    with SesSimulator() as simulator:
        simulator.add_fault("stall")
        with pytest.raises(ReadTimeoutError):
            ses_client(simulator.url, read_timeout=0.1).send_email(**request_to("ann@example.org"))


def test_fault_strikes_once_unless_counted(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("reject_429", count=2)
    assert [outcome(client) for _ in range(3)] == ["TooManyRequestsException", "TooManyRequestsException", "sent"]


def test_fault_without_a_count_strikes_until_cleared(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("reject_429", count=None)
    assert {outcome(client) for _ in range(5)} == {"TooManyRequestsException"}
    simulator.faults.clear()
    assert outcome(client) == "sent"


def test_fault_can_wait_for_the_nth_request(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("bad_request", nth=3)
    assert [outcome(client) for _ in range(4)] == ["sent", "sent", "BadRequestException", "sent"]


def test_fault_can_be_for_one_address(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("bad_request", address="bob@example.org")
    assert [outcome(client, "ann@example.org"), outcome(client, "Bob <BOB@example.org>")] == [
        "sent",
        "BadRequestException",
    ]


def test_fault_can_be_for_a_tag(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("error_500_after_accept", tags={"campaign_id": "c-2"})
    other = [{"Name": "scheduled_email_id", "Value": "8"}, {"Name": "campaign_id", "Value": "c-2"}]
    assert [outcome(client), outcome(client, EmailTags=other)] == ["sent", "InternalServiceErrorException"]


def test_fault_can_be_for_another_operation(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("reject_429", operation="GetAccount")
    assert outcome(client) == "sent"
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client.get_account()


def test_after_accept_fault_waits_for_a_request_that_is_accepted(simulator: SesSimulator, client: Any) -> None:
    simulator.add_fault("error_500_after_accept")
    simulator.account.sending_enabled = False
    assert outcome(client) == "SendingPausedException"
    simulator.account.sending_enabled = True
    assert outcome(client) == "InternalServiceErrorException"


def test_request_that_ses_would_refuse_uses_no_fault_up(simulator: SesSimulator, client: Any) -> None:
    fault = simulator.add_fault("error_500")
    assert outcome(client, "nobody") == "BadRequestException"
    assert (fault.seen, fault.struck) == (0, 0)


def test_accepted_sends_take_the_given_latency(simulator: SesSimulator, client: Any) -> None:
    simulator.account.latency_ms = 60
    before = time.monotonic()
    assert outcome(client) == "sent"
    assert time.monotonic() - before >= 0.06


def test_faults_can_be_scripted_over_http(simulator: SesSimulator, client: Any) -> None:
    fault = {"kind": "message_rejected", "address": "ann@example.org", "count": None, "message": "no"}
    response, _ = http(simulator.url, "POST", "/_simulator/faults", fault)
    assert response.status == 201
    assert [outcome(client), outcome(client)] == ["MessageRejected", "MessageRejected"]
    (listed,) = get_json(simulator.url, "/_simulator/faults")["items"]
    assert listed.items() >= (fault | {"seen": 2, "struck": 2}).items()
    assert http(simulator.url, "DELETE", "/_simulator/faults")[0].status == 204
    assert outcome(client) == "sent"


@pytest.mark.parametrize(
    "fault",
    [{"kind": "nonsense"}, {"kind": "reset", "colour": "red"}, {}, {"kind": "reset", "nth": 0}, {"kind": 1}, []],
)
def test_wrong_fault_is_refused_with_a_reason(simulator: SesSimulator, fault: object) -> None:
    response, body = http(simulator.url, "POST", "/_simulator/faults", fault)
    assert response.status == 400
    assert b"error" in body


def test_form_of_another_site_cannot_script_faults(simulator: SesSimulator) -> None:
    response, _ = http(simulator.url, "POST", "/_simulator/faults", {"kind": "reset"}, content_type="text/plain")
    assert response.status == 415
    assert get_json(simulator.url, "/_simulator/faults") == {"items": []}
