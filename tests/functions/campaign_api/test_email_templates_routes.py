"""Email templates through the API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.functions.campaign_api.api_client import ApiClient

TEMPLATE = {"name": "Hello", "subject": "Hi {{ first_name }}", "body_html": "<p>About {{ company_name }}</p>"}


@pytest.fixture
def template(api: ApiClient) -> dict[str, Any]:
    created: dict[str, Any] = api.post("/v1/email-templates", TEMPLATE).json
    return created


def test_created_template_can_be_read(api: ApiClient) -> None:
    created = api.post("/v1/email-templates", TEMPLATE)
    assert created.status == 201
    assert created.json["created_at"].endswith("Z")
    assert api.get(f"/v1/email-templates/{created.json['id']}").json == created.json


def test_missing_text_is_null_and_derived_in_the_preview(api: ApiClient, template: dict[str, Any]) -> None:
    assert template["body_text"] is None
    lead = {"first_name": "Ann", "company_name": "A & B"}
    preview = api.post(f"/v1/email-templates/{template['id']}/preview", {"lead": lead})
    assert preview.status == 200
    assert preview.json == {
        "subject": "Hi Ann",
        "body_text": "About A & B\n",
        "body_html": "<p>About A &amp; B</p>",
        "subject_of_step": None,
        "answers_step": None,
        "attachments": [],
    }


BAD_TEMPLATES: dict[str, tuple[object, list[str]]] = {
    "nothing": ({}, ["name", "subject"]),
    "wrong type": (TEMPLATE | {"name": 5}, ["name"]),
    "blank name": (TEMPLATE | {"name": " "}, ["name"]),
    "null subject": (TEMPLATE | {"subject": None}, ["subject"]),
    "too long": (TEMPLATE | {"subject": "x" * 501}, ["subject"]),
    "extra field": (TEMPLATE | {"body": "x"}, ["body"]),
    "unknown category": (TEMPLATE | {"category": "spam"}, ["category"]),
    "flag in quotes": (TEMPLATE | {"is_active": "true"}, ["is_active"]),
    "no body": ({"name": "a", "subject": "b"}, ["body_text", "body_html"]),
    "syntax error": (TEMPLATE | {"body_text": "\n{% if %}"}, ["body_text"]),
    "NUL": (TEMPLATE | {"name": "a\0b"}, ["name"]),
    "half a surrogate pair": (TEMPLATE | {"name": "a\ud800b"}, ["name"]),
    "not an object": ([TEMPLATE], ["body"]),
}


@pytest.mark.parametrize(("body", "fields"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES.keys())
def test_bad_template_is_refused_naming_the_field(api: ApiClient, body: object, fields: list[str]) -> None:
    answer = api.post("/v1/email-templates", body)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.fields == fields


def test_only_the_given_fields_change(api: ApiClient, template: dict[str, Any]) -> None:
    changed = api.patch(f"/v1/email-templates/{template['id']}", {"body_text": "Plain"})
    assert changed.status == 200
    assert changed.json == template | {"body_text": "Plain", "updated_at": changed.json["updated_at"]}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"name": None}, ["name"]),
        ({"body_html": None}, ["body_text", "body_html"]),
        ({"subject": "{{"}, ["subject"]),
        ({"id": "1"}, ["id"]),
    ],
)
def test_bad_change_is_refused(api: ApiClient, template: dict[str, Any], changes: object, fields: list[str]) -> None:
    answer = api.patch(f"/v1/email-templates/{template['id']}", changes)
    assert (answer.status, answer.fields) == (422, fields)
    assert api.get(f"/v1/email-templates/{template['id']}").json == template


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/preview", {"lead": {}}),
    ],
)
def test_unknown_template_is_not_found(api: ApiClient, method: str, path: str, body: object) -> None:
    assert api.request(method, f"/v1/email-templates/{uuid4()}{path}", body=body).status == 404
    not_an_id = api.request(method, f"/v1/email-templates/7{path}", body=body)
    assert (not_an_id.status, not_an_id.fields) == (422, ["email_template_id"])


def test_deleted_template_is_gone(api: ApiClient, template: dict[str, Any]) -> None:
    deleted = api.delete(f"/v1/email-templates/{template['id']}")
    assert (deleted.status, deleted.body) == (204, None)
    assert api.get(f"/v1/email-templates/{template['id']}").status == 404


def test_list_is_newest_first_in_pages_without_bodies(api: ApiClient) -> None:
    names = [f"Template {number}" for number in range(5)]
    for name in names:
        api.post("/v1/email-templates", TEMPLATE | {"name": name})
    first = api.get("/v1/email-templates", limit=3).json
    second = api.get("/v1/email-templates", limit=3, cursor=first["next_cursor"]).json
    assert [item["name"] for item in first["items"] + second["items"]] == names[::-1]
    assert second["next_cursor"] is None
    assert "body_html" not in first["items"][0]


def test_list_is_filtered_by_category(api: ApiClient) -> None:
    for category in ("general", "follow_up"):
        api.post("/v1/email-templates", TEMPLATE | {"category": category})
    found = api.get("/v1/email-templates", category="follow_up").json["items"]
    assert [item["category"] for item in found] == ["follow_up"]


@pytest.mark.parametrize(
    "body_html",
    [
        *("<div>" * 1_000, "JINJATAG5X", "<head " * 10_000, "<!--" * 40_000, "{{ " * 100_000, "{#" * 100_000),
        *("{{a}}" * 90_000, "{% if a %}" * 40_000, "<style>{#" * 50_000),
    ],
    ids=lambda body: body[:12],
)
def test_hostile_html_is_accepted_or_refused_naming_the_part(api: ApiClient, body_html: str) -> None:
    answer = api.post("/v1/email-templates", TEMPLATE | {"body_html": body_html})
    if answer.status != 201:
        assert (answer.status, answer.fields) == (422, ["body_html"])


def test_body_has_at_most_500_000_characters(api: ApiClient) -> None:
    assert api.post("/v1/email-templates", TEMPLATE | {"body_html": "x" * 500_000}).status == 201
    refused = api.post("/v1/email-templates", TEMPLATE | {"body_html": "x" * 500_001})
    assert (refused.status, refused.fields) == (422, ["body_html"])


def test_error_says_where_what_and_what_to_use_instead(api: ApiClient) -> None:
    refused = api.post("/v1/email-templates", TEMPLATE | {"body_text": "Hi\n{{ company_name.upper() }}"})
    (error,) = refused.json["errors"]
    assert error["message"].startswith("line 2: a call is not possible in a template; use a filter")


@pytest.mark.parametrize(
    ("name", "greeting"),
    [
        ({"last_name": "Smith"}, "there"),
        ({"contact_name": "Smith, Jane"}, "Jane"),
        ({"contact_name": "Dr. Smith"}, "there"),
        ({"contact_name": "Dr. Jane Smith"}, "Jane"),
        ({"contact_name": "jane@example.com"}, "there"),
        ({"first_name": "Jane", "last_name": "Smith"}, "Jane"),
    ],
)
def test_preview_of_a_lead_and_of_its_fields_and_the_lead_itself_agree(
    api: ApiClient, name: dict[str, str], greeting: str
) -> None:
    body = TEMPLATE | {"subject": "Hi {{ first_name | default('there') }}", "body_html": "x"}
    path = f"/v1/email-templates/{api.post('/v1/email-templates', body).json['id']}/preview"
    lead = api.post("/v1/leads", {"email": "jane@example.com", **name}).json
    assert (lead["first_name"] or "there") == greeting
    assert api.post(path, {"lead_id": lead["id"]}).json["subject"] == f"Hi {greeting}"
    assert api.post(path, {"lead": name}).json["subject"] == f"Hi {greeting}"


def test_preview_names_the_custom_field_that_is_missing(api: ApiClient) -> None:
    created = api.post("/v1/email-templates", TEMPLATE | {"subject": "{{ custom_fields.Plan }}"}).json
    answer = api.post(f"/v1/email-templates/{created['id']}/preview", {"lead": {"custom_fields": {"plan": "x"}}})
    assert answer.status == 422
    assert "custom_fields.Plan has no value" in answer.json["detail"]


CONTENT = {"subject": "Hi {{ company_name }}", "body_html": "<p>Dear {{ company_name }}</p>"}


def test_content_is_previewed_without_being_stored(api: ApiClient) -> None:
    shown = api.post("/v1/email-templates/preview", CONTENT | {"lead": {"company_name": "Ann & Bob"}}).json
    assert (shown["subject"], shown["body_html"]) == ("Hi Ann & Bob", "<p>Dear Ann &amp; Bob</p>")
    assert (shown["body_text"].strip(), shown["warnings"]) == ("Dear Ann & Bob", [])
    assert api.get("/v1/email-templates").json["items"] == []


def test_preview_of_content_warns_as_a_preflight_does(api: ApiClient) -> None:
    html = "<p>Hi *|FNAME|*</p>" + "<p>x</p>" * 20_000
    shown = api.post("/v1/email-templates/preview", CONTENT | {"body_html": html, "lead": {"company_name": "Ann"}}).json
    placeholder, size = shown["warnings"]
    assert placeholder.startswith("*|FNAME|* in body_html looks like a placeholder of another product")
    assert size.startswith("the HTML has 160 KB. Gmail shows the first 102 KB")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"body_html": None}, "body_html"),
        ({"body_html": "{{ x( }}"}, "body_html"),
        ({"subject": " "}, "subject"),
        ({"lead": None}, "lead"),
        ({"lead_id": "00000000-0000-4000-8000-000000000000", "lead": None}, "lead_id"),
        ({"name": "x"}, "name"),
    ],
)
def test_content_that_is_not_valid_names_the_field(api: ApiClient, change: dict[str, Any], named: str) -> None:
    answer = api.post("/v1/email-templates/preview", CONTENT | {"lead": {"company_name": "Ann"}} | change)
    assert (answer.status, named in answer.fields) == (422, True)


def test_template_of_another_product_is_translated_with_what_could_not_be(api: ApiClient) -> None:
    body = {"subject": "Hi *|FNAME|*", "body_html": "<p>{{#if plan}}\n{{{plan}}}{{/if}}{{> footer}}</p>"}
    answer = api.post("/v1/email-templates/translate", body)
    assert answer.status == 200, answer.body
    made = answer.json
    assert (made["subject"], made["body_text"]) == ("Hi {{ first_name | default('') }}", None)
    lines = [(each["part"], each["line"]) for each in made["translated"]]
    assert lines == [("subject", 1), ("body_html", 1), ("body_html", 2), ("body_html", 2)]
    left = [(each["part"], each["line"], each["text"]) for each in made["untranslated"]]
    assert left == [("body_html", 2, "{{> footer}}")]
    assert made["custom_fields"] == ["plan"]
    created = {"name": "Imported", "subject": made["subject"], "body_html": made["body_html"]}
    assert api.post("/v1/email-templates", created).status == 201


def test_translation_that_our_language_does_not_allow_says_so(api: ApiClient) -> None:
    loops = "{% for a in as %}{% for b in a.bs %}{% for c in b.cs %}{{ c.x }}{% endfor %}{% endfor %}{% endfor %}"
    made = api.post("/v1/email-templates/translate", {"body_text": loops}).json
    assert [(each["part"], each["line"]) for each in made["untranslated"]] == [("body_text", None)]


def test_nothing_is_not_translated(api: ApiClient) -> None:
    answer = api.post("/v1/email-templates/translate", {})
    assert (answer.status, answer.fields) == (422, ["subject", "body_text", "body_html"])
