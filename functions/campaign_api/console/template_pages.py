"""Pages of email templates: the list, the editor with its preview for a real lead, and test emails."""

from __future__ import annotations

import base64
import re
from typing import Any

from markupsafe import escape

import api_requests
from console.api_calls import Api, ApiRefused
from console.lead_pages import MAIL_HEADERS
from console.visit import ROOT, HttpAnswer, Visit, answer_with, page, redirect

LEADS_TO_CHOOSE_FROM = 20
_FIELDS = ("name", "subject", "body_text", "body_html")
_FILE_NAME = re.compile(r'filename="([^"\r\n]*)"')
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NEW = dict.fromkeys(_FIELDS, "")
_SAMPLE = {
    "contact_name": "Jane Miller",
    "email": "jane@example.com",
    "company_name": "Acme",
    "job_title": "Head of Sales",
    "city": "Boston",
    "country": "United States",
}
"""The lead of a preview while the database has none."""


@page("GET", "/templates")
def list_templates(visit: Visit) -> HttpAnswer:
    listed = visit.api.get("/v1/email-templates", limit=50, cursor=visit.query.get("cursor"))
    return visit.page("templates.html", templates=listed["items"], next_cursor=listed["next_cursor"])


@page("GET", "/templates/new")
def new_template(visit: Visit) -> HttpAnswer:
    return _editor(visit, None, _NEW)


@page("POST", "/templates/new")
def create_template(visit: Visit) -> HttpAnswer:
    try:
        created = visit.api.post("/v1/email-templates", _content(visit), visit.form.get("request", ""))
    except ApiRefused as refused:
        return _editor(visit, None, _typed(visit), refused)
    return redirect(f"{ROOT}/templates/{created['id']}")


@page("POST", "/templates/preview")
def preview_typed(visit: Visit) -> HttpAnswer:
    """What the preview's part of the page shows while one types; nothing is stored."""
    return visit.page("template_preview.html", preview=_preview_typed(visit))


@page("POST", "/templates/preview-html")
def preview_typed_html(visit: Visit) -> HttpAnswer:
    """What its frame shows: the HTML, or the text of an email without."""
    return _in_frame(_preview_typed(visit))


@page("GET", "/templates/<template_id:id>")
def edit_template(visit: Visit, template_id: str) -> HttpAnswer:
    return _editor(visit, template_id, visit.api.get(f"/v1/email-templates/{template_id}"))


@page("POST", "/templates/<template_id:id>")
def save_template(visit: Visit, template_id: str) -> HttpAnswer:
    try:
        visit.api.patch(f"/v1/email-templates/{template_id}", _content(visit))
    except ApiRefused as refused:
        return _editor(visit, template_id, _typed(visit), refused)
    return redirect(f"{ROOT}/templates/{template_id}?done=saved")


@page("POST", "/templates/<template_id:id>/delete")
def delete_template(visit: Visit, template_id: str) -> HttpAnswer:
    visit.api.delete(f"/v1/email-templates/{template_id}")
    return redirect(f"{ROOT}/templates")


@page("GET", "/templates/<template_id:id>/html")
def show_preview_html(visit: Visit, template_id: str) -> HttpAnswer:
    """What the frame of the preview shows."""
    return _in_frame(preview(visit.api, template_id, visit.query.get("lead", "")))


@page("POST", "/templates/<template_id:id>/test")
def send_test(visit: Visit, template_id: str) -> HttpAnswer:
    body = {"to": [visit.form.get("to", "").strip()], "lead_id": visit.form.get("lead", "")}
    try:
        path = f"/v1/email-templates/{template_id}/test-send"
        visit.api.post(path, body, visit.form.get("request", ""))
    except ApiRefused as refused:
        template = visit.api.get(f"/v1/email-templates/{template_id}")
        return _editor(visit, template_id, template, refused)
    return redirect(f"{ROOT}/templates/{template_id}?done=test")


@page("POST", "/templates/<template_id:id>/attachments")
def attach_file(visit: Visit, template_id: str) -> HttpAnswer:
    request = visit.request
    parameters = request.headers.get("content-type", "").partition(";")[2]
    form = api_requests.body_bytes(request)
    file, content_id = (api_requests.form_part(form, parameters, field) for field in ("file", "content_id"))
    name = _FILE_NAME.search(file[0].decode("utf-8", "replace")) if file else None
    body = {
        "file_name": name[1] if name else "",
        "content_id": (content_id[1].decode("utf-8", "replace").strip() if content_id else "") or None,
        "content": base64.b64encode(file[1] if file else b"").decode(),
    }
    try:
        visit.api.post(f"/v1/email-templates/{template_id}/attachments", body)
    except ApiRefused as refused:
        return _editor(visit, template_id, visit.api.get(f"/v1/email-templates/{template_id}"), refused)
    return redirect(f"{ROOT}/templates/{template_id}?done=attached")


@page("POST", "/templates/<template_id:id>/attachments/<attachment_id:id>/delete")
def remove_attachment(visit: Visit, template_id: str, attachment_id: str) -> HttpAnswer:
    visit.api.delete(f"/v1/email-templates/{template_id}/attachments/{attachment_id}")
    return redirect(f"{ROOT}/templates/{template_id}?done=detached")


def preview(api: Api, template_id: str, lead_id: str, **place: Any) -> dict[str, Any]:
    """The email that the lead would get, or why there is none. `place` says in which campaign, and as which step."""
    return _shown(api, f"/v1/email-templates/{template_id}/preview", {"lead_id": lead_id, **place})


def _preview_typed(visit: Visit) -> dict[str, Any]:
    """The preview of the typed text, for the chosen lead, or for an example where there is no lead yet."""
    typed = {name: value for name, value in _content(visit).items() if name != "name"}
    lead_id = visit.form.get("lead")
    lead = {"lead_id": lead_id} if lead_id else {"lead": _SAMPLE}
    return _shown(visit.api, "/v1/email-templates/preview", typed | lead)


def _in_frame(previewed: dict[str, Any]) -> HttpAnswer:
    """An email, or why there is none. Always 200: of an error, a browser shows a page of its own in the frame."""
    email, problem = previewed["email"], previewed["problem"]
    if email is None:
        reasons = [problem["detail"], *(f"{each['field']}: {each['message']}" for each in problem.get("errors", []))]
        return answer_with(200, "".join(f"<p>{escape(reason)}</p>" for reason in reasons), MAIL_HEADERS)
    return answer_with(200, email["body_html"] or f"<pre>{escape(email['body_text'])}</pre>", MAIL_HEADERS)


def _shown(api: Api, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"email": {"warnings": [], **api.post(path, body)}, "problem": None}
    except ApiRefused as refused:
        return {"email": None, "problem": refused.problem}


def _typed(visit: Visit) -> dict[str, str]:
    return {name: visit.form.get(name, "") for name in _FIELDS}


def _content(visit: Visit) -> dict[str, str | None]:
    typed = _typed(visit)
    return {**typed, "body_text": typed["body_text"] or None, "body_html": typed["body_html"] or None}


def _editor(visit: Visit, template_id: str | None, shown: Any, refused: ApiRefused | None = None) -> HttpAnswer:
    api = visit.api
    leads = api.get("/v1/leads", limit=LEADS_TO_CHOOSE_FROM)["items"]
    lead_id = visit.query.get("lead") or (leads[0]["id"] if leads else None)
    if lead_id and _ID.fullmatch(lead_id) and lead_id not in {lead["id"] for lead in leads}:
        leads = [api.get(f"/v1/leads/{lead_id}"), *leads]
    return visit.page(
        "template.html",
        status=refused.status if refused else 200,
        template_id=template_id,
        template=shown,
        problem=refused and refused.problem,
        leads=leads,
        lead_id=lead_id,
        preview=preview(api, template_id, lead_id) if template_id and lead_id else None,
        custom_fields=sorted({name for lead in leads for name in lead["custom_fields"]}),
        attachments=api.get(f"/v1/email-templates/{template_id}/attachments")["items"] if template_id else [],
        done=visit.query.get("done"),
    )
