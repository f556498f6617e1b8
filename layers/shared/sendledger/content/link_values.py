"""Lead data in links: a template's syntax tree goes in; values at the beginning of an address are checked after it.

`<a href="{{ website }}">` with an escaped value is safe HTML, but not a safe link: a lead's website may be
`javascript:…`. If a value can decide the scheme of an address, only the schemes of mail and the web are allowed. Any
other address becomes `#`. Text of the template itself is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import nodes

FILTER = "_link"
"""Its name in the tree; templates themselves cannot use it."""

_SCHEMES = frozenset(("http", "https", "mailto", "tel", "sms"))
_SCHEME = re.compile(r"([^:/?#]*):")
# Browsers leave these out when they look for the scheme: https://url.spec.whatwg.org/#concept-basic-url-parser
_IGNORED = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202f\u2060\ufeff]+")
_ATTRIBUTE = r"(?:^|[\s\"'/])(?:href|src|action|formaction|background|poster|xlink:href|cite)\s*=\s*"
_IN_SCHEME = re.compile(
    _ATTRIBUTE + r"(?:\"[^\"<>:/?#]*|'[^'<>:/?#]*|[^\s\"'<>:/?#]*)\Z",
    re.IGNORECASE,
)
_SCHEME_IS_OVER = re.compile(r"[:/?#\"'<>\s]")
_TAIL = 300
"""Characters before a value in which its attribute begins."""


def check_link(value: Any) -> Any:
    """The value as the beginning of an address, or `#` if its scheme is not one of mail or the web."""
    if not isinstance(value, str) or (value.startswith(("https://", "http://")) and " " not in value):
        return value
    found = _SCHEME.match(_IGNORED.sub("", value))
    if found and found.group(1).lower() not in _SCHEMES:
        return "#"
    return "%20".join(value.split())


def mark_links(tree: nodes.Template) -> None:
    """Call `check_link` for each value at a place where the scheme of an address is decided."""
    _walk(tree.body, False, True)


def _walk(body: Sequence[nodes.Node], inside: bool, mark: bool) -> bool:
    """Whether an address may be open, with its scheme undecided, after the nodes; `inside` says so of before them."""
    for node in body:
        if isinstance(node, nodes.Output):
            for position, part in enumerate(node.nodes):
                if isinstance(part, nodes.TemplateData):
                    inside = _after(part.data, inside)
                elif inside and mark:
                    node.nodes[position] = nodes.Filter(part, FILTER, [], [], None, None, lineno=part.lineno)
        elif isinstance(node, nodes.If):
            branches = [node.body, *(other.body for other in node.elif_), node.else_]
            after = [_walk(branch, inside, mark) for branch in branches]
            inside = any(after)
        elif isinstance(node, nodes.For):
            again = _walk(node.body, inside, False)
            inside = _walk(node.body, inside or again, mark) or inside
            inside = _walk(node.else_, inside, mark) or inside
    return inside


def _after(text: str, inside: bool) -> bool:
    if inside and not _SCHEME_IS_OVER.search(text):
        return True
    return _IN_SCHEME.search(text[-_TAIL:]) is not None
