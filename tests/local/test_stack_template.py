"""How the local stack reads template.yaml."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from local.cloudformation import TemplateError
from local.stack import PARAMETERS
from local.template import BucketNotification, JwtAuthorizer, Template, read_template

PRODUCT_TEMPLATE = Path(__file__).parents[2] / "template.yaml"

TEMPLATE = """
Parameters:
  Greeting: {Type: String}
  Times: {Type: Number, Default: 3}
  Stage: {Type: String, Default: dev}
Conditions:
  IsProduction: !Equals [!Ref Stage, prod]
Globals:
  Function:
    Timeout: 7
    Environment:
      Variables:
        GREETING: !Ref Greeting
        TIMES: !Ref Times
        SHARED: globals
Resources:
  Api: {Type: AWS::Serverless::HttpApi}
  HelloFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub ${AWS::StackName}-hello
      CodeUri: functions/hello
      Handler: hello_handler.lambda_handler
      Environment:
        Variables:
          SHARED: own
          QUEUE: %(queue)s
      Events:
        Get: {Type: HttpApi, Properties: {ApiId: !Ref Api, Path: "/hello/{name}", Method: get}}
        Tick: {Type: Schedule, Properties: {Schedule: %(schedule)s, State: %(state)s}}
  OtherFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/other
      Handler: other_handler.lambda_handler
      Timeout: !If [IsProduction, 60, 900]
      MemorySize: !If [IsProduction, 1024, !Ref AWS::NoValue]
      EventInvokeConfig:
        MaximumEventAgeInSeconds: 60
        DestinationConfig: {OnFailure: {Destination: !GetAtt Queue.Arn}}
      Environment:
        Variables:
          HELLO_ARN: !GetAtt HelloFunction.Arn
          HELLO: !Join ["/", [a, !Ref HelloFunction]]
          API_URL: !GetAtt Api.ApiEndpoint
  ProductionFunction:
    Type: AWS::Serverless::Function
    Condition: IsProduction
    Properties: {CodeUri: functions/production, Handler: production_handler.lambda_handler}
"""


def read(tmp_path: Path, given: dict[str, str] | None = None, **values: str) -> Template:
    defaults = {"queue": "none", "schedule": "rate(5 minutes)", "state": "ENABLED"}
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE % (defaults | values))
    return read_template(path, {"Greeting": "hi"}, given=given)


def test_a_function_has_the_environment_of_globals_overridden_by_its_own(tmp_path: Path) -> None:
    hello = read(tmp_path).functions["HelloFunction"]
    assert hello.environment == {"GREETING": "hi", "TIMES": "3", "SHARED": "own", "QUEUE": "none"}


def test_a_function_has_its_code_handler_name_and_limits(tmp_path: Path) -> None:
    hello = read(tmp_path).functions["HelloFunction"]
    assert (hello.folder, hello.handler) == (tmp_path / "functions" / "hello", "hello_handler.lambda_handler")
    assert hello.name == "sendledger-hello"
    assert hello.arn == "arn:aws:lambda:us-east-1:123456789012:function:sendledger-hello"
    assert (hello.timeout, hello.memory) == (7, 128)


def test_conditions_references_and_joins_are_resolved(tmp_path: Path) -> None:
    other = read(tmp_path).functions["OtherFunction"]
    assert (other.timeout, other.memory, other.maximum_event_age) == (900, 128, 60)
    assert other.environment["HELLO_ARN"] == "arn:aws:lambda:us-east-1:123456789012:function:sendledger-hello"
    assert other.environment["HELLO"] == "a/sendledger-hello"


def test_a_function_whose_condition_does_not_hold_is_not_there(tmp_path: Path) -> None:
    assert "ProductionFunction" not in read(tmp_path).functions
    assert (
        "ProductionFunction" in read_template(tmp_path / "template.yaml", {"Greeting": "hi", "Stage": "prod"}).functions
    )


def test_the_endpoint_of_an_api_is_where_it_is_served(tmp_path: Path) -> None:
    read(tmp_path)
    template = read_template(tmp_path / "template.yaml", {"Greeting": "hi"}, api_endpoint="http://localhost:8000")
    assert template.functions["OtherFunction"].environment["API_URL"] == "http://localhost:8000"


def test_a_route_and_a_schedule_lead_to_their_function(tmp_path: Path) -> None:
    template = read(tmp_path)
    (route,), (schedule,) = template.routes, template.schedules
    assert (route.key, route.function, route.timeout) == ("GET /hello/{name}", "HelloFunction", 30)
    assert (schedule.function, schedule.interval, schedule.enabled) == ("HelloFunction", timedelta(minutes=5), True)


def test_a_disabled_schedule_is_read_as_disabled(tmp_path: Path) -> None:
    assert not read(tmp_path, state="DISABLED").schedules[0].enabled


@pytest.mark.parametrize("value", ["!GetAtt Queue.Arn", "!Ref Queue", "!ImportValue queue", "!Ref Nowhere", "[a, b]"])
def test_a_value_that_exists_only_on_aws_is_an_error_that_says_where(tmp_path: Path, value: str) -> None:
    with pytest.raises(TemplateError, match=r"HelloFunction\.Environment\.Variables\.QUEUE"):
        read(tmp_path, queue=value)


def test_a_given_value_wins_where_the_variable_is_declared_and_nowhere_else(tmp_path: Path) -> None:
    functions = read(tmp_path, given={"QUEUE": "local"}, queue="!GetAtt Queue.Arn").functions
    assert functions["HelloFunction"].environment["QUEUE"] == "local"
    assert "QUEUE" not in functions["OtherFunction"].environment


def test_a_parameter_without_default_and_value_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE % {"queue": "none", "schedule": "rate(1 minute)", "state": "ENABLED"})
    with pytest.raises(TemplateError, match="Greeting has no default"):
        read_template(path, {})


@pytest.mark.parametrize("schedule", ["'cron(0 10 * * ? *)'", "rate(90 seconds)"])
def test_a_schedule_that_cannot_be_kept_is_an_error(tmp_path: Path, schedule: str) -> None:
    with pytest.raises(TemplateError, match="rate"):
        read(tmp_path, schedule=schedule)


def test_a_missing_or_broken_template_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    for path in (broken, tmp_path / "missing.yaml"):
        with pytest.raises(TemplateError, match=path.name):
            read_template(path, {})


def test_the_products_template_ticks_the_sender_every_minute_and_routes_the_api() -> None:
    parameters = {**PARAMETERS, "SenderFromAddress": "Ann <ann@example.com>"}
    template = read_template(PRODUCT_TEMPLATE, parameters)
    assert {"CampaignApiFunction", "SenderFunction", "MigrateFunction"} <= template.functions.keys()
    assert template.functions["SenderFunction"].environment["SENDER_FROM_ADDRESS"] == "Ann <ann@example.com>"
    assert ("SenderFunction", timedelta(minutes=1)) in [(each.function, each.interval) for each in template.schedules]
    assert "ANY /v1/{proxy+}" in [route.key for route in template.routes]


TOKENS = {"JwtIssuer": "https://idp.example.com/pool", "JwtAudience": "app-1,app-2"}


def test_with_issuer_and_audience_the_products_api_is_there_again_behind_an_authorizer() -> None:
    template = read_template(PRODUCT_TEMPLATE, PARAMETERS | TOKENS)
    of_the_api = [route for route in template.routes if route.function == "CampaignApiFunction"]
    authorizer = JwtAuthorizer("https://idp.example.com/pool", ("app-1", "app-2"))
    assert {route.authorizer for route in of_the_api} == {None, authorizer}
    assert {(route.key, route.timeout) for route in of_the_api if route.authorizer} == {("ANY /v1/{proxy+}", 29)}
    assert template.functions["CampaignApiFunction"].environment["JWT_ISSUER"] == TOKENS["JwtIssuer"]


@pytest.mark.parametrize("given", [(), ("JwtIssuer",), ("JwtAudience",)])
def test_without_both_the_products_api_takes_no_tokens(given: tuple[str, ...]) -> None:
    template = read_template(PRODUCT_TEMPLATE, PARAMETERS | {name: TOKENS[name] for name in given})
    assert [route for route in template.routes if route.authorizer] == []
    assert template.functions["CampaignApiFunction"].environment["JWT_ISSUER"] == ""


WITH_BUCKET = """
Resources:
  Lists: {Type: AWS::S3::Bucket}
  ReaderFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/reader
      Handler: reader_handler.lambda_handler
      Environment: {Variables: {BUCKET: !Ref Lists}}
      Events:
        Upload:
          Type: S3
          Properties:
            Bucket: !Ref Lists
            Events: s3:ObjectCreated:*
            Filter: {S3Key: {Rules: [{Name: %(rule)s, Value: imports/}]}}
"""


def test_a_bucket_notifies_its_function_of_objects_under_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(WITH_BUCKET % {"rule": "prefix"})
    template = read_template(path, {})
    assert template.buckets == ("sendledger-lists",)
    assert template.notifications == (BucketNotification("sendledger-lists", "imports/", "ReaderFunction"),)
    assert template.functions["ReaderFunction"].environment == {"BUCKET": "sendledger-lists"}


def test_a_notification_that_cannot_be_given_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(WITH_BUCKET % {"rule": "suffix"})
    with pytest.raises(TemplateError, match=r"ReaderFunction\.Events\.Upload"):
        read_template(path, {})
