"""A stack that serves one tiny function: it answers with the event that it got, or as the request's body tells it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from local.stack import LocalStack

TEMPLATE = """
Parameters:
  DeploymentId: {Type: String}
  SenderFromAddress: {Type: String}
  DatabaseHost: {Type: String}
Resources:
  EchoFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub ${AWS::StackName}-echo
      CodeUri: echo
      Handler: echo_handler.lambda_handler
      Timeout: 10
      Environment: {Variables: {DEPLOYMENT_ID: !Ref DeploymentId}}
      Events:
        Greedy: {Type: HttpApi, Properties: {Path: "/v1/{proxy+}", Method: ANY}}
        Person: {Type: HttpApi, Properties: {Path: "/people/{id}", Method: GET}}
        Known: {Type: HttpApi, Properties: {Path: /people/known, Method: GET}}
        Any: {Type: HttpApi, Properties: {Path: /people/known, Method: ANY}}
        Tick: {Type: Schedule, Properties: {Schedule: rate(1 minute)}}
"""

HANDLER = """
import base64, json, os

def lambda_handler(event, context):
    instruction = event
    if event.get("routeKey"):
        if event["headers"].get("x-reply") != "as-told":
            return event
        body = event["body"]
        instruction = json.loads(base64.b64decode(body) if event["isBase64Encoded"] else body)
    if "raise" in instruction:
        raise ValueError(instruction["raise"])
    if "environment" in instruction:
        return dict(os.environ)
    return instruction.get("return", instruction)
"""


@pytest.fixture(scope="session")
def echo_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "template.yaml").write_text(TEMPLATE)
    (folder / "echo").mkdir()
    (folder / "echo" / "echo_handler.py").write_text(HANDLER)
    with (
        (folder / "log").open("ab") as log,
        LocalStack(
            folder / "template.yaml", database_url="postgresql://", ses_url="http://127.0.0.1:1", log=log
        ) as stack,
    ):
        yield stack


@pytest.fixture
def echo(echo_stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=echo_stack.url, timeout=300) as client:
        yield client
