"""The template as a deployment sees it: expanded by the SAM translator and created in moto's CloudFormation.

moto knows many types, not all of them, and creates what it knows without looking at much. So this proves that every
reference is resolved and in order, and that what moto does create has the values that were meant.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.parsing import resource_class_from_type

from database_roles import MAX_CONNECTIONS
from local.cloudformation import Values, load
from sendledger.core import settings
from testbed.aws_calls import ROOT
from testbed.build_functions import SAM_ENVIRONMENT

UNKNOWN_TO_MOTO = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::VPCCidrBlock",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::S3::BucketPolicy",
    "AWS::SES::ConfigurationSet",
    "AWS::SES::ConfigurationSetEventDestination",
    "AWS::SES::ReceiptRule",
    "AWS::SES::ReceiptRuleSet",
    "AWS::SNS::Subscription",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::Secret",
}
LEFT_OUT = {
    "Custom::Migration",  # would run a function, for which moto needs Docker
    "AWS::EC2::Route",  # leads to a gateway that moto does not make from a template
    "AWS::RDS::DBInstance",  # moto knows it, but not the attributes that are used
}
PARAMETERS = {
    "DeploymentId": "acme",
    "SenderFromAddress": "Acme <sales@example.com>",
    "SesIdentity": "example.com",
    "UnsubscribeKeys": "k1:c2VjcmV0",
    "AlarmEmail": "ops@example.com",
}


@pytest.fixture(scope="module")
def expanded() -> Any:
    return _expand("function.zip")


def _expand(archive: str) -> Any:
    """The template as SAM expands it, with all code in this archive."""
    script, template = ROOT / "testbed/expand_template.py", ROOT / "template.yaml"
    printed = subprocess.run(
        [str(SAM_ENVIRONMENT / "bin/python"), str(script), str(template), archive],
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        check=True,
    )
    return json.loads(printed.stdout)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws(config={"lambda": {"use_docker": False}}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto's own
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("handler.py", "")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="code")
        s3.put_object(Bucket="code", Key="function.zip", Body=code.getvalue())
        yield


def _without(value: Any, removed: set[str]) -> Any:
    """References to what moto does not create become texts."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, argument),) = value.items()
            target = argument if name == "Ref" else argument[0] if name == "Fn::GetAtt" else None
            if target in removed:
                return f"arn:aws:not-in-moto:::{target}"
            if name == "Fn::Cidr":  # which moto does not know
                of_ipv6 = argument[2] == 64
                return ["2600::/64", "2600:0:0:1::/64"] if of_ipv6 else ["10.88.0.0/25", "10.88.0.128/25"]
            if name == "Fn::Sub":
                text, own = argument if isinstance(argument, list) else (argument, {})
                for each in removed:
                    text = text.replace(f"${{{each}}}", each).replace(f"${{{each}.Arn}}", each)
                return {name: [text, _without(own, removed)]} if own else {name: text}
        return {name: _without(member, removed) for name, member in value.items()}
    return [_without(member, removed) for member in value] if isinstance(value, list) else value


def _create(expanded: Any, **parameters: str) -> dict[str, str]:
    """Create the stack; what was made, by logical id."""
    removed = {name for name, each in expanded["Resources"].items() if each["Type"] in UNKNOWN_TO_MOTO | LEFT_OUT}
    resources = {
        name: _without({key: each[key] for key in each if key != "DependsOn"}, removed)
        for name, each in expanded["Resources"].items()
        if name not in removed
    }
    template = {key: expanded[key] for key in ("AWSTemplateFormatVersion", "Parameters", "Conditions")}
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName="sendledger",
        TemplateBody=json.dumps({**template, "Resources": resources}),
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value} for name, value in {**PARAMETERS, **parameters}.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = cloudformation.describe_stacks(StackName="sendledger")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    made = cloudformation.describe_stack_resources(StackName="sendledger")["StackResources"]
    return {each["LogicalResourceId"]: each["ResourceType"] for each in made if "LogicalResourceId" in each}


def test_the_types_that_moto_does_not_know_are_listed(expanded: Any, aws: None) -> None:
    types = {each["Type"] for each in expanded["Resources"].values() if not each["Type"].startswith("Custom::")}
    assert {type_ for type_ in types if resource_class_from_type(type_) is None} == UNKNOWN_TO_MOTO


def test_the_stack_is_created_with_its_own_network_and_database(expanded: Any, aws: None) -> None:
    made = _create(expanded)
    endpoints = boto3.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    assert sorted(each["ServiceName"].rpartition(".")[2] for each in endpoints) == ["email", "s3", "secretsmanager"]
    assert {"SenderFunction", "FunctionsSecurityGroup", "DatabaseSecurityGroup"} <= made.keys()
    assert not {"EgressOnlyGateway", "Ipv6Route", "Ipv6Egress"} & made.keys()
    assert "ReplyFunction" not in made
    variables = boto3.client("lambda").get_function_configuration(FunctionName="sendledger-sender")
    assert variables["Environment"]["Variables"]["DATABASE_CA_BUNDLE"] == "/opt/rds-global-bundle.pem"


def test_with_more_senders_there_is_one_more_endpoint(expanded: Any, aws: None) -> None:
    made = _create(expanded, DatabaseIamAuth="false", SenderConcurrency="4", ReplyDomain="reply.example.com")
    assert {"SecretsEndpoint", "LambdaEndpoint", "ReplyFunction"} <= made.keys()


def test_with_two_stacks_of_addresses_there_is_a_way_out_by_ipv6_and_no_endpoint_that_costs(
    expanded: Any, aws: None
) -> None:
    made = _create(expanded, Network="dual-stack", SenderConcurrency="4")
    ec2 = boto3.client("ec2")
    endpoints = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert [each["VpcEndpointType"] for each in endpoints] == ["Gateway"]
    assert {"SubnetA", "DatabaseSecurityGroup"} <= made.keys()
    of_ipv6 = {name: each for name, each in expanded["Resources"].items() if each.get("Condition") == "IsDualStack"}
    assert of_ipv6.keys() == {"Ipv6Addresses", "EgressOnlyGateway", "Ipv6Route", "Ipv6Egress"}
    # Nothing leads in, and nothing out by IPv4.
    assert of_ipv6["Ipv6Route"]["Properties"] == {
        "RouteTableId": {"Ref": "RouteTable"},
        "DestinationIpv6CidrBlock": "::/0",
        "EgressOnlyInternetGatewayId": {"Ref": "EgressOnlyGateway"},
    }
    assert not [name for name, each in expanded["Resources"].items() if each["Type"] == "AWS::EC2::InternetGateway"]
    assert _uses_dual_stack_names() == "true"


def test_functions_use_ipv6_only_in_a_network_that_has_it(expanded: Any) -> None:
    functions = [each for each in expanded["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    configured = [
        each["Properties"]["VpcConfig"]["Fn::If"][1]
        for each in functions
        if "Fn::If" in each["Properties"]["VpcConfig"]
    ]
    # The one that CloudFormation calls and the one that posts webhooks are outside.
    assert len(configured) == len(functions) - 2
    assert all(each["Ipv6AllowedForDualStack"] == {"Fn::If": ["UsesIpv6", True, False]} for each in configured)


def test_early_failures_happen_before_the_database_is_created(expanded: Any) -> None:
    database = expanded["Resources"]["DatabaseInstance"]
    assert database["DependsOn"] == "SesEventDestination"
    (after,) = (tag["Value"] for tag in database["Properties"]["Tags"] if tag["Key"] == "sendledger:after")
    assert after["Fn::If"][:2] == ["IsPrivate", {"Fn::Sub": "${SesEndpoint} ${SecretsEndpoint}"}]


def test_access_logs_need_no_entry_in_the_policy_of_the_account(expanded: Any) -> None:
    names = []
    for resource in expanded["Resources"].values():
        if resource["Type"] == "AWS::ApiGatewayV2::Stage":
            group = resource["Properties"]["AccessLogSettings"]["DestinationArn"]["Fn::GetAtt"][0]
            names.append(expanded["Resources"][group]["Properties"]["LogGroupName"]["Fn::Sub"])
            assert not resource["Properties"]["DefaultRouteSettings"].get("DetailedMetricsEnabled")
    assert len(names) == 3 == len(set(names))
    assert all(name.startswith("/aws/vendedlogs/${AWS::StackName}/") for name in names)


def test_no_function_is_given_the_keys_of_unsubscribe_links(expanded: Any) -> None:
    for name, resource in expanded["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Function":
            variables = resource["Properties"].get("Environment", {}).get("Variables", {})
            assert variables.get("UNSUBSCRIBE_KEYS") in (None, {"Ref": "UnsubscribeSecret"}), name
            # Another version of them starts the functions anew.
            assert ("UNSUBSCRIBE_KEYS" in variables) == ("UNSUBSCRIBE_KEYS_VERSION" in variables), name
    assert expanded["Parameters"]["UnsubscribeKeys"]["NoEcho"] is True


# What of the parameters a migration does not depend on: the sender's name for the database, and what is logged.
OF_NO_EFFECT_ON_THE_DATABASE = {"DeploymentId", "LogLevel", "Tracing"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"DatabaseIamAuth": "false", "Network": "dual-stack"},
        {
            "Database": "existing",
            "DatabaseHost": "db.example.com",
            "DatabaseResourceId": "db-ABC",
            "DatabaseSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:db",
            "Network": "existing",
            "VpcSubnetIds": "subnet-1,subnet-2",
            "VpcSecurityGroupIds": "sg-1",
        },
    ],
    ids=["created", "created with a password", "existing"],
)
def test_the_database_is_migrated_again_where_its_function_has_other_settings(
    expanded: Any, given: dict[str, str]
) -> None:
    """CloudFormation calls a custom resource only if one of its properties has changed."""
    declared, before = expanded["Parameters"], {**PARAMETERS, **given}
    with_function, with_migration = set[str](), set[str]()
    for name in declared:
        old = before.get(name, str(declared[name].get("Default", "")))
        new = next((each for each in map(str, declared[name].get("AllowedValues", [])) if each != old), f"{old}1")
        after = {**before, name: new}
        if _resolved(expanded, before, *FUNCTION_AND_ROLE) != _resolved(expanded, after, *FUNCTION_AND_ROLE):
            with_function.add(name)
        if _resolved(expanded, before, "Migration") != _resolved(expanded, after, "Migration"):
            with_migration.add(name)
    assert with_function - OF_NO_EFFECT_ON_THE_DATABASE <= with_migration
    assert with_migration <= with_function | {"MigrateOnDeploy"}
    assert {"DatabaseUsers", "DatabaseUser", "DatabasePort", "Network", "MigrateOnDeploy"} <= with_migration


FUNCTION_AND_ROLE = ("MigrateFunction", "MigrateFunctionRole")


def _resolved(expanded: Any, parameters: dict[str, str], *names: str) -> list[Any]:
    """The properties of resources as a deployment with these parameters has them."""
    of_instance = ("Endpoint.Address", "DbiResourceId", "MasterUserSecret.SecretArn")
    attributes = {f"DatabaseInstance.{name}": name for name in of_instance}
    attributes |= {f"{name}.Arn": name for name in expanded["Resources"]}
    references = {name: name for name in expanded["Resources"]}
    values = Values(expanded, parameters, "us-east-1", {}, attributes, references)
    return [values.resolve(expanded["Resources"][name]["Properties"], name) for name in names]


def test_the_database_is_migrated_again_where_its_function_has_other_code(expanded: Any) -> None:
    template = load(ROOT / "template.yaml")
    resources, every_function = template["Resources"], template["Globals"]["Function"]
    own, *layers = resources["Migration"]["Properties"]["Code"]
    assert resources[own["Ref"]]["Properties"]["ContentUri"] == resources["MigrateFunction"]["Properties"]["CodeUri"]
    assert layers == every_function["Layers"]
    before, after = (each["Resources"]["Migration"]["Properties"]["Code"] for each in (expanded, _expand("other.zip")))
    assert len(before) == len(after) == 3
    assert [each for each in before if each in after] == []


def test_the_deployment_invokes_the_function_as_it_is_and_not_a_version_that_may_be_older(expanded: Any) -> None:
    """A version is published only where SAM sees a change, and it sees none of parameters and layers."""
    resources = expanded["Resources"]
    assert not {each["Type"] for each in resources.values()} & {"AWS::Lambda::Alias", "AWS::Lambda::Version"}
    trigger = resources["MigrationTriggerFunction"]["Properties"]["Environment"]["Variables"]
    assert trigger["MIGRATE_FUNCTION_NAME"] == {"Ref": "MigrateFunction"}
    (invoking,) = (
        each
        for policy in resources["MigrationTriggerFunctionRole"]["Properties"]["Policies"]
        for each in policy["PolicyDocument"]["Statement"]
        if each.get("Action") == "lambda:InvokeFunction"
    )
    assert invoking["Resource"] == {"Fn::GetAtt": ["MigrateFunction", "Arn"]}
    # Of this invocation the queue gets the result.
    results = resources["MigrateFunctionEventInvokeConfig"]["Properties"]
    assert (results["FunctionName"], results["Qualifier"]) == ({"Ref": "MigrateFunction"}, "$LATEST")
    assert resources["Migration"]["DependsOn"] == "MigrateFunctionEventInvokeConfig"


# A database outside of AWS; a key of the local stack; what replies have by their class and no use for.
NOT_GIVEN = {"DATABASE_URL", "DATABASE_READER_URL", "FIXED_API_KEY"}
OF_NO_USE = {"ReplyFunction": {"POSTAL_ADDRESS", "PUBLIC_URL"}}
READ_FROM_REPLICAS = {"CampaignApiFunction", "ExportFunction"}
FUNCTIONS = {
    name: each["Properties"]
    for name, each in load(ROOT / "template.yaml")["Resources"].items()
    if each["Type"] == "AWS::Serverless::Function"
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_given_every_setting_that_it_reads(expanded: Any, name: str) -> None:
    code = "".join(file.read_text() for file in (ROOT / FUNCTIONS[name]["CodeUri"]).glob("*.py"))
    classes = [getattr(settings, found) for found in set(re.findall(r"\b(\w+Settings)\.read\b", code))]
    assert classes
    wanted = {field.upper() for each in classes for field in each.model_fields}
    given = expanded["Resources"][name]["Properties"]["Environment"]["Variables"].keys()
    assert ("DATABASE_READER_HOST" in given) == (name in READ_FROM_REPLICAS)
    assert wanted - given - NOT_GIVEN - {"DATABASE_READER_HOST"} == OF_NO_USE.get(name, set())


def test_only_those_that_read_from_a_replica_may_log_in_to_it(expanded: Any) -> None:
    found = {
        role["Ref"].removesuffix("Role")
        for each in expanded["Resources"].values()
        if "${DatabaseReaderResourceId}" in json.dumps(each) and each["Condition"] == "HasReaderLogin"
        for role in each["Properties"]["Roles"]
    }
    assert found == READ_FROM_REPLICAS


def test_the_database_can_be_upgraded_writes_its_logs_and_has_memory_for_its_logins(expanded: Any) -> None:
    properties = expanded["Resources"]["DatabaseInstance"]["Properties"]
    assert properties["AllowMajorVersionUpgrade"] is True
    assert properties["EnableCloudwatchLogsExports"] == ["postgresql", "upgrade"]
    assert expanded["Parameters"]["DatabaseInstanceClass"]["Default"] == "db.t4g.small"


def test_descriptions_of_security_groups_have_only_characters_that_ec2_takes() -> None:
    """No apostrophe: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpRange.html"""
    found = []
    for each in load(ROOT / "template.yaml")["Resources"].values():
        if each["Type"].startswith("AWS::EC2::SecurityGroup"):
            properties = each["Properties"]
            rules = [
                properties,
                *properties.get("SecurityGroupIngress", []),
                *properties.get("SecurityGroupEgress", []),
            ]
            found += [rule[key] for rule in rules for key in ("Description", "GroupDescription") if key in rule]
    assert len(found) >= 9
    assert [text for text in found if not re.fullmatch(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}", text)] == []


def test_fewer_requests_at_once_than_the_api_has_connections(expanded: Any) -> None:
    assert expanded["Parameters"]["ApiBurstLimit"]["Default"] <= MAX_CONNECTIONS["api"]


def test_an_existing_network_and_database_are_used(expanded: Any, aws: None) -> None:
    made = _create(
        expanded,
        Network="existing",
        VpcSubnetIds="subnet-1,subnet-2",
        VpcSecurityGroupIds="sg-1",
        Database="existing",
        DatabaseHost="db.example.com",
        DatabaseResourceId="db-ABC",
    )
    assert not [name for name, type_ in made.items() if type_.startswith(("AWS::EC2", "AWS::RDS"))]
    assert _uses_dual_stack_names() == "false"


def _uses_dual_stack_names() -> str:
    configuration = boto3.client("lambda").get_function_configuration(FunctionName="sendledger-sender")
    return str(configuration["Environment"]["Variables"]["AWS_USE_DUALSTACK_ENDPOINT"])


def test_an_existing_network_may_have_its_way_out_by_ipv6(expanded: Any, aws: None) -> None:
    given = {"Network": "existing", "VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1"}
    database = {"Database": "existing", "DatabaseHost": "db.example.com", "DatabaseResourceId": "db-ABC"}
    _create(expanded, **given, **database, VpcIpv6="true")
    assert _uses_dual_stack_names() == "true"


def test_a_flood_of_replies_has_a_limit_that_a_new_account_can_have(expanded: Any) -> None:
    """A reservation must leave 10 of the account's concurrency, and new accounts have 10 in all.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
    """
    resources = expanded["Resources"]
    mapping = resources["ReplyFunctionMail"]["Properties"]
    assert (mapping["BatchSize"], mapping["ScalingConfig"]) == (1, {"MaximumConcurrency": 4})
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["ReplyQueue", "Arn"]}
    function = resources["ReplyFunction"]["Properties"]
    assert "ReservedConcurrentExecutions" not in function
    # Nothing else invokes it, and the queue does not tell again what is still being read.
    assert [name for name in resources if name.startswith("ReplyFunction")] == [
        "ReplyFunction",
        "ReplyFunctionMail",
        "ReplyFunctionRole",
    ]
    assert resources["ReplyQueue"]["Properties"]["VisibilityTimeout"] >= 6 * function["Timeout"]
    of_events = resources["SesEventsFunctionQueue"]["Properties"]["ScalingConfig"]["MaximumConcurrency"]
    assert of_events + 4 <= MAX_CONNECTIONS["events"]


def test_the_bucket_of_replies_notifies_its_queue_and_no_other_account_can(expanded: Any, aws: None) -> None:
    resources = expanded["Resources"]
    bucket = resources["ReplyBucket"]
    (told,) = bucket["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert told == {"Event": "s3:ObjectCreated:*", "Queue": {"Fn::GetAtt": ["ReplyQueue", "Arn"]}}
    assert bucket["DependsOn"] == "ReplyQueuePolicy"
    (statement,) = resources["ReplyQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    made = _create(expanded, ReplyDomain="reply.example.com")
    assert {"ReplyQueue", "ReplyFailures", "ReplyBucket"} <= made.keys()


def test_the_tick_is_not_repeated_and_does_not_pile_up(expanded: Any) -> None:
    resources = expanded["Resources"]
    once = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    (target,) = resources["SenderFunctionTick"]["Properties"]["Targets"]
    assert target["RetryPolicy"] == once
    invoke = resources["SenderFunctionEventInvokeConfig"]["Properties"]
    assert {name: invoke[name] for name in once} == once


def test_the_database_is_private_encrypted_and_outlives_the_stack(expanded: Any) -> None:
    database = expanded["Resources"]["DatabaseInstance"]
    assert (database["DeletionPolicy"], database["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")
    properties = database["Properties"]
    for name in ("StorageEncrypted", "DeletionProtection", "EnableIAMDatabaseAuthentication", "CopyTagsToSnapshot"):
        assert properties[name] is True
    assert properties["PubliclyAccessible"] is False


def _cors_of_the_files(expanded: Any, origins: str) -> Any:
    """What the bucket of files is made with; moto creates buckets without it."""
    (choice,) = expanded["Resources"]["FileBucket"]["Properties"]["CorsConfiguration"].values()
    condition, chosen, otherwise = choice
    stated = expanded["Conditions"][condition]
    assert stated == {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "UploadOrigins"}]}, ""]}]}
    if not origins:
        return otherwise
    return json.loads(json.dumps(chosen).replace('{"Ref": "UploadOrigins"}', json.dumps(origins.split(","))))


def test_attachments_do_not_expire_as_other_files_do(expanded: Any) -> None:
    rules = expanded["Resources"]["FileBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == dict.fromkeys(("imports/", "rejects/", "exports/", "uploads/"), 7)


def test_links_of_a_tracking_domain_need_https(expanded: Any) -> None:
    options = expanded["Resources"]["SesConfigurationSetResource"]["Properties"]["TrackingOptions"]
    assert options == {
        "Fn::If": [
            "HasTrackingDomain",
            {"CustomRedirectDomain": {"Ref": "TrackingDomain"}, "HttpsPolicy": "REQUIRE"},
            {"Ref": "AWS::NoValue"},
        ]
    }


def test_no_page_may_upload_unless_its_origin_is_given(expanded: Any) -> None:
    assert expanded["Parameters"]["UploadOrigins"]["Default"] == ""
    assert _cors_of_the_files(expanded, "") == {"Ref": "AWS::NoValue"}


def test_pages_of_the_given_origins_may_upload_and_no_more(expanded: Any) -> None:
    assert _cors_of_the_files(expanded, "https://crm.example.com,http://localhost:5173") == {
        "CorsRules": [
            {
                "AllowedOrigins": ["https://crm.example.com", "http://localhost:5173"],
                "AllowedMethods": ["PUT"],
                "AllowedHeaders": ["Content-Type"],
                "MaxAge": 3600,
            }
        ]
    }


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("", True),
        ("https://crm.example.com", True),
        ("https://crm.example.com:8443", True),
        ("http://localhost:5173", True),
        ("*", False),
        ("https://*", False),
        ("http://crm.example.com", False),
        ("https://crm.example.com/", False),
        ("https://crm.example.com/upload", False),
        ("null", False),
    ],
)
def test_only_whole_https_origins_are_valid(expanded: Any, origin: str, is_allowed: bool) -> None:
    assert bool(re.fullmatch(expanded["Parameters"]["UploadOrigins"]["AllowedPattern"], origin)) == is_allowed


TOKENS = {"JwtIssuer": "https://idp.example.com/pool", "JwtAudience": "app-1,app-2"}
OF_TOKENS = {"TokenApiAccessLogGroup", "TokenApiPermission"}
"""What comes with the API for tokens; moto creates no APIs."""


def _issuer_of_the_api() -> str:
    functions = boto3.client("lambda").list_functions()["Functions"]
    (variables,) = [each["Environment"]["Variables"] for each in functions if "CampaignApi" in each["FunctionName"]]
    assert variables["JWT_ROLE_CLAIM"] == "cognito:groups"
    assert variables["JWT_ROLE_PREFIX"] == "sendledger-"
    return str(variables["JWT_ISSUER"])


def test_with_issuer_and_audience_there_is_an_api_for_tokens(expanded: Any, aws: None) -> None:
    assert _create(expanded, **TOKENS).keys() >= OF_TOKENS
    assert _issuer_of_the_api() == TOKENS["JwtIssuer"]


@pytest.mark.parametrize("given", [(), ("JwtIssuer",), ("JwtAudience",)])
def test_without_both_no_token_is_accepted(expanded: Any, aws: None, given: tuple[str, ...]) -> None:
    made = _create(expanded, **{name: TOKENS[name] for name in given})
    assert not OF_TOKENS & made.keys()
    assert _issuer_of_the_api() == ""


def test_every_route_of_the_api_for_tokens_needs_a_valid_one(expanded: Any) -> None:
    resources = expanded["Resources"]
    body = resources["TokenApi"]["Properties"]["Body"]
    (scheme,) = body["components"]["securitySchemes"].values()
    assert scheme["x-amazon-apigateway-authorizer"] == {
        "type": "jwt",
        "identitySource": "$request.header.Authorization",
        "jwtConfiguration": {"issuer": {"Ref": "JwtIssuer"}, "audience": {"Ref": "JwtAudience"}},
    }
    routes = [route for methods in body["paths"].values() for route in methods.values()]
    assert [route["security"] for route in routes] == [[{"Issuer": []}]]
    conditional = {name for name, each in resources.items() if each.get("Condition") == "TakesTokens"}
    assert conditional == OF_TOKENS | {"TokenApi", "TokenApiApiGatewayDefaultStage", "TokenApiErrorsAlarm"}


def test_the_api_for_keys_has_no_authorizer_in_its_way(expanded: Any) -> None:
    body = expanded["Resources"]["CampaignApi"]["Properties"]["Body"]
    assert "components" not in body
    assert not [route for methods in body["paths"].values() for route in methods.values() if "security" in route]


def test_both_apis_lead_to_the_same_function_in_the_same_way(expanded: Any) -> None:
    of_keys, of_tokens = (
        expanded["Resources"][name]["Properties"]["Body"]["paths"] for name in ("CampaignApi", "TokenApi")
    )
    # Signing in to the console takes a key.
    assert of_keys.keys() - of_tokens.keys() == {"/console", "/console/{proxy+}"}
    for path in of_tokens:
        methods = of_keys[path]
        assert methods.keys() == of_tokens[path].keys()
        for method, route in methods.items():
            integration = of_tokens[path][method]["x-amazon-apigateway-integration"]
            assert integration == route["x-amazon-apigateway-integration"]


@pytest.mark.parametrize(
    ("region", "partition", "host"),
    [
        ("eu-central-1", "aws", "eu-central-1.console.aws.amazon.com"),
        ("us-gov-west-1", "aws-us-gov", "console.amazonaws-us-gov.com"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_dashboard_is_in_the_console_of_its_partition(region: str, partition: str, host: str) -> None:
    template = load(ROOT / "template.yaml")
    body = {
        "Conditions": {"IsGovCloud": template["Conditions"]["IsGovCloud"]},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"DashboardUrl": template["Outputs"]["DashboardUrl"]},
    }
    # moto knows one partition only.
    text = json.dumps(body).replace(json.dumps({"Ref": "AWS::Partition"}), json.dumps(partition))
    cloudformation = boto3.client("cloudformation", region_name=region)
    cloudformation.create_stack(StackName="acme", TemplateBody=text)
    (output,) = cloudformation.describe_stacks()["Stacks"][0]["Outputs"]
    assert output["OutputValue"] == f"https://{host}/cloudwatch/home?region={region}#dashboards/dashboard/acme"


@pytest.mark.parametrize("folder", ["functions", "layers/shared", "migrations", "deployment"])
def test_no_code_names_the_partition_of_an_arn(folder: str) -> None:
    """In GovCloud it is another one."""
    for path in (ROOT / folder).rglob("*.py"):
        assert "arn:aws" not in path.read_text(), path


def test_each_arn_of_the_template_is_of_the_stacks_partition() -> None:
    partitions = re.findall(r"\barn:(\$\{[^}]*\}|[^:]*):", (ROOT / "template.yaml").read_text())
    # The pattern of a parameter takes all of them.
    assert set(partitions) == {"${AWS::Partition}", "[a-z-]+"}
