"""Each role allows just what its function calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from database_roles import users
from local.cloudformation import load
from testbed.aws_calls import ROOT, actions_of

RESOURCES: dict[str, Any] = load(ROOT / "template.yaml")["Resources"]
FUNCTIONS = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::Serverless::Function"]

# What no code of ours calls.
NOT_CALLED = {
    # Lambda itself reads the queue, and writes what comes of an invocation.
    "SesEventsFunction": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
    "ReplyFunction": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
    "MigrateFunction": {"sqs:SendMessage"},
    # S3 then says of a missing file that it is missing, and not that reading it is forbidden.
    "CampaignApiFunction": {"s3:ListBucket"},
    "SenderFunction": {"s3:ListBucket"},
}

OUTSIDE_OF_THE_VPC = ("MigrationTriggerFunction", "WebhookSenderFunction")


def _statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every statement of policies, whatever the conditions."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        else:
            for member in value.values():
                yield from _statements(member)
    elif isinstance(value, list):
        for member in value:
            yield from _statements(member)


def _policies(name: str) -> list[dict[str, Any]]:
    assert RESOURCES[name]["Properties"]["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    own = RESOURCES[f"{name}Role"]["Properties"]["Policies"]
    apart = [
        each["Properties"]["PolicyDocument"]
        for each in RESOURCES.values()
        if each["Type"] == "AWS::IAM::Policy" and {"Ref": f"{name}Role"} in each["Properties"]["Roles"]
    ]
    return list(_statements([own, apart]))


def _actions(statement: dict[str, Any]) -> list[str]:
    return statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_allows_what_its_function_calls_and_nothing_else(name: str) -> None:
    properties = RESOURCES[name]["Properties"]
    handler = ROOT / properties["CodeUri"] / f"{properties['Handler'].removesuffix('.lambda_handler')}.py"
    allowed = {action for statement in _policies(name) for action in _actions(statement)}
    assert allowed - NOT_CALLED.get(name, set()) == actions_of(handler)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_role_allows_a_wildcard(name: str) -> None:
    for statement in _policies(name):
        assert not [action for action in _actions(statement) if "*" in action]
        # These are about the account and know no resource.
        assert statement["Resource"] != "*" or set(_actions(statement)) <= {"ses:GetAccount", "ses:ListEmailIdentities"}


def test_what_posts_webhooks_reaches_one_function_and_no_database_and_no_secret() -> None:
    properties = RESOURCES["WebhookSenderFunction"]["Properties"]
    assert properties["VpcConfig"] == {"Ref": "AWS::NoValue"}
    (only,) = _policies("WebhookSenderFunction")
    assert (only["Action"], only["Resource"]) == (
        *("lambda:InvokeFunction", {"Fn::GetAtt": ["WebhookExchangeFunction", "Arn"]}),
    )
    assert _database_user("WebhookSenderFunction") is None


def test_only_the_sender_and_the_apis_test_emails_can_send() -> None:
    senders = {name for name in FUNCTIONS for each in _policies(name) if "ses:SendEmail" in _actions(each)}
    assert senders == {"SenderFunction", "CampaignApiFunction"}


@pytest.mark.parametrize(
    ("more", "further"),
    [
        ("", []),
        (
            "b.org,ann@c.net",
            ["b.org", "ann@c.net", "*@b.org", "*@ann@c.net", "*@*.b.org", "*@*.ann@c.net"],
        ),
    ],
)
def test_the_sender_sends_from_its_own_identities_only(more: str, further: list[str]) -> None:
    """Also in the sandbox, where it has to be allowed the identities of recipients."""
    (any_identity,) = _sending_to_any_identity("SenderFunction")
    assert any_identity["Condition"].keys() == {"StringLike"}
    given = {"SesIdentity": "a.com", "MoreSesIdentities": more}
    allowed = _worked_out(any_identity["Condition"]["StringLike"]["ses:FromAddress"], given)
    assert allowed == ["a.com", "*@a.com", "*@*.a.com", *further]


def _worked_out(value: Any, given: dict[str, str]) -> Any:
    """What CloudFormation makes of a value with these parameters."""
    if not isinstance(value, dict):
        return [_worked_out(each, given) for each in value] if isinstance(value, list) else value
    ((function, argument),) = value.items()
    if function == "Ref":
        return given[argument]
    if function == "Fn::If":
        return _worked_out(argument[1 if given["MoreSesIdentities"] else 2], given)
    if function == "Fn::Sub":
        text, names = argument
        for name, part in {**given, **names}.items():
            text = text.replace(f"${{{name}}}", _worked_out(part, given))
        return text
    separator, parts = argument[0], _worked_out(argument[1], given)
    return parts.split(separator) if function == "Fn::Split" else separator.join(parts)


def _sending_to_any_identity(name: str) -> list[dict[str, Any]]:
    return [each for each in _policies(name) if "ses:SendEmail" in _actions(each) and "identity/*" in str(each)]


def test_test_emails_reach_a_verified_recipient_in_the_sandbox_and_nobody_who_is_not_listed() -> None:
    (in_sandbox,) = _sending_to_any_identity("CampaignApiFunction")
    (of_the_sender,) = _sending_to_any_identity("SenderFunction")
    (own_identity,) = (
        each for each in _policies("CampaignApiFunction") if "ses:SendEmail" in _actions(each) and each != in_sandbox
    )
    recipients = own_identity["Condition"]
    assert recipients.keys() == {"ForAllValues:StringLike", "Null"}
    assert in_sandbox["Condition"] == {**recipients, **of_the_sender["Condition"]}


def _managed_policies(name: str) -> Any:
    return RESOURCES[f"{name}Role"]["Properties"]["ManagedPolicyArns"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_has_the_policies_of_vpc_and_traces_only_where_they_are_used(name: str) -> None:
    conditions = {
        each["Fn::If"][1]["Fn::Sub"].rpartition("/")[2]: each["Fn::If"][0]
        for each in _managed_policies(name)
        if "Fn::If" in each
    }
    in_vpc = {} if name in OUTSIDE_OF_THE_VPC else {"AWSLambdaVPCAccessExecutionRole": "RunsInVpc"}
    assert conditions == {**in_vpc, "AWSXRayDaemonWriteAccess": "Traces"}
    (always,) = (each["Fn::Sub"] for each in _managed_policies(name) if "Fn::Sub" in each)
    assert always.endswith("/AWSLambdaBasicExecutionRole")


def _database_user(name: str) -> Any:
    """Of the environment, as the template says it."""
    return _variables(name).get("DATABASE_USER")


def _variables(name: str) -> Any:
    return RESOURCES[name]["Properties"].get("Environment", {}).get("Variables", {})


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if _database_user(name)])
def test_a_function_logs_in_to_the_database_as_its_own_user_and_no_other(name: str) -> None:
    logins = [each["Resource"]["Fn::Sub"] for each in _policies(name) if each["Action"] == "rds-db:connect"]
    if name == "MigrateFunction":
        assert _database_user(name) == {"Ref": "DatabaseUser"}
        administrator = RESOURCES["DatabaseInstance"]["Properties"]["MasterUsername"]
        assert [resource.rpartition("/")[2] for resource, _ in logins] == ["${DatabaseUser}", administrator]
        return
    for resource, values in logins:
        assert resource.endswith("/${User}")
        assert values["User"] == _database_user(name)
    # The second one is of the replica, if there is one.
    assert len(logins) == 1 + ("DATABASE_READER_HOST" in _variables(name))


def test_lists_and_exports_are_all_that_is_read_from_a_replica() -> None:
    reading = {name for name in FUNCTIONS if "DATABASE_READER_HOST" in _variables(name)}
    assert reading == {"CampaignApiFunction", "ExportFunction"}


def test_every_kind_of_database_user_has_its_function() -> None:
    named = [
        _database_user(name)["Fn::If"][1]["Fn::Sub"] for name in FUNCTIONS if "Fn::If" in (_database_user(name) or {})
    ]
    assert set(named) == set(users("${DatabaseUser}").values())


# What AWS calls a service in actions, and what people call it. A token for the database is made without AWS.
SERVICES = {"lambda": "Lambda", "s3": "S3", "secretsmanager": "Secrets Manager", "ses": "SES"}


def test_what_has_to_be_reached_from_an_existing_network_is_said_where_it_is_chosen() -> None:
    called = {
        action.partition(":")[0]
        for name in FUNCTIONS
        if name not in OUTSIDE_OF_THE_VPC
        for statement in _policies(name)
        for action in set(_actions(statement)) - NOT_CALLED.get(name, set())
    }
    assert called - {"rds-db"} == SERVICES.keys()
    page = (ROOT / "docs/operations/deploy.md").read_text()
    said = re.search(r"From these subnets the functions must reach ([^:]+):", page)
    assert said is not None
    for text in (said[1], load(ROOT / "template.yaml")["Parameters"]["VpcSubnetIds"]["Description"]):
        assert [name for name in SERVICES.values() if not re.search(rf"\b{name}\b", " ".join(text.split()))] == []


def test_events_and_opt_outs_need_nothing_but_the_database() -> None:
    for name in ("SesEventsFunction", "UnsubscribeFunction"):
        actions = {action for each in _policies(name) for action in _actions(each)}
        assert actions - NOT_CALLED.get(name, set()) == {"rds-db:connect", "secretsmanager:GetSecretValue"}
