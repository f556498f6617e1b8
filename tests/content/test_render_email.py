"""What a template may do, what it may not, and what one rendering may cost."""

from __future__ import annotations

from typing import Any

import pytest

from sendledger.content import render_email
from sendledger.content.render_email import RenderError, compile_template, lead_variables
from sendledger.core.errors import InvalidInput

LEAD = {
    "company_name": "Ö & Co",
    "contact_name": "Ann van Lee",
    "email": "ann@example.com",
    "city": "",
    "custom_fields": {"plan": "<b>gold</b>", "empty": "", "rooms": 3, "list": [1, 2]},
}


def render(text: str, html: str | None = None, subject: str = "Hi", **lead: Any) -> render_email.RenderedEmail:
    return compile_template(subject, text, html).render(lead_variables({**LEAD, **lead}, "Spring"))


def refused(text: str) -> str:
    """The code with which the text is refused, when it is compiled or when it is rendered."""
    try:
        render(text)
    except RenderError as error:
        return error.code
    except InvalidInput:
        return "invalid"
    return "rendered"


def test_lead_fields_are_available_by_their_names() -> None:
    rendered = render(
        "{{ first_name }}|{{ last_name }}|{{ company_name }}|{{ custom_fields.plan }}|{{ campaign_name }}"
    )
    assert rendered.body_text == "Ann|van Lee|Ö & Co|<b>gold</b>|Spring"


def test_html_is_escaped_and_text_is_not() -> None:
    rendered = render("{{ custom_fields.plan }}", "<p>{{ custom_fields.plan }} {{ company_name }}</p>")
    assert rendered.body_text == "<b>gold</b>"
    assert rendered.body_html == "<p>&lt;b&gt;gold&lt;/b&gt; Ö &amp; Co</p>"


@pytest.mark.parametrize("variable", ["city", "industry", "custom_fields.empty", "custom_fields.nothing", "typo"])
def test_variable_without_a_value_fails_and_default_supplies_one(variable: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(f"{{{{ {variable} }}}}")
    assert caught.value.code == "undefined_variable"
    assert render(f"{{{{ {variable} | default('there') }}}}").body_text == "there"


def test_lead_data_is_never_template_source() -> None:
    assert render("{{ company_name }}", company_name="{{ 7 * 7 }}{% raw %}").body_text == "{{ 7 * 7 }}{% raw %}"


@pytest.mark.parametrize("bad", ["a\r\nBcc: x@example.com", "a\nb", "a\x85b", "a\u2028b"])
def test_line_break_never_reaches_the_subject(bad: str) -> None:
    subject = render("x", subject="Hello {{ company_name }}", company_name=bad).subject
    assert subject.isprintable()
    assert len(subject.splitlines()) == 1


def test_subject_that_is_too_long_fails() -> None:
    with pytest.raises(RenderError, match="501"):
        render("x", subject="{{ company_name }}", company_name="x" * 501)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ company_name.format(1) }}",
        "{{ custom_fields.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler.__init__ }}",
        "{{ self.__init__ }}",
        "{{ (1).__class__ }}",
        "{{ company_name | attr('__class__') }}",
        "{{ custom_fields | map(attribute='x') | list }}",
        "{{ custom_fields.update({'a': 1}) }}",
        "{{ [].append(1) }}",
        "{% include 'other' %}",
        "{% import 'other' as o %}",
        "{% extends 'other' %}",
        "{{ '%s' % company_name }}",
        "{{ _budget.spend_round() }}",
        "{{ custom_fields }}",
        "{{ 'x' * 10 }}",
        "{{ [1] * 10 }}",
        "{{ 2 ** 10 }}",
        "{{ 9999999999999999 * 9999999999999999 }}",
        "{{ 1 // 0 }}",
        "{{ '\\ud800' }}",
        "{{ '\\x00' }}",
    ],
)
def test_template_cannot(text: str) -> None:
    assert refused(text) != "rendered"


LONG = "{% set s = 'xxxxxxxxxx' %}" + "{% set s = s ~ s %}" * 16


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{% for i in range(100000000) %}x{% endfor %}", "template_error"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}", "too_many_rounds"),
        ("{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}", None),
        (LONG + "{% for i in range(30) %}{% set x = s | list | sort | length %}{% endfor %}", "too_much_work"),
        (LONG + "{{ s | list | sort | length }}", "too_much_work"),
        (LONG + "{% for i in range(30) %}{% filter upper %}{{ s }}{% endfilter %}{% endfor %}", "too_long"),
        (LONG + "{% for i in range(9999) %}{% if 'y' in s %}{% endif %}{% endfor %}", "too_much_work"),
        (LONG + "{% for i in range(9999) %}{% if 'y' is in(s) %}{% endif %}{% endfor %}", "too_much_work"),
        ("{{ 'a' is in(['a', 'b']) and 'c' not in ['a', 'b'] }}", "rendered"),
        ("{% for i in range(9999) %}" + "{% set x = i %}" * 500 + "{% endfor %}", "too_much_work"),
        ("{% for i in range(9999) %}" + "{% set x = i %}" * 50 + "{% endfor %}", "rendered"),
        (
            "{% macro m() %}"
            + "{% set x = 1 %}" * 2000
            + "{% endmacro %}{% for i in range(2000) %}{{ m() }}{% endfor %}",
            "too_much_work",
        ),
        (
            "{% macro m() %}{{ caller() }}{% endmacro %}{% for i in range(2000) %}{% call m() %}"
            + "{% set x = 1 %}" * 2000
            + "{% endcall %}{% endfor %}",
            "too_much_work",
        ),
        ("{% for i in [[1, 2], [3]] recursive %}{{ i if i is number else loop(i) }}{% endfor %}", "rendered"),
        ("{% for i in range(9000) %}{{ 'x' ~ company_name ~ 'y' * 1 }}{% endfor %}", None),
        ("{% set x = namespace(s='x') %}", None),
        ("{% set s = 'xxxxxxxxxx' %}" + "{% set s = s ~ s %}" * 40 + "{{ s }}", "too_long"),
        ("{% set s = 'xxxxxxxxxx' %}" + "{% set s = s + s %}" * 40 + "{{ s }}", "too_long"),
        ("{{ 'x' | replace('x', 'y' | replace('y', 'zzzzzzzz')) }}" * 3, "rendered"),
        ("{{ company_name | replace('', 'x') }}", "too_long"),
        ("{{ range(99999) | join('xxxxxxxxxxxxxxxxxxxx') }}", "too_long"),
        ("{{ 'x' | center(99999999) }}", "invalid"),
        ("{{ 'x'.ljust(99999999) }}", None),
        ("{{ '{:>99999999}'.format(1) }}", None),
        ("{{ range(99999) | list | length }}", "rendered"),
        ("{{ 'x' | indent(99999999) }}", "invalid"),
        ("{{ 'x' | wordwrap(1) }}", "invalid"),
        ("{{ 'a b' | truncate(99999999) }}", "rendered"),
        ("{% for i in custom_fields.list recursive %}{{ loop(custom_fields.list) }}{% endfor %}", None),
    ],
)
def test_one_rendering_has_its_limits(text: str, code: str | None) -> None:
    found = refused(text)
    assert found != "rendered" if code is None else found == code


def test_long_text_between_the_tags_counts_too() -> None:
    with pytest.raises(RenderError, match="longer than"):
        render("x" * (render_email.MAX_CHARACTERS + 1))


def test_budget_belongs_to_one_rendering() -> None:
    template = compile_template("Hi", "{% for i in range(9000) %}{% endfor %}ok", None)
    for _ in range(3):
        assert template.render(lead_variables(LEAD, "c")).body_text == "ok"


def test_every_broken_part_is_named_with_its_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        compile_template("{{ a", "line\n{% if %}", "{{ x | nothing }}")
    assert [error.field for error in caught.value.errors] == ["subject", "body_text", "body_html"]
    assert caught.value.errors[1].message.startswith("line 2: ")


def test_missing_text_part_is_made_from_the_html() -> None:
    html = "<html><head><title>t</title></head><body><h1>Hi {{ first_name }}</h1><p>A<br>B *c*</p></body></html>"
    rendered = render("", html)
    assert rendered.body_text == "# Hi Ann\n\nA  \nB *c*\n"
    assert rendered.body_html is not None


def test_lead_without_names_or_fields_has_no_such_variables() -> None:
    variables = lead_variables({"email": "a@b.co", "custom_fields": ["not", "a", "mapping"]}, "c", None)
    assert variables == {"email": "a@b.co", "campaign_name": "c", "custom_fields": {}}
