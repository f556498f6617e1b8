"""What a recipient gets: subject, text and HTML of a template for one lead."""

from __future__ import annotations

from typing import Any

import pytest

from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import RenderedEmail, compile_template
from sendledger.content.template_filters import RenderError
from sendledger.core.errors import InvalidInput

LEAD = {
    "company_name": "Ö & Co",
    "contact_name": "Ann van Lee",
    "email": "ann@example.com",
    "custom_fields": {"plan": "<b>gold</b>"},
}


def render(text: str, html: str | None = None, subject: str = "Hi", **lead: Any) -> RenderedEmail:
    return compile_template(subject, text, html).render(lead_variables({**LEAD, **lead}, "Spring"))


def html_of(html: str, **lead: Any) -> str | None:
    return render("x", html, **lead).body_html


def test_lead_fields_are_available_by_their_names() -> None:
    rendered = render(
        "{{ first_name }}|{{ last_name }}|{{ company_name }}|{{ custom_fields.plan }}|{{ campaign_name }}"
    )
    assert rendered.body_text == "Ann|van Lee|Ö & Co|<b>gold</b>|Spring"


def test_html_is_escaped_and_text_is_not() -> None:
    rendered = render("{{ custom_fields.plan }}", "<p>{{ custom_fields.plan }} {{ company_name }}</p>")
    assert rendered.body_text == "<b>gold</b>"
    assert rendered.body_html == "<p>&lt;b&gt;gold&lt;/b&gt; Ö &amp; Co</p>"


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
    "subject", ["{{ city | default('') }}", "{% if city is defined %}x{% endif %}", "{{ company_name }}"]
)
def test_subject_that_is_empty_for_a_lead_fails(subject: str) -> None:
    with pytest.raises(RenderError) as caught:
        render("x", subject=subject, company_name="\n \u2028")
    assert caught.value.code == "empty_subject"


@pytest.mark.parametrize(("text", "html"), [("{{ city | default('') }}", None), ("", "{{ city | default(' ') }}\n")])
def test_email_without_any_text_fails(text: str, html: str | None) -> None:
    with pytest.raises(RenderError) as caught:
        render(text, html)
    assert caught.value.code == "empty_body"


@pytest.mark.parametrize("text", ["{{ '\\ud800' }}", "{{ '\\x00' }}"])
def test_character_that_cannot_be_stored_fails(text: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(text)
    assert caught.value.code == "control_character"


def test_every_broken_part_is_named_with_its_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        compile_template("{{ a", "line\n{% if %}", "{{ x | nothing }}")
    assert [error.field for error in caught.value.errors] == ["subject", "body_text", "body_html"]
    assert caught.value.errors[1].message.startswith("line 2: ")


def test_lead_without_names_or_fields_has_no_such_variables() -> None:
    variables = lead_variables({"email": "a@b.co", "custom_fields": ["not", "a", "mapping"]}, "c", None)
    assert variables == {"email": "a@b.co", "campaign_name": "c", "custom_fields": {}}


# The text that is made from the HTML


@pytest.mark.parametrize("text", ["", " \n\t", "{{ city | default('') }}"])
def test_blank_text_is_made_from_the_html(text: str) -> None:
    rendered = render(text, "<html><head><title>t</title></head><body><h1>Hi {{ first_name }}</h1>A<br>B</body></html>")
    assert rendered.body_text == "Hi Ann\n\nA\nB\n"


def test_text_has_the_content_of_the_html_for_each_lead() -> None:
    html = "{% set plan = custom_fields.plan | default('free') %}<head>{% set who = first_name %}</head>"
    html += "<p>{{ who }}: {% if plan == 'free' %}upgrade{% else %}thanks{% endif %}</p>"
    html += "<!-- {% if plan == 'free' %} --><p>Only 5 a month</p><!-- {% endif %} -->"
    assert render("", html, custom_fields={"plan": "pro"}).body_text == "Ann: thanks\n"
    assert render("", html, custom_fields={}).body_text == "Ann: upgrade\n\nOnly 5 a month\n"


def test_value_that_looks_like_html_is_text_in_the_text() -> None:
    assert render("", "<p>{{ custom_fields.plan }} {{ company_name }}</p>").body_text == "<b>gold</b> Ö & Co\n"


# What editors and style sheets do to a template


def test_style_sheet_may_contain_the_beginning_of_a_template_comment() -> None:
    html = "<STYLE type='text/css'>@media print{#a{color:red}}\n.b{#c}</STYLE>{# gone #}<p>{{ first_name }}</p>"
    assert html_of(html) == html.replace("{# gone #}", "").replace("{{ first_name }}", "Ann")


def test_style_sheet_may_contain_values() -> None:
    assert html_of("<style>a{color:{{ custom_fields.c }}}</style>", custom_fields={"c": "red"}) == (
        "<style>a{color:red}</style>"
    )


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("{{ city | default(&quot;there&quot;) }}", "there"),
        ("{{ city | default(&#39;there&#39;)&nbsp;}}", "there"),
        ("{% if 3 &gt; 2 &#x26;&#38; %}{% endif %}", None),
        ("{% if 3 &gt; 2 and 2 &lt; 3 %}yes{% endif %}", "yes"),
        ("{{ city | default('A &amp; B') }} &amp; &quot;", "A &amp; B &amp; &quot;"),
    ],
)
def test_entities_within_tags_are_understood(html: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(InvalidInput):
            html_of(html)
    else:
        assert html_of(html) == expected


# Links


@pytest.mark.parametrize(
    "value",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "\x01java\tscript\n:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "file:///etc/passwd",
        ":x",
        "\u200bjavascript:x",
    ],
)
@pytest.mark.parametrize(
    "html",
    [
        '<a href="{{ website }}">',
        "<a href='{{ website }}'>",
        "<a class=x HREF = {{ website }} >",
        '<img alt="{{ company_name }}" src="{{ website }}">',
        '<form action="{{ website | trim }}">',
        '<a href="{% if website is defined %}{{ website }}{% endif %}">',
        '<a href="{% if city is defined %}https://a.example/{% else %}{{ website }}{% endif %}">',
        '<a href="{% if city is not defined %}{% else %}https://a.example/{% endif %}{{ website }}">',
        '{% set w = website %}<a href="{{ w }}">',
        '<a href="{% for x in custom_fields.l %}{{ website }}{% endfor %}">',
        '<a href="\n  {{ website }}">',
    ],
)
def test_link_from_lead_data_has_a_scheme_of_mail_or_the_web(html: str, value: str) -> None:
    rendered = html_of(html, website=value, custom_fields={"l": [1]})
    assert rendered is not None
    assert "#" in rendered
    assert ":" not in rendered.replace("https:", "")


def test_link_cannot_be_put_together_from_several_values() -> None:
    html = '<a href="{{ company_name }}{{ website }}">'
    assert html_of(html, company_name="java", website="script:alert(1)") == '<a href="java#">'
    in_loop = '<a href="{% for x in custom_fields.l %}{{ x }}{% endfor %}">'
    assert html_of(in_loop, custom_fields={"l": ["java", "script:alert(1)"]}) == '<a href="java#">'


@pytest.mark.parametrize(
    ("html", "value", "expected"),
    [
        ('<a href="{{ website }}">', "https://a.example/?b=c&d", '<a href="https://a.example/?b=c&amp;d">'),
        ('<a href="{{ website }}">', "HTTP://a.example", '<a href="HTTP://a.example">'),
        ('<a href="{{ website }}">', "mailto:a@b.example", '<a href="mailto:a@b.example">'),
        ('<a href="{{ website }}">', "a.example/x:y", '<a href="a.example/x:y">'),
        ('<a href="{{ website }}">', "https://a.example/b c", '<a href="https://a.example/b%20c">'),
        ('<a href="https://b.example/?u={{ website }}">', "x:y", '<a href="https://b.example/?u=x:y">'),
        ('<a title="{{ website }}">', "Note: x", '<a title="Note: x">'),
        ("<p>{{ website }}</p>", "javascript:x", "<p>javascript:x</p>"),
        ("<p>href {{ website }}</p>", "Note: x", "<p>href Note: x</p>"),
    ],
)
def test_other_values_are_unchanged(html: str, value: str, expected: str) -> None:
    assert html_of(html, website=value) == expected
