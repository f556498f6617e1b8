"""Pages of workflows: the list, and the editor of their steps."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from console.api_calls import Api, ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import StepCondition

IN_A_CHOICE = 30
"""Templates that each step shows as a list. If there are more, a person types a part of the name."""
SPARE_STEPS = 3
"""Empty rows below the existing steps."""
HIDDEN = ("variants", "keep_variant", "winner")
"""Fields of a step that the form keeps as they are, but for one or two variants."""
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
    hidden, second, events, of_steps = (
        visit.form_lists.get(name, []) for name in ("kept", "second", "only_if", "of_step")
    )
    ids = {label: id_ for id_, label in _labels(visit.api).items()}
    columns[0], second = ([ids.get(typed.strip(), typed) for typed in each] for each in (columns[0], second))
    steps: list[dict[str, Any]] = []
    for place, (template_id, delay, unit, thread) in enumerate(zip(*columns, strict=False)):
        if template_id:
            event = _at(events, place)
            condition = {"only_if": {"event": event, "of_step": _number(_at(of_steps, place))}} if event else {}
            steps.append(
                {
                    **_kept(_at(hidden, place), template_id, _at(second, place)),
                    "step_number": len(steps) + 1,
                    "email_template_id": template_id,
                    "delay": {"value": _number(delay), "unit": unit},
                    "in_thread": thread in ("yes", "quote"),
                    "quote": thread == "quote",
                    **condition,
                }
            )
    return {"name": visit.form.get("name", ""), "steps": steps}


def _labels(api: Api) -> dict[str, str]:
    """The name of each template, by its id. Where several have one name, a part of the id is added."""
    templates = api.get("/v1/email-templates", limit=200, sort="name")["items"]
    names = Counter(template["name"] for template in templates)
    return {
        each["id"]: each["name"] if names[each["name"]] == 1 else f"{each['name']} ({each['id'][:8]})"
        for each in templates
    }


def _at(values: list[str], place: int) -> str:
    return values[place] if place < len(values) else ""


def _number(typed: str) -> int | str:
    """The API refuses what is no number, and names the step."""
    return int(typed) if typed.isdecimal() and len(typed) < 10 else typed


def _kept(text: str, template_id: str, second_id: str) -> dict[str, Any]:
    """The fields of a step that the form does not show. The template that was chosen is that of the first variant.

    With a second template there are two variants; both get as many leads, where they had no weights before.
    """
    try:
        kept = json.loads(text)
    except (ValueError, RecursionError):
        kept = {}
    kept = {name: kept[name] for name in HIDDEN if kept.get(name) is not None} if isinstance(kept, dict) else {}
    match kept.get("variants"):
        case [dict(first), dict(second)] if second_id:
            kept["variants"] = [{**first, "email_template_id": template_id}, {**second, "email_template_id": second_id}]
        case [dict(first), dict(), dict(), *_] as variants:
            kept["variants"] = [{**first, "email_template_id": template_id}, *variants[1:]]
        case _ if second_id:
            kept["variants"] = [{"email_template_id": each, "weight": 1} for each in (template_id, second_id)]
        case _:
            kept.pop("variants", None)
            kept.pop("winner", None)
    return kept


def _hidden(step: dict[str, Any]) -> dict[str, Any]:
    variants = step.get("variants")
    count = len(variants) if isinstance(variants, list) else 0
    return {
        "kept": json.dumps({name: step.get(name) for name in HIDDEN}),
        "variant_count": count,
        "second": variants[1].get("email_template_id") if isinstance(variants, list) and count == 2 else None,
    }


def _editor(visit: Visit, workflow_id: str | None, shown: Any, refused: ApiRefused | None = None) -> HttpAnswer:
    return visit.page(
        "workflow.html",
        status=refused.status if refused else 200,
        workflow_id=workflow_id,
        workflow={**shown, "steps": [step | _hidden(step) for step in shown["steps"]]},
        problem=refused and refused.problem,
        templates=_labels(visit.api),
        in_a_choice=IN_A_CHOICE,
        spare=SPARE_STEPS,
        units=_UNITS,
        conditions=[*StepCondition],
        done=visit.query.get("done"),
    )
