"""The pages on which a file of leads is checked and imported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import api_requests
from console.api_calls import ApiRefused
from console.visit import HttpAnswer, Visit, page
from sendledger.core.vocabulary import ColumnUse

MAX_COLUMNS = 100
"""Rows of a file that can be corrected here."""


@page("GET", "/import")
def list_imports(visit: Visit) -> HttpAnswer:
    return _page(visit)


@page("POST", "/import")
def import_file(visit: Visit) -> HttpAnswer:
    """Import the file, or with `check` only say what would become of it. Nothing of the file is kept by the console."""
    request = visit.request
    parameters = request.headers.get("content-type", "").partition(";")[2]
    form = api_requests.body_bytes(request)
    name, check = (api_requests.form_part(form, parameters, field) for field in ("name", "check"))
    file = api_requests.form_part(form, parameters, "file")
    file_name = re.search(rb'filename="([^"\r\n]*)"', file[0]) if file else None
    source = file_name[1].decode("utf-8", "replace")[:255] if file_name else ""
    batch = name[1].decode("utf-8", "replace").strip() if name else ""
    chosen = _chosen(form, parameters)
    query = {
        "name": batch or source,
        "source_file": source,
        "dry_run": "true" if check else None,
        "columns": json.dumps(chosen, ensure_ascii=False) if chosen else None,
    }
    headers = {"content-type": request.headers.get("content-type", "")}
    try:
        imported = visit.api.request(
            "POST", "/v1/lead-batches", query, request.body or "", headers, is_base64=bool(request.is_base64_encoded)
        )
    except ApiRefused as refused:
        return _page(visit, refused=refused, name=batch)
    return _page(visit, imported=imported, is_check=bool(check), name=batch, chosen=chosen)


def _chosen(form: bytes, parameters: str) -> dict[str, str]:
    """What a person has chosen: each field `column` is empty, or the use of a column, a blank and its name."""
    chosen = {}
    for _, content in api_requests.form_parts(form, parameters, "column"):
        use, _, column = content.decode("utf-8", "replace").partition(" ")
        if column:
            chosen[column] = use
    return chosen


def _page(
    visit: Visit,
    *,
    imported: object = None,
    is_check: bool = False,
    name: str = "",
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
        batches=listed["items"],
        next_cursor=listed["next_cursor"],
        uses=[*ColumnUse],
        chosen=chosen or {},
        most_columns=MAX_COLUMNS,
    )
