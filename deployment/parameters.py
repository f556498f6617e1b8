"""The file of a stage's parameters, `prod.parameters.yaml`: read, completed by questions, checked, and written.

What it may hold is what template.yaml says of its parameters, and `Region`, which `sam deploy` passes over.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deployment.aws import partition_of
from local.cloudformation import TemplateError, Values, load

ROOT = Path(__file__).parents[1]
REGION = "Region"
KEYS = "UnsubscribeKeys"
WITHOUT_VERIFICATION = {
    "ReplyDomain": "SES receives no replies",
    "TrackingDomain": "SES refuses it as TrackingDomain",
}
"""Domains from which no mail comes, by their parameter, and what does not work before SES has verified them."""
WITHOUT_SES = {"aws-cn": "AWS China"}
"""Parts of AWS that do not have SES, by their partition."""

Ask = Callable[[str, str | None], str]
"""Puts a question to a person, with the answer that Enter gives; raises EOFError where there is nobody."""


class ParametersError(Exception):
    """The file cannot be read, or a value is missing and no person can be asked for it."""


def file_of(stage: str) -> Path:
    return ROOT / f"{stage}.parameters.yaml"


def read(path: Path) -> dict[str, str]:
    """What the file says, as CloudFormation takes it; empty where there is no file.

    Raises:
        ParametersError
    """
    try:
        # As sam reads it, whatever the machine's locale is.
        found = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    except UnicodeDecodeError as error:
        raise ParametersError(f"{path.name} is not UTF-8, from byte {error.start} on: save it as UTF-8.") from None
    except yaml.YAMLError as error:
        raise ParametersError(f"{path.name} is not YAML: {error}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ParametersError(f"{path.name} must have one line for each parameter, such as DeploymentId: acme-prod.")
    values = {}
    for name, written in found.items():
        value = "" if written is None else written  # as sam takes it
        if not isinstance(value, str | int | float):
            raise ParametersError(f"{name} in {path.name} must be a text or a number; put lists as a,b in one text.")
        values[str(name)] = str(value).lower() if isinstance(value, bool) else str(value)
    return values


def write(path: Path, values: Mapping[str, str]) -> None:
    """Only its owner can read it, because it holds a secret. A crash leaves the earlier file."""
    new = path.with_name(f"new-{path.name}")  # git ignores it as well
    new.touch(mode=0o600)
    new.write_text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000), "utf-8")
    new.replace(path)


def list_of(value: str) -> list[str]:
    """The members of a CommaDelimitedList; CloudFormation drops the blanks around them too."""
    return [part.strip() for part in value.split(",") if part.strip()]


class Template:
    """What template.yaml says of its parameters."""

    def __init__(self, path: Path = ROOT / "template.yaml") -> None:
        self.path = path
        self.document = load(path)
        self.parameters: dict[str, Any] = self.document["Parameters"]

    def value(self, given: Mapping[str, str], name: str) -> str:
        """The value of a parameter, given or by default; empty where it has neither."""
        return given.get(name, str(self.parameters[name].get("Default", "")))

    def in_effect(self, given: Mapping[str, str], deployed: Mapping[str, str]) -> dict[str, str]:
        """What is given, and for the rest what a stack was `deployed` with, which it keeps."""
        kept = {name: value for name, value in deployed.items() if name in self.parameters}
        return {**kept, **given}

    def identities(self, given: Mapping[str, str]) -> list[str]:
        """Where mail comes from, which SES must have verified: `SesIdentity`, then `MoreSesIdentities`."""
        more = self.value(given, "MoreSesIdentities").split(",")
        return [given["SesIdentity"], *filter(None, more)]

    def other_domains(self, given: Mapping[str, str]) -> dict[str, str]:
        """What else SES must have verified, and what it does not do before that."""
        domains = {self.value(given, name): missing for name, missing in WITHOUT_VERIFICATION.items()}
        return {name: missing for name, missing in domains.items() if name and name not in self.identities(given)}

    def problems(self, given: Mapping[str, str], deployed: Mapping[str, str]) -> list[str]:
        """Everything that CloudFormation would refuse; `deployed` are the values that a stack has, and keeps."""
        found = [
            f"{name} is not a parameter of this version." for name in given if name not in {*self.parameters, REGION}
        ]
        if REGION in given and (problem := self.problem(REGION, given[REGION])):
            found.append(problem)
        for name, declared in self.parameters.items():
            if name in given:
                problem = self.problem(name, given[name])
                found += [problem] if problem else []
            elif "Default" not in declared and name not in deployed:
                found.append(f"{name} is missing: {declared['Description']}")
        return found or self._broken_rules({**deployed, **given})

    def problem(self, name: str, value: str) -> str | None:
        """What is wrong with one value, and what would be right."""
        if name == REGION:
            if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", value):
                return f"{REGION} is {value!r}; it must be the name of one, such as eu-central-1."
            where = WITHOUT_SES.get(partition_of(value) or "")
            return where and f"{REGION} is {value!r}, in {where}, where there is no SES; choose another one."
        declared = self.parameters[name]
        right = declared.get("ConstraintDescription")
        allowed = [str(each) for each in declared.get("AllowedValues", [])]
        if allowed and value not in allowed:
            return f"{name} is {value!r}; it must be one of {', '.join(allowed)}."
        parts = [each.strip() for each in value.split(",")] if declared["Type"] == "CommaDelimitedList" else [value]
        pattern = declared.get("AllowedPattern")
        if pattern and not all(re.fullmatch(pattern, part) for part in parts):
            return f"{name} must be {right}."
        least, most = declared.get("MinLength", 0), declared.get("MaxLength", 4096)
        if not least <= len(value) <= most:
            return f"{name} must have {least} to {most} characters."
        if declared["Type"] == "Number":
            lowest, highest = declared.get("MinValue", float("-inf")), declared.get("MaxValue", float("inf"))
            if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) or not lowest <= float(value) <= highest:
                return f"{name} is {value!r}; it must be a number from {lowest} to {highest}."
        return None

    def _broken_rules(self, given: Mapping[str, str]) -> list[str]:
        values = Values(self.document, given, "us-east-1", {}, {}, {})
        found: list[str] = []
        try:
            for rule in self.document["Rules"].values():
                if values.resolve(rule["RuleCondition"], "Rules"):
                    broken = [each for each in rule["Assertions"] if not values.resolve(each["Assert"], "Rules")]
                    found += [each["AssertDescription"] for each in broken]
        except TemplateError as error:
            raise ParametersError(str(error)) from error
        return found


def complete(given: Mapping[str, str], stage: str, region: str | None, template: Template, ask: Ask) -> dict[str, str]:
    """The parameters of the file, with answers for those that a first deployment still needs.

    Raises:
        ParametersError: something is missing, and nobody answers.
    """
    values = dict(given)

    def want(name: str, question: str, proposed: str | None = None) -> None:
        while name not in values:
            try:
                answer = ask(question, proposed)
            except EOFError:
                raise ParametersError(f"{name} is missing in {file_of(stage).name}.") from None
            problem = template.problem(name, answer) if answer else None
            if problem is None and answer:
                values[name] = answer
            else:
                print(problem or "Something is needed here.")

    want(REGION, "AWS region", region)
    want("SesIdentity", "Domain that the mail comes from (example.com)")
    domain = values["SesIdentity"].rpartition("@")[2]
    want("DeploymentId", "Name of this deployment, for ever", f"{domain.split('.')[0]}-{stage}")
    want("SenderFromAddress", "Sender (Acme Sales <sales@example.com>)", f"hello@{domain}")
    want("PostalAddress", "Postal address for the footer of every email, on one line")
    want("AlarmEmail", "Address that gets the alarms")
    want("Network", "Network: create (private, with endpoints) or dual-stack (cheaper, a way out by IPv6)", "create")
    values.setdefault("SesConfigurationSet", values["DeploymentId"])
    values.setdefault("TestSendAddresses", values["AlarmEmail"].lower())
    if KEYS not in values:
        values[KEYS] = f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}"
    # With other keys the functions restart.
    values["UnsubscribeKeysVersion"] = hashlib.sha256(values[KEYS].encode()).hexdigest()[:12]
    return values
