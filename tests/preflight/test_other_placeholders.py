"""Placeholders of other products are recognized; CSS, our own tags and plain text are not taken for them."""

from __future__ import annotations

import pytest

from sendledger.preflight.other_placeholders import other_placeholders


@pytest.mark.parametrize(
    "placeholder",
    [
        *("*|FNAME|*", "*|IF:PLAN|*", "{FIRST_NAME}", "{first_name}", "{firstName}", "{Hello|Hi|Hey}", "{Hi|}"),
        *("%%x%%", "%%First Name%%", "%FIRSTNAME%", "%7B%7Bfirst_name%7D%7D", "%7b%7b%20x%20%7d%7d", "${name}"),
        *("[[first_name]]", "[FNAME]", "[First Name]", "<<First Name>>", "&lt;&lt;name&gt;&gt;", "<%= name %>"),
        "#FIRSTNAME#",
    ],
)
def test_placeholder_is_found(placeholder: str) -> None:
    assert other_placeholders(f"<p>Hi {placeholder}, {{{{ city }}}}</p>") == [placeholder]


def test_each_is_named_once() -> None:
    assert other_placeholders("*|A|* *|A|* {B}") == ["*|A|*", "{B}"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ first_name | default('there') }} {% if city == 'Bath' %}{# {x} #}{% endif %}",
        "<style>a{color:red} b{x}</style><p style='a:b'>100% of 50% #hashtag #FF00AA</p>",
        "https://example.com/?a=%20b%C3%96&b={}",
        "2 * 3 | 4 * 5, [1], [sic] a << b >> c, $5 {, }",
    ],
)
def test_other_text_is_not_a_placeholder(text: str) -> None:
    assert other_placeholders(text) == []


@pytest.mark.parametrize("piece", ["{a", "*|", "%%", "[[", "<<", "%7B%7B", "{a|", "<%", "${", "<style>", "#A"])
def test_hostile_text_is_searched(piece: str) -> None:
    assert other_placeholders(piece * 100_000) == other_placeholders(piece * 2_000)
