"""What is asked of AWS before and after a deployment: clients of one region, and the stack as it is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# A state in which the stack has been complete once: what it has made is in use.
_NEVER_COMPLETE = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS", "DELETE_FAILED"}


class Aws:
    """One account and region. `stack_name` is the stack's, whether it exists or not."""

    def __init__(self, region: str, stack_name: str, session: boto3.Session | None = None) -> None:
        self.region = region
        self.stack_name = stack_name
        self._session = session or boto3.Session()

    @functools.cache  # noqa: B019 (one object for each run of the command)
    def client(self, service: str) -> Any:
        config = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 4, "mode": "standard"})
        return self._session.client(service, region_name=self.region, config=config)

    def stack(self) -> Mapping[str, Any] | None:
        """What CloudFormation says of the stack; None where there is none."""
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack_name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        found: Mapping[str, Any] = answer["Stacks"][0]
        return found

    def parameters(self) -> dict[str, str]:
        """What the stack was deployed with; CloudFormation shows no secret."""
        stack = self.stack() or {}
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}

    def is_complete(self) -> bool:
        """Whether the stack has been deployed once."""
        stack = self.stack()
        return stack is not None and stack["StackStatus"] not in _NEVER_COMPLETE

    def outputs(self) -> dict[str, str]:
        stack = self.stack() or {}
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
