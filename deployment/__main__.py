"""`make deploy` and `make deploy-check`: `python -m deployment [check] [--stage prod] [name of a check …]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from deployment import checks, deploy, network_checks, parameters
from deployment.aws import Aws
from deployment.parameters import KEYS, REGION, Ask, ParametersError, Template

SIGNS = {"ok": "  ok   ", "warning": "  !    ", "error": "  WRONG"}


def main(arguments: Sequence[str] | None = None, ask: Ask | None = None, run: deploy.Run = deploy.run) -> int:
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("action", nargs="?", choices=["deploy", "check"], default="deploy")
    parser.add_argument("checks", nargs="*", metavar="check", help=f"only these: {', '.join(checks.CHECKS)}")
    parser.add_argument("--stage", default="prod", choices=["dev", "prod"], help="default: %(default)s")
    options = parser.parse_intermixed_args(arguments)
    if unknown := set(options.checks) - set(checks.CHECKS):
        parser.error(f"there is no check {', '.join(sorted(unknown))}; there are {', '.join(checks.CHECKS)}")
    try:
        if options.action == "check":
            return _check(options.stage, options.checks)
        return _deploy(options.stage, ask or _ask, run)
    except (ParametersError, deploy.DeploymentFailed) as error:
        print(error, file=sys.stderr)
    except (BotoCoreError, ClientError) as error:
        print(f"AWS: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
    return 1


def _ask(question: str, proposed: str | None) -> str:
    return input(f"{question} [{proposed}]: " if proposed else f"{question}: ").strip() or proposed or ""


def _check(stage: str, names: Sequence[str]) -> int:
    path = parameters.file_of(stage)
    given, template = parameters.read(path), Template()
    region = _region(given, template)
    if region is None and not set(names or checks.CHECKS) <= checks.LOCAL:
        raise ParametersError(f"No region: write {REGION}: us-east-1 into {path.name}, or set AWS_DEFAULT_REGION.")
    return 0 if _passed(_aws(stage, region or ""), given, template, names or list(checks.CHECKS)) else 1


def _region(given: dict[str, str], template: Template) -> str | None:
    region: str | None = given.get(REGION) or boto3.Session().region_name
    if region is not None and (problem := template.problem(REGION, region)):
        raise ParametersError(problem)  # nothing could be asked there
    return region


def _aws(stage: str, region: str) -> Aws:
    return Aws(region, f"sendledger-{stage}")


def _passed(aws: Aws, given: dict[str, str], template: Template, names: Sequence[str]) -> bool:
    wrong: set[str] = set()
    for name in names:
        for finding in checks.findings(name, aws, given, template):
            print(f"{SIGNS[finding.level]} {finding.text}")
            if finding.level == "error":
                wrong.add(name)
        if "credentials" in wrong:
            break  # nothing else could be asked
    return not wrong


def _deploy(stage: str, ask: Ask, run: deploy.Run) -> int:
    template, path = Template(), parameters.file_of(stage)
    given = parameters.read(path)
    region = _region(given, template)
    if region and KEYS not in given and KEYS in _aws(stage, region).parameters():
        raise ParametersError(
            f"{KEYS} is missing in {path.name}, but the stack has keys. Write those into the file again: with new keys "
            "the unsubscribe links in mail that was sent stop working."
        )
    given = parameters.complete(given, stage, region, template, ask)
    parameters.write(path, given)  # the answers are kept, also if a later step fails
    aws = _aws(stage, given[REGION])
    if template.value(given, "Network") == "create" and not given.get("AvailabilityZones") and aws.stack() is None:
        zones = network_checks.zones_with_endpoints(aws, given, template)
        if len(zones) > 1:
            given["AvailabilityZones"] = ",".join(zones[:2])
            parameters.write(path, given)
    print(f"The parameters are in {path.name}. Keep it where you keep secrets.\n")
    if not _passed(aws, given, template, list(checks.CHECKS)):
        print("\nNothing was deployed.")
        return 1
    in_effect = template.in_effect(given, aws.parameters())
    records = deploy.prepare(aws, in_effect, template)
    heading = "\nTo be done so that SES can send (DNS records, and links to open):"
    wanted = "\n  ".join([heading, *records]) if records else ""
    if wanted:
        print(wanted)
    deploy.refuse_unverified_tracking(aws, in_effect, template)
    if not deploy.deploy_stack(aws, stage, run):
        print("\nThe stack is as it was: nothing had to change, or the changes were not confirmed.")
    try:
        if key := deploy.make_first_key(aws):
            print(f"\nThe first API key, shown this once:  {key}")
    finally:
        deploy.finish(aws, template.in_effect(given, aws.parameters()), template)
    outputs = aws.outputs()
    print(
        f"\nConsole               {outputs['ApiUrl']}/console (sign in with the key)\n"
        f"API                   {outputs['ApiUrl']}/v1/docs (any user name, the key as the password)\n"
        f"Unsubscribe page      {outputs['UnsubscribeUrl']}\n"
        f"Dashboard             {outputs['DashboardUrl']}"
    )
    if wanted:
        print(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
