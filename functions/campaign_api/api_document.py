"""The API's OpenAPI document: powertools derives it from the routes; what all routes share is added here.

Every operation gets its role and its possible problems, so routes do not repeat them. A route that can conflict says
when in `x-conflict`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from http import HTTPStatus
from importlib import resources
from typing import Any

from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer, SecurityScheme, Server, Tag
from aws_lambda_powertools.event_handler.openapi.swagger_ui import generate_swagger_html

from api_examples import example_of
from api_requests import METHODS_WITH_BODY
from confirmed_requests import HEADER as CONFIRMATION
from confirmed_requests import ROUTES as CONFIRMED_ROUTES
from http_errors import PROBLEM_JSON, title_of
from idempotent_requests import HEADER, MUTATING
from lazy_api import LazyApi
from reader_answers import FROM_READER, MAY_BE_OLD
from route_table import MINIMUM_ROLE, PUBLIC

TITLE = "Sendledger"
VERSION = "1.0.0"
"""Of the API, as the /v1 in its paths."""

DESCRIPTION = """\
Email campaigns on Amazon SES with a ledger that accounts for every email.

Send your API key as `Authorization: Bearer sl_…`; only `/v1/health` needs none. Where the deployment trusts an identity
provider, its second address takes that provider's tokens instead. A key or token gives a role, and each role may do
what those before it may: *viewer* (read), *editor* (leads, templates, workflows, campaign drafts), *sender* (start,
pause, resume, cancel, send), *admin*. In a browser, `/v1/docs` takes a key as the password, with any user name.

Lists are newest first unless stated otherwise; they take `limit` and `cursor` and answer `{items, next_cursor}`.
`PATCH` changes the given fields only. Unknown fields and parameters are refused. Times are ISO 8601 in UTC.
Errors are problem documents (RFC 9457, `application/problem+json`).
"""

_TAGS = {
    "About": "The API itself: is it up, and can it work?",
    "Leads": "People at companies who may get mail.",
    "Lead batches": "Imports of leads from CSV files, at once or, for large files, in the background.",
    "Segments": "Saved filters over leads, evaluated whenever they are used.",
    "Exports": "CSV files of leads, and of a campaign's ledger with what became of each email.",
    "Email templates": "Subjects and bodies with variables of the lead. They can be previewed and sent as a test.",
    "Workflows": "Steps of email templates with the time between them.",
    "Sender addresses": "Addresses that campaigns send from, each with its own daily cap.",
    "Sending schedules": "The hours of the week in which campaigns may send, in the time zone of each lead.",
    "Campaigns": "A template or a workflow, sent to the leads of some batches: start, pause, resume, cancel, count.",
    "Scheduled emails": "The ledger: one row for each lead and step of a campaign, and what became of it.",
    "Emails": "What was handed to SES, with its content and what SES said of it.",
    "Replies": "Answers of recipients, which stop what is planned for them.",
    "Suppressions": "Addresses and domains that get no more mail.",
    "Sender": "The function that sends: its state, and how to resume it after a stop.",
    "Webhooks": "Other systems that are told what happens, and what they answered.",
    "API keys": "Who may do what.",
    "Confirmations": "A person lets an assistant do one thing.",
    "Audit log": "Who did what, and when.",
}

_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Some problems have further members.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "What went wrong; stable, for programs.",
            "examples": ["urn:sendledger:problem:invalid_input"],
        },
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What went wrong, for people."},
        "errors": {
            "type": "array",
            "description": "What is wrong with which field.",
            "items": {
                "type": "object",
                "title": "FieldError",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string", "examples": ["steps.0.email_template_id"]},
                    "message": {"type": "string"},
                },
            },
        },
    },
}

_PROBLEMS = {
    400: "The body is not well-formed JSON.",
    401: "The API key or token is missing, unknown, expired or revoked.",
    403: "The caller's role is not sufficient, or the token gives none.",
    404: "There is no such thing.",
    413: "The body is too large.",
    415: "The body has the wrong media type.",
    422: "The request is not valid; `errors` names the fields.",
    429: "Too many requests at once; try again later.",
    500: "An error on our side; `correlation_id` finds it in the log.",
    503: "The database cannot be reached or is too busy; try again after `Retry-After` seconds.",
}
_PROBLEM_CODES = {
    400: "malformed_json",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
    429: "too_many_requests",
    500: "internal_error",
    503: "database_unavailable",
}
_HEADERS = {
    401: {"WWW-Authenticate": "How to authenticate."},
    503: {"Retry-After": "Seconds to wait."},
}
_ALSO_OF_THE_GATEWAY = (401, 413, 429, 500, 503)
"""API Gateway gives these answers too, in its own form."""
_SECURITY_SCHEMES: dict[str, SecurityScheme] = {
    "api_key": HTTPBearer(scheme="bearer", description="An API key: sl_…"),
    "token": HTTPBearer(
        scheme="bearer",
        bearerFormat="JWT",
        description="A token of the identity provider that the deployment trusts, at its address for tokens.",
    ),
}
_MESSAGE = {
    "type": "object",
    "title": "Message",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}
_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Makes the request safe to repeat: for 24 hours the same key with the same request gets the same answer "
        "(marked Idempotency-Replayed) and changes nothing; with another request it is refused with 422."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_CONFIRMATION = {
    "name": CONFIRMATION,
    "in": "header",
    "required": False,
    "description": "A token of POST /v1/confirmations. With it the role is not needed; without it, it is.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_POWERTOOLS_SCHEMAS = ("HTTPValidationError", "ValidationError", "ResponseValidationError")


@functools.cache
def document(app: LazyApi) -> dict[str, Any]:
    """The document of the API `app` as parsed JSON, which must not be changed."""
    app.load_all()
    derived: dict[str, Any] = json.loads(
        app.get_openapi_json_schema(
            title=TITLE,
            version=VERSION,
            description=DESCRIPTION,
            tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
            servers=[Server(url="/")],
            security_schemes=_SECURITY_SCHEMES,
            security=[{name: []} for name in _SECURITY_SCHEMES],
        )
    )
    schemas = derived["components"]["schemas"]
    for name in _POWERTOOLS_SCHEMAS:
        schemas.pop(name, None)
    schemas |= {"Problem": _PROBLEM, "Message": _MESSAGE}
    derived["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    for path, operations in derived["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method.upper(), path)
            for answer in operation["responses"].values():
                for media_type, content in answer.get("content", {}).items():
                    if media_type == "application/json" and "schema" in content:
                        content["example"] = example_of(content["schema"], schemas)
    derived["paths"] = dict(sorted(derived["paths"].items()))
    _drop_unused(derived)
    return derived


def _drop_unused(derived: dict[str, Any]) -> None:
    """Remove the schemas that no operation needs: those of a model whose schema is written by hand."""
    schemas = derived["components"]["schemas"]
    others = {name: part for name, part in derived["components"].items() if name != "schemas"}
    needed: set[str] = set()
    left = [json.dumps([derived["paths"], others])]
    while left:
        named = set(re.findall(r"#/components/schemas/([\w.-]+)", left.pop())) - needed
        needed |= named
        left += [json.dumps(schemas[name]) for name in named]
    derived["components"]["schemas"] = {name: schema for name, schema in schemas.items() if name in needed}


def as_json(app: LazyApi) -> str:
    """The document as it is served and committed."""
    return json.dumps(document(app), indent=2, ensure_ascii=False) + "\n"


def as_page(app: LazyApi, key: str | None) -> tuple[str, str]:
    """The document as a page to read and try out (Swagger UI), complete in itself, and the policy that it needs.

    A user who signed in with a key need not enter it again: the page sends it too.
    """
    page, hashes = _page(app)
    if key is not None:
        script = f'ui.preauthorizeApiKey("api_key", {_in_script(key)});'
        page, hashes = f"{page}<script>{script}</script>", [*hashes, _hash(script)]
    # It may run its own scripts and call this API. Swagger UI sets styles and contains pictures.
    return page, (
        f"default-src 'none'; script-src {' '.join(hashes)}; connect-src 'self'; "
        "style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@functools.cache
def _page(app: LazyApi) -> tuple[str, list[str]]:
    """The page for everybody, and the hashes of its scripts."""
    files = resources.files("aws_lambda_powertools.event_handler.openapi.swagger_ui")
    page = generate_swagger_html(
        _in_script(document(app)),
        files.joinpath("swagger-ui-bundle.min.js").read_text("utf-8"),
        files.joinpath("swagger-ui.min.css").read_text("utf-8"),
        swagger_base_url="",
        oauth2_config=None,
    )
    for written, ours in _REPLACED.items():
        page = page.replace(written, ours, 1)
    return page, [_hash(script) for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]


# As Powertools names the page, and where it says that the document is. Its browser would ask for an icon, too.
_REPLACED = {
    "<title>Swagger UI</title>": '<title>Sendledger API</title><link rel="icon" href="data:,">',
    'currentUrl.pathname + "?format=json"': '"openapi.json"',
}


def _in_script(value: Any) -> str:
    """A value as JavaScript. No text in it can end the script element."""
    return json.dumps(value).replace("</", "<\\/")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    listed_path = path.replace("{", "<").replace("}", ">")
    role = MINIMUM_ROLE[f"{method} {listed_path}"]
    problems = {status: _PROBLEMS[status] for status in (422, 429, 500, 503)}
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _not_null(parameter["schema"])
    if role is PUBLIC:
        # It reads nothing from a request.
        del problems[422]
        operation["security"] = []
    else:
        operation["x-minimum-role"] = role
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds the role {role}.".strip()
        if f"{method} {listed_path}" in FROM_READER:
            operation["description"] += f" {MAY_BE_OLD}"
        problems |= {status: _PROBLEMS[status] for status in (401, 403)}
    if "{" in path:
        problems[404] = _PROBLEMS[404]
    if "x-not-found" in operation:  # for what the body names
        problems[404] = operation.pop("x-not-found")
    if method in METHODS_WITH_BODY:
        problems |= {status: _PROBLEMS[status] for status in (400, 413, 415)}
    conflicts = [operation.pop("x-conflict")] if "x-conflict" in operation else []
    if f"{method} {listed_path}" in CONFIRMED_ROUTES.values():
        operation.setdefault("parameters", []).append(_CONFIRMATION)
    if method in MUTATING:
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
        conflicts.append("The first request with this Idempotency-Key is still being worked on.")
    if conflicts:
        problems[409] = " ".join(conflicts)
    responses = operation["responses"]
    for answer in responses.values():
        if answer.get("content", {}).get("application/json", {}).get("schema", {}).get("type") == "null":
            del answer["content"]
    operation["responses"] = {
        **{status: answer for status, answer in responses.items() if status != "422"},
        **{str(status): _problem(status, problems[status]) for status in sorted(problems)},
    }


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be left out: there is no null in a query."""
    possible: list[dict[str, Any]] = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if len(possible) != 1:
        return schema
    return possible[0] | {name: value for name, value in schema.items() if name != "anyOf"}


def _problem(status: int, description: str) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": f"urn:sendledger:problem:{_PROBLEM_CODES[status]}",
        "title": title_of(HTTPStatus(status)),
        "status": status,
        "detail": description,
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        example["errors"] = [{"field": "name", "message": "Field required"}]
    answer: dict[str, Any] = {
        "description": description,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
    if status in _ALSO_OF_THE_GATEWAY:
        answer["content"]["application/json"] = {"schema": {"$ref": "#/components/schemas/Message"}}
    if status in _HEADERS:
        answer["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in _HEADERS[status].items()
        }
    return answer
