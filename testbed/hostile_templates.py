"""Templates that are made to exhaust what saves, previews or sends them; see `testbed.hostile`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import compile_template
from sendledger.content.template_filters import RenderError
from sendledger.core.errors import InvalidInput

LARGEST = 499_000
LEAD = {
    "email": "ann@example.com",
    "company_name": "<" * 10_000,
    "contact_name": "Ann Lee",
    "custom_fields": {
        "rows": [["x" * 100, "y"] for _ in range(100)],
        "blank": [[] for _ in range(100)],
        "list": ["word " * 2_000] * 100,
        "long": "&" * 10_000,
        "words": "a " * 5_000,
        "half": "a" * 5_000 + "ba",
        "all": "a" * 10_000,
        "format": "%2000000000d",
    },
}


def render(body_html: str) -> None:
    """Compile and render, as a preview does; a refusal is an answer."""
    with contextlib.suppress(InvalidInput, RenderError):
        compile_template("Hello", "", body_html).render(lead_variables(LEAD, "Campaign"))


def _fill(part: str) -> Callable[[], str]:
    return lambda: part * (LARGEST // len(part))


TEMPLATES: Mapping[str, Callable[[], str]] = {
    "nested div": _fill("<div>"),
    "open head": _fill("<head "),
    "open comments": _fill("<!--"),
    "nested tables": _fill("<table><tr><td>"),
    "names of placeholders": _fill("JINJATAG5X"),
    "unclosed tags": _fill("{{ "),
    "unclosed comments": _fill("{#"),
    "values": _fill("{{ company_name }}"),
    "filters in a row": lambda: "{{ company_name" + "|upper" * 50_000 + " }}",
    "nested lists": lambda: "{{ " + "[" * 20_000 + "]" * 20_000 + " }}",
    "nested conditions": lambda: "{% if company_name %}" * 10_000 + "{% endif %}" * 10_000,
    "loops in loops": lambda: (
        "{% for a in custom_fields.rows %}{% for b in a %}{{ company_name }}{% endfor %}{% endfor %}" * 200
    ),
    "loop over all": lambda: "{% for a in range(99999999) %}x{% endfor %}",
    "large numbers": lambda: "{{ 9 ** 9 ** 9 }}",
    "long values": _fill("{{ custom_fields.long|e }}"),
    "attributes in a row": lambda: "{{ custom_fields" + ".a" * 100_000 + " }}",
    "quotation marks": _fill('<a href="'),
    "entities": _fill("&#x41;"),
    "a text as a format": lambda: "{{ 1 if custom_fields.format is odd }}{{ 1 if '%2000000000d' is divisibleby 2 }}",
    "another list in the inner loop": lambda: (
        "{% for a in custom_fields.blank %}{% for b in a.none | default(custom_fields.list) %}"
        + "{{ custom_fields.words | wordcount }}" * 3
        + "{% endfor %}{% endfor %}"
    ),
    "another list under the name of the outer loop": lambda: (
        "{% for a in custom_fields.blank %}{% set a = custom_fields.list %}{% for b in a %}"
        + "{{ b | wordcount }}" * 3
        + "{% endfor %}{% endfor %}"
    ),
    "all the work that is permitted": lambda: (
        "{% for a in custom_fields.rows %}{% for b in a %}"
        + "{{ custom_fields.words | wordcount }}" * 3
        + "{% endfor %}{% endfor %}"
    ),
    "texts in texts": lambda: "{{ 1 if custom_fields.half in custom_fields.all }}" * 600,
    "texts that are replaced": lambda: "{{ custom_fields.all | replace(custom_fields.half, '') | length }}" * 370,
    "lists that are sorted": lambda: "{{ custom_fields.list | sort | length }}" * 300,
    "title of words": lambda: "{{ custom_fields.words | title | length }}" * 400,
    "capitals": lambda: "{{ custom_fields.long | upper | lower | length }}" * 500,
    "a name of 400,000 letters": lambda: "{{ " + "a" * 400_000 + " }}",
    "a key of 400,000 letters": lambda: "{{ custom_fields['" + "a" * 400_000 + "'] }}",
    "a number of 400,000 digits": lambda: "{{ " + "9" * 400_000 + " }}",
    "numbers without end": lambda: "{{ 1e308 | round(10, 'ceil') }}{{ 1e999 | int }}",
    "comparisons in a row": lambda: ("{{ " + "1 < " * 140 + "1 }}") * 20,
    "texts side by side": lambda: ("{{ " + "'a' " * 290 + "}}") * 20,
    "conditions in a row": lambda: ("{% if 0 %}" + "{% elif 0 %}" * 99 + "{% endif %}") * 14,
    "raw": lambda: "{% raw %}" + "{{ x }}" * 60_000 + "{% endraw %}",
    "raw without an end": lambda: "{% raw %}" * 50_000,
    "blanks around signs": lambda: (" " * 1_000 + "{{- 1 -}}") * 490,
    "styles": _fill("<style>{#"),
    "hidden elements": _fill("<p style='font-size:0; left:-999px'>"),
    "rules of style sheets": lambda: (
        "<style>" + ".a,.b{display:none} " * 10_000 + "</style>" + "<p class='a b'>" * 15_000
    ),
    "style sheets": _fill("<style>/*"),
    "characters without width": _fill("&zwnj;"),
}
