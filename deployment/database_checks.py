"""Whether RDS can create the database that the parameters describe."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from deployment.aws import Aws, exists
from deployment.findings import Finding, Level
from deployment.network_checks import OWN_NETWORKS, zones_of
from deployment.parameters import Template, list_of
from local import rds_certificates

RDS_ROLE = "AWSServiceRoleForRDS"
LOWEST_PORT = 1150
RESERVED_USERS = {"none", "public", "sendledger_admin"}
"""The last one is the administrator, whom RDS would no longer let in by password."""


def check_database(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    given = template.in_effect(given, aws.parameters())
    if template.value(given, "Database") != "create":
        yield Finding("ok", "The database is there already.")
        return
    if not aws.is_complete():
        yield from _check_names_in_database(given, template)
        yield from _check_plan(aws, given, template)
    roots = rds_certificates.read_roots(rds_certificates.BUNDLE.read_bytes(), dt.datetime.now(dt.UTC))
    built_in = template.value(given, "DatabaseCaBundle") == template.value({}, "DatabaseCaBundle")
    if built_in and aws.region not in {rds_certificates.region_of(root) for root in roots}:
        text = f"DatabaseCaBundle: {rds_certificates.BUNDLE.name} has no certificate authority of {aws.region}"
        yield Finding("error", f"{text}: make rds-certificates (docs/operations/deploy.md, 4).")
    version, kind = template.value(given, "DatabaseVersion"), template.value(given, "DatabaseInstanceClass")
    pages = aws.client("rds").get_paginator("describe_orderable_db_instance_options")
    options = [
        each
        for page in pages.paginate(Engine="postgres", DBInstanceClass=kind, Vpc=True)
        for each in page["OrderableDBInstanceOptions"]
    ]
    offered = {each["EngineVersion"].partition(".")[0] for each in options}
    zones = {
        zone["Name"]
        for each in options
        if each["EngineVersion"].partition(".")[0] == version
        for zone in each.get("AvailabilityZones", [])
    }
    if not offered:
        yield Finding("error", f"DatabaseInstanceClass: RDS has no {kind} for PostgreSQL in {aws.region}.")
    elif version not in offered:
        known = ", ".join(sorted(offered, key=int))
        yield Finding(
            "error", f"DatabaseVersion: RDS has {kind} in {aws.region} for PostgreSQL {known}, not {version}."
        )
    else:
        yield _check_zones(aws, given, template, zones)
    storage, most = (int(template.value(given, name)) for name in ("DatabaseStorage", "DatabaseMaxStorage"))
    if most * 10 < storage * 11:
        text = f"DatabaseMaxStorage is {most}; RDS wants at least a tenth more than DatabaseStorage, which is {storage}"
        yield Finding("error", f"{text}.")
    if not exists(lambda: aws.client("iam").get_role(RoleName=RDS_ROLE), "NoSuchEntity"):
        yield Finding("warning", f"The account has no {RDS_ROLE} yet, which RDS needs; make deploy makes it.")


def _check_names_in_database(given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """What an existing database may have, and RDS does not take for a new one."""
    name, user, port = (template.value(given, f"Database{what}") for what in ("Name", "User", "Port"))
    # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        text = f"DatabaseName is {name!r}; RDS takes letters, digits and underscores, beginning with a letter"
        yield Finding("error", f"{text}.")
    if int(port) < LOWEST_PORT:
        yield Finding("error", f"DatabasePort is {port}; RDS takes {LOWEST_PORT} to 65535.")
    if user in RESERVED_USERS or user.startswith(("pg_", "rds")):
        yield Finding("error", f"DatabaseUser is {user!r}, a name that PostgreSQL or RDS keeps for itself.")


def _check_plan(aws: Aws, given: Mapping[str, str], template: Template) -> Iterator[Finding]:
    """New accounts begin on AWS's free plan, with which RDS makes the smallest databases only."""
    kind, days = template.value(given, "DatabaseInstanceClass"), template.value(given, "DatabaseBackupDays")
    if kind.endswith(".micro") and days == "1":
        return
    try:
        plan = aws.client("freetier").get_account_plan_state().get("accountPlanType")
    except (BotoCoreError, ClientError):
        return  # older accounts have no plan, and not everybody may ask
    if plan == "FREE":
        text = f"The account is on AWS's free plan: RDS will refuse {kind} or backups of {days} days"
        yield Finding("warning", f"{text} (FreeTierRestrictionError). Upgrade the plan (docs/operations/deploy.md).")


def _check_zones(aws: Aws, given: Mapping[str, str], template: Template, offered: set[str]) -> Finding:
    """Whether the class is offered in the zones of a network that the stack makes: in both for a standby."""
    version, kind = template.value(given, "DatabaseVersion"), template.value(given, "DatabaseInstanceClass")
    if offered and template.value(given, "Network") in OWN_NETWORKS:
        # By itself the template takes the first two that CloudFormation knows. Those may be others, and a stack that
        # is in use cannot choose any more.
        named = list_of(template.value(given, "AvailabilityZones"))
        chosen = named or zones_of(aws)[:2]
        needed, word = (2, "and") if template.value(given, "HighAvailability") == "true" else (1, "or")
        if len(offered & set(chosen)) < needed:
            text = f"AvailabilityZones: RDS has {kind} for PostgreSQL {version} in {', '.join(sorted(offered))} only"
            level: Level = "warning" if not named and aws.is_complete() else "error"
            return Finding(level, f"{text}, not in {f' {word} '.join(chosen)}.")
    return Finding("ok", f"RDS has {kind} for PostgreSQL {version}.")
