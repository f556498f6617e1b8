"""AWS for the deployment command: moto as far as it goes, and recorded answers for what it does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from deployment import parameters
from deployment.aws import Aws
from deployment.parameters import Template

GIVEN = {
    "Region": "us-east-1",
    "DeploymentId": "acme-prod",
    "SenderFromAddress": "Acme Sales <sales@example.com>",
    "SesIdentity": "example.com",
    "SesConfigurationSet": "acme-prod",
    "PostalAddress": "Acme Ltd, 1 Main Street, Springfield",
    "AlarmEmail": "ops@example.com",
    "UnsubscribeKeys": "k1:dGhpcy1rZXktaXMtZm9yLXRlc3RzLW9ubHktMTIzNDU=",
}


class Recorded:
    """Answers of AWS, by service and operation, in the place of moto's."""

    def __init__(self, session: boto3.Session) -> None:
        self._answers: dict[str, tuple[dict[str, Any], int]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        session.events.register("before-call", self._reply)

    def answer(self, operation: str, answer: dict[str, Any], status: int = 200) -> None:
        """`operation` as sesv2.GetAccount; an answer with a status of 400 and more has an Error."""
        self._answers[operation] = answer, status

    def _reply(self, event_name: str, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]] | None:
        operation = event_name.removeprefix("before-call.")
        self.calls.append((operation, params))
        if operation not in self._answers:
            return None
        answer, status = self._answers[operation]
        return SimpleNamespace(status_code=status), {"ResponseMetadata": {"HTTPStatusCode": status}, **answer}


def propose(aws: Aws) -> None:
    """What sam leaves behind where a person does not confirm the changes of a first deployment."""
    topic = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    aws.client("cloudformation").create_change_set(
        StackName=aws.stack_name, ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=json.dumps(topic)
    )


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield boto3.Session()


@pytest.fixture
def recorded(session: boto3.Session) -> Recorded:
    """What a new account in good order answers."""
    found = Recorded(session)
    found.answer(
        "sesv2.GetAccount",
        {
            "SendingEnabled": True,
            "EnforcementStatus": "HEALTHY",
            "ProductionAccessEnabled": True,
            "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 0.0},
        },
    )
    zones = ["us-east-1a", "us-east-1b", "us-east-1d"]
    endpoint = {"ServiceDetails": [{"ServiceName": "email", "AvailabilityZones": zones}]}
    found.answer("ec2.DescribeVpcEndpointServices", endpoint)
    found.answer("service-quotas.GetServiceQuota", {"Quota": {"QuotaName": "VPCs per Region", "Value": 5.0}})
    found.answer(
        "lambda.GetAccountSettings",
        {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}, "AccountUsage": {}},
    )
    found.answer(
        "rds.DescribeOrderableDBInstanceOptions",
        {"OrderableDBInstanceOptions": [{"EngineVersion": version} for version in ("16.11", "17.7", "18.1")]},
    )
    found.answer("iam.GetRole", {"Role": {"RoleName": "AWSServiceRoleForRDS"}})
    found.answer("freetier.GetAccountPlanState", {"accountPlanType": "PAID"})
    return found


@pytest.fixture
def aws(session: boto3.Session, recorded: Recorded) -> Aws:
    return Aws("us-east-1", "sendledger-prod", session)


@pytest.fixture(scope="session")
def template() -> Template:
    return Template()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files of parameters are."""
    monkeypatch.setattr(parameters, "file_of", lambda stage: tmp_path / f"{stage}.parameters.yaml")
    return tmp_path
