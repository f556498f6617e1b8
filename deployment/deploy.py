"""The deployment itself: what has to be there before, `sam deploy`, and what is done once afterwards.

Every step can be done again. An error says what to do next.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deployment.aws import Aws, code_of
from deployment.database_checks import RDS_ROLE
from deployment.dns_records import dkim_records, identity_records, reply_records, tracking_records
from deployment.parameters import ROOT, Template

STACK_POLICY = {
    "Statement": [
        {"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": ["Update:Replace", "Update:Delete"],
            "Principal": "*",
            "Resource": "LogicalResourceId/DatabaseInstance",
        },
    ]
}
"""No deployment, by any tool, may replace the existing database by a new, empty one."""

LONGEST_INVOCATION = 900
"""Seconds that a Lambda function may run, at most."""

_ANOTHER_KEY = "docs/operations/deploy.md, step 5, says how to make a key by hand."

Run = Callable[[Sequence[str]], None]


class DeploymentFailed(Exception):
    """A step has failed; the message says what to do."""


def run(command: Sequence[str]) -> None:
    """Run a program of this project and show what it says.

    Raises:
        DeploymentFailed
    """
    if subprocess.run(command, cwd=ROOT, check=False).returncode:  # noqa: S603 (our own commands)
        raise DeploymentFailed(f"{' '.join(command[:3])} has failed, see above.")


def prepare(aws: Aws, given: Mapping[str, str], template: Template) -> list[str]:
    """Make what CloudFormation does not: the SES identities and RDS's role; returns what they want of a person."""
    records = [
        record for name in template.identities(given) for record in identity_records(name, _make_identity(aws, name))
    ]
    for domain in template.other_domains(given):
        records += dkim_records(domain, _make_identity(aws, domain))
    if template.value(given, "Database") == "create":
        _make_rds_role(aws)
    records += reply_records(aws.region, template.value(given, "ReplyDomain"))
    return [*records, *tracking_records(aws.region, template.value(given, "TrackingDomain"))]


def _make_identity(aws: Aws, name: str) -> Mapping[str, Any]:
    """What SES says of an identity, which is made if it is not there."""
    ses = aws.client("sesv2")
    try:
        ses.create_email_identity(EmailIdentity=name)
    except ClientError as error:
        if code_of(error) != "AlreadyExistsException":
            raise
    identity: Mapping[str, Any] = ses.get_email_identity(EmailIdentity=name)
    return identity


def refuse_unverified_tracking(aws: Aws, given: Mapping[str, str], template: Template) -> None:
    """SES refuses a configuration set with a new domain for tracking that it has not verified, and so the stack fails.

    Raises:
        DeploymentFailed
    """
    domain = template.value(given, "TrackingDomain")
    if not domain or (aws.is_complete() and aws.parameters().get("TrackingDomain") == domain):
        return
    if not aws.client("sesv2").get_email_identity(EmailIdentity=domain).get("VerifiedForSendingStatus"):
        raise DeploymentFailed(
            f"TrackingDomain: SES has not verified {domain} yet, so nothing was deployed. Make its DNS records, "
            "which are above, wait until make deploy-check ARGS=identity says that it is verified, and run it again."
        )


def _make_rds_role(aws: Aws) -> None:
    """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAM.ServiceLinkedRoles.html"""
    iam = aws.client("iam")
    try:
        iam.get_role(RoleName=RDS_ROLE)
    except ClientError as error:
        if code_of(error) != "NoSuchEntity":
            raise
        iam.create_service_linked_role(AWSServiceName="rds.amazonaws.com")


def deploy_stack(aws: Aws, stage: str, run_command: Run = run) -> bool:
    """Build and deploy. What a first deployment has made stays when it fails, so that it can be looked at and fixed.

    Returns whether CloudFormation has changed anything. Neither a stack that needs no change nor a person who does not
    confirm the changes is a failure for sam.

    Raises:
        DeploymentFailed
    """
    run_command(["make", "build"])
    first = [] if aws.is_complete() else ["--disable-rollback"]
    sam = str(Path(".venv-sam") / "bin" / "sam")
    before = _newest_event(aws)
    try:
        run_command([sam, "deploy", "--config-env", stage, "--region", aws.region, *first])
    except DeploymentFailed as error:
        since = list(itertools.takewhile(lambda each: each["EventId"] != before, _events(aws)))
        raise DeploymentFailed(f"{error}\n{_reasons(since)}") from error
    stack = aws.stack()
    if stack is None:
        raise DeploymentFailed("Nothing was deployed: the changes were not confirmed. Run make deploy again.")
    if not aws.is_complete():
        raise DeploymentFailed(
            "Nothing was deployed: the changes were not confirmed, or there were none. The stack is still "
            f"{stack['StackStatus']}. Run make deploy again and confirm the changes. If there are none, open the stack "
            "in CloudFormation's console and choose Retry."
        )
    return _newest_event(aws) != before


def _newest_event(aws: Aws) -> str | None:
    return next((str(each["EventId"]) for each in _events(aws)), None)


def _events(aws: Aws) -> Iterator[Mapping[str, Any]]:
    """Everything that CloudFormation has reported of the stack, the newest first; nothing where there is no stack."""
    pages = aws.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=aws.stack_name)
    try:
        for page in pages:
            yield from page["StackEvents"]
    except ClientError as error:
        if code_of(error) != "ValidationError":
            raise


def _reasons(events: Sequence[Mapping[str, Any]]) -> str:
    """What CloudFormation says of this failure, the first one first. What failed in an earlier try is fixed by now."""
    if not events:
        return "CloudFormation had not begun; the stack is as it was."
    failed = [
        f"  {each['LogicalResourceId']}: {each['ResourceStatusReason']}"
        for each in reversed(events)
        if each["ResourceStatus"].endswith("FAILED")
        and "cancelled" not in each.get("ResourceStatusReason", "cancelled")
    ]
    return "\n".join(
        [
            *dict.fromkeys(failed),
            "Fix that and run make deploy again: what is there already is kept.",
            "docs/operations/deploy.md says what to do after which failure.",
        ]
    )


def finish(aws: Aws, given: Mapping[str, str], template: Template) -> None:
    """What the template cannot say of its database: the stack's policy, which keeps it, and how long RDS keeps its log.

    A stack without a database gets no policy: CloudFormation refuses one that names what the stack does not have.
    """
    if template.value(given, "Database") != "create":
        return
    policy = json.dumps(STACK_POLICY)
    aws.client("cloudformation").set_stack_policy(StackName=aws.stack_name, StackPolicyBody=policy)
    resource = aws.client("cloudformation").describe_stack_resource(
        StackName=aws.stack_name, LogicalResourceId="DatabaseInstance"
    )
    instance = resource["StackResourceDetail"]["PhysicalResourceId"]
    days = int(template.value(given, "LogRetentionDays"))
    logs = aws.client("logs")
    for kind in ("postgresql", "upgrade"):
        group = f"/aws/rds/instance/{instance}/{kind}"
        try:
            logs.create_log_group(logGroupName=group)
        except ClientError as error:
            if code_of(error) != "ResourceAlreadyExistsException":
                raise
        logs.put_retention_policy(logGroupName=group, retentionInDays=days)


def make_first_key(aws: Aws) -> str | None:
    """The key of the first person, which is shown once and stored nowhere; None if the database has a key already.

    Raises:
        DeploymentFailed
    """
    event = {"action": "create_api_key", "name": "first key", "role": "admin", "only_first": True}
    # One attempt: the answer to a lost one may have been a key.
    once = aws.client("lambda", attempts=1, read_timeout=LONGEST_INVOCATION)
    try:
        answer = once.invoke(FunctionName=aws.outputs()["MigrateFunctionName"], Payload=json.dumps(event))
    except (BotoCoreError, ClientError) as error:
        raise DeploymentFailed(f"The first key was not made, or is lost: {error}\n{_ANOTHER_KEY}") from error
    made = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        reason = f"{made.get('errorType')}: {made.get('errorMessage')}"
        raise DeploymentFailed(f"The first key was not made: {reason}\n{_ANOTHER_KEY}")
    key: str | None = made["key"]
    return key
