"""Texts of the old application keep saying what they said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.adoption.translate_placeholders import CustomVariable, Vocabulary, translate
from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import compile_template

VOCABULARY = Vocabulary(
    variables={
        "sender_name": CustomVariable("Nora O'Neil", ""),
        "booking_link": CustomVariable("", "https://example.com/{book}"),
        "firma": CustomVariable("{{company_name}}", "your company"),
        "greeting": CustomVariable("{{greeting}}", "Hello"),
        "contact_name": CustomVariable("{{contact_name}}", "there"),
    },
    custom_fields=frozenset({"favouriteColour"}),
)
LEAD: dict[str, Any] = {
    "company_name": "Café Söder & Co",
    "contact_name": "Ann Lee",
    "email": "ann@example.com",
    "city": None,
    "custom_fields": {"favouriteColour": "blue"},
}


def refuse(name: str) -> None:
    raise AssertionError(f"{name} was not translated")


def rendered(text: str, lead: dict[str, Any] | None = None) -> str:
    template = compile_template("s", translate(text, VOCABULARY, refuse) or " ", None)
    return template.render(lead_variables(LEAD if lead is None else lead, "Spring")).body_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi {{company_name}}", "Hi Café Söder & Co"),
        ("Hi {{companyName}}", "Hi Café Söder & Co"),
        ("Hi {{ contactName }}!", "Hi Ann Lee!"),
        ("Hi {{ first_name }}", "Hi Ann"),
        ("Hi {{{ firstName }}}", "Hi Ann"),
        ("Hi {{lead.companyName}}", "Hi Café Söder & Co"),
        ("Hi {firstName}", "Hi Ann"),
        ("Hi {{&nbsp;first_name&nbsp;}}", "Hi Ann"),
        ("Your {{ Company Name }}", "Your Café Söder & Co"),
        ("In {{city}}.", "In ."),
        ("{{sender_name}}", "Nora O'Neil"),
        ("{{bookingLink}}", "https://example.com/{book}"),
        ("{{firma}}", "Café Söder & Co"),
        ("{{greeting}}", "Hello"),
        ("{{favouriteColour}}", "blue"),
        ("{{favourite_colour}}", "blue"),
        ("{{ first_name | default('you') }}", "Ann"),
    ],
)
def test_placeholder_keeps_its_meaning(text: str, expected: str) -> None:
    assert rendered(text) == expected


def test_value_that_a_lead_lacks_is_the_default_or_empty() -> None:
    nobody = {"company_name": "", "contact_name": None, "custom_fields": None}
    assert rendered("{{firma}}|{{contact_name}}|{{company_name}}|{{favouriteColour}}", nobody) == "your company|there||"


@pytest.mark.parametrize(
    "text",
    [
        "{% include 'x' %}",
        "{# note #}",
        "{{}}",
        "{{ }}",
        "a { b } c",
        ".x { color: red }",
        "{unknown}",
        "100 {%",
        "{",
        "{{",
        "}} {{",
        "{{{",
        "{% if a %}{# b #}{% endif %}",
    ],
)
def test_text_that_only_looks_like_a_template_stays_text(text: str) -> None:
    assert rendered(text) == text


def test_brace_before_a_placeholder_stays() -> None:
    assert rendered("{ {{city}}{{{first_name}}} {%{{first_name}}%}") == "{ Ann {%Ann%}"


@pytest.mark.parametrize("name", ["meeting_slot", "#if contact_name", "/if", "contactName || 'there'", "7 * 7"])
def test_unknown_placeholder_is_named_and_kept_as_text(name: str) -> None:
    names: list[str] = []
    translated = translate(f"Hi {{{{{name}}}}}", VOCABULARY, names.append)
    assert names == [name]
    assert compile_template("s", translated, None).render({}).body_text == f"Hi {{{{{name}}}}}"


@given(st.text(alphabet="{}%# ab'\\\n", max_size=30))
def test_text_without_known_names_renders_to_itself(text: str) -> None:
    translated = translate(text, VOCABULARY, lambda name: None)
    body = compile_template("s", f"x{translated}", None).render({}).body_text
    assert body == f"x{text}"


@given(st.text(max_size=40))
def test_default_comes_out_as_it_went_in(value: str) -> None:
    vocabulary = Vocabulary({"word": CustomVariable(value, "")}, frozenset())
    text = translate("{{word}}", vocabulary, refuse)
    if "\x00" not in value and not value.startswith("{{"):
        assert compile_template("s", f"x{text}", None).render(lead_variables({}, "c")).body_text == f"x{value}"
