"""The guided path: what is asked, what is written, what is made before and after `sam deploy`."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from deployment import __main__ as command
from deployment import deploy, parameters
from deployment.aws import Aws
from deployment.dns_records import UNKNOWN_ZONE, dkim_records
from deployment.parameters import ParametersError, Template
from local.cloudformation import Values
from sendledger.core.settings import MailSettings
from tests.deployment.conftest import GIVEN, Recorded, propose

OUTPUTS = ("ApiUrl", "UnsubscribeUrl", "DashboardUrl", "MigrateFunctionName")
ANSWERS = {
    "AWS region": "us-east-1",
    "Domain": "example.com",
    "Name of this deployment": "",
    "Sender": "",
    "Postal address": "Acme Ltd, 1 Main Street, Springfield",
    "Address that gets the alarms": "Ops@example.com",
    "Network": "",
}


class Person:
    """Answers the questions of the command; an empty answer takes what is proposed."""

    def __init__(self, **more: str) -> None:
        self.asked: list[str] = []
        self._answers = {**ANSWERS, **more}

    def __call__(self, question: str, proposed: str | None) -> str:
        self.asked.append(question)
        (answer,) = (each for start, each in self._answers.items() if question.startswith(start))
        return answer or proposed or ""


def nobody(question: str, proposed: str | None) -> str:
    raise EOFError


# What is asked and written


def test_a_first_deployment_asks_for_what_it_needs_and_proposes_the_rest(template: Template) -> None:
    person = Person()
    values = parameters.complete({}, "prod", None, template, person)
    assert len(person.asked) == len(ANSWERS)
    assert template.problems(values, {}) == []
    assert (values["DeploymentId"], values["SesConfigurationSet"]) == ("example-prod", "example-prod")
    assert values["TestSendAddresses"] == "ops@example.com"
    keys = MailSettings.read({"UNSUBSCRIBE_KEYS": values["UnsubscribeKeys"]}).unsubscribe_keys
    assert keys is not None
    assert keys.reply_token(1).startswith("k1.")


def test_values_of_the_file_are_not_asked_again(template: Template) -> None:
    person = Person()
    first = parameters.complete({}, "prod", None, template, person)
    person.asked.clear()
    assert parameters.complete(first, "prod", None, template, person) == first
    assert person.asked == []


def test_a_wrong_answer_is_explained_and_asked_again(template: Template, capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["two words", "acme-prod"])
    given = {**GIVEN, "Network": "create"}
    del given["DeploymentId"]
    completed = parameters.complete(given, "prod", None, template, lambda *_: next(answers))
    assert completed["DeploymentId"] == "acme-prod"
    assert "DeploymentId must be 1 to 63 letters" in capsys.readouterr().out


@pytest.mark.parametrize("region", ["Frankfurt", "eu-central", "eu-central-1a", "EU-CENTRAL-1"])
def test_a_region_that_is_none_is_asked_again(
    template: Template, capsys: pytest.CaptureFixture[str], region: str
) -> None:
    answers = iter([region, "us-gov-west-1"])
    given = {**GIVEN, "Network": "create"}
    del given["Region"]
    completed = parameters.complete(given, "prod", None, template, lambda *_: next(answers))
    assert completed["Region"] == "us-gov-west-1"
    assert f"Region is {region!r}" in capsys.readouterr().out
    assert template.problems({**GIVEN, "Region": region}, {}) == [
        f"Region is {region!r}; it must be the name of one, such as eu-central-1."
    ]


def test_without_a_person_the_missing_parameters_are_named(template: Template) -> None:
    given = {name: value for name, value in GIVEN.items() if name != "PostalAddress"}
    with pytest.raises(ParametersError, match=r"PostalAddress is missing in prod\.parameters\.yaml"):
        parameters.complete(given, "prod", None, template, nobody)


def test_new_keys_restart_the_functions(template: Template) -> None:
    given = {**GIVEN, "Network": "create"}
    first = parameters.complete(given, "prod", None, template, nobody)
    again = parameters.complete(first, "prod", None, template, nobody)
    other = parameters.complete({**first, "UnsubscribeKeys": "k2:x,k1:y"}, "prod", None, template, nobody)
    assert first["UnsubscribeKeysVersion"] == again["UnsubscribeKeysVersion"] != other["UnsubscribeKeysVersion"]


def test_the_file_is_read_as_it_was_written_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "prod.parameters.yaml"
    values = {**GIVEN, "PostalAddress": "Ä: #1, 'x' \" y", "DatabaseVersion": "17", "MigrateOnDeploy": "true"}
    parameters.write(path, values)
    assert parameters.read(path) == values
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("HighAvailability: true\nDatabaseStorage: 20\nPublicUrl:\nDatabaseCaBundle: ~\n")
    as_sam_reads_it = {"HighAvailability": "true", "DatabaseStorage": "20", "PublicUrl": "", "DatabaseCaBundle": ""}
    assert parameters.read(path) == as_sam_reads_it


def test_the_file_is_the_same_whatever_the_locale_of_the_machine_is(tmp_path: Path) -> None:
    script = (
        "import locale, pathlib; from deployment import parameters\n"
        "path, values = pathlib.Path('prod.parameters.yaml'), {'PostalAddress': 'Z\\xfcrich \\u8def'}\n"
        "parameters.write(path, values); assert parameters.read(path) == values\n"
        "print(locale.getencoding())"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(parameters.ROOT), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "utf" not in done.stdout.lower()
    assert (tmp_path / "prod.parameters.yaml").read_text("utf-8") == "PostalAddress: Z\xfcrich \u8def\n"


@pytest.mark.parametrize("text", ["- a", "a: [b]", "a: {b: c}", "a: b: c"])
def test_a_file_that_holds_something_else_is_refused_and_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prod.parameters.yaml"
    path.write_text(text)
    with pytest.raises(ParametersError, match=r"prod\.parameters\.yaml"):
        parameters.read(path)


def test_a_file_in_another_encoding_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "prod.parameters.yaml"
    path.write_bytes("PostalAddress: Z\xfcrich".encode("latin-1"))
    with pytest.raises(ParametersError, match=r"prod\.parameters\.yaml is not UTF-8, from byte 16 on"):
        parameters.read(path)


# Before and after


def test_the_identity_is_made_once_and_its_records_are_those_of_the_region(
    aws: Aws, template: Template, recorded: Recorded
) -> None:
    recorded.answer(
        "sesv2.GetEmailIdentity",
        {"DkimAttributes": {"Tokens": ["t1"], "SigningHostedZone": "dkim.af-south-1.amazonses.com"}},
    )
    for _ in range(2):
        records = deploy.prepare(aws, {**GIVEN, "ReplyDomain": "reply.example.com"}, template)
    assert records == [
        "t1._domainkey.example.com CNAME t1.dkim.af-south-1.amazonses.com",
        '_dmarc.example.com TXT "v=DMARC1; p=none; rua=mailto:dmarc@example.com"',
        "t1._domainkey.reply.example.com CNAME t1.dkim.af-south-1.amazonses.com",
        "reply.example.com MX 10 inbound-smtp.us-east-1.amazonaws.com",
    ]


def test_further_identities_are_made_too(aws: Aws, template: Template) -> None:
    records = deploy.prepare(aws, {**GIVEN, "MoreSesIdentities": "example.org,ann@example.org"}, template)
    identities = aws.client("sesv2").list_email_identities()["EmailIdentities"]
    assert {each["IdentityName"] for each in identities} == {"example.com", "example.org", "ann@example.org"}
    assert [record for record in records if record.startswith("_dmarc.example.org")] == [
        '_dmarc.example.org TXT "v=DMARC1; p=none; rua=mailto:dmarc@example.org"'
    ]


DOMAINS = {"ReplyDomain": "reply.example.com", "TrackingDomain": "click.example.com"}


def test_identities_of_replies_and_of_tracking_are_made_and_their_records_printed(
    aws: Aws, template: Template, recorded: Recorded
) -> None:
    """No mail comes from them, so they want no DMARC."""
    recorded.answer("sesv2.GetEmailIdentity", {"DkimAttributes": {"Tokens": ["t1"], "SigningHostedZone": "z.example"}})
    records = deploy.prepare(aws, {**GIVEN, **DOMAINS}, template)
    identities = aws.client("sesv2").list_email_identities()["EmailIdentities"]
    assert {each["IdentityName"] for each in identities} == {"example.com", *DOMAINS.values()}
    assert [record for record in records if "DMARC" in record] == [
        '_dmarc.example.com TXT "v=DMARC1; p=none; rua=mailto:dmarc@example.com"'
    ]
    assert records[2:5] == [
        "t1._domainkey.reply.example.com CNAME t1.z.example",
        "t1._domainkey.click.example.com CNAME t1.z.example",
        "reply.example.com MX 10 inbound-smtp.us-east-1.amazonaws.com",
    ]
    assert records[5].startswith("click.example.com: let it answer by HTTPS and pass on to r.us-east-1.awstrack.me ")


def test_a_domain_that_mail_comes_from_too_is_verified_once(aws: Aws, template: Template, recorded: Recorded) -> None:
    recorded.answer("sesv2.GetEmailIdentity", {"DkimAttributes": {"Tokens": ["t1"]}})
    given = {**GIVEN, "ReplyDomain": "example.com", "TrackingDomain": "example.com"}
    records = deploy.prepare(aws, given, template)
    assert len([record for record in records if "_domainkey" in record]) == 1


def test_an_address_as_an_identity_wants_no_record_but_a_link_that_is_opened(aws: Aws, template: Template) -> None:
    wanted = deploy.prepare(aws, {**GIVEN, "SesIdentity": "ann@mail.example"}, template)
    assert wanted == ["ann@mail.example: open the link that SES has mailed to it"]


@pytest.mark.parametrize(
    ("attributes", "records"),
    [
        ({"SigningHostedZone": "dkim.us-gov-east-1.amazonses.com"}, ["t1.dkim.us-gov-east-1.amazonses.com"]),
        ({"SigningHostedZone": "x7.dkim.eu-west-1.amazonses.com"}, ["t1.x7.dkim.eu-west-1.amazonses.com"]),
        # The zone is never guessed, and a domain's own key is in no zone of SES.
        ({}, [f"t1.{UNKNOWN_ZONE}"]),
        ({"SigningAttributesOrigin": "EXTERNAL", "SigningHostedZone": "dkim.amazonses.com"}, []),
    ],
)
def test_the_zone_of_dkim_is_what_ses_says(attributes: dict[str, str], records: list[str]) -> None:
    found = dkim_records("example.com", {"DkimAttributes": {"Tokens": ["t1"], **attributes}})
    assert found == [f"t1._domainkey.example.com CNAME {record}" for record in records]


def test_the_role_that_rds_needs_is_made_where_it_is_missing(aws: Aws, template: Template, recorded: Recorded) -> None:
    deploy.prepare(aws, GIVEN, template)
    made = [params for name, params in recorded.calls if name == "iam.CreateServiceLinkedRole"]
    assert made == []
    recorded.answer("iam.GetRole", {"Error": {"Code": "NoSuchEntity", "Message": "not found"}}, 404)
    recorded.answer("iam.CreateServiceLinkedRole", {"Role": {}})
    deploy.prepare(aws, GIVEN, template)
    (made_with,) = [params for name, params in recorded.calls if name == "iam.CreateServiceLinkedRole"]
    assert made_with["body"]["AWSServiceName"] == "rds.amazonaws.com"


class Sam:
    """Stands for the programs: what they were called with, and the stack that they leave behind."""

    def __init__(self, session: boto3.Session, fails: bool = False) -> None:
        self.commands: list[Sequence[str]] = []
        self._session = session
        self._fails = fails

    def __call__(self, command: Sequence[str]) -> None:
        self.commands.append(command)
        if "deploy" not in command:
            return
        if self._fails:
            raise deploy.DeploymentFailed("sam has failed")
        outputs = {name: {"Value": f"https://{name.lower()}.example.com"} for name in OUTPUTS}
        resources = {"DatabaseInstance": {"Type": "AWS::SNS::Topic"}}
        cloudformation = self._session.client("cloudformation")
        body = json.dumps({"Resources": resources, "Outputs": outputs})
        if not cloudformation.list_stacks()["StackSummaries"]:
            cloudformation.create_stack(StackName="sendledger-prod", TemplateBody=body)


def test_only_a_failed_first_deployment_keeps_its_resources(aws: Aws, session: boto3.Session) -> None:
    sam = Sam(session)
    deploy.deploy_stack(aws, "prod", sam)
    deploy.deploy_stack(aws, "prod", sam)
    deploys = [list(each) for each in sam.commands if "deploy" in each]
    assert deploys[0][1:] == ["deploy", "--config-env", "prod", "--region", "us-east-1", "--disable-rollback"]
    assert "--disable-rollback" not in deploys[1]


def event(number: int, resource: str, reason: str | None = None) -> dict[str, Any]:
    """An event as CloudFormation reports it; with a reason it is a failure."""
    found = {"EventId": str(number), "LogicalResourceId": resource, "ResourceStatus": "CREATE_IN_PROGRESS"}
    return {**found, "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": reason} if reason else found


def failing(aws: Aws, session: boto3.Session, recorded: Recorded, *events: list[dict[str, Any]]) -> str:
    """What a deployment that fails says; `events` are those before it and those after it, the newest first."""

    def sam(command: Sequence[str]) -> None:
        if "deploy" in command:
            recorded.answer("cloudformation.DescribeStackEvents", {"StackEvents": events[1]})
        Sam(session, fails=True)(command)

    recorded.answer("cloudformation.DescribeStackEvents", {"StackEvents": events[0]})
    with pytest.raises(deploy.DeploymentFailed) as caught:
        deploy.deploy_stack(aws, "prod", sam)
    return str(caught.value)


def test_a_failed_deployment_shows_the_reason_of_cloudformation_and_what_to_do(
    aws: Aws, session: boto3.Session, recorded: Recorded
) -> None:
    events = [event(3, "Migration", "later"), event(2, "SesEndpoint", "The zone has no endpoint"), event(1, "Vpc")]
    text = failing(aws, session, recorded, [], events)
    assert text.index("SesEndpoint: The zone has no endpoint") < text.index("Migration: later")
    assert "run make deploy again" in text


def test_a_failure_of_an_earlier_try_is_not_shown_again(aws: Aws, session: boto3.Session, recorded: Recorded) -> None:
    earlier = [event(2, "SesEndpoint", "The zone has no endpoint"), event(1, "Vpc")]
    text = failing(aws, session, recorded, earlier, [event(3, "Migration", "now"), *earlier])
    assert ("Migration: now" in text, "SesEndpoint" in text) == (True, False)
    text = failing(aws, session, recorded, earlier, earlier)
    assert text.endswith("CloudFormation had not begun; the stack is as it was.")


def test_the_stacks_policy_keeps_the_database(aws: Aws, session: boto3.Session, template: Template) -> None:
    Sam(session)(["sam", "deploy"])
    deploy.finish(aws, GIVEN, template)
    policy = json.loads(
        session.client("cloudformation").get_stack_policy(StackName="sendledger-prod")["StackPolicyBody"]
    )
    (denied,) = (each for each in policy["Statement"] if each["Effect"] == "Deny")
    assert set(denied["Action"]) == {"Update:Replace", "Update:Delete"}
    kind, _, logical_id = denied["Resource"].partition("/")
    assert (kind, template.document["Resources"][logical_id]["Type"]) == ("LogicalResourceId", "AWS::RDS::DBInstance")


@pytest.mark.parametrize(("database", "policies"), [("create", 1), ("existing", 0)])
def test_a_policy_names_only_what_its_stack_has(
    aws: Aws, session: boto3.Session, recorded: Recorded, template: Template, database: str, policies: int
) -> None:
    """CloudFormation refuses any other. moto takes what it is given."""
    Sam(session)(["sam", "deploy"])
    given = {**GIVEN, "Database": database}
    deploy.finish(aws, given, template)
    made = [params["body"] for name, params in recorded.calls if name == "cloudformation.SetStackPolicy"]
    assert len(made) == policies
    values, resources = Values(template.document, given, "us-east-1", {}, {}, {}), template.document["Resources"]
    for policy in made:
        named = re.findall(r"LogicalResourceId/(\w+)", policy["StackPolicyBody"])
        assert [name for name in named if values.is_made(resources[name], name)] == named != []


def test_the_databases_logs_are_forgotten_in_time(aws: Aws, session: boto3.Session, template: Template) -> None:
    Sam(session)(["sam", "deploy"])
    for _ in range(2):
        deploy.finish(aws, {**GIVEN, "LogRetentionDays": "90"}, template)
    groups = session.client("logs").describe_log_groups(logGroupNamePrefix="/aws/rds/instance/")["logGroups"]
    assert [(each["logGroupName"].rpartition("/")[2], each["retentionInDays"]) for each in groups] == [
        ("postgresql", 90),
        ("upgrade", 90),
    ]


# The whole path


NOTHING_CHANGED = "The stack is as it was: nothing had to change, or the changes were not confirmed."


@pytest.fixture
def in_account(session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command works in the account of `session`."""
    monkeypatch.setattr(command, "_aws", lambda stage, region: Aws(region, f"sendledger-{stage}", session))


@pytest.mark.usefixtures("in_account")
def test_the_guided_path_deploys_and_shows_the_first_key_once(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.answer("sesv2.GetEmailIdentity", {"DkimAttributes": {"Tokens": ["t1"]}})
    recorded.answer("lambda.Invoke", {"Payload": io.BytesIO(b'{"key": "sl_first"}')})
    sam = Sam(session)
    assert command.main([], Person(), sam) == 0
    written = yaml.safe_load((folder / "prod.parameters.yaml").read_text())
    # Those of the region that have the endpoint.
    assert written["AvailabilityZones"] == "us-east-1a,us-east-1b"
    printed = capsys.readouterr().out
    for text in ("sl_first", "https://apiurl.example.com/v1/docs", "_dmarc.example.com TXT", "_domainkey.example.com"):
        assert text in printed
    assert printed.count("To be done so that SES can send") == 2
    assert NOTHING_CHANGED not in printed
    recorded.answer("lambda.Invoke", {"Payload": io.BytesIO(b'{"key": null}')})
    assert command.main([], nobody, sam) == 0
    printed = capsys.readouterr().out
    assert "first API key" not in printed
    # A person who does not confirm the changes of an upgrade leaves the same.
    assert NOTHING_CHANGED in printed


@pytest.mark.usefixtures("in_account")
def test_changes_that_the_person_does_not_confirm_are_no_deployment(
    folder: Path, aws: Aws, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    def sam(arguments: Sequence[str]) -> None:  # it ends without an error
        if "deploy" in arguments:
            propose(aws)

    assert command.main([], Person(), sam) == 1
    assert capsys.readouterr().err == ("Nothing was deployed: the changes were not confirmed. Run make deploy again.\n")
    assert not {"lambda.Invoke", "cloudformation.SetStackPolicy"} & {name for name, _ in recorded.calls}


@pytest.mark.usefixtures("in_account")
def test_a_second_try_that_changes_nothing_is_no_deployment_either(
    folder: Path, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    stack_id = "arn:aws:cloudformation:us-east-1:123456789012:stack/sendledger-prod/1"
    stack = {"StackName": "sendledger-prod", "StackId": stack_id, "StackStatus": "CREATE_FAILED"}
    recorded.answer("cloudformation.DescribeStacks", {"Stacks": [stack]})
    recorded.answer("cloudformation.DescribeStackEvents", {"StackEvents": [event(1, "Migration", "refused")]})
    assert command.main([], Person(), lambda arguments: None) == 1
    said = capsys.readouterr().err
    assert "The stack is still CREATE_FAILED. Run make deploy again and confirm the changes." in said
    assert not {"lambda.Invoke", "cloudformation.SetStackPolicy"} & {name for name, _ in recorded.calls}


@pytest.mark.usefixtures("in_account")
def test_nothing_is_to_be_done_for_an_address_that_ses_has_verified(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    address = {"SenderFromAddress": "ann@example.net", "SesIdentity": "ann@example.net", "Network": "create"}
    parameters.write(folder / "prod.parameters.yaml", {**GIVEN, **address})
    recorded.answer("sesv2.GetEmailIdentity", {"VerifiedForSendingStatus": True})
    recorded.answer("lambda.Invoke", {"Payload": io.BytesIO(b'{"key": null}')})
    assert command.main([], nobody, Sam(session)) == 0
    assert "To be done" not in capsys.readouterr().out


@pytest.mark.usefixtures("in_account")
def test_a_first_key_is_shown_although_an_earlier_try_left_the_stack_and_a_later_step_fails(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    sam = Sam(session)
    sam(["sam", "deploy"])
    recorded.answer("lambda.Invoke", {"Payload": io.BytesIO(b'{"key": "sl_first"}')})
    denied = {"Error": {"Code": "AccessDenied", "Message": "cloudformation:SetStackPolicy"}}
    recorded.answer("cloudformation.SetStackPolicy", denied, 403)
    assert command.main([], Person(), sam) == 1
    assert "sl_first" in capsys.readouterr().out


@pytest.mark.usefixtures("in_account")
def test_the_database_is_protected_although_no_key_could_be_made(
    folder: Path, session: boto3.Session, recorded: Recorded
) -> None:
    recorded.answer("lambda.Invoke", {"FunctionError": "Unhandled", "Payload": io.BytesIO(b"{}")})
    assert command.main([], Person(), Sam(session)) == 1
    assert "cloudformation.SetStackPolicy" in [name for name, _ in recorded.calls]


@pytest.mark.usefixtures("in_account")
def test_an_existing_database_that_the_file_leaves_out_is_not_looked_for_in_the_stack(
    folder: Path, session: boto3.Session, recorded: Recorded
) -> None:
    kept = {"Database": "existing", "DatabaseHost": "db.example.com", "DatabaseIamAuth": "false"}
    kept |= {"DatabaseSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:db", "DatabaseUsers": "one"}
    stack = {
        "Parameters": {name: {"Type": "String", "Default": value} for name, value in kept.items()},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": "https://example.com"} for name in OUTPUTS},
    }
    session.client("cloudformation").create_stack(StackName="sendledger-prod", TemplateBody=json.dumps(stack))
    recorded.answer("lambda.Invoke", {"Payload": io.BytesIO(b'{"key": null}')})
    assert command.main([], Person(Network="none"), Sam(session)) == 0
    assert "cloudformation.DescribeStackResource" not in [name for name, _ in recorded.calls]


@pytest.mark.usefixtures("in_account")
def test_a_check_that_fails_ends_it_before_anything_is_made(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.answer("sesv2.GetAccount", {"SendingEnabled": False})
    sam = Sam(session)
    assert command.main([], Person(), sam) == 1
    assert "Nothing was deployed." in capsys.readouterr().out
    assert sam.commands == []
    assert "sesv2.CreateEmailIdentity" not in [name for name, _ in recorded.calls]


@pytest.mark.usefixtures("in_account")
def test_a_deployment_waits_until_ses_has_verified_the_tracking_domain(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    """SES would refuse the configuration set, and the stack would fail."""
    parameters.write(folder / "prod.parameters.yaml", {**GIVEN, **DOMAINS, "Network": "create"})
    recorded.answer("sesv2.GetEmailIdentity", {"DkimAttributes": {"Tokens": ["t1"]}})
    sam = Sam(session)
    assert command.main([], nobody, sam) == 1
    printed = capsys.readouterr()
    assert "SES has not verified click.example.com yet, so nothing was deployed" in printed.err
    assert "._domainkey.click.example.com CNAME " in printed.out
    assert sam.commands == []
    recorded.answer("sesv2.GetEmailIdentity", {"VerifiedForSendingStatus": True})
    recorded.answer("lambda.Invoke", {"Payload": io.BytesIO(b'{"key": null}')})
    assert command.main([], nobody, sam) == 0
    assert sam.commands != []


def test_a_tracking_domain_that_the_stack_has_already_holds_no_deployment_up(
    aws: Aws, session: boto3.Session, template: Template
) -> None:
    parameter = {"Type": "String", "Default": "click.example.com"}
    stack = {"Parameters": {"TrackingDomain": parameter}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    session.client("cloudformation").create_stack(StackName=aws.stack_name, TemplateBody=json.dumps(stack))
    other = {**GIVEN, "TrackingDomain": "links.example.com"}
    for given in ({**GIVEN, **DOMAINS}, other):
        deploy.prepare(aws, given, template)
    deploy.refuse_unverified_tracking(aws, {**GIVEN, **DOMAINS}, template)
    with pytest.raises(deploy.DeploymentFailed, match=r"links\.example\.com"):
        deploy.refuse_unverified_tracking(aws, other, template)


@pytest.mark.usefixtures("in_account")
def test_each_check_can_be_made_alone(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters.write(parameters.file_of("dev"), GIVEN)
    for arguments in (["check", "sandbox", "--stage", "dev"], ["check", "--stage", "dev", "sandbox"]):
        recorded.calls.clear()
        assert command.main(arguments) == 0
        assert [name for name, _ in recorded.calls] == ["sesv2.GetAccount"]
        assert "14 emails a second" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main(["check", "weather"])


@pytest.mark.usefixtures("in_account")
def test_without_credentials_nothing_else_is_asked(folder: Path, session: boto3.Session, recorded: Recorded) -> None:
    parameters.write(parameters.file_of("prod"), GIVEN)
    recorded.answer("sts.GetCallerIdentity", {"Error": {"Code": "ExpiredToken", "Message": "expired"}}, 403)
    assert command.main(["check"]) == 1
    assert [name for name, _ in recorded.calls] == ["sts.GetCallerIdentity"]


def test_a_first_key_that_could_not_be_created_is_reported(
    aws: Aws, session: boto3.Session, recorded: Recorded
) -> None:
    Sam(session)(["sam", "deploy"])
    failed: dict[str, Any] = {"errorType": "LoginRefused", "errorMessage": "no"}
    recorded.answer("lambda.Invoke", {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(failed).encode())})
    with pytest.raises(deploy.DeploymentFailed, match="LoginRefused: no"):
        deploy.make_first_key(aws)


def test_a_first_key_is_asked_for_once_and_waited_for_as_long_as_its_function_may_run(
    aws: Aws, session: boto3.Session, recorded: Recorded, template: Template
) -> None:
    Sam(session)(["sam", "deploy"])
    recorded.answer("lambda.Invoke", {"Error": {"Code": "ServiceException", "Message": "busy"}}, 500)
    with pytest.raises(deploy.DeploymentFailed, match=r"(?s)is lost: .*busy.*step 5"):
        deploy.make_first_key(aws)
    (asked,) = [params for name, params in recorded.calls if name == "lambda.Invoke"]
    assert json.loads(asked["body"])["only_first"] is True
    config = asked["context"]["client_config"]
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout >= template.document["Resources"]["MigrateFunction"]["Properties"]["Timeout"]


def test_only_the_checks_that_ask_aws_want_a_region(
    folder: Path,
    session: boto3.Session,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setattr(boto3, "Session", lambda: session)
    monkeypatch.setattr(type(session), "region_name", None)
    command.main(["check", "python"])
    assert "Python 3.13" in capsys.readouterr().out
    for arguments in (["check"], ["check", "python", "names"]):
        assert command.main(arguments) == 1
        assert "No region" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["check"]])
def test_a_region_of_the_file_that_is_none_is_named_before_aws_is_asked(
    folder: Path, recorded: Recorded, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    parameters.write(parameters.file_of("prod"), {**GIVEN, "Region": "Frankfurt"})
    assert command.main(arguments, nobody) == 1
    assert capsys.readouterr().err == "Region is 'Frankfurt'; it must be the name of one, such as eu-central-1.\n"
    assert recorded.calls == []


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "network"]])
@pytest.mark.parametrize("region", ["cn-north-1", "cn-northwest-1"])
@pytest.mark.parametrize("told_by", ["the file", "the environment"])
def test_a_region_without_ses_is_refused_before_aws_is_asked(
    folder: Path,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    region: str,
    told_by: str,
) -> None:
    given = dict(GIVEN)
    if told_by == "the file":
        given["Region"] = region
    else:
        del given["Region"]
        monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    parameters.write(parameters.file_of("prod"), given)
    before = parameters.file_of("prod").read_text()
    assert command.main(arguments, nobody) == 1
    assert capsys.readouterr().err == (
        f"Region is {region!r}, in AWS China, where there is no SES; choose another one.\n"
    )
    assert recorded.calls == []
    assert parameters.file_of("prod").read_text() == before


@pytest.mark.parametrize("region", ["us-gov-west-1", "eu-central-1", "eu-nowhere-9"])
def test_region_with_ses_and_one_that_is_not_known_yet_are_taken(template: Template, region: str) -> None:
    assert template.problem("Region", region) is None


@pytest.mark.usefixtures("in_account")
def test_keys_of_a_stack_that_the_file_has_lost_are_not_replaced(
    folder: Path, session: boto3.Session, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"Type": "String", "NoEcho": True, "Default": "k1:c2VjcmV0"}
    stack = {"Parameters": {"UnsubscribeKeys": keys}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    session.client("cloudformation").create_stack(StackName="sendledger-prod", TemplateBody=json.dumps(stack))
    assert command.main([], Person(), Sam(session)) == 1
    assert "UnsubscribeKeys is missing in prod.parameters.yaml" in capsys.readouterr().err
    assert not (folder / "prod.parameters.yaml").exists()
