"""What a template may contain, what is said of anything else, and what rendering can cost at the most."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendledger.content.lead_variables import MAX_DEPTH, lead_variables
from sendledger.content.render_email import MAX_CHARACTERS, MAX_MESSAGE, compile_template
from sendledger.content.template_filters import FILTERS, MAX_ENTRIES, MAX_VALUE, MAX_VALUES, RenderError
from sendledger.content.template_language import MAX_TEMPLATE, MAX_WORK
from sendledger.core.errors import InvalidInput

LEAD: dict[str, Any] = {
    "company_name": "Ö & Co",
    "contact_name": "Ann van Lee",
    "email": "ann@example.com",
    "city": "",
    "custom_fields": {
        "plan": "<b>gold</b>",
        "empty": "",
        "rooms": 3,
        "list": [2, 1, 1],
        "items": "six",
        "keys": "two",
        "address": {"city": "Bath", "street": None},
        "products": [{"name": "Pen", "colours": ["red", "blue"]}, {"name": "Ink", "colours": []}],
    },
}


def render(text: str, **lead: Any) -> str:
    return compile_template("Hi", text, None).render(lead_variables({**LEAD, **lead}, "Spring")).body_text


def said(text: str, html: str | None = None) -> str:
    """What is said when the template is saved."""
    with pytest.raises(InvalidInput) as caught:
        compile_template("Hi", text, html)
    return caught.value.errors[0].message


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ custom_fields.plan }}|{{ custom_fields['plan'] }}", "<b>gold</b>|<b>gold</b>"),
        ("{{ custom_fields.list[0] }}{{ custom_fields.list | last }}", "21"),
        ("{% if custom_fields.rooms > 2 and city is not defined %}big{% elif 1 %}x{% else %}y{% endif %}", "big"),
        ("{{ 'big' if custom_fields.rooms >= 3 else 'small' }}", "big"),
        ("{% for n in custom_fields.list | sort %}{{ loop.index }}{% if not loop.last %}, {% endif %}{% endfor %}",
         "1, 2, 3"),
        ("{% for n in custom_fields.none | default('') %}{{ n }}{% else %}none{% endfor %}", "none"),
        ("{% for p in custom_fields.products %}{{ p.name }}{% for c in p.colours %} {{ c }}{% endfor %};{% endfor %}",
         "Pen red blue;Ink;"),
        ("{% for n in custom_fields.list if n > 1 %}{{ n }}{% endfor %}", "2"),
        ("{% set name = first_name | default('you') %}{{ name | upper }}", "ANN"),
        ("{% set first_name = first_name | default('you') %}{{ first_name }}", "Ann"),
        ("{{ first_name ~ ' of ' ~ company_name }}", "Ann of Ö & Co"),
        ("{{ company_name | lower | replace('&', 'and') | title }}", "Ö And Co"),
        ("{{ custom_fields.list | join(', ') }} {{ custom_fields.list | unique | length }}", "2, 1, 1 2"),
        ("{{ '3.14159' | float | round(2) }} {{ '7' | int }} {{ custom_fields.rooms | abs }}", "3.14 7 3"),
        ("{{ company_name | truncate(4, leeway=0) }}{{ company_name | truncate(4) }}", "Ö...Ö & Co"),
        ("{{ company_name | urlencode }}", "%C3%96%20%26%20Co"),
        ("{{ custom_fields.plan | striptags }} {{ company_name | wordcount }} {{ ' a ' | trim }}", "gold 3 a"),
        ("{{ company_name | first }}{{ 'B' in company_name }}", "ÖFalse"),
        ("{% raw %}{{ x }}{% endraw %}{# not seen #}", "{{ x }}"),
    ],
)  # fmt: skip
def test_language_has(template: str, expected: str) -> None:
    assert render(template) == expected


@pytest.mark.parametrize(
    ("template", "construct", "instead"),
    [
        ("{{ company_name.upper() }}", "a call", "| upper"),
        ("{{ range(99999) | join }}", "a call", "use a filter"),
        ("{{ namespace(a=1) }}", "a call", "use a filter"),
        ("{{ loop(custom_fields.list) }}", "a call", ""),
        ("{{ 1 + 1 }}", "arithmetic", "custom field"),
        ("{{ 2 ** 1000000 }}", "arithmetic", "custom field"),
        ("{{ 'x' * 10 }}", "arithmetic", "custom field"),
        ("{{ '%s' % company_name }}", "arithmetic", "custom field"),
        ("{{ -rooms }}", "arithmetic", "custom field"),
        ("{% if city in ['Bath', 'York'] %}x{% endif %}", "a list", "city == 'Bath' or"),
        ("{% if city in ('Bath', 'York') %}x{% endif %}", "a list", "city == 'Bath' or"),
        ("{{ [[[[]]]] == [[[[]]]] }}", "a list", ""),
        ("{{ {'a': 1} }}", "an object in braces", "{% if %}"),
        ("{{ company_name[1:9] }}", "an index that is not a constant", "custom_fields['Plan']"),
        ("{% macro m() %}{% endmacro %}", "a macro", "write the text"),
        ("{% call m() %}{% endcall %}", "a call block", "write the text"),
        ("{% filter upper %}x{% endfilter %}", "a filter block", "{{ city | upper }}"),
        ("{% set x %}a{% endset %}", "a set block", "{% set name = value %}"),
        ("{% with x = 1 %}{% endwith %}", "a with block", "{% set"),
        ("{% set ns.x = 1 %}", "", ""),
        ("{% set a, b = 1, 2 %}", "several names", "for each"),
        ("{% block b %}{% endblock %}", "a block", ""),
        ("{% include 'other' %}", "an include", ""),
        ("{% import 'other' as o %}", "an import", ""),
        ("{% from 'other' import o %}", "an import", ""),
        ("{% extends 'other' %}", "an extends", ""),
        ("{% autoescape false %}x{% endautoescape %}", "autoescape", "always escaped"),
        ("{{ (0-1) | _begun }}", "the filter _begun", "upper"),
        ("{{ website | _link }}", "the filter _link", "upper"),
        ("{{ company_name | attr('__class__') }}", "the filter attr", "upper"),
        ("{{ custom_fields | map(attribute='x') | list }}", "the filter list", "upper"),
        ("{{ 'x' | center(99999999) }}", "the filter center", "upper"),
        ("{{ 'x' is callable }}", "the test callable", "defined"),
        ("{{ company_name.__class__ }}", "the internal name __class__", "a field of the lead"),
        ("{{ company_name['__class__'] }}", "the internal name __class__", "a field of the lead"),
        ("{{ self }}", "the internal name self", ""),
        ("{{ _budget }}", "the internal name _budget", ""),
        ("{{ loop }}", "loop alone", "loop.index"),
        ("{% for x in custom_fields.list %}{{ loop.cycle }}{% endfor %}", "loop.cycle", "last"),
        ("{{ loop.index }}", "loop.index", "in a loop"),
        ("{% set a = 1 %}{% set b = a %}", "a set of b that uses a", "own fields"),
        ("{% set a = 'x' %}{% set a = a ~ a %}", "a set of a that uses a", "own fields"),
        ("{% for x in custom_fields.list %}{% set a = a ~ x %}{% endfor %}", "a set of a that uses a", ""),
        ("{% for x in custom_fields.list %}{{ x ~ x }}{% endfor %}", "the sign ~ in a loop", "one after the other"),
        ("{{ (a ~ b) ~ (c ~ d) }}", "too many values", "one after the other"),
        ("{% for x in 'abc' %}{% endfor %}", "a loop over something else", "custom_fields.products"),
        ("{% for a, b in custom_fields.list %}{% endfor %}", "a loop with several variables", "use one"),
        ("{% for x in custom_fields.list recursive %}{% endfor %}", "a recursive loop", "a loop in a loop"),
        ("{% for a in custom_fields.list %}{% for b in custom_fields.list %}{% endfor %}{% endfor %}",
         "another list", "{% for part in a.parts %}"),
        ("{% for a in l %}{% for b in a.l %}{% for c in b.l %}{% endfor %}{% endfor %}{% endfor %}", "more than 2", ""),
        ("{{ a | default(*b) }}", "arguments with *", ""),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_line_construct_and_what_to_use_instead(
    template: str, construct: str, instead: str
) -> None:
    message = said("one\ntwo {{ company_name }}\n" + template)
    assert message.startswith("line 3: " if construct else "line ")
    assert construct in message
    assert instead in message


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 140 + "a" + ")" * 140 + " }}",
        "{{ a" + " | upper" * 100 + " }}",
        "{{ a" + ".b" * 100 + " }}",
        "{{ a" + " and a" * 100 + " }}",
        "{{ a" + " ~ a" * 30 + " }}",
        "{{ a" + " | upper" * 1000 + " }}",
        "{% if a %}" * 30 + "{% endif %}" * 30,
        "{% if a %}" * 4000,
        "{% if a %}" + "{% elif a %}" * 200 + "{% endif %}",
        "{{a}}" * 30_000,
        "{{ title | title }}" * 2_000,
        "{% for a in l %}" + "{{ a | upper }}" * 101 + "{% endfor %}",
        "{% for a in l %}{% for b in a.l %}" + "{{ b | upper }}" * 11 + "{% endfor %}{% endfor %}",
        "{{ " * 100_000,
        "{{ '" * 100_000,
        "{#" * 100_000,
        "{% raw %}" * 50_000,
        "{{ " + "9" * 100_000 + " }}",
        "x" * (MAX_TEMPLATE + 1),
    ],
    ids=lambda template: f"{template[:20]} {len(template)}",
)
@pytest.mark.parametrize("part", ["text", "html"])
def test_template_that_is_too_large_or_too_deep_is_refused(template: str, part: str) -> None:
    said(*(("", template) if part == "html" else (template, None)))


@pytest.mark.parametrize(
    "html", ["<div>" * 1000, "JINJATAG5X", "<head " * 10_000, "<!--" * 40_000, "<a href=" * 50_000, "<style>" * 70_000]
)
def test_odd_html_is_accepted(html: str) -> None:
    assert compile_template("Hi", "", html).render(lead_variables(LEAD, "c")).body_html == html


@pytest.mark.parametrize(
    "variable", ["city", "industry", "custom_fields.empty", "custom_fields.address.street", "typo"]
)
def test_variable_without_a_value_fails_with_its_path_and_default_supplies_one(variable: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(f"{{{{ {variable} }}}}")
    assert (caught.value.code, caught.value.variable) == ("undefined_variable", variable)
    assert caught.value.message.startswith(f"{variable} has no value")
    assert render(f"{{{{ {variable} | default('there') }}}}") == "there"


def test_missing_parts_of_a_missing_value_need_one_default() -> None:
    assert render("{{ custom_fields.a.b.c | default('x') }}") == "x"


def test_name_that_no_lead_has_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(RenderError, match=r"no lead has it\. There are company_name"):
        render("{{ firstName }}")


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("{{First Name}}", "a field with a blank in its name {{ custom_fields['First name'] }}"),
        ("{{#if city}}x{{/if}}", "a condition {% if city == 'Bath' %}…{% endif %}"),
        ("{{ first_name | default: 'there' }}", "a value is written {{ first_name | default('there') }}"),
        ("{%first_name%}", "a value is written {{ first_name | default('there') }}"),
        ("{{ first_name | default(\u2018there\u2019) }}", "use straight quotation marks"),
        ("{{ first-name }}", "a name with a hyphen is written custom_fields['first-name']"),
    ],
)
def test_syntax_of_other_products_is_answered_with_how_to_write_it_here(template: str, advice: str) -> None:
    assert advice in said(template)


@pytest.mark.parametrize(
    ("inner", "advice"),
    [
        ("{% for b in a.parts | default(custom_fields.list) %}x{% endfor %}", "write default('')"),
        ("{% set a = custom_fields.list %}{% for b in a %}x{% endfor %}", "use another name"),
    ],
)
def test_inner_loop_goes_over_nothing_but_the_entry_of_the_outer_one(inner: str, advice: str) -> None:
    assert advice in said("{% for a in custom_fields.list %}" + inner + "{% endfor %}")


@pytest.mark.parametrize("test", ["odd", "even", "divisibleby(2)"])
def test_tests_for_numbers_do_not_take_a_text_for_a_format(test: str) -> None:
    with pytest.raises(RenderError, match="are for numbers"):
        render("{{ 1 if custom_fields.x is " + test + " }}", custom_fields={"x": "%2000000000d"})
    assert render("{% if custom_fields.x is " + test + " %}{% endif %}y", custom_fields={"x": "4"}) == "y"


def test_message_about_a_name_is_short_however_long_the_name() -> None:
    assert len(said("{{ _" + "a" * 100_000 + " }}")) <= MAX_MESSAGE
    with pytest.raises(RenderError) as caught:
        render("{{ " + "a" * 100_000 + " }}")
    assert len(caught.value.message) < 1_000


def test_path_of_a_missing_value_includes_lists() -> None:
    with pytest.raises(RenderError) as caught:
        render("{% for p in custom_fields.products %}{{ p.price }}{% endfor %}")
    assert caught.value.variable == "custom_fields.products[0].price"


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "pop", "path", "update"])
def test_custom_field_named_like_a_method_gives_its_value(name: str) -> None:
    assert render(f"{{{{ custom_fields.{name} }}}}", custom_fields={name: "mine"}) == "mine"


def test_methods_of_a_value_are_not_to_be_had() -> None:
    with pytest.raises(RenderError, match=r"custom_fields\.values has no value"):
        render("{{ custom_fields.values }}")
    assert render("{{ company_name.upper | default('no') }}") == "no"


@pytest.mark.parametrize(
    ("custom_fields", "template"),
    [
        ({"x": "a" * (MAX_VALUE + 1)}, "{{ custom_fields.x }}"),
        ({"x": "a" * (MAX_VALUE + 1)}, "{% if custom_fields.x == 'a' %}{% endif %}"),
        ({"x": "a" * (MAX_VALUE + 1)}, "{% if 'a' in custom_fields.x %}{% endif %}"),
        ({"x": "a" * (MAX_VALUE + 1)}, "{{ custom_fields.x | upper }}"),
        ({"x": "a" * (MAX_VALUE + 1)}, "{{ custom_fields.x | length }}"),
        ({"x": ["a" * (MAX_VALUE + 1)]}, "{% for a in custom_fields.x %}{{ a }}{% endfor %}"),
        ({"x": [1] * (MAX_ENTRIES + 1)}, "{% for a in custom_fields.x %}{{ a }}{% endfor %}"),
        ({"x": [1] * (MAX_ENTRIES + 1)}, "{{ custom_fields.x | join }}"),
        (
            {"x": [[1] * MAX_ENTRIES] * 11},
            "{% for a in custom_fields.x %}{% for b in a %}{{ b }}{% endfor %}{% endfor %}",
        ),
        ({"x": 10**5000}, "{{ custom_fields.x }}"),
        ({"x": ["a" * 9000] * 2}, "{{ custom_fields.x | join }}"),
        ({"x": "a" * 9000}, "{{ custom_fields.x | replace('a', 'bb') }}"),
        ({"x": "ö" * 9000}, "{{ custom_fields.x | urlencode }}"),
        ({"x": "a" * 9000}, "{{ custom_fields.x ~ custom_fields.x }}"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_value_beyond_the_limits_fails_the_email_that_uses_it(custom_fields: dict[str, Any], template: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(template, custom_fields=custom_fields)
    assert caught.value.code == "too_long"
    assert render("fine", custom_fields=custom_fields) == "fine"


def test_deep_value_can_be_used_as_far_as_the_limit() -> None:
    value: Any = "end"
    for _ in range(MAX_DEPTH):
        value = {"a": value}
    path = "custom_fields.x" + ".a" * MAX_DEPTH
    assert render(f"{{{{ {path} }}}}", custom_fields={"x": value}) == "end"
    with pytest.raises(RenderError, match="nested more than"):
        render(f"{{{{ {path} }}}}", custom_fields={"x": {"a": value}})


@pytest.mark.parametrize(
    "template", ["{{ custom_fields }}", "{{ custom_fields.list }}", "{{ custom_fields.list | upper }}"]
)
def test_only_texts_and_numbers_are_printed(template: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(template)
    assert caught.value.code == "not_text"


def test_long_text_between_the_tags_counts_too() -> None:
    value = "x" * MAX_VALUE
    with pytest.raises(RenderError, match="longer than"):
        render("{{ custom_fields.x }}" * 101, custom_fields={"x": value})
    assert len(render("{{ custom_fields.x }}" * 100, custom_fields={"x": value})) == MAX_CHARACTERS


# What rendering costs, for any template and any lead


PATHS = [
    "first_name",
    "company_name",
    "custom_fields.a",
    "custom_fields.b",
    "custom_fields.a.x",
    "custom_fields.b[0]",
    "nope",
]
FILTER_CALLS = [*(name for name in FILTERS if name != "replace"), "default('x')", "replace('a', 'aaaa')", "truncate(5)"]

paths = st.sampled_from(PATHS)
values = st.builds(
    lambda path, filters: " | ".join([path, *filters]), paths, st.lists(st.sampled_from(FILTER_CALLS), max_size=4)
)
conditions = st.builds(
    lambda left, sign, right: f"{left} {sign} {right}",
    values,
    st.sampled_from(["==", "<", "in", "and", "or"]),
    values,
)
leaves = st.one_of(
    st.text("ab <>&\n", max_size=20),
    st.builds("{{{{ {} }}}}".format, values),
    st.builds("{{{{ {} ~ {} }}}}".format, values, values),
    st.builds("{{% set v = {} %}}{{{{ v }}}}".format, values),
)


def _blocks(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inside, max_size=5).map("".join),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, conditions, inside, inside),
        st.builds("{{% for i in {} %}}{}{{{{ i }}}}{{% endfor %}}".format, values, inside),
        st.builds(
            "{{% for i in {} %}}{{% for j in i.x %}}{}{{{{ j | upper }}}}{{% endfor %}}{{% endfor %}}".format,
            values,
            inside,
        ),
    )


templates = st.recursive(leaves, _blocks, max_leaves=15)
scalars = st.one_of(
    st.integers(0, 3).map(lambda n: "ä<" * 10**n),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=5),
)
hostile = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.builds(lambda value, count: [value] * count, inner, st.sampled_from([10, 100, 101])),
        st.builds(lambda value: {"x": value}, inner),
    ),
    max_leaves=6,
)


def steps(call: Callable[[], object]) -> int:
    """How many lines of Python, and how many calls of C functions, `call` takes: the same on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += 1
        return trace

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
        sys.settrace(before)
    return count


@settings(max_examples=150, deadline=None)
@given(template=templates, a=hostile, b=hostile)
def test_any_template_is_refused_or_its_work_is_bounded_for_any_lead(template: str, a: Any, b: Any) -> None:
    try:
        compiled = compile_template("Hi", template, template)
    except InvalidInput:
        return
    lead = {"company_name": "A & B", "custom_fields": {"a": a, "b": b}}
    length = 0

    def rendered() -> None:
        nonlocal length
        try:
            email = compiled.render(lead_variables(lead, "c"))
        except RenderError:
            return
        length = len(email.body_text) + len(email.body_html or "")

    assert steps(rendered) < 40 * MAX_WORK
    assert length <= 2 * MAX_CHARACTERS


@pytest.mark.parametrize(
    "template",
    [
        "{% if custom_fields.a | title %}{% endif %}" * 450,
        "{% if custom_fields.a | upper %}{% endif %}" * 500,
        "{% for i in custom_fields.l %}" + "{% if i == custom_fields.a %}{% endif %}" * 70 + "{% endfor %}",
        "{% for i in custom_fields.t %}{% for j in i.x %}{% if j | upper == i %}{% endif %}{% endfor %}{% endfor %}",
    ],
    ids=lambda template: template[:60],
)
def test_worst_templates_that_are_accepted_stay_within_their_work(template: str) -> None:
    tree = [{"x": ["ab " * 3] * 9}] * 70
    lead = {"custom_fields": {"a": "a b " * 2_500, "l": ["c"] * 100, "t": tree}}
    compiled = compile_template("Hi", template + "end", None)
    assert steps(lambda: compiled.render(lead_variables(lead, "c"))) < 4 * MAX_WORK


def test_inner_rounds_are_bounded_by_the_values_of_the_lead() -> None:
    template = "{% for i in custom_fields.t %}{% for j in i.x %}{{ j }}{% endfor %}{% endfor %}"
    lead = {"t": [{"x": [1] * 50}] * 100}
    with pytest.raises(RenderError, match=f"{MAX_VALUES:,} values"):
        render(template, custom_fields=lead)
