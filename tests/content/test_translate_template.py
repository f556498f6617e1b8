"""Templates of other products say the same here; what is not understood is named, and stays as it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import compile_template
from sendledger.content.translate_template import translate
from sendledger.core.errors import InvalidInput

LEAD: dict[str, Any] = {
    "company_name": "Acme",
    "contact_name": "Ann Lee",
    "email": "ann@example.com",
    "city": "Bath",
    "industry": None,
    "custom_fields": {"plan": "Pro", "seats": "7", "items": [{"name": "pen"}, {"name": "ink"}], "vip": True},
}


def rendered(source: str) -> str:
    return compile_template("s", f"-{source}", None).render(lead_variables(LEAD, "Spring")).body_text[1:]


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        # Handlebars and Mustache
        ("Hi {{{firstName}}}", "Hi Ann"),
        ("{{#if city}}in {{city}}{{else}}nowhere{{/if}}", "in Bath"),
        ("{{#if industry}}a{{else if city}}b{{else}}c{{/if}}", "b"),
        ("{{#unless industry}}none{{/unless}}", "none"),
        ("{{#each items}}[{{name}}{{this.name}}]{{/each}}", "[penpen][inkink]"),
        ("{{#each nothing}}x{{/each}}", ""),
        ("{{#plan}}has {{plan}}{{/plan}}{{^trial}}no trial{{/trial}}", "has Prono trial"),
        ("a{{! a note }}b", "ab"),
        ("{{defaultIfEmpty industry 'none'}}", "none"),
        ('{{insert industry "default=none"}}', "none"),
        ("{{User.UserAttributes.FirstName.[0]}} of {{Attributes.Company}}", "Ann of Acme"),
        # Liquid and its relatives
        ('{{ industry | default: "any" }}', "any"),
        ("{{ industry|default:'any' }} {{ first_name | default('you') }}", "any Ann"),
        ("{{ contact.FIRSTNAME | upcase }}", "ANN"),
        ("{{ person.first_name | default: 'you' | downcase }}", "ann"),
        ("{% if city != blank %}in {{ city }}{% else %}no{% endif %}", "in Bath"),
        ("{% if industry == blank %}none{% elsif city %}b{% endif %}", "none"),
        ("{%- if seats > 5 and city contains 'at' -%}big{%- endif -%}", "big"),
        ("{% if plan == 'Pro' or plan == \"Max\" %}paid{% endif %}", "paid"),
        ("{% if vip == true %}v{% endif %}{% unless trial %}t{% endunless %}", "vt"),
        ("{% for item in items %}{{ item.name }} {% endfor %}", "pen ink "),
        ("{% assign who = industry | default: 'you' %}Hi {{ who | capitalize }}", "Hi You"),
        ("a{% comment %}{{ x }}{% if y %}{% endcomment %}b", "ab"),
        ("{{ personalization_token('contact.industry', 'any') }}", "any"),
        ("{{${first_name} | default: 'you'}}", "Ann"),
        ("{% if not industry %}a{% endif %}{% if not not city %}b{% endif %}", "ab"),
        ("{{#if " + "! " * 2001 + "industry}}a{{/if}}", "a"),
        # Merge tags and simple placeholders
        ("*|FNAME|* *|LNAME|* <*|EMAIL|*>", "Ann Lee <ann@example.com>"),
        ("*|IF:plan=Pro|*pro*|ELSE:|*free*|END:IF|*", "pro"),
        ("*|IFNOT:industry|*none*|END:IF|*", "none"),
        ("%FIRSTNAME% [[first_name]] [FNAME] {FIRST_NAME} ${firstName} <<First Name>>", "Ann Ann Ann Ann Ann Ann"),
        # What an editor has put between the braces
        ("{{&nbsp;first_name&nbsp;}} {{<b>city</b>}} {{ First Name }}", "Ann Bath Ann"),
    ],
)
def test_template_of_another_product_says_the_same(theirs: str, said: str) -> None:
    translation = translate(theirs)
    assert (rendered(translation.source), translation.untranslated) == (said, ())


@pytest.mark.parametrize(
    ("theirs", "text", "reason"),
    [
        ("{{> header}}", "{{> header}}", "parts of other templates"),
        ("{{ 'now' | date: '%Y' }}", "{{ 'now' | date: '%Y' }}", "no filter date"),
        ("{{#if (eq a b)}}x{{/if}}", "{{#if (eq a b)}}", "a condition is a name"),
        ("{{#if a}}x", "{{#if a}}", "never closed"),
        ("{{/if}}", "{{/if}}", "nothing is open"),
        ("{% case x %}", "{% case x %}", "no case"),
        ("{% include 'x' %}", "{% include 'x' %}", "no include"),
        ("{% if a and b or c %}x{% endif %}", "{% if a and b or c %}", "and and or"),
        ("{{#with a}}x{{/with}}", "{{#with a}}", "no with"),
        ("{Hello|Hi}", "{Hello|Hi}", "not understood"),
        ("Hi {foo_bar}", "{foo_bar}", "not the name of a field"),
        ("<%= name %>", "<%= name %>", "not understood"),
        ("{{}}", "{{}}", "nothing in it"),
        ("{{ a b }}", "{{ a b }}", "more than a name"),
    ],
)
def test_what_is_not_understood_is_named_and_stays(theirs: str, text: str, reason: str) -> None:
    translation = translate(f"one\ntwo {theirs}")
    found = translation.untranslated[0]
    assert (found.line, found.text) == (2, text)
    assert reason in found.reason
    assert rendered(translation.source) == f"one\ntwo {theirs}"


def test_block_of_which_one_tag_is_not_understood_stays_as_a_whole() -> None:
    source = "{{#if city}}a{{else if (x)}}b{{else}}c{{/if}}{{city}}"
    translation = translate(source)
    assert [each.text for each in translation.untranslated] == [
        "{{#if city}}",
        "{{else if (x)}}",
        "{{else}}",
        "{{/if}}",
    ]
    assert rendered(translation.source) == source.replace("{{city}}", "Bath")


def test_what_was_translated_is_told_with_its_line() -> None:
    found = translate("Hi {{firstName}}\n\n*|PLAN|*")
    assert [(each.line, each.text, each.becomes) for each in found.translated] == [
        (1, "{{firstName}}", "{{ first_name | default('') }}"),
        (3, "*|PLAN|*", "{{ custom_fields['PLAN'] | default('') }}"),
    ]
    assert found.custom_fields == ("PLAN",)


def test_style_sheets_are_no_placeholders() -> None:
    source = "<style>a{color:red} b{x} @media{a{b:c}}</style><p>100% of #FF00AA</p>"
    assert translate(source).source == source


@settings(max_examples=200)
@given(st.text(alphabet="{}%#|*! /'\"if:ab.=$[]<>-\n", max_size=60))
def test_every_text_becomes_a_template_that_can_be_used(source: str) -> None:
    translation = translate(source)
    assert [each for each in translation.untranslated if each.line < 1] == []
    rendered(translation.source)


@pytest.mark.parametrize("piece", ["{{", "{%", "*|", "{{${a}", "{{!--", "<style>", "{{'", "{{#if a}}", "{{a}}"])
def test_hostile_text_is_translated_or_refused(piece: str) -> None:
    with suppress(InvalidInput):
        translate(piece * 100_000)


def test_template_that_becomes_too_long_is_refused_by_name() -> None:
    assert len(translate("{" * 50_000).source) == 450_000
    with pytest.raises(InvalidInput) as refused:
        translate("{" * 60_000, "body_html")
    assert [error.field for error in refused.value.errors] == ["body_html"]
    assert "540,000 characters" in refused.value.errors[0].message


def test_too_many_tags_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        translate("{{a}}" * 5_001, "subject")
    assert [error.field for error in refused.value.errors] == ["subject"]
