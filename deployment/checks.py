"""What can be known before a deployment begins: each check asks AWS or this machine and says what it found.

A check changes nothing. What cannot be asked, for a missing permission as a rule, is a warning: the deployment itself
will show it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from email.utils import parseaddr
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from deployment.aws import Aws, code_of, exists
from deployment.database_checks import check_database
from deployment.dns_records import dkim_records
from deployment.findings import Check, Finding, Level
from deployment.network_checks import OWN_NETWORKS, check_network
from deployment.parameters import KEYS, Template, list_of
from local.cloudformation import TemplateError
from local.template import read_template
from sendledger.core import settings
from sendledger.core.errors import SettingsError

LAMBDA_PYTHON = "python3.13"
FEW_AT_ONCE = 100
"""Lambda requires this many to stay unreserved. Many new accounts have only ten in all."""
MOST_SETTINGS = 4096
"""Bytes of a function's settings as JSON: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
KEPT_FOR_NAMES = 396
"""Bytes of them for names, hosts and ARNs that a deployment makes. They are longer than those used here."""

MOST_IN_POLICIES = 10_240
"""Characters of all policies of a role: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""

# https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
VPCS = ("vpc", "L-F678F1CE")
EGRESS_ONLY_GATEWAYS = ("vpc", "L-45FE3B85")

_NEW_DATABASE = "CloudFormation would make a new, empty database for it, or take the network from under the old one."
FIXED: Mapping[str, str] = {
    "Database": _NEW_DATABASE,
    "DatabaseName": _NEW_DATABASE,
    "DatabasePort": _NEW_DATABASE,
    "VpcId": _NEW_DATABASE,
    "VpcCidr": _NEW_DATABASE,
    "AvailabilityZones": _NEW_DATABASE,
    "DeploymentId": "The sender would refuse its own database, which remembers the former name.",
    "SesConfigurationSet": "Bounces and complaints about mail that is out would be dropped.",
}
"""Parameters that keep the value of the first deployment, and why."""
_USERS = "The users of the database were made for it, and afterwards nobody can log in by password to make others."
OF_A_CREATED_DATABASE: Mapping[str, str] = {"DatabaseUser": _USERS, "DatabaseIamAuth": _USERS}
"""The same, where the stack has created the database."""


def check_python(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """`make build` makes what Lambda runs, with Lambda's own Python."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(LAMBDA_PYTHON), *pyenv.glob(f"versions/3.13.*/bin/{LAMBDA_PYTHON}")]
    # A shim of pyenv is there also for a version that is not chosen.
    found = next((each for each in candidates if each and _runs(each, "-c", "")), None)
    if found is None:
        yield Finding("error", "Python 3.13, which Lambda runs, is neither on the PATH nor in pyenv: install it.")
    elif not _runs(found, "-m", "pip", "--version"):
        yield Finding("error", f"{found} has no pip, which make build needs: install it.")
    else:
        yield Finding("ok", f"Python 3.13, which Lambda runs, is {found}.")


def _runs(python: str | Path, *arguments: str) -> bool:
    try:
        subprocess.run([python, *arguments], capture_output=True, check=True)  # noqa: S603 (a path that was looked up)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def check_parameters(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    problems = template.problems(given, aws.parameters())
    yield from (Finding("error", problem) for problem in problems)
    address = parseaddr(given.get("SenderFromAddress", ""))[1].lower()
    identity = given.get("SesIdentity", "").lower()
    if address and identity and address != identity and not f".{address.replace('@', '.')}".endswith(f".{identity}"):
        yield Finding("error", f"SenderFromAddress: {address} is not covered by SesIdentity, which is {identity}.")
        return
    wrong = [
        (name, each)
        for name in ("SesIdentity", "MoreSesIdentities")
        for each in given.get(name, "").split(",")
        if _has_capital_domain(each)
    ]
    for name, each in wrong:
        mailbox, at, domain = each.rpartition("@")
        text = f"IAM compares letters as they are, so nothing could be sent. Write {mailbox}{at}{domain.lower()}."
        yield Finding("error", f"{name}: {each} has capital letters in its domain. {text}")
    if not (problems or wrong):
        yield Finding("ok", "The parameters are what the template takes.")


def _has_capital_domain(identity: str) -> bool:
    domain = identity.rpartition("@")[2]
    return domain != domain.lower()


def check_credentials(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    caller = aws.client("sts").get_caller_identity()
    yield Finding("ok", f"Account {caller['Account']}, region {aws.region}, as {caller['Arn']}.")


def check_settings(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """What the functions would refuse when they start, although CloudFormation takes it."""
    # CloudFormation does not show the keys of a stack.
    given = template.in_effect({KEYS: f"k1:{'0' * 43}=", **given}, aws.parameters())
    functions = read_template(template.path, given, aws.region, _ONLY_ON_AWS).functions.values()
    environment = {name: value for each in functions for name, value in each.environment.items()}
    found = set[str]()
    for function in functions:
        measured = json.dumps(dict(function.environment), ensure_ascii=False, separators=(",", ":"))
        size, most = len(measured.encode()), MOST_SETTINGS - KEPT_FOR_NAMES
        if size > most:
            text = f"its settings have {size} bytes, and {most} is the most: Lambda takes {MOST_SETTINGS}"
            found.add(f"{function.logical_id}: {text}, with the names that a deployment makes")
    for of_a_function in _SETTINGS:
        try:
            of_a_function.read(environment)
        except SettingsError as error:
            found |= set(re.split("; (?=[A-Z_]+: )", str(error).removeprefix("Bad settings: ")))
    reserved, senders = (
        int(template.value(given, name)) for name in ("SenderReservedConcurrency", "SenderConcurrency")
    )
    if 0 < reserved < senders:
        found.add(f"SenderReservedConcurrency: {reserved} is below SenderConcurrency, which is {senders}")
    taken, most = _named_in_policies(given, template)
    if taken > most:
        text = f"with TestSendAddresses it takes {taken} characters in the policies of a role, and {most} is the most"
        found.add(f"MoreSesIdentities: {text}")
    for problem in sorted(found):
        name, _, said = problem.partition(": ")
        parameter = name.title().replace("_", "") if name.isupper() else name
        yield Finding("error", f"{parameter}: {said}.")
    if not found:
        yield Finding("ok", "The functions take their settings.")


def _named_in_policies(given: Mapping[str, str], template: Template) -> tuple[int, int]:
    """The characters of what a role may send from and to, and how many fit beside its other policies.

    The policies name each identity in three forms, and the addresses of test emails twice.
    """
    own = [form.format(each) for form in ("{}", "*@{}", "*@*.{}") for each in template.identities(given)]
    tests = list_of(template.value(given, "TestSendAddresses"))
    others = 3_500 if tests else 2_200  # of the API, or of the sender
    return len(json.dumps([own, tests, tests], separators=(",", ":"))), MOST_IN_POLICIES - others


_ONLY_ON_AWS = {"DATABASE_HOST": "db.example.com", "DATABASE_SECRET_ARN": "arn:", "DATABASE_ADMIN_SECRET_ARN": "arn:"}
"""Variables whose values a deployment makes."""
_SETTINGS = (
    settings.ApiSettings,
    settings.DatabaseSettings,
    settings.ReplySettings,
    settings.RetentionSettings,
    settings.SenderSettings,
    settings.TokenSettings,
    settings.UnsubscribeSettings,
)


def check_unchanged(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """Parameters that must keep the value of the first deployment."""
    if not aws.is_complete():
        yield Finding("ok", f"There is no stack {aws.stack_name} in use yet.")
        return
    before = aws.parameters()
    created = before.get("Database") != "existing"
    fixed = {**FIXED, **(OF_A_CREATED_DATABASE if created else {})}
    changed = {name: value for name, value in given.items() if value != before.get(name, value)}
    found = [
        Finding("error", f"{name} is {before[name]!r} and must stay so, not become {changed[name]!r}: {reason}")
        for name, reason in fixed.items()
        if name in changed
    ]
    if "Network" in changed and not {changed["Network"], before["Network"]} <= OWN_NETWORKS:
        text = f"Network is {before['Network']!r} and cannot become {changed['Network']!r}: {_NEW_DATABASE}"
        found.append(Finding("error", text))
    if created:
        found += _changes_of_a_created_database(changed, before)
    yield from found
    if not any(finding.level == "error" for finding in found):
        yield Finding("ok", "What must not change has not changed.")


def _changes_of_a_created_database(changed: Mapping[str, str], before: Mapping[str, str]) -> Iterator[Finding]:
    version, deployed = changed.get("DatabaseVersion"), before.get("DatabaseVersion", "")
    if version and int(version) < int(deployed):
        yield Finding("error", f"DatabaseVersion is {deployed}; RDS takes no database back to {version}.")
    elif version:
        text = f"DatabaseVersion: the database is upgraded from {deployed} to {version}, with minutes of interruption"
        yield Finding("warning", f"{text} and no way back but a snapshot.")
    storage, has = changed.get("DatabaseStorage"), before.get("DatabaseStorage", "")
    if storage and int(storage) < int(has):
        yield Finding("error", f"DatabaseStorage is {has}; RDS makes no database smaller.")


def check_names(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """Names that a first deployment needs and that are taken."""
    stack = aws.stack()
    if stack is not None:
        yield _finding_of_stack(aws.stack_name, stack["StackStatus"])
        return
    is_taken = False
    for text in _taken_names(aws, template.value(given, "SesConfigurationSet")):
        is_taken = True
        yield Finding("error", text)
    if not is_taken:
        yield Finding("ok", "No name is taken.")


def _taken_names(aws: Aws, configuration_set: str) -> Iterator[str]:
    find_set = functools.partial(aws.client("sesv2").get_configuration_set, ConfigurationSetName=configuration_set)
    if exists(find_set, "NotFoundException"):
        yield f"SesConfigurationSet: this account has a configuration set {configuration_set}; choose another name."
    find = aws.client("lambda").get_function
    for function in (f"{aws.stack_name}-sender", f"{aws.stack_name}-lead-import"):
        if exists(functools.partial(find, FunctionName=function), "ResourceNotFoundException"):
            yield f"There is a function {function} already, which is not this stack's: delete it."
    prefix = f"/aws/vendedlogs/{aws.stack_name}/"
    for group in aws.client("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]:
        yield f"There is a log group {group['logGroupName']} already: delete it."


def _finding_of_stack(name: str, status: str) -> Finding:
    text, where = f"The stack {name} is {status}", "(docs/operations/deploy.md, If the first deployment fails)"
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"):
        return Finding("error", f"{text}: delete it first {where}.")
    if status == "UPDATE_ROLLBACK_FAILED":
        return Finding("error", f"{text}: let CloudFormation end that first {where}.")
    if status.endswith("_IN_PROGRESS"):
        return Finding("error", f"{text}: wait until that is over.")
    return Finding("ok", f"{text}.")


def check_identity(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    given = template.in_effect(given, aws.parameters())
    for name in template.identities(given):
        yield _check_identity(aws, name, "no campaign can start from it")
    for domain, missing in template.other_domains(given).items():
        yield _check_identity(aws, domain, missing)


def _check_identity(aws: Aws, name: str, missing: str) -> Finding:
    """`missing` is what does not work before SES has verified the identity."""
    try:
        identity = aws.client("sesv2").get_email_identity(EmailIdentity=name)
    except ClientError as error:
        if code_of(error) != "NotFoundException":
            raise
        then = "SES then mails a link to it" if "@" in name else "prints its DNS records"
        return Finding("warning", f"SES has no identity {name}; make deploy makes it, and {then}.")
    if identity.get("VerifiedForSendingStatus"):
        return Finding("ok", f"SES has verified {name}.")
    text = f"{name} is not verified yet; {missing} before that."
    if "@" in name:
        return Finding("warning", f"{text} Open the link that SES has mailed to it.")
    records = "".join(f"\n    {record}" for record in dkim_records(name, identity))
    return Finding("warning", f"{text} Its records:{records or ' those that the SES console shows.'}")


def check_sandbox(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    account = aws.client("sesv2").get_account()
    if not account.get("SendingEnabled", True) or account.get("EnforcementStatus") == "SHUTDOWN":
        yield Finding("error", "SES does not let this account send in this region.")
    elif not account.get("ProductionAccessEnabled", False):
        text = "SES has this account in its sandbox: mail goes to verified addresses and domains only, 200 a day."
        yield Finding("warning", f"{text} Ask for production access (docs/operations/deploy.md).")
    else:
        yield Finding("ok", f"SES lets this account send {account['SendQuota']['MaxSendRate']:g} emails a second.")


def check_quotas(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    given = template.in_effect(given, aws.parameters())
    if aws.stack() is None and template.value(given, "Network") in OWN_NETWORKS:
        ec2 = aws.client("ec2")
        used = len(ec2.describe_vpcs()["Vpcs"])
        yield _quota(aws, VPCS, used, "VPCs")
        if template.value(given, "Network") == "dual-stack":
            gateways = len(ec2.describe_egress_only_internet_gateways()["EgressOnlyInternetGateways"])
            yield _quota(aws, EGRESS_ONLY_GATEWAYS, gateways, "egress-only gateways")
    limit = aws.client("lambda").get_account_settings()["AccountLimit"]
    reserved = int(template.value(given, "SenderReservedConcurrency"))
    at_once, free = limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]
    if reserved and free - reserved < FEW_AT_ONCE:
        text = f"SenderReservedConcurrency: of {free} functions at once Lambda wants {FEW_AT_ONCE} left"
        yield Finding("error", f"{text} unreserved; use 0, or ask for more in Service Quotas.")
    elif at_once < FEW_AT_ONCE:
        text = f"Lambda lets this account run {at_once} functions at once, the API and the sender together."
        yield Finding("warning", f"{text} Ask for more in Service Quotas (Lambda, Concurrent executions).")
    else:
        yield Finding("ok", f"Lambda lets this account run {at_once} functions at once.")


def _quota(aws: Aws, quota: tuple[str, str], used: int, what: str) -> Finding:
    service, code = quota
    try:
        found = aws.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
    except ClientError as error:
        return Finding("warning", f"There are {used} {what}; how many there may be was not told ({code_of(error)}).")
    most = int(found["Quota"]["Value"])
    if used >= most:
        return Finding(
            "error", f"There are {used} {what} of {most}: ask for more in Service Quotas, or use one of them."
        )
    return Finding("ok", f"There are {used} {what} of {most}.")


CHECKS: Mapping[str, Check] = {
    "python": check_python,
    "credentials": check_credentials,
    "parameters": check_parameters,
    "settings": check_settings,
    "unchanged": check_unchanged,
    "names": check_names,
    "identity": check_identity,
    "sandbox": check_sandbox,
    "network": check_network,
    "quotas": check_quotas,
    "database": check_database,
}
LOCAL = {"python"}
"""Checks of this machine, which ask AWS nothing."""


def findings(name: str, aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """What one check finds. An error of AWS is a finding, too, after those from before it."""
    try:
        yield from CHECKS[name](aws, given, template)
    except ClientError as error:
        # What AWS calls invalid is not there, whoever asks.
        is_wrong = name == "credentials" or code_of(error).startswith("Invalid")
        level: Level = "error" if is_wrong else "warning"
        said = f"{code_of(error)}: {error.response['Error'].get('Message')}"
        yield Finding(level, f"{name}: AWS did not tell ({said}).")
    except BotoCoreError as error:
        yield Finding("error", f"{name}: AWS could not be asked: {error}")
    except KeyError as error:
        yield Finding("error", f"{name}: {error.args[0]} is missing.")
    except (TemplateError, ValueError) as error:
        yield Finding("error", f"{name}: not looked at, because a parameter is wrong: {error}.")
