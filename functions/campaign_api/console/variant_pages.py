"""Pages on which a variant of a step is made the winner, or retired. Neither can be undone, so each asks first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from console.api_calls import ApiRefused
from console.visit import ROOT, HttpAnswer, Visit, page, redirect
from sendledger.core.vocabulary import ScheduledEmailStatus

_PATH = "/campaigns/<campaign_id:id>/steps/<step:number>/variants/<variant:number>"


@page("GET", f"{_PATH}/(?P<action>winner|retire)")
def ask_about_variant(visit: Visit, campaign_id: str, step: str, variant: str, action: str) -> HttpAnswer:
    """What it will do, and the button that does it."""
    return _confirmation(visit, campaign_id, step, variant, action)


@page("POST", f"{_PATH}/(?P<action>winner|retire)")
def decide_about_variant(visit: Visit, campaign_id: str, step: str, variant: str, action: str) -> HttpAnswer:
    path = f"/v1/campaigns/{campaign_id}/steps/{step}"
    request = visit.form.get("request", "")
    try:
        if action == "winner":
            visit.api.post(f"{path}/winner", {"variant": int(variant), **_of_revision(visit.form)}, request)
        else:
            visit.api.post(f"{path}/variants/{variant}/retire", {}, request, **_of_revision(visit.form))
    except ApiRefused as refused:
        return _confirmation(visit, campaign_id, step, variant, action, refused)
    return redirect(f"{ROOT}/campaigns/{campaign_id}?done={action}")


def _of_revision(given: Mapping[str, str]) -> dict[str, int]:
    """The revision that the person has seen, as one that was made since may have other variants. Empty: not said."""
    number = given.get("revision", "")
    return {"revision": int(number)} if re.fullmatch("[0-9]{1,5}", number) else {}


def _confirmation(
    visit: Visit, campaign_id: str, step: str, variant: str, action: str, refused: ApiRefused | None = None
) -> HttpAnswer:
    api = visit.api
    stats = api.get(f"/v1/campaigns/{campaign_id}/stats")
    campaign = api.get(f"/v1/campaigns/{campaign_id}")
    revision = _of_revision(visit.form or visit.query).get("revision", campaign["revision"])
    # `by_step` has the emails of all revisions; `by_revision` is empty where there is one.
    steps = next((each["steps"] for each in stats["by_revision"] if each["revision"] == revision), stats["by_step"])
    of_step = next((each for each in steps if each["step_number"] == int(step)), None)
    found = next((each for each in of_step["variants"] if each["variant"] == int(variant)), None) if of_step else None
    return visit.page(
        "variant_action.html",
        status=refused.status if refused else 200 if found else 404,
        campaign=campaign,
        revision=revision,
        of_step=of_step,
        variant=found,
        retired=_retired_with(stats, revision, int(step), found) if found else [],
        number=variant,
        step=step,
        action=action,
        waiting=_waiting(of_step) if of_step else 0,
        problem=refused and refused.problem,
        may=api.may(
            "POST /v1/campaigns/<campaign_id>/steps/<step_number>/"
            + ("winner" if action == "winner" else "variants/<variant>/retire")
        ),
    )


def _retired_with(stats: Any, revision: int, step: int, variant: Any) -> list[Any]:
    """What is retired with a variant: in other revisions, the one that has its template."""
    others = [each["steps"] for each in stats["by_revision"] if each["revision"] != revision]
    own = [each["variants"] for steps in others for each in steps if each["step_number"] == step]
    return [
        variant,
        *(
            each
            for variants in own
            for each in variants
            if each["email_template_id"] == variant["email_template_id"] is not None and not each["retired_at"]
        ),
    ]


def _waiting(step: Any) -> int:
    """Emails that have no variant until the winner is decided."""
    unsent = (ScheduledEmailStatus.PENDING, ScheduledEmailStatus.CANCELLED)
    in_all = sum(step["by_status"][status] for status in unsent)
    return int(in_all - sum(each["by_status"][status] for each in step["variants"] for status in unsent))
