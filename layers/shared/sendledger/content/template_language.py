"""The template language: a part of Jinja2 whose work is bounded by the size of the template and of the lead's data.

A template's source goes in. A compiled template comes out, or an error that names the line, the construct and what to
write instead. `_PERMITTED`, `FILTERS` and `TESTS` list what is allowed. Everything else is refused when the template is
compiled. So rendering needs no timeout: `MAX_WORK` bounds the work of any template for any lead. The language is
described in docs/templates.md.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sendledger.content.link_values import FILTER as LINK_FILTER
from sendledger.content.link_values import check_link, mark_links
from sendledger.content.template_filters import (
    FILTERS,
    MAX_ENTRIES,
    MAX_VALUE,
    MAX_VALUES,
    TESTS,
    NoValue,
    RenderError,
    entries_of,
    refuse,
)
from sendledger.core.vocabulary import ErrorCode

MAX_TEMPLATE = 500_000
"""Characters in one part of a template."""

MAX_TOKENS = 6_000
"""Tokens in all tags of one part (about 1,000 tags), and `MAX_TAG_TOKENS` in one tag. Compiling such a template takes a
second."""

MAX_TAG_TOKENS = 300

MAX_WORK = 100_000
"""What rendering one part may cost at the most: each step of an expression costs 1, a filter what `FILTERS` says; what
is in a loop counts for each possible round. Less than two seconds of a processor with the longest values."""

MAX_NESTED_LOOPS = 2
MAX_NESTED_BLOCKS = 20
MAX_EXPRESSION_DEPTH = 50
MAX_ELIFS = 100
MAX_CONCATENATED = 20

LOOP_ATTRIBUTES = frozenset(("index", "index0", "revindex", "revindex0", "first", "last", "length"))

_ROUNDS = (1, MAX_ENTRIES, MAX_VALUES)
"""How often something is done at most, by the number of loops that it is in. An inner loop goes over a list of the
outer loop's entry, so that all its rounds together are bounded by the values of the lead."""

_PATH = (nodes.Name, nodes.Getattr, nodes.Getitem)
_PERMITTED: dict[type[nodes.Node], int] = {
    nodes.Template: 0,
    nodes.Output: 0,
    nodes.TemplateData: 0,
    nodes.If: 1,
    nodes.For: 1,
    nodes.Assign: 1,
    nodes.Name: 1,
    nodes.Const: 0,
    nodes.Getattr: 1,
    nodes.Getitem: 1,
    nodes.Filter: 0,
    nodes.Test: 0,
    nodes.Compare: 0,
    nodes.Operand: 10,
    nodes.And: 1,
    nodes.Or: 1,
    nodes.Not: 1,
    nodes.Neg: 0,
    nodes.CondExpr: 1,
    nodes.Concat: 10,
    nodes.Keyword: 0,
}
"""Node of the syntax tree → what one visit of it costs."""

_CALCULATED = (
    "calculate the value before the import and keep it in a custom field; "
    "a name with a hyphen is written custom_fields['first-name']"
)
_WRITTEN_HERE = "write the text where it is needed"
_REFUSED: dict[type[nodes.Node], tuple[str, str]] = {
    nodes.Call: ("a call", "use a filter, as in {{ company_name | upper }}"),
    nodes.List: ("a list", "compare with each value: city == 'Bath' or city == 'York'"),
    nodes.Tuple: ("a list", "compare with each value: city == 'Bath' or city == 'York'"),
    nodes.Dict: ("an object in braces", "use {% if %}, {% elif %} and {% else %}"),
    nodes.Slice: ("a slice", "use the filter truncate, first or last"),
    nodes.Macro: ("a macro", _WRITTEN_HERE),
    nodes.CallBlock: ("a call block", _WRITTEN_HERE),
    nodes.FilterBlock: ("a filter block", "put the filter on each value: {{ city | upper }}"),
    nodes.AssignBlock: ("a set block", "write {% set name = value %}, or the text where it is needed"),
    nodes.With: ("a with block", "use {% set name = value %}"),
    nodes.Block: ("a block of another template", _WRITTEN_HERE),
    nodes.Include: ("an include", _WRITTEN_HERE),
    nodes.Import: ("an import", _WRITTEN_HERE),
    nodes.FromImport: ("an import", _WRITTEN_HERE),
    nodes.Extends: ("an extends", _WRITTEN_HERE),
    nodes.Scope: ("autoescape", "leave it out: values in HTML are always escaped"),
    nodes.NSRef: ("a namespace", "use {% set name = value %}"),
    **dict.fromkeys(
        (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Pos),
        ("arithmetic", _CALCULATED),
    ),
}
"""Node → its name in messages, and what to use instead."""

_RESERVED_NAMES = frozenset(("self", "super", "caller", "varargs", "kwargs"))
_STYLE = re.compile(r"(<style\b|</style)", re.IGNORECASE)
_TAG = re.compile(r"\{\{[^{}]*\}\}|\{%[^{}%]*%\}")


_CURLY_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"
_HOW_TO_WRITE = (
    "a value is written {{ first_name | default('there') }}, a field with a blank in its name "
    "{{ custom_fields['First name'] }}, and a condition {% if city == 'Bath' %}…{% endif %}"
)


class _Refused(jinja2.TemplateSyntaxError):
    """Said in the words of this module; other syntax errors are in those of Jinja2."""


class TemplateLanguage(ImmutableSandboxedEnvironment):
    """Compiles templates of the language. Jinja2's sandbox is the second line of defence."""

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(undefined=NoValue, autoescape=autoescape, finalize=_printed, keep_trailing_newline=True)
        self.globals = {}
        self.filters = {name: function for name, (function, _) in FILTERS.items()}
        self.filters |= {LINK_FILTER: check_link, _ENTRIES: entries_of}
        self.tests = {name: function for name, (function, _) in TESTS.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        try:
            self._check_size(source)
            tree = super()._parse(source, name, filename)
            _Check(tree).statements(tree.body, 0)
        except RecursionError:
            raise _Refused("the template is nested too deeply", 1) from None
        except _Refused:
            raise
        except jinja2.TemplateSyntaxError as error:
            raise _Refused(_with_advice((error.message or "").rstrip(".")), error.lineno) from error
        if self.autoescape:
            mark_links(tree)
        return tree

    def _check_size(self, source: str) -> None:
        if len(source) > MAX_TEMPLATE:
            message = f"the template has {len(source):,} characters; at most {MAX_TEMPLATE:,} are possible"
            raise _Refused(message, 1)
        tokens = in_tag = 0
        for line, kind, _ in self.lexer.tokeniter(source, None):
            if kind in ("data", "whitespace"):
                continue
            tokens += 1
            in_tag = 0 if kind.endswith("_begin") else in_tag + 1
            if in_tag > MAX_TAG_TOKENS:
                raise _Refused("this tag is too long; divide it into several", line)
            if tokens > MAX_TOKENS:
                raise _Refused("the template has too many tags up to here; divide it", line)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute` is what the lead has under this name, never an attribute of Python."""
        return getattr(obj, attribute) if isinstance(obj, LoopContext) else self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: str | int) -> Any:
        if isinstance(obj, dict):
            if (value := obj.get(argument)) is not None:
                return value
            return NoValue(name=f"{getattr(obj, 'path', 'an object')}.{argument}")
        if isinstance(obj, list) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        # What has no value has no parts either, so that one `default` at the end is enough.
        path = obj._undefined_message if isinstance(obj, NoValue) else "a text, a number or a list"
        return NoValue(name=f"{path}.{argument}")


_ENTRIES = "_entries"


def _printed(value: Any) -> Any:
    """Runs on every ``{{ … }}``."""
    if isinstance(value, str):
        if len(value) > MAX_VALUE:
            raise RenderError(
                ErrorCode.TOO_LONG, f"A value has {len(value):,} characters; at most {MAX_VALUE:,} are possible."
            )
    elif not isinstance(value, (int, float, jinja2.Undefined)):
        refuse(value)
    return value


class _Check:
    """Refuses what the language does not have, and adds up the work of the rest."""

    def __init__(self, tree: nodes.Template) -> None:
        self._work = 0
        self._set: dict[str, int] = {}
        for assignment in tree.find_all(nodes.Assign):
            for name in assignment.target.find_all(nodes.Name):
                self._set[name.name] = self._set.get(name.name, 0) + 1
            if isinstance(assignment.target, nodes.Name):
                self._set[assignment.target.name] = self._set.get(assignment.target.name, 0) + 1

    def statements(self, body: Sequence[nodes.Node], depth: int, loops: tuple[str, ...] = ()) -> None:
        """`loops` are the variables of the loops around."""
        if depth > MAX_NESTED_BLOCKS:
            _refuse(body[0] if body else None, f"more than {MAX_NESTED_BLOCKS} blocks in each other")
        for node in body:
            self._cost(node, len(loops))
            match node:
                case nodes.Output():
                    for part in node.nodes:
                        if not isinstance(part, nodes.TemplateData):
                            self._spend(1, part, len(loops))
                            self._expression(part, 0, loops)
                case nodes.If():
                    if len(node.elif_) > MAX_ELIFS:
                        _refuse(node, f"more than {MAX_ELIFS} times elif")
                    for branch in (node, *node.elif_):
                        self._expression(branch.test, 0, loops)
                        self.statements(branch.body, depth + 1, loops)
                    self.statements(node.else_, depth + 1, loops)
                case nodes.Assign():
                    self._assignment(node, loops)
                case nodes.For():
                    self._loop(node, depth, loops)

    def _assignment(self, node: nodes.Assign, loops: tuple[str, ...]) -> None:
        if not isinstance(node.target, nodes.Name):
            _refuse(node, "several names set at once", "use one {% set name = value %} for each")
        name = cast(nodes.Name, node.target).name
        _check_name(node, name)
        if name in loops:
            _refuse(node, f"a set of {name}, which is the variable of a loop", "use another name")
        for used in _names(node.node):
            if used in self._set and (used != name or self._set[name] > 1 or loops):
                _refuse(node, f"a set of {name} that uses {used}, which is set itself", "use the lead's own fields")
        self._expression(node.node, 0, loops)

    def _loop(self, node: nodes.For, depth: int, loops: tuple[str, ...]) -> None:
        if len(loops) == MAX_NESTED_LOOPS:
            _refuse(node, f"more than {MAX_NESTED_LOOPS} loops in each other")
        if node.recursive:
            _refuse(node, "a recursive loop", "use a loop in a loop")
        if not isinstance(node.target, nodes.Name):
            _refuse(node, "a loop with several variables", "use one: {% for item in custom_fields.products %}")
        target = cast(nodes.Name, node.target).name
        _check_name(node, target)
        source: nodes.Node | None = node.iter
        while isinstance(source, nodes.Filter):
            for argument in (*source.args, *(keyword.value for keyword in source.kwargs)):
                if loops and not isinstance(argument, nodes.Const):  # it could be another list
                    _refuse(node, "a value as a filter's argument in a loop in a loop", "write default('')")
            source = source.node
        root: nodes.Node | None = source
        while isinstance(root, (nodes.Getattr, nodes.Getitem)):
            root = root.node
        if not isinstance(root, nodes.Name):
            _refuse(
                node,
                "a loop over something else than a list of the lead",
                "use {% for item in custom_fields.products %}",
            )
        if loops and cast(nodes.Name, root).name != loops[-1]:
            _refuse(
                node,
                "a loop in a loop over another list",
                f"go over a list of the outer loop's {loops[-1]}: {{% for part in {loops[-1]}.parts %}}",
            )
        self._expression(node.iter, 0, loops)
        node.iter = nodes.Filter(node.iter, _ENTRIES, [], [], None, None, lineno=node.lineno)
        inside = (*loops, target)
        if node.test is not None:
            self._expression(node.test, 0, inside)
        self.statements(node.body, depth + 1, inside)
        self.statements(node.else_, depth + 1, loops)

    def _expression(self, node: nodes.Node, depth: int, loops: tuple[str, ...], concatenated: bool = False) -> None:
        self._cost(node, len(loops))
        if depth > MAX_EXPRESSION_DEPTH:
            _refuse(node, f"an expression with more than {MAX_EXPRESSION_DEPTH} parts in each other")
        match node:
            case nodes.Name():
                _check_name(node, node.name)
                if node.name == "loop":
                    _refuse(node, "loop alone", "use loop.index, loop.first or loop.last")
            case nodes.Getattr(node=nodes.Name(name="loop")):
                if node.attr not in LOOP_ATTRIBUTES or not loops:
                    _refuse(node, f"loop.{node.attr}", f"use {', '.join(sorted(LOOP_ATTRIBUTES))} in a loop")
                return
            case nodes.Getattr():
                _check_name(node, node.attr)
            case nodes.Getitem():
                if not isinstance(node.arg, nodes.Const) or not isinstance(node.arg.value, (str, int)):
                    _refuse(node, "an index that is not a constant", "write the name: custom_fields['Plan']")
                _check_name(node, str(cast(nodes.Const, node.arg).value))
            case nodes.Filter():
                self._named("filter", FILTERS, node, loops)
            case nodes.Test():
                self._named("test", TESTS, node, loops)
            case nodes.Neg():
                if not isinstance(node.node, nodes.Const):
                    _refuse(node, "arithmetic", _CALCULATED)
            case nodes.Concat():
                if loops:
                    _refuse(node, "the sign ~ in a loop", "write the values one after the other: {{ a }} {{ b }}")
                if concatenated or len(node.nodes) > MAX_CONCATENATED:
                    _refuse(node, "too many values joined with ~", "write them one after the other: {{ a }} {{ b }}")
                concatenated = True
        for child in node.iter_child_nodes():
            self._expression(child, depth + 1, loops, concatenated)

    def _named(
        self, kind: str, known: dict[str, tuple[Any, int]], node: nodes.Filter | nodes.Test, loops: tuple[str, ...]
    ) -> None:
        if node.name not in known:
            _refuse(node, f"the {kind} {node.name}", f"there are {', '.join(sorted(known))}")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            _refuse(node, "arguments with *", "write each argument")
        self._spend(known[node.name][1], node, len(loops))

    def _cost(self, node: nodes.Node, loops: int) -> None:
        if type(node) not in _PERMITTED:
            what, instead = _REFUSED.get(type(node), (type(node).__name__.lower(), ""))
            _refuse(node, what, instead)
        self._spend(_PERMITTED[type(node)], node, loops)

    def _spend(self, work: int, node: nodes.Node, loops: int) -> None:
        self._work += work * _ROUNDS[loops]
        if self._work > MAX_WORK:
            _refuse(
                node,
                "more work than one email may make, up to here",
                "use fewer tags and filters, first of all in loops",
            )


def _names(node: nodes.Node) -> Iterable[str]:
    if isinstance(node, nodes.Name):
        yield node.name
    for child in node.find_all(nodes.Name):
        yield child.name


def _check_name(node: nodes.Node, name: str) -> None:
    if name.startswith("_") or name in _RESERVED_NAMES:
        _refuse(node, f"the internal name {name}", "use a field of the lead")


def _refuse(node: nodes.Node | None, what: str, instead: str = "") -> None:
    line = 1
    if node is not None:
        # A node that Jinja2 makes around others has no line.
        line = node.lineno or next((child.lineno for child in node.iter_child_nodes()), 1)
    message = f"{what} is not possible in a template" + (f"; {instead}" if instead else "")
    raise _Refused(message, line)


def _with_advice(message: str) -> str:
    if any(quote in message for quote in _CURLY_QUOTES):
        return f"{message}; use straight quotation marks, ' or \""
    return message if "end of template" in message or "Missing end" in message else f"{message}; {_HOW_TO_WRITE}"


def prepared_html(source: str) -> str:
    """The HTML with the changes of editors and style sheets corrected. Line numbers stay the same.

    Editors write ``{{ city | default(&quot;there&quot;) }}``. In a style sheet ``{#`` begins a rule, not a comment:
    ``@media print{#logo{…}}``.
    """
    parts = _STYLE.split(source)
    in_style = False
    for position, part in enumerate(parts):
        if position % 2:
            in_style = part[1] != "/"
        elif in_style:
            parts[position] = part.replace("{#", "{{ '{#' }}")
    return _TAG.sub(lambda tag: html.unescape(tag.group()) if "&" in tag.group() else tag.group(), "".join(parts))
