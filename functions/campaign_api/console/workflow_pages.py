"""Pages of workflows: the list, and the editor of their steps."""

from __future__ import annotations

from typing import Any

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect

SPARE_STEPS = 3
"""Empty ones below the steps that there are."""
_UNITS = {"days": "days", "business_days": "business days", "hours": "hours", "minutes": "minutes"}


@page("GET", "/workflows")
def list_workflows(visit: Visit) -> HttpAnswer:
    listed = visit.api.get("/v1/workflows", limit=50, cursor=visit.query.get("cursor"))
    return visit.page("workflows.html", workflows=listed["items"], next_cursor=listed["next_cursor"])


@page("GET", "/workflows/new")
def new_workflow(visit: Visit) -> HttpAnswer:
    return _editor(visit, None, {"name": "", "steps": []})


@page("POST", "/workflows/new")
def create_workflow(visit: Visit) -> HttpAnswer:
    typed = _typed(visit)
    try:
        created = visit.api.post("/v1/workflows", typed, visit.form.get("request", ""))
    except ApiRefused as refused:
        return _editor(visit, None, typed, refused)
    return redirect(f"{ROOT}/workflows/{created['id']}")


@page("GET", "/workflows/<workflow_id:id>")
def edit_workflow(visit: Visit, workflow_id: str) -> HttpAnswer:
    return _editor(visit, workflow_id, visit.api.get(f"/v1/workflows/{workflow_id}"))


@page("POST", "/workflows/<workflow_id:id>")
def save_workflow(visit: Visit, workflow_id: str) -> HttpAnswer:
    typed = _typed(visit)
    try:
        visit.api.patch(f"/v1/workflows/{workflow_id}", typed)
    except ApiRefused as refused:
        return _editor(visit, workflow_id, typed, refused)
    return redirect(f"{ROOT}/workflows/{workflow_id}?done=saved")


def _typed(visit: Visit) -> dict[str, Any]:
    """The workflow as it was typed. A row without a template is no step."""
    columns = [visit.form_lists.get(name, []) for name in ("template", "delay", "unit", "thread")]
    steps: list[dict[str, Any]] = []
    for template_id, delay, unit, thread in zip(*columns, strict=False):
        if template_id:
            steps.append(
                {
                    "step_number": len(steps) + 1,
                    "email_template_id": template_id,
                    # What is no number the API refuses, with the step's number.
                    "delay": {"value": int(delay) if delay.isdecimal() and len(delay) < 10 else delay, "unit": unit},
                    "in_thread": thread == "yes",
                }
            )
    return {"name": visit.form.get("name", ""), "steps": steps}


def _editor(visit: Visit, workflow_id: str | None, shown: Any, refused: ApiRefused | None = None) -> HttpAnswer:
    return visit.page(
        "workflow.html",
        status=refused.status if refused else 200,
        workflow_id=workflow_id,
        workflow=shown,
        problem=refused and refused.problem,
        templates=visit.api.get("/v1/email-templates", limit=200, sort="name")["items"],
        spare=SPARE_STEPS,
        units=_UNITS,
        done=visit.query.get("done"),
    )
