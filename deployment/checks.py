"""What can be known before a deployment begins: each check asks AWS or this machine and says what it found.

A check changes nothing. What cannot be asked, for a missing permission as a rule, is a warning: the deployment itself
will show it.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from typing import Literal

from botocore.exceptions import BotoCoreError, ClientError

from deployment.aws import Aws, code_of
from deployment.dns_records import dkim_records
from deployment.parameters import Template

Level = Literal["ok", "warning", "error"]

LAMBDA_PYTHON = "python3.13"
FEW_AT_ONCE = 100
"""Lambda requires this many to stay unreserved. Many new accounts have only ten in all."""
FREE_ADDRESSES = 8
RDS_ROLE = "AWSServiceRoleForRDS"

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
OWN_NETWORKS = {"create", "dual-stack"}
"""These two can be exchanged for each other."""


@dataclass(frozen=True)
class Finding:
    level: Level
    text: str


Check = Callable[[Aws, Mapping[str, str], Template], Iterator[Finding]]


def check_python(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """`make build` makes what Lambda runs, with Lambda's own Python."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = next(pyenv.glob(f"versions/3.13.*/bin/{LAMBDA_PYTHON}"), None) or shutil.which(LAMBDA_PYTHON)
    if found:
        yield Finding("ok", f"Python 3.13, which Lambda runs, is {found}.")
    else:
        yield Finding("error", "Python 3.13, which Lambda runs, is neither on the PATH nor in pyenv: install it.")


def check_parameters(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    problems = template.problems(given, aws.parameters())
    yield from (Finding("error", problem) for problem in problems)
    address = parseaddr(given.get("SenderFromAddress", ""))[1].lower()
    identity = given.get("SesIdentity", "").lower()
    if address and identity and address != identity and not f".{address.replace('@', '.')}".endswith(f".{identity}"):
        yield Finding("error", f"SenderFromAddress: {address} is not covered by SesIdentity, which is {identity}.")
    elif not problems:
        yield Finding("ok", "The parameters are what the template takes.")


def check_credentials(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    caller = aws.client("sts").get_caller_identity()
    yield Finding("ok", f"Account {caller['Account']}, region {aws.region}, as {caller['Arn']}.")


def check_unchanged(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """Parameters that must keep the value of the first deployment."""
    if not aws.is_complete():
        yield Finding("ok", f"There is no stack {aws.stack_name} in use yet.")
        return
    before = aws.parameters()
    changed = [name for name in FIXED if name in given and name in before and given[name] != before[name]]
    for name in changed:
        yield Finding(
            "error", f"{name} is {before[name]!r} and must stay so, not become {given[name]!r}: {FIXED[name]}"
        )
    network, former = given.get("Network"), before.get("Network")
    if network and former and network != former and not {network, former} <= OWN_NETWORKS:
        yield Finding("error", f"Network is {former!r} and cannot become {network!r}: {_NEW_DATABASE}")
        changed.append("Network")
    version, deployed = given.get("DatabaseVersion"), before.get("DatabaseVersion")
    if version and deployed and int(version) < int(deployed):
        yield Finding("error", f"DatabaseVersion is {deployed}; RDS takes no database back to {version}.")
    elif version and deployed and version != deployed:
        text = (
            f"DatabaseVersion: the database is upgraded from {deployed} to {version}, with minutes of interruption and"
        )
        yield Finding("warning", f"{text} no way back but a snapshot.")
    if not changed:
        yield Finding("ok", "What must not change has not changed.")


def check_names(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """Names that a first deployment needs and that are taken."""
    stack = aws.stack()
    if stack is not None and stack["StackStatus"] in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"):
        text = f"The stack {aws.stack_name} is {stack['StackStatus']}: delete it first"
        yield Finding("error", f"{text} (docs/operations/deploy.md, If the first deployment fails).")
        return
    if stack is not None:
        yield Finding("ok", f"The stack {aws.stack_name} is {stack['StackStatus']}.")
        return
    taken = []
    name = template.value(given, "SesConfigurationSet")
    if _exists(lambda: aws.client("sesv2").get_configuration_set(ConfigurationSetName=name), "NotFoundException"):
        taken.append(f"SesConfigurationSet: this account has a configuration set {name}; choose another name.")
    find = aws.client("lambda").get_function
    taken += [
        f"There is a function {function} already, which is not this stack's: delete it."
        for function in (f"{aws.stack_name}-sender", f"{aws.stack_name}-lead-import")
        if _exists(functools.partial(find, FunctionName=function), "ResourceNotFoundException")
    ]
    yield from (Finding("error", text) for text in taken)
    if not taken:
        yield Finding("ok", "No name is taken.")


def _exists(ask: Callable[[], object], missing: str) -> bool:
    try:
        ask()
    except ClientError as error:
        if code_of(error) == missing:
            return False
        raise
    return True


def check_identity(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    for name in template.identities(template.in_effect(given, aws.parameters())):
        yield _check_identity(aws, name)


def _check_identity(aws: Aws, name: str) -> Finding:
    try:
        identity = aws.client("sesv2").get_email_identity(EmailIdentity=name)
    except ClientError as error:
        if code_of(error) != "NotFoundException":
            raise
        return Finding("warning", f"SES has no identity {name}; make deploy makes it and prints its DNS records.")
    if identity.get("VerifiedForSendingStatus"):
        return Finding("ok", f"SES has verified {name}.")
    records = "".join(f"\n    {record}" for record in dkim_records(name.rpartition("@")[2], identity))
    text = f"{name} is not verified yet; no campaign can start from it before that. Its records:{records}"
    return Finding("warning", text)


def check_sandbox(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    account = aws.client("sesv2").get_account()
    if not account.get("SendingEnabled", True) or account.get("EnforcementStatus") == "SHUTDOWN":
        yield Finding("error", "SES does not let this account send in this region.")
    elif not account.get("ProductionAccessEnabled", False):
        text = "SES has this account in its sandbox: mail goes to verified addresses and domains only, 200 a day."
        yield Finding("warning", f"{text} Ask for production access (docs/operations/deploy.md).")
    else:
        yield Finding("ok", f"SES lets this account send {account['SendQuota']['MaxSendRate']:g} emails a second.")


def check_network(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """Whether AWS's services can be reached from where the functions will run."""
    given = template.in_effect(given, aws.parameters())
    network = template.value(given, "Network")
    if network == "create":
        yield from _check_endpoints(aws, given, template)
    elif network == "dual-stack":
        host = f"email.{aws.region}.api.aws"
        try:
            socket.getaddrinfo(host, 443, socket.AF_INET6)
        except OSError:
            yield Finding("warning", f"{host} has no IPv6 address, as seen from here; look whether SES has one there.")
        else:
            yield Finding("ok", f"{host} has an IPv6 address.")
    elif network == "existing":
        subnets = aws.client("ec2").describe_subnets(SubnetIds=given.get("VpcSubnetIds", "").split(","))["Subnets"]
        for subnet in subnets:
            free = subnet["AvailableIpAddressCount"]
            level: Level = "ok" if free >= FREE_ADDRESSES else "error"
            yield Finding(
                level, f"The subnet {subnet['SubnetId']} has {free} free addresses, of {FREE_ADDRESSES} needed."
            )


def zones_with_endpoints(aws: Aws, given: Mapping[str, str], template: Template) -> list[str]:
    """The region's zones in which each endpoint that the network needs can be made."""
    services = ["email", "secretsmanager", *(["lambda"] if template.value(given, "SenderConcurrency") != "1" else [])]
    ec2 = aws.client("ec2")
    zones = [each["ZoneName"] for each in ec2.describe_availability_zones()["AvailabilityZones"]]
    for service in services:
        name = f"com.amazonaws.{aws.region}.{service}"
        try:
            details = ec2.describe_vpc_endpoint_services(ServiceNames=[name])["ServiceDetails"]
        except ClientError as error:
            if code_of(error) != "InvalidServiceName":
                raise
            return []
        offered = {zone for each in details for zone in each["AvailabilityZones"]}
        zones = [zone for zone in zones if zone in offered]
    return zones


def _check_endpoints(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    zones = zones_with_endpoints(aws, given, template)
    ec2 = aws.client("ec2")
    all_zones = [each["ZoneName"] for each in ec2.describe_availability_zones()["AvailabilityZones"]]
    chosen = [zone for zone in template.value(given, "AvailabilityZones").split(",") if zone] or all_zones[:2]
    needed = chosen if template.value(given, "HighAvailability") == "true" else chosen[:1]
    if not zones:
        yield Finding("error", f"{aws.region} has no endpoints of SES and Secrets Manager: choose Network=dual-stack.")
    elif len(chosen) != 2 or not set(chosen) <= set(all_zones):
        yield Finding("error", f"AvailabilityZones must be two of {', '.join(all_zones)}.")
    elif wrong := [zone for zone in needed if zone not in zones]:
        text = (
            f"AvailabilityZones: {wrong[0]} lacks an endpoint that is needed; those that have all: {', '.join(zones)}."
        )
        yield Finding("error", text)
    else:
        yield Finding("ok", f"The endpoints can be made in {' and '.join(needed)}.")


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


def check_database(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    given = template.in_effect(given, aws.parameters())
    if template.value(given, "Database") != "create":
        yield Finding("ok", "The database is there already.")
        return
    version, kind = template.value(given, "DatabaseVersion"), template.value(given, "DatabaseInstanceClass")
    pages = aws.client("rds").get_paginator("describe_orderable_db_instance_options")
    offered = {
        each["EngineVersion"].partition(".")[0]
        for page in pages.paginate(Engine="postgres", DBInstanceClass=kind, Vpc=True)
        for each in page["OrderableDBInstanceOptions"]
    }
    if not offered:
        yield Finding("error", f"DatabaseInstanceClass: RDS has no {kind} for PostgreSQL in {aws.region}.")
    elif version not in offered:
        known = ", ".join(sorted(offered, key=int))
        yield Finding(
            "error", f"DatabaseVersion: RDS has {kind} in {aws.region} for PostgreSQL {known}, not {version}."
        )
    else:
        yield Finding("ok", f"RDS has {kind} for PostgreSQL {version}.")
    if not _exists(lambda: aws.client("iam").get_role(RoleName=RDS_ROLE), "NoSuchEntity"):
        yield Finding("warning", f"The account has no {RDS_ROLE} yet, which RDS needs; make deploy makes it.")


CHECKS: Mapping[str, Check] = {
    "python": check_python,
    "credentials": check_credentials,
    "parameters": check_parameters,
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


def findings(name: str, aws: Aws, given: Mapping[str, str], template: Template) -> list[Finding]:
    """What one check found. An error of AWS is a finding, too."""
    try:
        return list(CHECKS[name](aws, given, template))
    except ClientError as error:
        level: Level = "error" if name == "credentials" else "warning"
        return [
            Finding(level, f"{name}: AWS did not tell ({code_of(error)}: {error.response['Error'].get('Message')}).")
        ]
    except BotoCoreError as error:
        return [Finding("error", f"{name}: AWS could not be asked: {error}")]
    except KeyError as error:
        return [Finding("error", f"{name}: {error.args[0]} is missing.")]
