"""Rendering: a step's content and one lead's variables in, subject and bodies out. Reads and writes no table.

The team writes templates; lead data is not trusted and is never template source. The template language bounds the cost
of a rendering, so that only the length of the result is checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jinja2
import jinja2.meta

from sendledger.content.lead_variables import VARIABLES
from sendledger.content.template_filters import RenderError
from sendledger.content.template_language import TemplateLanguage, prepared_html
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.vocabulary import ErrorCode

MAX_CHARACTERS = 1_000_000
"""Characters of one rendered part. SES accepts 40 MB; mailbox providers clip shorter mails."""

MAX_SUBJECT = 500
"""The width of emails.subject."""

MAX_MESSAGE = 500
"""Characters of a message. A template can have names of any length."""

_MAX_PATH = 200
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")

_TEXT = TemplateLanguage(autoescape=False)
_HTML = TemplateLanguage(autoescape=True)


class RenderedEmail(NamedTuple):
    """What one recipient will get. `body_html` is None for a text-only email."""

    subject: str
    body_text: str
    body_html: str | None


@dataclass(frozen=True)
class CompiledTemplate:
    """A step's content, ready to be rendered for any number of leads, from any number of threads."""

    subject: jinja2.Template
    body_text: jinja2.Template | None
    """None: the text is made from the HTML of each email."""
    body_html: jinja2.Template | None

    def render(self, variables: dict[str, Any], given_subject: str | None = None) -> RenderedEmail:
        """Render for one lead; with `given_subject` the subject's own template is not used.

        Raises:
            RenderError: a variable has no value and no default, or what comes out is empty or too long.
        """
        subject = given_subject or " ".join(_CONTROL_CHARACTERS.sub(" ", _render(self.subject, variables)).split())
        if not subject:
            raise RenderError(ErrorCode.EMPTY_SUBJECT, "The subject is empty for this lead.")
        if len(subject) > MAX_SUBJECT:
            raise RenderError(
                ErrorCode.SUBJECT_TOO_LONG, f"The subject has {len(subject)} characters; at most {MAX_SUBJECT}."
            )
        html = _render(self.body_html, variables) if self.body_html is not None else None
        text = _render(self.body_text, variables) if self.body_text is not None else ""
        if html is not None and not text.strip():
            from sendledger.content.text_from_html import text_from_html  # an HTML parser, which few senders need

            text = text_from_html(html)
        if not text.strip() and not (html or "").strip():
            raise RenderError(ErrorCode.EMPTY_BODY, "The email has no text for this lead.")
        return RenderedEmail(subject, text, html)


def compile_template(subject: str, body_text: str, body_html: str | None) -> CompiledTemplate:
    """Compile a step's content; without a `body_text` the text is made from the HTML.

    Raises:
        InvalidInput: with one `FieldError` for each part that is not a valid template, naming the line.
    """
    errors: list[FieldError] = []

    def compiled(field: str, language: TemplateLanguage, source: str) -> jinja2.Template:
        try:
            return language.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            errors.append(FieldError(field, f"line {error.lineno}: {error.message}"[:MAX_MESSAGE]))
        except Exception as error:  # a constant that a filter cannot work on, say
            errors.append(
                FieldError(field, f"the template cannot be used ({type(error).__name__}: {error})"[:MAX_MESSAGE])
            )
        return language.from_string("")

    has_html = bool(body_html and body_html.strip())
    template = CompiledTemplate(
        subject=compiled("subject", _TEXT, subject),
        body_text=compiled("body_text", _TEXT, body_text) if body_text.strip() or not has_html else None,
        body_html=compiled("body_html", _HTML, prepared_html(body_html or "")) if has_html else None,
    )
    if errors:
        raise InvalidInput("The template is not valid.", errors)
    return template


def unknown_variables(source: str) -> list[str]:
    """The names in a valid template that no lead has, so that a fallback replaces them in every email."""
    return sorted(jinja2.meta.find_undeclared_variables(_TEXT.parse(source)).difference(VARIABLES))


def _advice(variable: str) -> str:
    name = variable.partition(".")[0]
    if name.isidentifier() and name not in VARIABLES:
        return f"no lead has it. There are {', '.join(VARIABLES[:-1])}; other columns are in custom_fields"
    return f"give it one, or a fallback: {{{{ {variable} | default('…') }}}}"


def _render(template: jinja2.Template, variables: dict[str, Any]) -> str:
    parts: list[str] = []
    size = 0
    try:
        # Like Template.render, but without its copies of the variables.
        for part in template.root_render_func(template.new_context(variables, shared=True)):
            parts.append(part)
            size += len(part)
            if size > MAX_CHARACTERS:
                raise RenderError(ErrorCode.TOO_LONG, f"The email is longer than {MAX_CHARACTERS:,} characters.")
    except RenderError:
        raise
    except jinja2.UndefinedError as error:
        variable = (error.message or "a variable")[:_MAX_PATH]
        message = f"{variable} has no value for this lead; {_advice(variable)}."
        raise RenderError(ErrorCode.UNDEFINED_VARIABLE, message, variable) from error
    except Exception as error:
        # Any error is the template's, and fails the email of this lead only.
        raise RenderError(ErrorCode.TEMPLATE_ERROR, f"{type(error).__name__}: {error}"[:MAX_MESSAGE]) from error
    rendered = "".join(parts)
    if "\x00" in rendered or not _is_encodable(rendered):
        raise RenderError(ErrorCode.CONTROL_CHARACTER, "The email contains a NUL or half a surrogate pair.")
    return rendered


def _is_encodable(text: str) -> bool:
    """A template can spell half a surrogate pair, which neither SES nor the database can store."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
