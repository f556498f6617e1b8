"""Every alarm and every widget of the dashboard looks at a metric that there is: of our own, one that a function was
seen to write from its built code; of AWS, one of a resource of the template.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa

from local.cloudformation import load
from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.signed_tokens import EmailReference, TokenKey, TokenKeys
from testbed.campaigns import DAY, NO_DELAY, make_campaign, pass_time, rows_of
from testbed.databases import MIGRATIONS
from testbed.lambda_runtime import LambdaRuntime
from testbed.ses_events import event_of, queued
from tests.functions.conftest import StartFunction

TEMPLATE = load(MIGRATIONS.parent / "template.yaml")
ALARMS_PAGE = (MIGRATIONS.parent / "docs/operations/alarms.md").read_text()
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
OWN = "Sendledger"
MINUTE = dt.timedelta(minutes=1)

# What AWS's services write about a resource: the type that has these metrics and the dimension that names it.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
OF_AWS = {
    "AWS/Lambda": ("AWS::Serverless::Function", "FunctionName", {"Errors", "Duration", "ConcurrentExecutions"}),
    "AWS/SQS": (
        "AWS::SQS::Queue",
        "QueueName",
        {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    ),
    "AWS/ApiGateway": ("AWS::Serverless::HttpApi", "ApiId", {"Count", "4xx", "5xx", "Latency"}),
    "AWS/RDS": (
        "AWS::RDS::DBInstance",
        "DBInstanceIdentifier",
        {
            "CPUCreditBalance",
            "CPUUtilization",
            "DatabaseConnections",
            "FreeStorageSpace",
            "FreeableMemory",
            "MaximumUsedTransactionIDs",
            "SwapUsage",
        },
    ),
}
READER = {"Fn::Select": [0, {"Fn::Split": [".", {"Ref": "DatabaseReaderHost"}]}]}
"""The name of a replica, or of its cluster. AWS's endpoints begin with it."""
Metric = tuple[str, str, str, str]
"""Namespace, name, and name and value of its one dimension; ``!Ref X`` as ``${X}``, ``!GetAtt X.Y`` as ``${X.Y}``."""


def _text(value: Any) -> str:
    if value == READER:
        return "${DatabaseReaderHost}"
    if isinstance(value, dict):
        ((_, argument),) = value.items()
        return f"${{{argument if isinstance(argument, str) else '.'.join(argument)}}}"
    return str(value)


def _metrics_of_alarms() -> Iterator[Metric]:
    for resource in RESOURCES.values():
        if resource["Type"] != "AWS::CloudWatch::Alarm":
            continue
        properties = resource["Properties"]
        queries = properties.get("Metrics", [{"MetricStat": {"Metric": properties}}])
        for query in queries:
            if "MetricStat" in query:
                metric = query["MetricStat"]["Metric"]
                (dimension,) = metric["Dimensions"]
                yield metric["Namespace"], metric["MetricName"], dimension["Name"], _text(dimension["Value"])


def _metrics_of_the_dashboard() -> Iterator[Metric]:
    text, variables = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    database_widget = variables["DatabaseWidget"]["Fn::If"][1]["Fn::Sub"]
    body = json.loads(text.replace("${DatabaseWidget}", database_widget))
    for widget in body["widgets"]:
        for namespace, name, dimension, value, *_ in widget["properties"]["metrics"]:
            yield namespace, name, dimension, value


OF_REPLICAS = {metric for metric in _metrics_of_alarms() if metric[3] == "${DatabaseReaderHost}"}
"""Of a replica that the template does not make."""


def _written(runtime: LambdaRuntime) -> Iterator[tuple[Metric, float]]:
    """The metrics in a function's log, in the format that CloudWatch takes them from, and their values.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    for line in runtime.log.splitlines():
        start = line.find('{"_aws"')
        if start < 0:
            continue
        document, _ = json.JSONDecoder().raw_decode(line[start:])
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for (dimension,) in directive["Dimensions"]:
                for metric in directive["Metrics"]:
                    value = document[metric["Name"]]
                    highest = max(value) if isinstance(value, list) else value
                    yield (directive["Namespace"], metric["Name"], dimension, str(document[dimension])), highest


@pytest.fixture
def written(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> dict[Metric, float]:
    """What the built functions write when everything happens that they count: each metric's highest value."""
    environment = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url}
    sender = start_function("SenderFunction", environment)
    names = ("sent", "failed", "unknown", "skipped")
    campaign_id = make_campaign(connection, [f"{name}@example.com" for name in names], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("bad_request", address="failed@example.com")
    ses.add_fault("error_500", address="unknown@example.com")
    with engine.begin() as other:
        other.execute(sa.text("UPDATE leads SET status = 'not_interested' WHERE email = 'skipped@example.com'"))
    with engine.begin() as other:
        # A table whose dead rows nobody removes.
        other.execute(sa.text("CREATE TABLE dead WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 150000)"))
        other.execute(sa.text("DELETE FROM dead"))
        other.execute(sa.text("SELECT pg_stat_force_next_flush()"))
    summary = sender.invoke({})
    assert [summary[name] for name in names] == [1, 1, 1, 1]
    row = next(row for row in rows_of(engine, campaign_id) if row["error_code"] == "outcome_unknown")
    # The key of tests/functions/conftest.py.
    keys = TokenKeys([TokenKey("k1", b"this-key-is-for-tests-only-12345")])
    token = keys.unsubscribe_token(EmailReference(row["id"], campaign_id, row["lead_id"]))
    request = {
        "requestContext": {"http": {"method": "POST"}, "requestId": "1"},
        "headers": {"content-type": "application/x-www-form-urlencoded"},
        "pathParameters": {"token": token},
        "body": "List-Unsubscribe=One-Click",
    }
    unsubscribe = start_function("UnsubscribeFunction", environment)
    assert unsubscribe.invoke(request)["statusCode"] == 200
    events = start_function("SesEventsFunction", {**environment, "GUARDRAIL_MIN_EMAILS": "1"})
    (email,) = (each for each in ses.accepted() if each.destination == ("sent@example.com",))
    again = dataclasses.replace(email, message_id=f"{email.message_id}-again")
    reported = [event_of(email, name) for name in ("Send", "Bounce", "Complaint")]
    answer = events.invoke(queued(*reported, event_of(again, "Delivery"), "no event of SES"))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "4"}]}
    # Known already, and of another account: what did not happen is not written.
    of_others = {**event_of(email, "Delivery"), "account": "999999999999"}
    assert events.invoke(queued(reported[0], of_others)) == {"batchItemFailures": []}
    _let_an_email_wait(sender, engine, connection, ses)
    found: dict[Metric, float] = {}
    for metric, value in chain.from_iterable(map(_written, (sender, events, unsubscribe))):
        found[metric] = max(value, found.get(metric, 0))
    return found


def _let_an_email_wait(sender: LambdaRuntime, engine: sa.Engine, connection: sa.Connection, ses: SesSimulator) -> None:
    """While SES's quota is used up, an email becomes overdue, and at last so much that it is held."""
    lifecycle.start_campaign(engine, make_campaign(connection, ["waiting@example.com"]))
    ses.add_fault("daily_quota")
    sender.invoke({})
    pass_time(engine, MINUTE)
    assert sender.invoke({})["sent"] == 0
    pass_time(engine, DAY)
    assert sender.invoke({})["campaigns_held"] > 0


def test_every_alarm_and_widget_looks_at_a_metric_that_was_seen(written: dict[Metric, float]) -> None:
    wanted = {metric for metric in (*_metrics_of_alarms(), *_metrics_of_the_dashboard()) if metric[0] == OWN}
    # The functions ran as the deployment "test", which is how the template names them.
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "DeploymentId"}
    # Seen with what it counts, not only as a nought.
    seen = {(*metric[:3], "${DeploymentId}") for metric, value in written.items() if metric[3] == "test" and value > 0}
    assert len(wanted) > 15
    assert wanted - seen == set()


def test_every_metric_is_explained(written: dict[Metric, float]) -> None:
    explained = set(re.findall(r"^\| `([\w/]+)` \| `(\w+)` \|", ALARMS_PAGE, re.MULTILINE))
    used = {(namespace, name) for namespace, name, _, _ in (*_metrics_of_alarms(), *_metrics_of_the_dashboard())}
    assert explained == used | {(namespace, name) for namespace, name, _, _ in written}


def test_replica_that_lags_has_an_alarm_where_there_is_one() -> None:
    # Of an RDS instance or of an Aurora cluster: only one of them has the metric.
    wanted = {("ReplicaLag", "DBInstanceIdentifier"), ("AuroraReplicaLag", "DBClusterIdentifier")}
    assert {(name, dimension) for _, name, dimension, _ in OF_REPLICAS} == wanted
    conditional = {name for name, each in RESOURCES.items() if each.get("Condition") == "HasReader"}
    assert conditional == {"ReplicaLagAlarm", "AuroraReplicaLagAlarm"}
    assert TEMPLATE["Conditions"]["HasReader"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "DatabaseReaderHost"}, ""]}]}


@pytest.mark.parametrize(
    "metric",
    sorted({m for m in (*_metrics_of_alarms(), *_metrics_of_the_dashboard()) if m[0] != OWN} - OF_REPLICAS),
)
def test_every_metric_of_aws_belongs_to_a_resource_of_the_template(metric: Metric) -> None:
    namespace, name, dimension, value = metric
    type_, its_dimension, names = OF_AWS[namespace]
    found = re.fullmatch(r"\$\{(\w+)(?:\.QueueName)?\}", value)
    assert found is not None
    assert (RESOURCES[found[1]]["Type"], dimension) == (type_, its_dimension)
    assert name in names


def test_every_alarm_has_a_recipient_and_an_explanation() -> None:
    alarms = {name: each for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
    assert len(alarms) >= 20
    for name, alarm in alarms.items():
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        assert f"## {name}" in ALARMS_PAGE


@pytest.mark.parametrize(
    ("alarm", "resource"),
    [
        ("UnsubscribeErrorsAlarm", "${UnsubscribeApi}"),
        ("SesEventsAgeAlarm", "${SesEventsQueue.QueueName}"),
        ("SesRuleFailuresAlarm", "${SesRuleFailures.QueueName}"),
        ("LeadImportErrorsAlarm", "${LeadImportFunction}"),
        ("ExportErrorsAlarm", "${ExportFunction}"),
        ("WebhookErrorsAlarm", "${WebhookSenderFunction}"),
    ],
)
def test_background_failures_have_an_alarm(alarm: str, resource: str) -> None:
    (dimension,) = RESOURCES[alarm]["Properties"]["Dimensions"]
    assert _text(dimension["Value"]) == resource


def test_every_function_with_a_schedule_has_an_alarm_for_its_errors() -> None:
    scheduled = {
        name
        for name, each in RESOURCES.items()
        if each["Type"] == "AWS::Serverless::Function"
        and any(event["Type"] == "Schedule" for event in each["Properties"].get("Events", {}).values())
    }
    errors = {value for _, name, _, value in _metrics_of_alarms() if name == "Errors"}
    assert {"SenderFunction", "ExportFunction"} <= scheduled
    assert {name for name in scheduled if f"${{{name}}}" not in errors} == set()


def test_a_first_deployment_raises_no_alarm_for_what_it_does_not_have_yet() -> None:
    """Ticks begin after the ten minutes of the database. A new instance has no CPU credits, and earns some each hour.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html
    """
    alarms = {name: each for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
    early = [name for name, each in alarms.items() if each["Properties"]["TreatMissingData"] == "breaching"]
    assert {name: alarms[name].get("DependsOn") for name in early} == {"NoTickAlarm": "SenderFunctionTick"}
    credits = alarms["DatabaseCpuCreditsAlarm"]["Properties"]
    earned_in_an_hour = 12  # by db.t4g.micro; half of them may be used at once
    hours = credits["Period"] * credits["EvaluationPeriods"] / 3600
    assert hours * earned_in_an_hour / 2 > credits["Threshold"]


def test_events_that_eventbridge_cannot_deliver_are_kept() -> None:
    (target,) = RESOURCES["SesEventsRule"]["Properties"]["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["SesRuleFailures", "Arn"]}}
    policy = RESOURCES["SesEventsQueuePolicy"]["Properties"]
    assert {"Ref": "SesRuleFailures"} in policy["Queues"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert {"Fn::GetAtt": ["SesRuleFailures", "Arn"]} in statement["Resource"]


def test_every_log_group_forgets() -> None:
    groups = {name: each for name, each in RESOURCES.items() if each["Type"] == "AWS::Logs::LogGroup"}
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    for name, resource in RESOURCES.items():
        if resource["Type"] == "AWS::Serverless::Function":
            assert resource["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] in groups, name
