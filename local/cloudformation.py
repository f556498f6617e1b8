"""Values of a CloudFormation template without CloudFormation: reads the YAML and resolves intrinsic functions.

In comes a template file and the values of its parameters, out come plain values. What the local stack has no value for
(the attribute of a resource that exists only on AWS, say) is a `TemplateError`, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

ACCOUNT_ID = "123456789012"
STACK_NAME = "sendledger"

_NO_VALUE = object()
_VARIABLE = re.compile(r"\$\{(!?)([^}]*)\}")


class TemplateError(Exception):
    """The template cannot be read, or needs something that does not exist locally. The message says where."""


class _Loader(SafeLoader):
    """Reads the short forms (`!Ref X`) as the long ones (`{"Ref": "X"}`), so that there is one form to resolve."""

    def construct_intrinsic(self, suffix: str, node: yaml.Node) -> dict[str, Any]:
        argument: Any
        if isinstance(node, yaml.ScalarNode):
            argument = self.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            argument = self.construct_sequence(node, deep=True)
        elif isinstance(node, yaml.MappingNode):
            argument = self.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(argument, str):
            argument = argument.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": argument}


_Loader.add_multi_constructor("!", _Loader.construct_intrinsic)


def load(path: Path) -> dict[str, Any]:
    """The template as it is written, intrinsic functions in their long form.

    Raises:
        TemplateError: there is no such file, or it is not YAML.
    """
    try:
        document = yaml.load(path.read_text(), _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise TemplateError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise TemplateError(f"{path}: is not a template")
    return document


class Values:
    """Resolves values of one template.

    `parameters` are values of parameters, `functions` the names by which Ref and GetAtt Arn know each function,
    `references` what Ref answers for other resources, and `attributes` what GetAtt answers for them, by
    `LogicalId.Attribute`.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        parameters: Mapping[str, str],
        region: str,
        functions: Mapping[str, str],
        attributes: Mapping[str, str],
        references: Mapping[str, str],
    ) -> None:
        self._declared: Mapping[str, Any] = document.get("Parameters", {})
        self._conditions: Mapping[str, Any] = document.get("Conditions", {})
        self._parameters = parameters
        self._functions = functions
        self._attributes = attributes
        self._references = references
        self._region = region
        self._pseudo = {
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": STACK_NAME,
            "AWS::StackId": f"arn:aws:cloudformation:{region}:{ACCOUNT_ID}:stack/{STACK_NAME}/local",
            "AWS::NoValue": _NO_VALUE,
        }
        self._intrinsics: Mapping[str, Callable[[Any, str], Any]] = {
            "Ref": self._ref,
            "Condition": self._condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::If": self._if,
            "Fn::Equals": lambda pair, where: self._text(pair[0], where) == self._text(pair[1], where),
            "Fn::Contains": lambda pair, where: self._text(pair[1], where) in self.resolve(pair[0], where),
            "Fn::Not": lambda each, where: not self.resolve(each[0], where),
            "Fn::And": lambda each, where: all(self.resolve(one, where) for one in each),
            "Fn::Or": lambda each, where: any(self.resolve(one, where) for one in each),
        }

    def resolve(self, value: Any, where: str) -> Any:
        """The value with every intrinsic function replaced; members that are AWS::NoValue are left out.

        Raises:
            TemplateError: something has no value here; the message starts with `where`.
        """
        if isinstance(value, list):
            items = [self.resolve(item, where) for item in value]
            return [item for item in items if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in self._intrinsics:
                return self._intrinsics[name](argument, where)
            if name.startswith("Fn::"):
                raise TemplateError(f"{where}: the local stack does not know {name}")
        members = {name: self.resolve(member, f"{where}.{name}") for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not _NO_VALUE}

    def is_made(self, resource: Mapping[str, Any], where: str) -> bool:
        """Whether the resource's Condition, if it has one, holds."""
        return "Condition" not in resource or self._condition(resource["Condition"], where)

    def function_arn(self, logical_id: str) -> str:
        return f"arn:aws:lambda:{self._region}:{ACCOUNT_ID}:function:{self._functions[logical_id]}"

    def _text(self, value: Any, where: str) -> str:
        return as_text(self.resolve(value, where), where)

    def _ref(self, name: str, where: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._functions:
            return self._functions[name]
        if name in self._references:
            return self._references[name]
        if name not in self._declared:
            raise TemplateError(f"{where}: the local stack has no value for !Ref {name}")
        declared = self._declared[name]
        value = self._parameters.get(name, declared.get("Default"))
        if value is None:
            raise TemplateError(f"{where}: the parameter {name} has no default and was given no value")
        return str(value).split(",") if declared.get("Type") == "CommaDelimitedList" else value

    def _get_att(self, argument: Any, where: str) -> str:
        logical_id, attribute = argument
        if f"{logical_id}.{attribute}" in self._attributes:
            return self._attributes[f"{logical_id}.{attribute}"]
        if attribute != "Arn" or logical_id not in self._functions:
            raise TemplateError(f"{where}: the local stack has no value for !GetAtt {logical_id}.{attribute}")
        return self.function_arn(logical_id)

    def _sub(self, argument: Any, where: str) -> str:
        text, own = argument if isinstance(argument, list) else (argument, {})

        def value(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in own:
                return self._text(own[name], where)
            return as_text(self._get_att(name.split(".", 1), where) if "." in name else self._ref(name, where), where)

        return _VARIABLE.sub(value, text)

    def _join(self, argument: Any, where: str) -> str:
        separator, items = argument
        return str(separator).join(as_text(item, where) for item in self.resolve(items, where))

    def _if(self, argument: Any, where: str) -> Any:
        name, if_true, if_false = argument
        return self.resolve(if_true if self._condition(name, where) else if_false, where)

    def _condition(self, name: str, where: str) -> bool:
        if name not in self._conditions:
            raise TemplateError(f"{where}: there is no condition {name}")
        return bool(self.resolve(self._conditions[name], f"Conditions.{name}"))


def as_text(value: Any, where: str) -> str:
    """A scalar as CloudFormation hands it over.

    Raises:
        TemplateError: it is not a scalar.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TemplateError(f"{where}: expected a text or a number")
