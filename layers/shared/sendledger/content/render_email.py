"""Rendering: a step's content and one lead's data in, subject and bodies out. Reads and writes no table.

Templates are written by the team, lead data comes from anywhere: data is only ever a value, never template source. A
template may still be careless or hostile, so the sandbox is narrow and every rendering has a budget of loop rounds,
calls and characters instead of a clock: the same email fails in the same way on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from markupsafe import Markup, escape

from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.person_names import person_name

MAX_CHARACTERS = 1_000_000
"""Characters that one rendering may put out; SES takes 40 MB, mailbox providers clip mail long before this."""

MAX_WORK = 5_000_000
"""What one rendering may do: characters and items that its filters and searches go through, and the parts of the bodies
of its loops and macros, for each round and call. A second or two of a processor, at the most."""

SLOW_SECONDS = 0.1
"""Of the processor for one email, on average: a thousand times what an ordinary one takes. Its campaign would keep all
others waiting."""

MAX_ROUNDS = 10_000
"""Loop rounds and calls in one rendering."""

MAX_SUBJECT = 500
"""The width of emails.subject."""

LEAD_FIELDS = (
    "company_name",
    "contact_name",
    "first_name",
    "last_name",
    "email",
    "job_title",
    "industry",
    "city",
    "country",
    "website",
    "phone",
)

_SAFE_ATTRIBUTES: dict[type, frozenset[str]] = {
    str: frozenset(
        ("upper", "lower", "title", "capitalize", "strip", "lstrip", "rstrip", "startswith", "endswith", "split")
    ),
    dict: frozenset(("get", "items", "keys", "values")),
}
_SAFE_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "last", "length", "list"),
    *("lower", "round", "sort", "striptags", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_JINJA_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class RenderError(Exception):
    """This lead's email cannot be made from this template; `code` says why in one word, `message` for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class RenderedEmail:
    """What one recipient will get. `body_html` is None for a text-only email."""

    subject: str
    body_text: str
    body_html: str | None


class _Budget:
    """What one rendering may still spend."""

    __slots__ = ("_characters", "_rounds", "_work")

    def __init__(self) -> None:
        self._characters = MAX_CHARACTERS
        self._rounds = MAX_ROUNDS
        self._work = MAX_WORK

    def spend_characters(self, count: int) -> None:
        self._characters -= count
        if self._characters < 0:
            raise RenderError("too_long", f"The email is longer than {MAX_CHARACTERS:,} characters.")

    def spend_round(self) -> None:
        self._rounds -= 1
        if self._rounds < 0:
            raise RenderError("too_many_rounds", f"The template needs more than {MAX_ROUNDS:,} loop rounds or calls.")

    def spend_work(self, size: int) -> None:
        self._work -= size
        if self._work < 0:
            raise RenderError("too_much_work", "The template has its loops or filters do too much for one email.")


def _budget(context: Context) -> _Budget:
    return cast(_Budget, context.parent["_budget"])


@pass_context
def _counted(context: Context, items: Iterable[Any], work: int) -> Iterator[Any]:
    budget = _budget(context)
    for item in items:
        budget.spend_round()
        budget.spend_work(work)
        yield item


@pass_context
def _begun(context: Context, work: int) -> str:
    """Runs at the beginning of each macro."""
    _budget(context).spend_work(work)
    return ""


@pass_context
def _put_out(context: Context, value: Any) -> Any:
    """Runs on every ``{{ … }}``; a part that is printed into a variable is paid for here too."""
    if not isinstance(value, (str, int, float, jinja2.Undefined)):
        raise RenderError("not_text", f"The template prints a {type(value).__name__}, which is not text or a number.")
    if isinstance(value, str):
        _budget(context).spend_characters(len(value))
    return value


@pass_context
def _worked_on(context: Context, value: Any) -> Any:
    """Runs on all that a filter, or a search with ``in``, is about to go through."""
    size = 10
    if isinstance(value, str):
        size += len(value)
    elif isinstance(value, (list, tuple, dict)):
        # To sort texts, say, is to compare them; and an item is looked at by Python code.
        size += 5 * len(value) + sum(len(item) for item in value if isinstance(item, str))
    _budget(context).spend_work(size)
    return value


@pass_context
def _is_in(context: Context, value: Any, values: Any) -> bool:
    return value in _worked_on(context, values)


def _replace(text: object, old: str, new: str) -> str:
    source = str(text) if not isinstance(text, Markup) else text
    if old == "" or len(source) + source.count(old) * len(new) > MAX_CHARACTERS:
        raise RenderError("too_long", "The replace filter makes a text that is too long.")
    return source.replace(old, new)


def _join(items: Iterable[Any], separator: str = "") -> str:
    parts = [part if isinstance(part, str) else str(part) for part in items]
    if sum(map(len, parts)) + len(parts) * len(separator) > MAX_CHARACTERS:
        raise RenderError("too_long", "The join filter makes a text that is too long.")
    if any(isinstance(part, Markup) for part in (*parts, separator)):
        return escape(separator).join(parts)
    return separator.join(parts)


class _Bounded(NodeTransformer):
    """Puts what is unbounded in a template under the budget."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 (these are named by Jinja2)
        """Turns ``a ~ b`` into ``[a, b] | join``, which has a limit: forty doublings would make a terabyte."""
        parts = nodes.List([self.visit(part) for part in node.nodes], lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        # The innermost filter of a filter block has no node: it gets what is in the block.
        node.node = _applied("_worked_on", node.node, node.lineno)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        work = _parts(node)
        self.generic_visit(node)
        node.iter = _applied("_counted", node.iter, node.lineno, work)
        return node

    def _visit_macro(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        work = _parts(node)
        self.generic_visit(node)
        begun = _applied("_begun", nodes.Const(work, lineno=node.lineno), node.lineno)
        node.body.insert(0, nodes.ExprStmt(begun, lineno=node.lineno))
        return node

    visit_Macro = visit_CallBlock = _visit_macro  # noqa: N815

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.op in ("in", "notin"):
            node.expr = _applied("_worked_on", node.expr, node.lineno)
        return node


def _parts(node: nodes.Node) -> int:
    return sum(1 for _ in node.find_all(nodes.Node))


def _applied(name: str, node: nodes.Node | None, line: int, *arguments: int) -> nodes.Filter:
    constants: list[nodes.Expr] = [nodes.Const(argument, lineno=line) for argument in arguments]
    return nodes.Filter(cast(nodes.Expr, node), name, constants, [], None, None, lineno=line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, narrowed: few filters, few attributes, no repetition, every loop and call counted."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined, autoescape=autoescape, finalize=_put_out, keep_trailing_newline=True
        )
        self.globals = {"range": self.globals["range"]}
        self.filters = {name: self.filters[name] for name in _SAFE_FILTERS}
        self.filters |= {"_counted": _counted, "_begun": _begun, "_worked_on": _worked_on}
        self.filters |= {"replace": _replace, "join": _join}
        self.tests = {**self.tests, "in": _is_in}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for forbidden in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            raise jinja2.TemplateSyntaxError("other templates cannot be included", forbidden.lineno, name, filename)
        return cast(nodes.Template, _Bounded().visit(tree))

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        _budget(context).spend_round()
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            if operator != "+" or not (isinstance(left, str) and isinstance(right, str)):
                raise SecurityError(f"{operator} is only for numbers")
            _budget(context).spend_characters(len(left) + len(right))
        elif operator == "**" or abs(left) > 1e15 or abs(right) > 1e15:
            raise SecurityError("the numbers are too large")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """No str.format, which Jinja2 would let through: a width in it makes a text of any length."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for type_, names in _SAFE_ATTRIBUTES.items():
            if isinstance(obj, type_):
                return attr in names
        # What is left are Jinja2's own objects: loop and macros.
        return type(obj).__module__ == "jinja2.runtime" and super().is_safe_attribute(obj, attr, value)


_TEXT = _Sandbox(autoescape=False)
_HTML = _Sandbox(autoescape=True)


@dataclass(frozen=True)
class CompiledTemplate:
    """A step's content, ready to be rendered for any number of leads, from any number of threads."""

    subject: jinja2.Template
    body_text: jinja2.Template
    body_html: jinja2.Template | None

    def render(self, variables: Mapping[str, Any]) -> RenderedEmail:
        """Render for one lead.

        Raises:
            RenderError: a variable has no value and no default, the template misbehaves, or the result is too long.
        """
        subject = " ".join(_CONTROL_CHARACTERS.sub(" ", _render(self.subject, variables)).split())
        if len(subject) > MAX_SUBJECT:
            raise RenderError("subject_too_long", f"The subject has {len(subject)} characters; at most {MAX_SUBJECT}.")
        return RenderedEmail(
            subject=subject,
            body_text=_render(self.body_text, variables),
            body_html=_render(self.body_html, variables) if self.body_html is not None else None,
        )


@dataclass
class Effort:
    """What making a campaign's emails has taken so far."""

    emails: int = 0
    seconds: float = 0.0

    def is_too_much_with(self, seconds: float) -> bool:
        """Count one more, in seconds of the processor. The first ones may take a moment for what is made once."""
        self.emails += 1
        self.seconds += seconds
        return self.seconds > 10 * SLOW_SECONDS and self.seconds > SLOW_SECONDS * self.emails

    def __str__(self) -> str:
        average = self.seconds / self.emails
        return (
            f"Its template takes {average:.1f} s for each email; more than {SLOW_SECONDS} s keeps all others waiting."
        )


def _render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    try:
        # What Template.render does, less the copies that it makes of the variables.
        context = template.new_context({**template.globals, **variables, "_budget": _Budget()}, shared=True)
        rendered = "".join(template.root_render_func(context))
    except RenderError:
        raise
    except jinja2.UndefinedError as error:
        raise RenderError("undefined_variable", f"{error.message}; give it a value or a default filter.") from error
    except Exception as error:
        # Whatever a template can do wrong is the template's error, and fails this lead alone.
        raise RenderError("template_error", f"{type(error).__name__}: {error}"[:500]) from error
    # Template text between the tags is not put out through the budget.
    if len(rendered) > MAX_CHARACTERS:
        raise RenderError("too_long", f"The email is longer than {MAX_CHARACTERS:,} characters.")
    if "\x00" in rendered or not _is_encodable(rendered):
        raise RenderError("control_character", "The email contains a NUL or half a surrogate pair.")
    return rendered


def _is_encodable(text: str) -> bool:
    """A template can spell half a surrogate pair, which neither SES nor the database can store."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def compile_template(subject: str, body_text: str, body_html: str | None) -> CompiledTemplate:
    """Compile a step's content; an empty `body_text` is derived from the HTML.

    Raises:
        InvalidInput: with one `FieldError` for each part that is not a valid template, naming the line.
    """
    errors: list[FieldError] = []

    def compiled(field: str, environment: _Sandbox, source: str) -> jinja2.Template:
        try:
            return environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            errors.append(FieldError(field, f"line {error.lineno}: {error.message}"))
        except Exception as error:  # an unknown filter, a constant expression that the sandbox refuses
            errors.append(FieldError(field, f"{type(error).__name__}: {error}"))
        return environment.from_string("")

    template = CompiledTemplate(
        subject=compiled("subject", _TEXT, subject),
        body_text=compiled("body_text", _TEXT, body_text or text_from_html(body_html or "")),
        body_html=compiled("body_html", _HTML, body_html) if body_html else None,
    )
    if errors:
        raise InvalidInput("The template is not valid.", errors)
    return template


def text_from_html(html: str) -> str:
    """The text part for an HTML template, made once from its source; the template's tags are carried over untouched."""
    if not html:
        return ""
    import markdownify  # a parser and a tree library that a sender with text parts never needs

    tags: list[str] = []

    def hide(match: re.Match[str]) -> str:
        tags.append(match.group())
        return f"JINJATAG{len(tags) - 1}X"

    without_head = re.sub(r"(?is)<(head|style|script|title)\b.*?</\1\s*>", "", html)
    text: str = markdownify.markdownify(
        _JINJA_TAG.sub(hide, without_head),
        heading_style="ATX",
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
        strip=["img", "b", "strong", "i", "em"],
    )
    text = re.sub(r"JINJATAG(\d+)X", lambda match: tags[int(match.group(1))], text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


SAMPLE_UNSUBSCRIBE_URL = "https://unsubscribe.example/u/sample"
"""Stands for the real link, which belongs to one email that is sent, wherever a template is only tried out."""


def lead_variables(
    lead: Mapping[str, Any], campaign_name: str, unsubscribe_url: str | None = SAMPLE_UNSUBSCRIBE_URL
) -> dict[str, Any]:
    """What a template can refer to: the lead's fields that have a value, `custom_fields`, `campaign_name` and
    `unsubscribe_url`.

    A field without a value is left out, so that it is undefined and `default` supplies a fallback.
    """
    custom_fields = lead.get("custom_fields") or {}
    if not isinstance(custom_fields, dict):
        custom_fields = {}
    known = {
        **{name: lead.get(name) for name in LEAD_FIELDS},
        **person_name(lead)._asdict(),
        "campaign_name": campaign_name,
        "unsubscribe_url": unsubscribe_url,
    }
    variables = {name: value for name, value in known.items() if value not in (None, "")}
    variables["custom_fields"] = {name: value for name, value in custom_fields.items() if value not in (None, "")}
    return variables
