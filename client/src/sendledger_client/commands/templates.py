"""`sendledger templates`: email templates as files, so that content lives in git; and what a lead would be sent.

A template is NAME.html, with its name and subject between two lines of `---` at the top. NAME.txt beside it, if there
is one, is its text part. A template without HTML is NAME.txt alone, with the same lines at the top.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import attrs
import typer
import yaml

from sendledger_client import ApiError, Sendledger, SendledgerError, each
from sendledger_client.commands.output import (
    Json,
    Limit,
    as_id,
    console,
    plain,
    show_json,
    show_table,
    without_controls,
)
from sendledger_client.commands.session import connect
from sendledger_client.generated.models import (
    EmailTemplate,
    EmailTemplateChanges,
    EmailTemplateSummary,
    NewEmailTemplate,
    OtherTemplate,
    PreviewLead,
    PreviewRequest,
    TranslatedTemplate,
)

app = typer.Typer(help="Keep email templates as files.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(file_okay=False, help="Folder of the files.")]

FIELDS = ("name", "subject", "description", "industry", "category", "is_active")
"""What stands at the top of a file."""
_TOP = re.compile(r"---\r?\n(?P<fields>.*?)\r?\n---\r?\n?(?P<body>.*)", re.DOTALL)


class BadTemplateFile(SendledgerError):
    """A file is not a template; the message names it."""


@dataclass(frozen=True)
class TemplateFile:
    """One template on the disk; `fields` are as the API takes them, both bodies included."""

    path: Path
    fields: dict[str, Any]


def read_folder(folder: Path) -> list[TemplateFile]:
    """All templates of a folder, sorted by file name.

    Raises:
        BadTemplateFile
    """
    found = []
    for path in sorted(folder.glob("*.html")):
        fields, body_html = _read(path)
        text = path.with_suffix(".txt")
        body_text = _text(text) if text.exists() else None
        found.append(TemplateFile(path, {**fields, "body_html": body_html, "body_text": body_text}))
    for path in sorted(folder.glob("*.txt")):
        if not path.with_suffix(".html").exists():
            fields, body_text = _read(path)
            found.append(TemplateFile(path, {**fields, "body_html": None, "body_text": body_text}))
    names: dict[str, Path] = {}
    for file in found:
        other = names.setdefault(file.fields["name"], file.path)
        if other != file.path:
            raise BadTemplateFile(f"{other.name} and {file.path.name} have the same name: {file.fields['name']}.")
    return found


def _text(path: Path) -> str:
    try:
        # As it is: reading as text would change line ends.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadTemplateFile(f"{path} is not UTF-8.") from error


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        whole = _TOP.fullmatch(_text(path))
        fields = yaml.safe_load(whole["fields"]) if whole else None
    except yaml.YAMLError as error:
        raise BadTemplateFile(f"{path}: {' '.join(str(error).split())}.") from error
    if not whole or not isinstance(fields, dict):
        raise BadTemplateFile(f"{path} must begin with `---`, lines such as `name: Welcome`, and `---`.")
    unknown = fields.keys() - set(FIELDS)
    if unknown:
        raise BadTemplateFile(f"{path}: {', '.join(map(str, unknown))} is not one of {', '.join(FIELDS)}.")
    for needed in ("name", "subject"):
        if not isinstance(fields.get(needed), str):
            raise BadTemplateFile(f"{path} needs a line `{needed}: …` with a text.")
    return fields, whole["body"]


def _stem(template: EmailTemplate) -> str:
    return re.sub(r"[^\w-]+", "-", template.name.lower()).strip("-") or str(template.id)


def write(template: EmailTemplate, folder: Path) -> Path:
    """Write the files of a template; their name is made from the template's."""
    shown = template.to_dict()
    top = {name: shown[name] for name in FIELDS if shown[name] is not None}
    head = f"---\n{yaml.safe_dump(top, sort_keys=False, allow_unicode=True, width=1_000_000)}---\n"
    stem = _stem(template)
    html_file, text = folder / f"{stem}.html", folder / f"{stem}.txt"
    if template.body_html is None:
        html_file.unlink(missing_ok=True)
        _write(text, head + (template.body_text or ""))
        return text
    _write(html_file, head + template.body_html)
    if template.body_text is None:
        text.unlink(missing_ok=True)
    else:
        _write(text, template.body_text)
    return html_file


def _write(path: Path, content: str) -> None:
    path.write_text(content, "utf-8", newline="")


@app.command("list")
def list_(limit: Limit = 50, as_json: Json = False) -> None:
    """List email templates, newest first."""
    with connect() as api:
        found = list(islice(each(api.list_email_templates, limit=min(limit, 200)), limit))
    if as_json:
        show_json(found)
        return
    show_table(["id", "name", "subject"], ((template.id, template.name, template.subject) for template in found))


@app.command()
def pull(folder: Folder, as_json: Json = False) -> None:
    """Write every template to the folder. Files of the same name are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    with connect() as api:
        templates = [api.get_email_template(found.id) for found in each(api.list_email_templates, limit=200)]
    _refuse_ambiguous(templates)
    names: dict[str, str] = {}
    for template in templates:
        other = names.setdefault(_stem(template), template.name)
        if other != template.name:
            message = (
                f"The files of {other!r} and {template.name!r} would have the same name; rename one of them first."
            )
            raise ApiError(409, "conflict", message, [], {})
    written = [write(template, folder) for template in templates]
    if as_json:
        show_json({"written": [str(path) for path in written]})
    else:
        console().print(f"{len(written):,} templates are in {plain(str(folder))}.")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the files.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Create the folder's templates, or update those that differ; they are told apart by name. Nothing is deleted."""
    files = read_folder(folder)
    with connect() as api:
        there = list(each(api.list_email_templates, limit=200))
        _refuse_ambiguous(there)
        ids = {found.name: found.id for found in there}
        done = [(file.path.name, file.fields["name"], _push(api, file, ids, dry_run)) for file in files]
    if as_json:
        show_json({"templates": [{"file": file, "name": name, "done": what} for file, name, what in done]})
    else:
        show_table(["file", "name", "would be" if dry_run else ""], done)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Another product's template: HTML or text.")
    ],
    name: Annotated[str | None, typer.Option(help="Its name here; the file's if left out.")] = None,
    subject: Annotated[str | None, typer.Option(help="Left out, it is the <title> of the HTML.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Create it although something was not understood.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is translated, and what is not.")] = False,
    as_json: Json = False,
) -> None:
    """Create a template from another product's, with its placeholders translated."""
    body, name = _text(file), name or file.stem
    title = re.search(r"<title[^>]*>([^<]*)</title>", body, re.IGNORECASE)
    subject = subject or (html.unescape(title[1]).strip() if title else "")
    if not subject:
        raise typer.BadParameter("is needed, as the file has no <title>", param_hint="--subject")
    part = "body_html" if re.search(r"<[a-z!]", body, re.IGNORECASE) else "body_text"
    with connect() as api:
        made = api.translate_email_template(body=OtherTemplate.from_dict({"subject": subject, part: body}))
        is_created = not dry_run and (keep or not made.untranslated)
        if is_created:
            fields = {"subject": made.subject, "body_html": made.body_html, "body_text": made.body_text}
            api.create_email_template(body=NewEmailTemplate.from_dict({"name": name, **fields}))
    if as_json:
        show_json({**made.to_dict(), "created": is_created})
    else:
        _show_translation(made, name if is_created else None)
    if made.untranslated and not (keep or dry_run):
        places = f"{len(made.untranslated):,} {'places' if len(made.untranslated) > 1 else 'place'}"
        raise BadTemplateFile(f"{file}: {places} could not be translated. Fix them, or create it all the same: --keep.")


def _show_translation(made: TranslatedTemplate, created: str | None) -> None:
    if made.translated:
        rows = [(each.part, each.line, each.text, each.becomes) for each in made.translated]
        show_table(["part", "line", "translated", "becomes"], rows)
    if made.untranslated:
        left = [(each.part, each.line, each.text, each.reason) for each in made.untranslated]
        show_table(["part", "line", "not translated", "why"], left)
    if made.custom_fields:
        console().print(plain(f"Leads need these custom fields: {', '.join(made.custom_fields)}."), soft_wrap=True)
    console().print(plain(f"{created} is created.") if created else "Nothing was created.", soft_wrap=True)


def _refuse_ambiguous(templates: list[EmailTemplate] | list[EmailTemplateSummary]) -> None:
    names = [template.name for template in templates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ApiError(409, "conflict", f"Two templates are named {twice!r}; rename one of them first.", [], {})


def _push(api: Sendledger, file: TemplateFile, ids: dict[str, UUID], dry_run: bool) -> str:
    id_ = ids.get(file.fields["name"])
    try:
        if id_ is None:
            if not dry_run:
                api.create_email_template(body=NewEmailTemplate.from_dict(file.fields))
            return "created"
        shown = api.get_email_template(id_).to_dict()
        # A field that the file does not name stays as it is.
        changes = {name: value for name, value in file.fields.items() if shown[name] != value}
        if not changes:
            return "unchanged"
        if not dry_run:
            api.update_email_template(id_, body=EmailTemplateChanges.from_dict(changes))
        return "updated"
    except ValueError as error:
        raise BadTemplateFile(f"{file.path}: {error}.") from error
    except ApiError as error:
        message = f"{file.path.name}: {error.detail}"
        raise ApiError(error.status, error.code, message, error.errors, error.data) from error


def preview(
    template: Annotated[str, typer.Argument(help="Its id, or its exact name.")],
    lead: Annotated[UUID | None, typer.Option(help="Id of the lead; or give --field.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="A field of a made-up lead: first_name=Ann. Can be given many times.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a lead would be sent."""
    made_up = _made_up_lead(field or [])
    with connect() as api:
        request = PreviewRequest(lead_id=lead) if lead else PreviewRequest(lead=PreviewLead.from_dict(made_up))
        shown = api.preview_email_template(_find(api, template), body=request)
    if as_json:
        show_json(shown)
        return
    typer.echo(without_controls(f"Subject: {shown.subject}\n\n{shown.body_text}"))
    if shown.body_html is not None:
        typer.echo(without_controls(f"\n--- HTML ---\n{shown.body_html}"))


def _made_up_lead(given: list[str]) -> dict[str, Any]:
    lead: dict[str, Any] = {}
    known = {field.name for field in attrs.fields(PreviewLead)}
    for each_ in given:
        name, equals, value = each_.partition("=")
        if not equals:
            raise typer.BadParameter(f"{each_!r} must look like first_name=Ann", param_hint="--field")
        if name in known - {"custom_fields"}:
            lead[name] = value
        else:
            lead.setdefault("custom_fields", {})[name] = value
    return lead


def _find(api: Sendledger, wanted: str) -> UUID:
    if (id_ := as_id(wanted)) is not None:
        return id_
    found = [template.id for template in each(api.list_email_templates, limit=200) if template.name == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise ApiError(409, "conflict", f"{len(found)} templates are named {wanted!r}; give an id.", [], {})
    raise ApiError(404, "not_found", f"There is no template named {wanted!r}.", [], {})
