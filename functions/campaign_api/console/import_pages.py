"""The pages on which a file of leads is checked and imported: a small one by a form, a large one from the bucket.

A browser sends a large file to the bucket itself, and comes back to the page of its lead batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import api_requests
from console.api_calls import ApiRefused
from console.visit import HEADERS, ROOT, HttpAnswer, Visit, answer_with, page, redirect
from sendledger.core.vocabulary import ColumnUse, LeadBatchStatus

MAX_COLUMNS = 100
"""Columns of a file that can be corrected here."""
AT_WORK = (LeadBatchStatus.PENDING, LeadBatchStatus.CHECKING, LeadBatchStatus.IMPORTING, LeadBatchStatus.DELETING)
_UPLOADED = re.compile(r"imports/([0-9a-f-]{36})[.]csv", re.ASCII)


@page("GET", "/import")
def list_imports(visit: Visit) -> HttpAnswer:
    return _page(visit)


@page("POST", "/import")
def import_file(visit: Visit) -> HttpAnswer:
    """Import the file, or with `check` only say what would become of it. Nothing of the file is kept by the console."""
    request = visit.request
    parameters = request.headers.get("content-type", "").partition(";")[2]
    form = api_requests.body_bytes(request)
    name, check, rejects = (api_requests.form_part(form, parameters, field) for field in ("name", "check", "rejects"))
    file = api_requests.form_part(form, parameters, "file")
    file_name = re.search(rb'filename="([^"\r\n]*)"', file[0]) if file else None
    source = file_name[1].decode("utf-8", "replace")[:255] if file_name else ""
    batch = name[1].decode("utf-8", "replace").strip() if name else ""
    chosen = _chosen(
        content.decode("utf-8", "replace") for _, content in api_requests.form_parts(form, parameters, "column")
    )
    query = {
        "name": batch or source,
        "source_file": source,
        "dry_run": "true" if check or rejects else None,
        "rejects": "true" if rejects else None,
        "columns": json.dumps(chosen, ensure_ascii=False) if chosen else None,
    }
    headers = {"content-type": request.headers.get("content-type", "")}
    try:
        imported = visit.api.request(
            "POST", "/v1/lead-batches", query, request.body or "", headers, is_base64=bool(request.is_base64_encoded)
        )
    except ApiRefused as refused:
        return _page(visit, refused=refused, name=batch)
    if rejects:
        kept = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": 'attachment; filename="rejects.csv"'}
        return answer_with(200, imported["rejects_csv"], {**HEADERS, **kept})
    return _page(visit, imported=imported, is_check=bool(check), name=batch, chosen=chosen)


@page("POST", "/import/uploads")
def prepare_upload(visit: Visit) -> HttpAnswer:
    """The page whose form sends a large file to the bucket. The batch waits for it."""
    context = visit.request.request_context
    scheme = "http" if context.domain_name.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    name = visit.form.get("name", "").strip()
    body = {
        "name": name,
        "dry_run": True,
        "redirect_to": f"{scheme}://{visit.request.headers.get('host') or context.domain_name}{ROOT}/import/uploaded",
    }
    try:
        upload = visit.api.post("/v1/lead-batches/uploads", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _page(visit, refused=refused, upload_name=name)
    answer = visit.page("import_upload.html", upload=upload, name=name)
    if upload["form"] is not None:
        to = urlsplit(upload["form"]["url"])
        policy = HEADERS["Content-Security-Policy"]
        allowed = policy.replace("form-action 'self'", f"form-action 'self' {to.scheme}://{to.netloc}")
        answer["headers"]["Content-Security-Policy"] = allowed
    return answer


@page("GET", "/import/uploaded")
def come_back(visit: Visit) -> HttpAnswer:
    """The bucket sends the browser here, with the key of the file."""
    uploaded = _UPLOADED.fullmatch(visit.query.get("key", ""))
    return redirect(f"{ROOT}/import/{uploaded[1]}" if uploaded else f"{ROOT}/import")


@page("GET", "/import/<batch_id:id>")
def show_import(visit: Visit, batch_id: str) -> HttpAnswer:
    return _batch(visit, batch_id)


@page("GET", "/import/<batch_id:id>/live")
def show_import_progress(visit: Visit, batch_id: str) -> HttpAnswer:
    """The part that is refreshed while the file is read."""
    return visit.page("import_live.html", batch=visit.api.get(f"/v1/lead-batches/{batch_id}"), at_work=AT_WORK)


@page("POST", "/import/<batch_id:id>")
def import_again(visit: Visit, batch_id: str) -> HttpAnswer:
    """Import the file that was uploaded, or with `check` look at it again."""
    body: dict[str, Any] = {"dry_run": "check" in visit.form}
    columns = visit.form_lists.get("column")
    if columns is not None:
        body["columns"] = _chosen(columns)
    try:
        visit.api.post(f"/v1/lead-batches/{batch_id}/import", body, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _batch(visit, batch_id, refused)
    return redirect(f"{ROOT}/import/{batch_id}")


def _batch(visit: Visit, batch_id: str, refused: ApiRefused | None = None) -> HttpAnswer:
    batch = visit.api.get(f"/v1/lead-batches/{batch_id}")
    return visit.page(
        "import_file.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        batch=batch,
        at_work=AT_WORK,
        uses=[*ColumnUse],
        most_columns=MAX_COLUMNS,
    )


def _chosen(fields: Iterable[str]) -> dict[str, str]:
    """What a person has chosen: each field is empty, or the use of a column, a blank and its name."""
    chosen = {}
    for field in fields:
        use, _, column = field.partition(" ")
        if column:
            chosen[column] = use
    return chosen


def _page(
    visit: Visit,
    *,
    imported: object = None,
    is_check: bool = False,
    name: str = "",
    upload_name: str = "",
    chosen: Mapping[str, str] | None = None,
    refused: ApiRefused | None = None,
) -> HttpAnswer:
    listed = visit.api.get("/v1/lead-batches", limit=50, cursor=visit.query.get("cursor"))
    return visit.page(
        "import.html",
        status=refused.status if refused else 200,
        problem=refused and refused.problem,
        imported=imported,
        is_check=is_check,
        name=name,
        upload_name=upload_name,
        batches=listed["items"],
        next_cursor=listed["next_cursor"],
        uses=[*ColumnUse],
        chosen=chosen or {},
        most_columns=MAX_COLUMNS,
    )
