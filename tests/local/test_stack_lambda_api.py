"""The Lambda Invoke API of the local stack, called as `aws lambda invoke` calls it."""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
import botocore.exceptions
import httpx
import pytest
from botocore.config import Config

from local.stack import FunctionError, LocalStack


@pytest.fixture
def client(echo_stack: LocalStack) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=echo_stack.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize("name", ["EchoFunction", "sendledger-echo"])
def test_a_function_is_invoked_by_its_logical_id_and_by_its_name(client: Any, name: str) -> None:
    answer = client.invoke(FunctionName=name, Payload=b'{"a": 1}')
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert json.loads(answer["Payload"].read()) == {"a": 1}


def test_an_invocation_without_payload_has_an_empty_event(client: Any) -> None:
    assert json.loads(client.invoke(FunctionName="EchoFunction")["Payload"].read()) == {}


def test_an_error_of_the_function_is_marked_and_described(client: Any) -> None:
    answer = client.invoke(FunctionName="EchoFunction", Payload=b'{"raise": "no"}')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"].read())["errorMessage"] == "no"


def test_an_event_invocation_is_accepted_and_runs_in_the_background(client: Any, echo_stack: LocalStack) -> None:
    assert client.invoke(FunctionName="EchoFunction", InvocationType="Event", Payload=b"{}")["StatusCode"] == 202
    echo_stack.wait_until_idle()


def test_a_dry_run_runs_nothing(client: Any) -> None:
    answer = client.invoke(FunctionName="EchoFunction", InvocationType="DryRun", Payload=b'{"raise": "no"}')
    assert answer["StatusCode"] == 204


def test_an_unknown_function_is_a_resource_not_found_exception(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Function not found: Nothing"):
        client.invoke(FunctionName="Nothing")


def test_a_payload_that_is_not_json_is_refused(client: Any) -> None:
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="EchoFunction", Payload=b"{")


def test_an_unknown_operation_is_an_error_that_names_it(client: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="/2015-03-31/functions"):
        client.list_functions()


def test_the_page_of_a_site_cannot_invoke_a_function(echo: httpx.Client) -> None:
    path = "/2015-03-31/functions/EchoFunction/invocations"
    assert echo.post(path, headers={"Origin": "https://site.example"}).status_code == 403


def test_a_function_has_endpoints_credentials_and_its_own_variables(echo_stack: LocalStack) -> None:
    environment = echo_stack.invoke("EchoFunction", {"environment": True})
    assert environment["AWS_ENDPOINT_URL_LAMBDA"] == echo_stack.url
    assert environment["AWS_ENDPOINT_URL_SESV2"] == "http://127.0.0.1:1"
    assert environment["DATABASE_URL"] == "postgresql://"
    assert environment["DEPLOYMENT_ID"] == "local"
    assert (environment["AWS_REGION"], environment["AWS_ACCESS_KEY_ID"]) == ("us-east-1", "test")
    assert (environment["AWS_CONFIG_FILE"], "AWS_PROFILE" in environment) == (os.devnull, False)


def test_invoking_a_function_that_fails_raises_what_it_reported(echo_stack: LocalStack) -> None:
    with pytest.raises(FunctionError, match="ValueError: no"):
        echo_stack.invoke("EchoFunction", {"raise": "no"})
