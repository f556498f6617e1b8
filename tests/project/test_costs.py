"""The documentation quotes what the model says."""

from pathlib import Path
from typing import Any

from bench.costs import ALARM_METRICS, ENDPOINTS, SECRETS, SIZES, idle_sum, monthly_costs, table
from local.cloudformation import load

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = load(ROOT / "template.yaml")


def test_the_documentation_has_the_table_of_the_model() -> None:
    page = (ROOT / "docs/operations/costs.md").read_text()
    assert table() in page
    assert idle_sum() in page


def _made(type_: str) -> list[dict[str, Any]]:
    """What the template makes by default, without replies, tokens and further senders."""
    always = {None, "CreatesNetwork", "CreatesDatabase", "IsPrivate", "Ticks"}
    of_type = [each for each in TEMPLATE["Resources"].values() if each["Type"] == type_]
    return [each for each in of_type if each.get("Condition") in always]


def test_the_cost_model_counts_the_resources_of_the_template() -> None:
    alarms = [each["Properties"].get("Metrics", [None]) for each in _made("AWS::CloudWatch::Alarm")]
    assert sum(len([each for each in metrics if each is None or "MetricStat" in each]) for metrics in alarms) == (
        ALARM_METRICS
    )
    endpoints = [each["Properties"]["VpcEndpointType"] for each in _made("AWS::EC2::VPCEndpoint")]
    assert endpoints.count("Interface") == ENDPOINTS
    assert len(_made("AWS::SecretsManager::Secret")) + 1 == SECRETS  # and the one that RDS keeps
    assert len(_made("AWS::CloudWatch::Dashboard")) == 1
    assert {size.instance for size in SIZES[:3]} == {TEMPLATE["Parameters"]["DatabaseInstanceClass"]["Default"]}


def test_ses_is_most_of_the_price_of_many_emails_and_little_of_few() -> None:
    _, few, _, many = (monthly_costs(size) for size in SIZES)
    assert few["SES"] < 0.01 * sum(few.values())
    assert many["SES"] > 0.8 * sum(many.values())
