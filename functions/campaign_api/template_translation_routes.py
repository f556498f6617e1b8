"""Routes of the translation of other products' templates."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

from api_fields import Input, Resource
from sendledger.core.errors import FieldError, InvalidInput

router = APIGatewayHttpRouter()

PARTS = ("subject", "body_text", "body_html")
OTHER_SUBJECT = "{% if first_name != blank %}{{ first_name }}, {% endif %}{{ contact.PLAN | default: 'your plan' }}"


class OtherTemplate(Input):
    """A template of another product. At least one part is needed."""

    subject: Annotated[str | None, Field(max_length=500, examples=[OTHER_SUBJECT])] = None
    body_text: Annotated[str | None, Field(max_length=500_000)] = None
    body_html: Annotated[str | None, Field(max_length=500_000)] = None


class TranslatedPlaceholder(Resource):
    """A placeholder, and what it has become."""

    part: Annotated[str, Field(description="`subject`, `body_text` or `body_html`.")]
    line: Annotated[int, Field(description="Of the part; the first one is 1.")]
    text: str
    becomes: str


class UntranslatedPlaceholder(Resource):
    """What was not understood. It stays in the text as it is."""

    part: Annotated[str, Field(description="`subject`, `body_text` or `body_html`.")]
    line: Annotated[int | None, Field(description="Null: it is about the whole part.")]
    text: str
    reason: str


class TranslatedTemplate(Resource):
    """The template in Sendledger's language, and how it came about."""

    subject: str | None
    body_text: str | None
    body_html: str | None
    translated: list[TranslatedPlaceholder]
    untranslated: list[UntranslatedPlaceholder]
    custom_fields: Annotated[
        list[str], Field(description="Names that are no field of a lead: its custom fields must have them.")
    ]


@router.post(
    "/v1/email-templates/translate",
    operation_id="translate_email_template",
    summary="Translate another product's template",
    description=(
        'Handlebars and Mustache (`{{#if x}}`, `{{{x}}}`), Liquid and its relatives (`{{ x | default: "y" }}`, '
        "`{% if x != blank %}`), merge tags (`*|FNAME|*`) and simple placeholders (`%FIRSTNAME%`, `{FIRST_NAME}`, "
        "`{{contact.FIRSTNAME}}`). A value that a lead lacks becomes an empty text, as it does there. What is not "
        "understood stays in the text, and is listed with its line. Nothing is stored."
    ),
    response_description="The translation.",
    tags=["Email templates"],
)
def translate_email_template(body: Annotated[OtherTemplate, Body()]) -> TranslatedTemplate:
    from sendledger.content.translate_template import translate  # for cold starts: Jinja2

    given = {part: text for part, text in body.model_dump().items() if text is not None}
    if not given:
        errors = [FieldError(part, "at least one of the three is needed") for part in PARTS]
        raise InvalidInput("There is nothing to translate.", errors)
    parts = {part: translate(text, part) for part, text in given.items()}
    sources = {part: parts[part].source if part in parts else None for part in PARTS}
    found = [{"part": name, **vars(each)} for name, part in parts.items() for each in part.untranslated]
    return TranslatedTemplate.model_validate(
        {
            **sources,
            "translated": [{"part": name, **vars(each)} for name, part in parts.items() for each in part.translated],
            "untranslated": [*found, *_what_is_wrong(sources)],
            "custom_fields": list(dict.fromkeys(name for part in parts.values() for name in part.custom_fields)),
        }
    )


def _what_is_wrong(sources: dict[str, str | None]) -> list[dict[str, object]]:
    """What our language does not allow in the translation: limits, and loops within loops."""
    from sendledger.content.render_email import compile_template  # likewise

    try:
        compile_template(sources["subject"] or "", sources["body_text"] or "", sources["body_html"])
    except InvalidInput as error:
        return [{"part": each.field, "line": None, "text": "", "reason": each.message} for each in error.errors]
    return []
