"""Templates that are made to stop whoever saves, previews or sends them; see `testbed.hostile`."""

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
    "custom_fields": {"rows": [["x" * 100] * 100] * 100, "long": "&" * 10_000},
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
}
