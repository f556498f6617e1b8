"""What is asked of AWS before and after a deployment: clients of one region, and the stack as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, UnknownRegionError

_COMPLETE = {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
_NEVER_COMPLETE = {
    "CREATE_FAILED",
    "CREATE_IN_PROGRESS",
    "DELETE_FAILED",
    "ROLLBACK_COMPLETE",
    "ROLLBACK_FAILED",
    "ROLLBACK_IN_PROGRESS",
}
"""In any other state the stack's events tell: an update can fail before and after the first success."""


class Aws:
    """One account and region. `stack_name` is the stack's, whether it exists or not."""

    def __init__(self, region: str, stack_name: str, session: boto3.Session | None = None) -> None:
        self.region = region
        self.stack_name = stack_name
        self._session = session or boto3.Session()
        self.client = functools.cache(self._client)

    def _client(self, service: str, attempts: int = 4, read_timeout: int = 60) -> Any:
        config = Config(
            connect_timeout=5, read_timeout=read_timeout, retries={"total_max_attempts": attempts, "mode": "standard"}
        )
        return self._session.client(service, region_name=self.region, config=config)

    def dual_stack_host(self, service: str) -> str:
        """Where functions with IPv6 reach the service; its domain differs by partition."""
        config = Config(use_dualstack_endpoint=True)
        client = self._session.client(service, region_name=self.region, config=config)
        return str(urlsplit(client.meta.endpoint_url).netloc)

    def stack(self) -> Mapping[str, Any] | None:
        """What CloudFormation says of the stack; None where there is none, or nothing but changes to be confirmed."""
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack_name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        found: Mapping[str, Any] = answer["Stacks"][0]
        return found if found["StackStatus"] != "REVIEW_IN_PROGRESS" else None

    def parameters(self) -> dict[str, str]:
        """What the stack was deployed with; CloudFormation shows no secret."""
        stack = self.stack() or {}
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}

    def is_complete(self) -> bool:
        """Whether the stack has been deployed with success once, so that what it has made may be in use."""
        stack = self.stack()
        if stack is None or stack["StackStatus"] in _NEVER_COMPLETE:
            return False
        if stack["StackStatus"] in _COMPLETE:
            return True
        # CloudFormation deletes events after 90 days. A stack whose creation is not among them is complete.
        pages = self.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=self.stack_name)
        own = {
            event["ResourceStatus"]
            for page in pages
            for event in page["StackEvents"]
            if event.get("PhysicalResourceId") == stack["StackId"]
        }
        return "CREATE_FAILED" not in own or "UPDATE_COMPLETE" in own

    def outputs(self) -> dict[str, str]:
        stack = self.stack() or {}
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def partition_of(region: str) -> str | None:
    """Which part of AWS a region belongs to; None if it is not known yet. It is asked of boto3, not of AWS."""
    try:
        partition: str = boto3.Session().get_partition_for_region(region)
    except UnknownRegionError:
        return None
    return partition


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def exists(ask: Callable[[], object], missing: str) -> bool:
    """Whether AWS knows what is asked for; `missing` is its code for what it does not know."""
    try:
        ask()
    except ClientError as error:
        if code_of(error) == missing:
            return False
        raise
    return True
