"""What is known before a deployment begins."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import boto3
import pytest

from deployment import checks
from deployment.aws import Aws
from deployment.parameters import Template
from tests.deployment.conftest import GIVEN, Recorded, propose

MISSING = {"Error": {"Code": "NoSuchEntity", "Message": "not found"}}


@pytest.fixture
def found(aws: Aws, template: Template) -> Any:
    """Calls a check with parameters changed: its findings as (level, text)."""

    def check(name: str, **changed: str) -> list[tuple[str, str]]:
        return [(each.level, each.text) for each in checks.findings(name, aws, {**GIVEN, **changed}, template)]

    return check


def levels(found: list[tuple[str, str]]) -> set[str]:
    return {level for level, _ in found}


def deploy(aws: Aws, template: Template, **given: str) -> None:
    """A stack with these parameters; what it makes does not matter."""
    values = {**GIVEN, **given}
    del values["Region"]
    names = {name: {"Type": "String", "Default": template.value({}, name)} for name in template.parameters}
    topic = {"Topic": {"Type": "AWS::SNS::Topic"}}
    aws.client("cloudformation").create_stack(
        StackName=aws.stack_name,
        TemplateBody=json.dumps({"Parameters": names, "Resources": topic}),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )


def test_an_account_in_good_order_passes_every_check(found: Any, aws: Aws) -> None:
    aws.client("sesv2").create_email_identity(EmailIdentity="example.com")
    for name in checks.CHECKS:
        assert "error" not in levels(found(name)), found(name)


# This machine, and the file


def test_lambdas_python_is_found_in_pyenv_and_on_the_path(
    found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert levels(found("python")) == {"error"}
    python = tmp_path / "versions/3.13.1/bin/python3.13"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    # A shim of pyenv for a version that is not chosen.
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert levels(found("python")) == {"ok"}
    monkeypatch.setenv("PYENV_ROOT", "/nowhere")
    assert levels(found("python")) == {"error"}
    monkeypatch.setenv("PATH", str(python.parent))
    assert levels(found("python")) == {"ok"}


def test_lambdas_python_needs_pip(found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python3.13"
    python.write_text('#!/bin/sh\n[ "$1 $2" != "-m pip" ]\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("python") == [("error", f"{python} has no pip, which make build needs: install it.")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DeploymentId", "acme prod"),
        ("Network", "public"),
        ("DatabaseStorage", "10"),
        ("DatabaseStorage", "much"),
        ("TestSendAddresses", "Ann@Example.com"),
        ("UploadOrigins", "https://a.example.com,*"),
        ("SenderFromAddress", "sales@other.example"),
        ("DeploymentID", "acme-prod"),
        ("PostalAddress", "x" * 301),
    ],
)
def test_a_parameter_that_cloudformation_would_refuse_is_named(found: Any, name: str, value: str) -> None:
    ((level, text),) = found("parameters", **{name: value})
    assert (level, name in text) == ("error", True), text


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"Database": "existing"}, "Database=existing needs DatabaseHost"),
        ({"WebhookTargets": "any"}, "WebhookTargets=any is for the local stack only"),
        ({"Network": "none"}, "Database=create needs Network"),
        ({"Network": "existing"}, "Network=existing needs VpcSubnetIds"),
        ({"JwtIssuer": "https://idp.example.com"}, "JwtIssuer needs JwtAudience"),
    ],
)
def test_parameters_that_do_not_fit_together_are_reported(found: Any, changed: dict[str, str], text: str) -> None:
    problems = found("parameters", **changed)
    assert any(level == "error" and text in said for level, said in problems), problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UnsubscribeKeys", "k1:c2hvcnQ="),
        ("UnsubscribeKeys", "K1:dGhpcy1rZXktaXMtZm9yLXRlc3RzLW9ubHktMTIzNDU="),
        ("SendingDayTimeZone", "Europe/Berln"),
        ("SenderFromAddress", "S\u00f6ren <s\u00f6ren@example.com>"),
        ("PostalAddress", " "),
        ("PublicUrl", f"https://mail.example.com/{'x' * 200}"),
        ("ReplyDomain", f"{'x' * 64}.example.com"),
        ("SenderReservedConcurrency", "1"),
    ],
)
def test_what_a_function_would_refuse_at_its_start_is_named_before(found: Any, name: str, value: str) -> None:
    assert found("settings", SenderConcurrency="2", Network="dual-stack") == [
        ("ok", "The functions take their settings.")
    ]
    changed = {"SenderConcurrency": "2", name: value}
    assert found("parameters", **changed)[0][0] == "ok"
    ((level, text),) = found("settings", **changed)
    assert (level, text.startswith(f"{name}: ")) == ("error", True), text


def test_every_number_may_be_as_low_and_as_high_as_the_template_says(found: Any, template: Template) -> None:
    for name, declared in template.parameters.items():
        for bound in ("MinValue", "MaxValue"):
            if declared["Type"] == "Number" and bound in declared:
                changed = {"DatabaseStorage": "20", "DatabaseMaxStorage": "65536", name: str(declared[bound])}
                assert found("parameters", **changed)[0][0] == "ok", changed
                assert levels(found("settings", **changed)) == {"ok"}, changed


def test_more_settings_than_lambda_takes_are_refused(found: Any) -> None:
    # Of 4,096 bytes 396 are kept for the names that a deployment makes, and about 1,200 are other settings.
    few, many = (",".join(f"person{number:03}@example.com" for number in range(count)) for count in (110, 120))
    assert found("parameters", TestSendAddresses=many)[0][0] == "ok"
    assert found("settings", TestSendAddresses=few)[0][0] == "ok"
    ((level, text),) = found("settings", TestSendAddresses=many)
    assert (level, text.startswith("CampaignApiFunction: its settings have ")) == ("error", True)


def test_more_identities_than_fit_into_the_policies_of_a_role_are_refused(found: Any) -> None:
    few, many = (",".join(f"mail{number:03}.example.com" for number in range(count)) for count in (90, 120))
    tests = {"TestSendAddresses": ",".join(f"person{number:02}@example.com" for number in range(20))}
    for identities, more, level in ((few, {}, "ok"), (many, {}, "error"), (few, tests, "error")):
        given = {"MoreSesIdentities": identities, **more}
        assert levels(found("parameters", **given)) == {"ok"}
        ((said, text),) = found("settings", **given)
        assert (said, text.startswith("MoreSesIdentities: ")) == (level, level == "error"), text


def test_settings_of_a_stack_whose_keys_are_not_shown_are_looked_at(
    aws: Aws, template: Template, recorded: Recorded
) -> None:
    deploy(aws, template, UnsubscribeKeys="****")
    given = {name: value for name, value in GIVEN.items() if name != "UnsubscribeKeys"}
    assert {each.level for each in checks.findings("settings", aws, given, template)} == {"ok"}


@pytest.mark.parametrize("name", checks.CHECKS)
def test_no_check_fails_for_a_parameter_that_is_missing_or_no_number(found: Any, aws: Aws, name: str) -> None:
    list(checks.findings(name, aws, {}, Template()))
    for wrong in ("SenderReservedConcurrency", "DatabaseStorage", "DatabaseVersion"):
        found(name, **{wrong: "much"})


# What must stay as it was


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DatabaseName", "other"),
        ("DatabasePort", "5433"),
        ("Database", "existing"),
        ("VpcCidr", "10.0.0.0/24"),
        ("AvailabilityZones", "us-east-1c,us-east-1d"),
        ("Network", "existing"),
        ("DeploymentId", "acme-test"),
        ("SesConfigurationSet", "other"),
        ("DatabaseUser", "other"),
        ("DatabaseIamAuth", "false"),
    ],
)
def test_a_change_that_would_make_a_new_database_or_lose_mail_is_refused(
    found: Any, aws: Aws, template: Template, name: str, value: str
) -> None:
    fixed = (*checks.FIXED, *checks.OF_A_CREATED_DATABASE, "Network")
    defaults = {each: template.value(GIVEN, each) for each in fixed}
    deploy(aws, template, **defaults)
    assert levels(found("unchanged", **defaults)) == {"ok"}
    ((level, text),) = found("unchanged", **{**defaults, name: value})
    assert (level, text.startswith(f"{name} is ")) == ("error", True)


def test_the_two_networks_of_its_own_can_be_exchanged(found: Any, aws: Aws, template: Template) -> None:
    deploy(aws, template, Network="create")
    assert levels(found("unchanged", Network="dual-stack")) == {"ok"}


def test_a_new_major_version_is_a_warning_and_an_older_one_an_error(found: Any, aws: Aws, template: Template) -> None:
    deploy(aws, template, DatabaseVersion="17")
    assert "warning" in levels(found("unchanged", DatabaseVersion="18"))
    assert "error" in levels(found("unchanged", DatabaseVersion="16"))


def test_storage_that_rds_would_have_to_take_away_is_refused(found: Any, aws: Aws, template: Template) -> None:
    deploy(aws, template, DatabaseStorage="100")
    assert levels(found("unchanged", DatabaseStorage="200")) == {"ok"}
    ((level, text),) = found("unchanged", DatabaseStorage="99")
    assert (level, text.startswith("DatabaseStorage is 100")) == ("error", True)


def test_what_belongs_to_a_created_database_may_change_for_another(found: Any, aws: Aws, template: Template) -> None:
    deploy(aws, template, Database="existing", DatabaseUser="old", DatabaseVersion="18", DatabaseStorage="100")
    changed = {"DatabaseUser": "new", "DatabaseVersion": "17", "DatabaseStorage": "20"}
    assert levels(found("unchanged", **changed)) == {"ok"}


def replaced_with(document: Any, resource: str, create_only: tuple[str, ...]) -> set[str]:
    """The parameters that reach a property whose change makes CloudFormation replace the resource."""
    properties = document["Resources"][resource]["Properties"]
    return set().union(*(names_in(document, properties.get(name)) for name in create_only))


def names_in(document: Any, value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(names_in(document, each) for each in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(names_in(document, each) for each in value.values()))
    if (name := value.get("Ref")) in document["Parameters"]:
        found.add(str(name))
    if "Fn::If" in value:
        found |= names_in(document, {"Condition": value["Fn::If"][0]})
    if isinstance(condition := value.get("Condition"), str):
        found |= names_in(document, document["Conditions"][condition])
    return found


@pytest.mark.parametrize(
    ("resource", "create_only"),
    [
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-rds-dbinstance.html
        (
            "DatabaseInstance",
            ("DBName", "Port", "MasterUsername", "StorageEncrypted", "KmsKeyId", "AvailabilityZone", "Condition"),
        ),
        ("DatabaseSubnets", ("DBSubnetGroupName",)),
        ("Vpc", ("CidrBlock",)),
        ("SubnetA", ("CidrBlock", "AvailabilityZone")),
        ("SubnetB", ("CidrBlock", "AvailabilityZone")),
        ("DatabaseSecurityGroup", ("VpcId", "GroupDescription")),
        ("SesConfigurationSetResource", ("Name",)),
    ],
)
def test_every_parameter_that_replaces_what_must_stay_is_fixed(
    template: Template, resource: str, create_only: tuple[str, ...]
) -> None:
    assert replaced_with(template.document, resource, create_only) <= {*checks.FIXED, "Network"}


def test_before_the_first_deployment_everything_may_change(found: Any) -> None:
    assert levels(found("unchanged", DatabaseName="other")) == {"ok"}


@pytest.mark.parametrize(
    ("status", "events", "is_complete"),
    [
        ("CREATE_IN_PROGRESS", [], False),
        ("CREATE_FAILED", [], False),
        ("CREATE_COMPLETE", [], True),
        ("UPDATE_COMPLETE", ["CREATE_FAILED"], True),
        # The second failed try of a first deployment, and one that was interrupted.
        ("UPDATE_FAILED", ["UPDATE_FAILED", "UPDATE_IN_PROGRESS", "CREATE_FAILED", "CREATE_IN_PROGRESS"], False),
        ("UPDATE_IN_PROGRESS", ["UPDATE_IN_PROGRESS", "CREATE_FAILED", "CREATE_IN_PROGRESS"], False),
        # A failed update of a stack in use.
        ("UPDATE_FAILED", ["UPDATE_FAILED", "UPDATE_IN_PROGRESS", "CREATE_COMPLETE"], True),
        ("UPDATE_FAILED", ["UPDATE_FAILED", "UPDATE_COMPLETE", "UPDATE_FAILED", "CREATE_FAILED"], True),
        ("UPDATE_ROLLBACK_COMPLETE", ["UPDATE_ROLLBACK_COMPLETE", "CREATE_COMPLETE"], True),
        # The events of its creation are forgotten.
        ("UPDATE_FAILED", ["UPDATE_FAILED"], True),
    ],
)
def test_a_stack_is_complete_once_a_deployment_has_succeeded(
    aws: Aws, recorded: Recorded, status: str, events: list[str], is_complete: bool
) -> None:
    stack_id = "arn:aws:cloudformation:us-east-1:123456789012:stack/sendledger-prod/1"
    stack = {"StackName": "sendledger-prod", "StackId": stack_id, "StackStatus": status}
    recorded.answer("cloudformation.DescribeStacks", {"Stacks": [stack]})
    own = [{"PhysicalResourceId": stack_id, "ResourceStatus": each} for each in events]
    # What becomes of single resources says nothing.
    others = [{"PhysicalResourceId": "topic", "ResourceStatus": each} for each in ("CREATE_FAILED", "UPDATE_COMPLETE")]
    recorded.answer("cloudformation.DescribeStackEvents", {"StackEvents": own + others})
    assert aws.is_complete() is is_complete


# Names


def test_a_configuration_set_of_somebody_else_is_named(found: Any, recorded: Recorded) -> None:
    assert levels(found("names")) == {"ok"}
    recorded.answer("sesv2.GetConfigurationSet", {"ConfigurationSetName": "acme-prod"})
    ((level, text),) = found("names")
    assert (level, "SesConfigurationSet" in text) == ("error", True)


def test_a_stack_of_ones_own_has_its_names(found: Any, aws: Aws, template: Template, recorded: Recorded) -> None:
    deploy(aws, template)
    recorded.answer("sesv2.GetConfigurationSet", {"ConfigurationSetName": "acme-prod"})
    assert levels(found("names")) == {"ok"}


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        *((status, "error", "delete it first") for status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")),
        *((f"{each}_IN_PROGRESS", "error", "wait until that is over") for each in ("CREATE", "UPDATE", "DELETE")),
        ("UPDATE_ROLLBACK_FAILED", "error", "end that first"),
        ("CREATE_FAILED", "ok", "is CREATE_FAILED."),
    ],
)
def test_a_stack_that_takes_no_deployment_is_reported(
    found: Any, recorded: Recorded, status: str, level: str, said: str
) -> None:
    stack = {"StackName": "sendledger-prod", "StackStatus": status}
    recorded.answer("cloudformation.DescribeStacks", {"Stacks": [stack]})
    ((found_level, text),) = found("names")
    assert (found_level, said in text) == (level, True), text


def test_changes_that_nobody_has_confirmed_are_no_stack(found: Any, aws: Aws, recorded: Recorded) -> None:
    propose(aws)
    assert aws.client("cloudformation").describe_stacks()["Stacks"][0]["StackStatus"] == "REVIEW_IN_PROGRESS"
    assert levels(found("names")) == {"ok"}
    assert "VPCs" in str(found("quotas"))
    recorded.answer("sesv2.GetConfigurationSet", {"ConfigurationSetName": "acme-prod"})
    assert levels(found("names")) == {"error"}


def test_a_log_group_that_was_left_behind_is_named(found: Any, session: boto3.Session) -> None:
    session.client("logs").create_log_group(logGroupName="/aws/vendedlogs/sendledger-prod/campaign-api")
    ((level, text),) = found("names")
    assert (level, "/aws/vendedlogs/sendledger-prod/campaign-api" in text) == ("error", True)


def test_name_that_is_taken_is_an_error_also_where_the_next_question_is_refused(found: Any, recorded: Recorded) -> None:
    recorded.answer("sesv2.GetConfigurationSet", {"ConfigurationSetName": "acme-prod"})
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "logs:DescribeLogGroups"}}
    recorded.answer("cloudwatch-logs.DescribeLogGroups", denied, 400)
    (first, first_text), (second, second_text) = found("names")
    assert (first, first_text.startswith("SesConfigurationSet: ")) == ("error", True)
    assert (second, "logs:DescribeLogGroups" in second_text) == ("warning", True)


# SES


def test_an_identity_is_made_by_the_deployment_and_verified_by_its_records(found: Any, recorded: Recorded) -> None:
    assert levels(found("identity")) == {"warning"}
    identity = {
        "VerifiedForSendingStatus": False,
        "DkimAttributes": {"Tokens": ["t1", "t2", "t3"], "SigningHostedZone": "k4.dkim.eu-central-2.amazonses.com"},
    }
    recorded.answer("sesv2.GetEmailIdentity", identity)
    ((level, text),) = found("identity")
    assert level == "warning"
    assert "t3._domainkey.example.com CNAME t3.k4.dkim.eu-central-2.amazonses.com" in text
    recorded.answer("sesv2.GetEmailIdentity", {**identity, "VerifiedForSendingStatus": True})
    assert levels(found("identity")) == {"ok"}


def test_further_identities_are_looked_at_too(found: Any, aws: Aws) -> None:
    aws.client("sesv2").create_email_identity(EmailIdentity="example.com")
    of_each = found("identity", MoreSesIdentities="example.org,ann@example.net")
    for (level, text), name in zip(of_each, ("example.com", "example.org", "ann@example.net"), strict=True):
        assert (level, name in text) == ("warning", True)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("ReplyDomain", "SES receives no replies"), ("TrackingDomain", "SES refuses it as TrackingDomain")],
)
def test_domains_of_replies_and_of_tracking_are_looked_at_too(
    found: Any, aws: Aws, recorded: Recorded, name: str, missing: str
) -> None:
    aws.client("sesv2").create_email_identity(EmailIdentity="example.com")
    (_, (level, text)) = found("identity", **{name: "sub.example.com"})
    assert (level, text.startswith("SES has no identity sub.example.com; make deploy makes it")) == ("warning", True)
    identity = {"DkimAttributes": {"Tokens": ["t1"], "SigningHostedZone": "z.example"}}
    recorded.answer("sesv2.GetEmailIdentity", {"VerifiedForSendingStatus": False, **identity})
    (_, (level, text)) = found("identity", **{name: "sub.example.com"})
    assert (level, "t1._domainkey.sub.example.com CNAME t1.z.example" in text) == ("warning", True)
    assert text.startswith(f"sub.example.com is not verified yet; {missing} before that.")
    recorded.answer("sesv2.GetEmailIdentity", {"VerifiedForSendingStatus": True})
    assert found("identity", **{name: "sub.example.com"})[1] == ("ok", "SES has verified sub.example.com.")


def test_an_address_is_verified_by_a_link_and_not_by_records(found: Any, aws: Aws, recorded: Recorded) -> None:
    assert "SES then mails a link" in str(found("identity", SesIdentity="ann@example.net"))
    recorded.answer("sesv2.GetEmailIdentity", {"VerifiedForSendingStatus": False, "DkimAttributes": {}})
    ((level, text),) = found("identity", SesIdentity="ann@example.net")
    assert (level, "Open the link" in text, "records" in text) == ("warning", True, False)


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("SesIdentity", "Example.com", "example.com"),
        ("SesIdentity", "Sales@EXAMPLE.com", "Sales@example.com"),
        ("MoreSesIdentities", "example.net,Example.org", "example.org"),
    ],
)
def test_domain_of_an_identity_is_in_lower_case(found: Any, name: str, value: str, instead: str) -> None:
    address = {"SenderFromAddress": "Sales@example.com"}
    ((level, text),) = found("parameters", **address, **{name: value})
    assert (level, text.endswith(f"Write {instead}.")) == ("error", True)
    assert found("parameters", **address, **{name: value.replace(value.split(",")[-1], instead)})[0][0] == "ok"


@pytest.mark.parametrize(
    ("account", "level"),
    [
        ({"SendingEnabled": True, "ProductionAccessEnabled": False}, "warning"),
        ({"SendingEnabled": False, "ProductionAccessEnabled": True}, "error"),
        ({"SendingEnabled": True, "ProductionAccessEnabled": True, "EnforcementStatus": "SHUTDOWN"}, "error"),
    ],
)
def test_a_sandbox_is_a_warning_and_a_stopped_account_an_error(
    found: Any, recorded: Recorded, account: dict[str, Any], level: str
) -> None:
    recorded.answer("sesv2.GetAccount", account)
    assert levels(found("sandbox")) == {level}


# The network


def test_a_zone_without_the_endpoint_is_refused_with_those_that_have_it(found: Any) -> None:
    ((level, text),) = found("network", AvailabilityZones="us-east-1c,us-east-1a")
    assert (level, "us-east-1a, us-east-1b, us-east-1d" in text) == ("error", True)
    assert levels(found("network", AvailabilityZones="us-east-1a,us-east-1c")) == {"ok"}
    # With high availability there is an endpoint in both.
    assert levels(found("network", AvailabilityZones="us-east-1a,us-east-1c", HighAvailability="true")) == {"error"}
    assert levels(found("network", AvailabilityZones="us-east-1a,eu-west-1a")) == {"error"}
    assert levels(found("network", AvailabilityZones="us-east-1a")) == {"error"}


def test_a_region_without_the_endpoint_is_referred_to_the_other_network(found: Any, recorded: Recorded) -> None:
    recorded.answer("ec2.DescribeVpcEndpointServices", {"Error": {"Code": "InvalidServiceName", "Message": "no"}}, 400)
    ((level, text),) = found("network")
    assert (level, "dual-stack" in text) == ("error", True)


@pytest.mark.parametrize("has_address", [True, False])
def test_ipv6_of_ses_is_looked_up(found: Any, monkeypatch: pytest.MonkeyPatch, has_address: bool) -> None:
    asked = []

    def look_up(host: str, port: int, family: int) -> list[Any]:
        asked.append((host, family))
        if not has_address:
            raise socket.gaierror
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert levels(found("network", Network="dual-stack")) == {"ok" if has_address else "warning"}
    assert asked == [("email.us-east-1.api.aws", socket.AF_INET6)]


@pytest.mark.parametrize(
    ("region", "host"),
    [("us-gov-west-1", "email.us-gov-west-1.api.aws"), ("cn-north-1", "email.cn-north-1.api.amazonwebservices.com.cn")],
)
def test_host_with_ipv6_is_that_of_the_partition(session: boto3.Session, region: str, host: str) -> None:
    assert Aws(region, "sendledger-prod", session).dual_stack_host("sesv2") == host


@pytest.mark.parametrize("network", ["create", "dual-stack"])
@pytest.mark.parametrize("zones", ["us-east-1a,us-east-1a", "us-east-1a", "us-east-1a,us-east-1b,us-east-1d"])
def test_a_network_of_its_own_wants_two_zones(found: Any, network: str, zones: str) -> None:
    ((level, text),) = found("network", Network=network, AvailabilityZones=zones)
    assert (level, text.startswith("AvailabilityZones must be two of")) == ("error", True)


def test_zones_may_have_blanks_between_them(found: Any) -> None:
    assert levels(found("network", AvailabilityZones="us-east-1a, us-east-1b")) == {"ok"}


@pytest.mark.parametrize("cidr", ["10.88.0.5/24", "10.88.0.0/16.1", "300.1.1.0/24"])
def test_addresses_of_a_network_that_are_none_are_named(found: Any, cidr: str) -> None:
    ((level, text),) = found("network", VpcCidr=cidr)
    assert (level, text.startswith("VpcCidr: ")) == ("error", True)


def test_wrong_addresses_are_an_error_also_where_the_zones_may_not_be_asked_for(found: Any, recorded: Recorded) -> None:
    denied = {"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}
    recorded.answer("ec2.DescribeAvailabilityZones", denied, 403)
    of_each = found("network", VpcCidr="10.88.0.5/24", AvailabilityZones="us-east-1a,us-east-1b")
    assert [level for level, _ in of_each] == ["error", "warning"]


def test_functions_outside_a_network_are_said_to_be_there(found: Any) -> None:
    ((level, text),) = found("network", Network="none")
    assert (level, "outside a VPC" in text) == ("ok", True)


class Networks:
    """A VPC of somebody's own, and another one."""

    def __init__(self, session: boto3.Session) -> None:
        self.ec2 = session.client("ec2")
        self.vpc, self.other = (
            self.ec2.create_vpc(CidrBlock=f"10.{number}.0.0/24")["Vpc"]["VpcId"] for number in (0, 1)
        )
        self.group = self.new_group(self.vpc)
        self.full = self.subnet("10.0.0.0/28", "us-east-1a")
        for _ in range(5):
            self.ec2.create_network_interface(SubnetId=self.full)
        self.roomy, self.second = self.subnet("10.0.0.64/26", "us-east-1a"), self.subnet("10.0.0.128/26", "us-east-1b")
        self.given = {
            "Network": "existing",
            "VpcId": self.vpc,
            "VpcSubnetIds": f"{self.roomy}, {self.second}",
            "VpcSecurityGroupIds": self.group,
        }

    def new_group(self, vpc: str) -> str:
        made = self.ec2.create_security_group(GroupName="functions", Description="functions", VpcId=vpc)
        return str(made["GroupId"])

    def subnet(self, cidr: str, zone: str) -> str:
        made = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=cidr, AvailabilityZone=zone)
        return str(made["Subnet"]["SubnetId"])

    def route(self, **route: str) -> None:
        """A route of all subnets that have no table of their own."""
        of_vpc = [{"Name": "vpc-id", "Values": [self.vpc]}]
        (table,) = self.ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]
        self.ec2.create_route(RouteTableId=table["RouteTableId"], **route)

    def endpoint(self, service: str) -> None:
        name = f"com.amazonaws.us-east-1.{service}"
        self.ec2.create_vpc_endpoint(VpcId=self.vpc, ServiceName=name, VpcEndpointType="Interface")


@pytest.fixture
def networks(session: boto3.Session) -> Networks:
    found = Networks(session)
    for service in ("email", "secretsmanager"):
        found.endpoint(service)
    return found


def test_a_subnet_without_free_addresses_is_refused(found: Any, networks: Networks) -> None:
    subnets = f"{networks.full},{networks.second}"
    by_level = dict(found("network", **{**networks.given, "VpcSubnetIds": subnets}))
    assert (networks.full in by_level["error"], networks.second in by_level["ok"]) == (True, True)


def test_an_existing_network_in_good_order_passes(found: Any, networks: Networks) -> None:
    assert levels(found("network", **networks.given)) == {"ok"}


@pytest.mark.parametrize(
    ("name", "value"), [("VpcSubnetIds", "subnet-0123456789abcdef0"), ("VpcSecurityGroupIds", "sg-0123456789abcdef0")]
)
def test_what_an_existing_network_lacks_is_an_error(found: Any, networks: Networks, name: str, value: str) -> None:
    ((level, text),) = found("network", **{**networks.given, name: value})
    assert (level, value in text) == ("error", True)


def test_parts_of_different_networks_are_refused(found: Any, networks: Networks) -> None:
    for changed in ({"VpcId": networks.other}, {"VpcSecurityGroupIds": networks.new_group(networks.other)}):
        (said,) = (text for level, text in found("network", **{**networks.given, **changed}) if level == "error")
        assert (networks.vpc in said, networks.other in said) == (True, True)


def test_a_created_database_wants_subnets_in_two_zones(found: Any, networks: Networks) -> None:
    given = {**networks.given, "VpcSubnetIds": networks.roomy}
    assert "RDS wants subnets in two zones" in str(found("network", **given))
    assert levels(found("network", **given, Database="existing")) == {"ok"}


def test_subnets_without_a_way_to_ses_and_secrets_are_a_warning(found: Any, session: boto3.Session) -> None:
    networks = Networks(session)
    gateway = networks.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    networks.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=networks.vpc)
    networks.route(DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    said = [text for level, text in found("network", **networks.given) if level == "warning"]
    assert [(networks.roomy in text, networks.second in text) for text in said] == [(True, False), (False, True)]
    assert all("no way to SES and Secrets Manager" in text for text in said)
    networks.endpoint("email")
    assert "no way to Secrets Manager" in str(found("network", **networks.given))


def test_nat_is_a_way_out_for_the_subnets_that_have_its_route(found: Any, session: boto3.Session) -> None:
    networks = Networks(session)
    nat = networks.ec2.create_nat_gateway(SubnetId=networks.second, ConnectivityType="private")["NatGateway"]
    table = networks.ec2.create_route_table(VpcId=networks.vpc)["RouteTable"]["RouteTableId"]
    networks.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat["NatGatewayId"])
    networks.ec2.associate_route_table(RouteTableId=table, SubnetId=networks.roomy)
    (said,) = (text for level, text in found("network", **networks.given) if level == "warning")
    assert networks.second in said
    networks.ec2.associate_route_table(RouteTableId=table, SubnetId=networks.second)
    assert levels(found("network", **networks.given)) == {"ok"}


@pytest.mark.parametrize(("state", "expected"), [("active", {"ok"}), ("blackhole", {"ok", "warning"})])
def test_route_to_a_nat_gateway_that_was_deleted_is_no_way_out(
    found: Any, session: boto3.Session, recorded: Recorded, state: str, expected: set[str]
) -> None:
    networks = Networks(session)
    route = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-0123456789abcdef0", "State": state}
    table = {"Associations": [{"Main": True}], "Routes": [route]}
    recorded.answer("ec2.DescribeRouteTables", {"RouteTables": [table]})
    assert levels(found("network", **networks.given)) == expected


def test_endpoint_that_was_deleted_is_no_way_to_its_service(found: Any, networks: Networks) -> None:
    (deleted,) = (
        each["VpcEndpointId"]
        for each in networks.ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if each["ServiceName"].endswith(".email")
    )
    networks.ec2.delete_vpc_endpoints(VpcEndpointIds=[deleted])
    said = [text for level, text in found("network", **networks.given) if level == "warning"]
    assert ["no way to SES," in text for text in said] == [True, True]


def test_ipv6_is_a_way_out_if_the_functions_use_it(found: Any, session: boto3.Session) -> None:
    networks = Networks(session)
    made = networks.ec2.create_egress_only_internet_gateway(VpcId=networks.vpc)["EgressOnlyInternetGateway"]
    gateway = made["EgressOnlyInternetGatewayId"]
    networks.route(DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)
    assert levels(found("network", **networks.given)) == {"ok", "warning"}
    assert levels(found("network", **networks.given, VpcIpv6="true")) == {"ok"}


# Quotas


def test_too_many_vpcs_are_reported_before_one_more_is_created(found: Any, session: boto3.Session) -> None:
    ec2 = session.client("ec2")
    assert levels(found("quotas")) == {"ok"}
    for number in range(4):
        ec2.create_vpc(CidrBlock=f"10.{number}.0.0/24")
    assert "There are 5 VPCs of 5" in str([text for level, text in found("quotas") if level == "error"])


def test_a_quota_that_is_not_told_is_a_warning(found: Any, recorded: Recorded) -> None:
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    recorded.answer("service-quotas.GetServiceQuota", denied, 400)
    assert levels(found("quotas")) == {"ok", "warning"}


def test_a_concurrency_of_ten_is_a_warning_and_an_impossible_reservation_is_refused(
    found: Any, recorded: Recorded
) -> None:
    assert levels(found("quotas", SenderReservedConcurrency="950")) == {"ok", "error"}
    limits = {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
    recorded.answer("lambda.GetAccountSettings", {"AccountLimit": limits, "AccountUsage": {}})
    assert levels(found("quotas")) == {"ok", "warning"}


# The database


def test_a_class_or_version_that_rds_does_not_have_is_named(found: Any, recorded: Recorded) -> None:
    assert levels(found("database")) == {"ok"}
    only = {"OrderableDBInstanceOptions": [{"EngineVersion": "16.11"}]}
    recorded.answer("rds.DescribeOrderableDBInstanceOptions", only)
    assert "for PostgreSQL 16, not 18" in str(found("database"))
    recorded.answer("rds.DescribeOrderableDBInstanceOptions", {"OrderableDBInstanceOptions": []})
    assert "DatabaseInstanceClass" in str(found("database"))


def test_a_region_whose_certificate_authorities_are_missing_is_named(
    session: boto3.Session, recorded: Recorded, template: Template
) -> None:
    aws = Aws("us-gov-west-1", "sendledger-prod", session)
    (first, *_) = checks.findings("database", aws, GIVEN, template)
    assert (first.level, "no certificate authority of us-gov-west-1" in first.text) == ("error", True)
    own = {**GIVEN, "DatabaseCaBundle": "/opt/other.pem"}
    assert {each.level for each in checks.findings("database", aws, own, template)} == {"ok"}


def test_a_class_that_no_chosen_zone_has_is_named(found: Any, recorded: Recorded) -> None:
    option = {"EngineVersion": "18.1", "AvailabilityZones": [{"Name": "us-east-1b"}, {"Name": "us-east-1c"}]}
    recorded.answer("rds.DescribeOrderableDBInstanceOptions", {"OrderableDBInstanceOptions": [option]})
    assert levels(found("database", AvailabilityZones="us-east-1a,us-east-1b")) == {"ok"}
    ((level, text),) = found("database", AvailabilityZones="us-east-1a,us-east-1d")
    assert (level, "in us-east-1b, us-east-1c only" in text) == ("error", True)


def test_a_standby_wants_the_class_in_both_zones(found: Any, recorded: Recorded) -> None:
    option = {"EngineVersion": "18.1", "AvailabilityZones": [{"Name": "us-east-1b"}, {"Name": "us-east-1c"}]}
    recorded.answer("rds.DescribeOrderableDBInstanceOptions", {"OrderableDBInstanceOptions": [option]})
    assert levels(found("database", AvailabilityZones="us-east-1b,us-east-1c", HighAvailability="true")) == {"ok"}
    ((level, text),) = found("database", AvailabilityZones="us-east-1a,us-east-1b", HighAvailability="true")
    assert (level, "only, not in us-east-1a and us-east-1b." in text) == ("error", True)


@pytest.mark.parametrize(("network", "level"), [("create", "error"), ("dual-stack", "error"), ("existing", "ok")])
def test_without_chosen_zones_the_class_is_looked_for_in_the_first_two(
    found: Any, recorded: Recorded, network: str, level: str
) -> None:
    option = {"EngineVersion": "18.1", "AvailabilityZones": [{"Name": "us-east-1c"}]}
    recorded.answer("rds.DescribeOrderableDBInstanceOptions", {"OrderableDBInstanceOptions": [option]})
    assert levels(found("database", Network=network)) == {level}


def test_zones_of_a_stack_in_use_that_are_only_supposed_hold_no_deployment_up(
    found: Any, aws: Aws, template: Template, recorded: Recorded
) -> None:
    deploy(aws, template)
    option = {"EngineVersion": "18.1", "AvailabilityZones": [{"Name": "us-east-1c"}]}
    recorded.answer("rds.DescribeOrderableDBInstanceOptions", {"OrderableDBInstanceOptions": [option]})
    assert levels(found("database")) == {"warning"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DatabaseName", "acme-mail"),
        ("DatabaseName", "_acme"),
        ("DatabaseName", "acme$"),
        ("DatabasePort", "1149"),
        ("DatabaseUser", "pg_sendledger"),
        ("DatabaseUser", "rdsmail"),
        ("DatabaseUser", "public"),
        ("DatabaseUser", "sendledger_admin"),
    ],
)
def test_what_rds_takes_for_no_new_database_is_named(
    found: Any, aws: Aws, template: Template, name: str, value: str
) -> None:
    assert levels(found("parameters", **{name: value})) == {"ok"}
    problems = [text for level, text in found("database", **{name: value}) if level == "error"]
    assert [text.startswith(f"{name} is ") for text in problems] == [True]
    existing = {"Database": "existing", "Network": "none"}
    assert levels(found("database", **existing, **{name: value})) == {"ok"}
    # A database that is in use has proved that it works.
    deploy(aws, template, **{name: value})
    assert levels(found("database", **{name: value})) == {"ok"}


def test_the_most_storage_leaves_room_to_grow(found: Any, template: Template) -> None:
    most = {name: str(template.parameters[name]["MaxValue"]) for name in ("DatabaseStorage", "DatabaseMaxStorage")}
    assert levels(found("parameters", **most)) == levels(found("database", **most)) == {"ok"}


def test_storage_without_room_to_grow_is_refused(found: Any) -> None:
    assert levels(found("database", DatabaseStorage="100", DatabaseMaxStorage="110")) == {"ok"}
    assert "DatabaseMaxStorage is 109" in str(found("database", DatabaseStorage="100", DatabaseMaxStorage="109"))


def test_the_free_plan_of_aws_is_a_warning_for_what_it_refuses(found: Any, recorded: Recorded) -> None:
    assert levels(found("database")) == {"ok"}
    recorded.answer("freetier.GetAccountPlanState", {"accountPlanType": "FREE"})
    (said,) = (text for level, text in found("database") if level == "warning")
    assert "RDS will refuse db.t4g.small or backups of 14 days" in said
    assert levels(found("database", DatabaseInstanceClass="db.t4g.micro", DatabaseBackupDays="1")) == {"ok"}
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    recorded.answer("freetier.GetAccountPlanState", denied, 400)
    assert levels(found("database")) == {"ok"}


def test_the_role_that_rds_needs_is_a_warning_as_the_deployment_makes_it(found: Any, recorded: Recorded) -> None:
    recorded.answer("iam.GetRole", MISSING, 404)
    assert levels(found("database")) == {"ok", "warning"}


# What the file leaves out


def test_a_parameter_that_the_file_leaves_out_keeps_the_stacks_value(
    found: Any, aws: Aws, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(aws, template, Database="existing", Network="dual-stack", SenderReservedConcurrency="950")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    assert found("database") == [("ok", "The database is there already.")]
    assert "IPv6" in str(found("network"))
    assert "SenderReservedConcurrency" in str(found("quotas"))
    assert "endpoints" in str(found("network", Network="create"))


# What cannot be asked


def test_a_check_that_is_not_permitted_is_a_warning_and_says_so(found: Any, recorded: Recorded) -> None:
    recorded.answer("sesv2.GetAccount", {"Error": {"Code": "AccessDeniedException", "Message": "ses:GetAccount"}}, 403)
    ((level, text),) = found("sandbox")
    assert (level, "ses:GetAccount" in text) == ("warning", True)


def test_credentials_that_do_not_work_are_an_error(found: Any, recorded: Recorded) -> None:
    recorded.answer("sts.GetCallerIdentity", {"Error": {"Code": "ExpiredToken", "Message": "expired"}}, 403)
    assert levels(found("credentials")) == {"error"}
