"""The documentation quotes what the model says."""

from pathlib import Path

from bench.costs import SIZES, monthly_costs, table


def test_the_documentation_has_the_table_of_the_model() -> None:
    assert table() in (Path(__file__).parents[2] / "docs/operations/costs.md").read_text()


def test_ses_is_most_of_the_price_of_many_emails_and_little_of_few() -> None:
    few, _, many = (monthly_costs(size) for size in SIZES)
    assert few["SES"] < 0.01 * sum(few.values())
    assert many["SES"] > 0.8 * sum(many.values())
