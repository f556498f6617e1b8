"""Quotas, switches, identities, configuration sets and the suppression list of the simulated account."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.ses_simulator import SesSimulator
from tests.local.ses_simulator_client import get_json, http, request_to, ses_client


@pytest.fixture
def simulator() -> Iterator[SesSimulator]:
    with SesSimulator(rate=None, daily_quota=100) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: SesSimulator) -> Any:
    return ses_client(simulator.url)


def error_of(client: Any, *recipients: str, **changes: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as refused:
        client.send_email(**request_to(*recipients, **changes))
    response = refused.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def test_get_account_has_the_quota_and_its_use(client: Any) -> None:
    client.send_email(**request_to("ann@example.org", "bob@example.org"))
    account = client.get_account()
    assert account["SendQuota"] == {"Max24HourSend": 100.0, "MaxSendRate": 1_000_000.0, "SentLast24Hours": 2.0}
    assert (account["SendingEnabled"], account["ProductionAccessEnabled"]) == (True, True)
    assert account["EnforcementStatus"] == "HEALTHY"


def test_default_account_sends_fourteen_a_second_and_refuses_more() -> None:
    with SesSimulator() as simulator:
        client = ses_client(simulator.url)
        assert client.get_account()["SendQuota"]["MaxSendRate"] == 14.0
        simulator.account.max_send_rate = 0.001  # so that no time that passes here fills the bucket again
        client.send_email(**request_to("ann@example.org"))
        assert error_of(client, "ann@example.org") == (
            "TooManyRequestsException",
            429,
            "Maximum sending rate exceeded.",
        )
        assert (simulator.counts.accepted, simulator.counts.rejected) == (1, 1)


def test_rate_counts_recipients() -> None:
    with SesSimulator(rate=3) as simulator:
        client = ses_client(simulator.url)
        client.send_email(**request_to("a@example.org", "b@example.org"))
        assert error_of(client, "c@example.org", "d@example.org")[0] == "TooManyRequestsException"


def test_daily_quota_is_enforced(simulator: SesSimulator, client: Any) -> None:
    simulator.account.max_24_hour_send = 1
    client.send_email(**request_to("ann@example.org"))
    assert error_of(client, "bob@example.org") == ("TooManyRequestsException", 429, "Daily message quota exceeded.")
    assert len(simulator.accepted()) == 1


def test_unlimited_daily_quota_is_minus_one(simulator: SesSimulator, client: Any) -> None:
    simulator.account.max_24_hour_send = -1
    client.send_email(**request_to("ann@example.org"))
    assert client.get_account()["SendQuota"]["Max24HourSend"] == -1.0


def test_peak_send_rate_counts_refused_requests_too(simulator: SesSimulator, client: Any) -> None:
    simulator.account.sending_enabled = False
    for _ in range(5):
        error_of(client, "ann@example.org")
    assert 1 <= simulator.counts.peak_send_rate <= 5


def test_paused_account_answers_sending_paused(simulator: SesSimulator, client: Any) -> None:
    simulator.account.sending_enabled = False
    assert error_of(client, "ann@example.org")[:2] == ("SendingPausedException", 400)
    assert client.get_account()["SendingEnabled"] is False


def test_shut_down_account_answers_account_suspended(simulator: SesSimulator, client: Any) -> None:
    simulator.account.enforcement_status = "SHUTDOWN"
    assert error_of(client, "ann@example.org")[:2] == ("AccountSuspendedException", 400)
    assert client.get_account()["EnforcementStatus"] == "SHUTDOWN"


def test_sandbox_sends_only_to_verified_addresses_and_the_mailbox_simulator(
    simulator: SesSimulator, client: Any
) -> None:
    simulator.account.production_access = False
    simulator.account.identities = {"mine.example": {}}
    client.send_email(**request_to("me@mine.example"))
    client.send_email(**request_to("success+1@simulator.amazonses.com"))
    code, status, message = error_of(client, "ann@example.org")
    assert (code, status) == ("MessageRejected", 400)
    assert message.startswith("Email address is not verified.")
    assert message.endswith("US-EAST-1: ann@example.org")


def test_identities_are_listed_with_whether_they_are_verified(simulator: SesSimulator, client: Any) -> None:
    simulator.account.identities = {"mine.example": {}, "ann@yours.example": {"VerifiedForSendingStatus": False}}
    simulator.account.identities["gone.example"] = None
    listed = client.list_email_identities(PageSize=1000)["EmailIdentities"]
    assert [(each["IdentityName"], each["IdentityType"], each["SendingEnabled"]) for each in listed] == [
        ("mine.example", "DOMAIN", True),
        ("ann@yours.example", "EMAIL_ADDRESS", False),
    ]
    simulator.account.production_access = False
    assert error_of(client, "ann@yours.example")[0] == "MessageRejected"


def test_unverified_sender_is_rejected(simulator: SesSimulator, client: Any) -> None:
    simulator.account.identities = {"example.com": {"VerifiedForSendingStatus": False}}
    code, _, message = error_of(client, "ann@example.org")
    assert code == "MessageRejected"
    assert "not verified" in message
    assert client.get_email_identity(EmailIdentity="example.com")["VerifiedForSendingStatus"] is False


def test_identity_is_verified_with_dkim_unless_said_otherwise(client: Any) -> None:
    identity = client.get_email_identity(EmailIdentity="example.com")
    assert (identity["IdentityType"], identity["VerifiedForSendingStatus"]) == ("DOMAIN", True)
    assert identity["DkimAttributes"]["Status"] == "SUCCESS"
    assert identity["MailFromAttributes"]["MailFromDomainStatus"] == "SUCCESS"
    assert client.get_email_identity(EmailIdentity="sales@example.com")["IdentityType"] == "EMAIL_ADDRESS"


def test_missing_identity_is_not_found(simulator: SesSimulator, client: Any) -> None:
    simulator.account.identities = {"example.com": None}
    with pytest.raises(client.exceptions.NotFoundException):
        client.get_email_identity(EmailIdentity="example.com")


def test_configuration_set_publishes_to_eventbridge(client: Any) -> None:
    assert client.get_configuration_set(ConfigurationSetName="sendledger")["SendingOptions"] == {"SendingEnabled": True}
    (destination,) = client.get_configuration_set_event_destinations(ConfigurationSetName="sendledger")[
        "EventDestinations"
    ]
    assert destination["Enabled"] is True
    assert "BOUNCE" in destination["MatchingEventTypes"]
    assert destination["EventBridgeDestination"]["EventBusArn"].endswith(":event-bus/default")


def test_missing_configuration_set_is_not_found_and_refuses_sends(simulator: SesSimulator, client: Any) -> None:
    simulator.account.configuration_sets = {"sendledger": None}
    for call in (client.get_configuration_set, client.get_configuration_set_event_destinations):
        with pytest.raises(client.exceptions.NotFoundException):
            call(ConfigurationSetName="sendledger")
    assert error_of(client, "ann@example.org") == (
        "NotFoundException",
        404,
        "Configuration set <sendledger> does not exist.",
    )


def test_suppression_list_can_be_filled_read_and_emptied(client: Any) -> None:
    client.put_suppressed_destination(EmailAddress="Ann@example.org", Reason="BOUNCE")
    client.put_suppressed_destination(EmailAddress="bob@example.org", Reason="COMPLAINT")
    found = client.get_suppressed_destination(EmailAddress="ann@example.org")["SuppressedDestination"]
    assert (found["EmailAddress"], found["Reason"]) == ("ann@example.org", "BOUNCE")
    complaints = client.list_suppressed_destinations(Reasons=["COMPLAINT"])["SuppressedDestinationSummaries"]
    assert [each["EmailAddress"] for each in complaints] == ["bob@example.org"]
    client.delete_suppressed_destination(EmailAddress="ann@example.org")
    with pytest.raises(client.exceptions.NotFoundException):
        client.get_suppressed_destination(EmailAddress="ann@example.org")


def test_suppression_list_is_paged(client: Any) -> None:
    for name in "abcde":
        client.put_suppressed_destination(EmailAddress=f"{name}@example.org", Reason="BOUNCE")
    pages: list[list[str]] = []
    token: dict[str, str] = {}
    while True:
        page = client.list_suppressed_destinations(PageSize=2, **token)
        pages.append([each["EmailAddress"][0] for each in page["SuppressedDestinationSummaries"]])
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    with pytest.raises(client.exceptions.InvalidNextTokenException):
        client.list_suppressed_destinations(NextToken="nonsense")


def test_suppression_with_an_unknown_reason_is_a_bad_request(client: Any) -> None:
    with pytest.raises(client.exceptions.BadRequestException):
        client.put_suppressed_destination(EmailAddress="ann@example.org", Reason="WHIM")


def test_account_can_be_changed_over_http(simulator: SesSimulator, client: Any) -> None:
    changes = {"sending_enabled": False, "max_send_rate": 2.5, "max_24_hour_send": 7, "latency_ms": 0}
    response, _ = http(simulator.url, "PATCH", "/_simulator/account", changes)
    assert response.status == 200
    assert get_json(simulator.url, "/_simulator/account").items() >= changes.items()
    assert client.get_account()["SendQuota"]["MaxSendRate"] == 2.5


@pytest.mark.parametrize("changes", [{"nonsense": 1}, {"sending_enabled": 1}, {"identities": {"a": 1}}, [1]])
def test_wrong_account_changes_are_refused_with_a_reason(simulator: SesSimulator, changes: object) -> None:
    response, body = http(simulator.url, "PATCH", "/_simulator/account", changes)
    assert response.status == 400
    assert b"error" in body
