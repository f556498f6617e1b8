"""The OpenAPI document says what its readers and the programs made from it need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import api_document
import campaign_api_handler
from api_examples import example_of
from tests.functions.campaign_api.api_client import ROUNDING_ERROR

DOCUMENT = api_document.document(campaign_api_handler.app)


def operations() -> Iterator[dict[str, Any]]:
    for methods in DOCUMENT["paths"].values():
        yield from methods.values()


def test_document_does_not_depend_on_what_was_imported_before_it() -> None:
    program = """
import api_document, campaign_api_handler, route_table
for module in reversed(route_table.ROUTES):
    campaign_api_handler.app.load(module)
print(api_document.as_json(campaign_api_handler.app), end="")
"""
    folder = Path(campaign_api_handler.__file__).parent
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout == api_document.as_json(campaign_api_handler.app)


def test_each_tag_is_described_and_used() -> None:
    assert all(tag["description"] for tag in DOCUMENT["tags"])
    used = {tag for operation in operations() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in DOCUMENT["tags"]}


def test_no_parameter_may_be_null() -> None:
    parameters = [each for operation in operations() for each in operation.get("parameters", [])]
    assert len(parameters) > 100
    assert [each["name"] for each in parameters if "null" in str(each["schema"])] == []


def test_each_parameter_is_described() -> None:
    parameters = [each for operation in operations() for each in operation.get("parameters", [])]
    assert [each["name"] for each in parameters if not each.get("description")] == []


def test_each_answer_has_an_example_that_fits_its_schema() -> None:
    examples = 0
    for operation in operations():
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                schema = content["schema"] | {"components": DOCUMENT["components"]}
                jsonschema_rs.validate(schema, content["example"])
                examples += status < "3"
    assert examples > 50


def test_no_number_of_the_document_has_a_rounding_error() -> None:
    assert ROUNDING_ERROR.findall(json.dumps(DOCUMENT)) == []


def enums(node: Any, where: str = "", description: str = "") -> Iterator[tuple[str, list[str], str]]:
    """Each list of possible values: where it is, its values, and the description that stands with it."""
    if isinstance(node, list):
        for position, item in enumerate(node):
            yield from enums(item, f"{where}/{position}", description)
    if not isinstance(node, dict):
        return
    description = node.get("description") or description
    if isinstance(node.get("enum"), list):
        yield where, node["enum"], description
    for name, part in node.items():
        if name not in ("enum", "example", "examples", "default"):
            same = name in ("schema", "items", "anyOf", "oneOf", "allOf")
            yield from enums(part, f"{where}/{name}", description if same else "")


def test_each_possible_value_is_described_in_a_sentence() -> None:
    found = list(enums({name: DOCUMENT[name] for name in ("paths", "components")}))
    assert len(found) > 50
    # An order names fields, and says what a sign before them means.
    orders = [each for each in found if f"-{each[1][0].removeprefix('-')}" in each[1]]
    assert all(re.search(r"-( before it|at): ", description) for _, _, description in orders)
    undescribed = [
        f"{where}: {value}"
        for where, values, description in found
        if (where, values, description) not in orders
        for value in values
        if not re.search(rf"^- `{re.escape(value)}`: [A-Z0-9].*\.", description, re.MULTILINE)
    ]
    assert undescribed == []


def test_health_looks_at_nothing_that_could_be_invalid() -> None:
    assert "422" not in DOCUMENT["paths"]["/v1/health"]["get"]["responses"]


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "string", "examples": ["Ann"], "default": "Bob"}, "Ann"),
        ({"type": "string", "default": "Bob"}, "Bob"),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, "2026-05-04"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Lead"}}, [{"name": "Ann"}]),
        ({"type": "object", "additionalProperties": {"type": "integer", "minimum": 3}}, {"name": 3}),
    ],
)
def test_example_of_a_schema(schema: dict[str, Any], example: Any) -> None:
    schemas = {"Lead": {"properties": {"name": {"type": "string", "examples": ["Ann"]}}}}
    assert example_of(schema, schemas) == example
