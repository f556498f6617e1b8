"""Where what a preflight has found is fixed: a finding goes in, the words and the address of a link come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from console.campaign_form import FORMS, path_of
from console.visit import ROOT

_OF_A_TEMPLATE = {"templates", "placeholders", "variables", "html_size", "attachments", "content"}
_OF_SENDING = {
    "account",
    "configuration_set",
    "dkim",
    "dmarc",
    "event_destination",
    "identity",
    "mail_from",
    "quota",
    "sandbox",
    "sender",
}


def link_to_fix(finding: Any, campaign: Any, steps: Sequence[Any]) -> tuple[str, str] | None:
    """`steps` are what the campaign sends, in order. None where no page fixes it: a parameter of the deployment."""
    check, detail = finding["check"], finding["detail"]
    if check in _OF_A_TEMPLATE and (template_id := _template_of(detail, steps)):
        return "Fix the template", f"{ROOT}/templates/{template_id}"
    if check in {*_OF_A_TEMPLATE, "variants"} and "step_number" in detail and campaign["workflow_id"]:
        return "Change the workflow", f"{ROOT}/workflows/{campaign['workflow_id']}"
    if check == "leads":
        return "Choose its leads", path_of(campaign["id"], "leads")
    if check == "content":
        return _fix_of_content(detail, campaign)
    if "sender_id" in detail:
        return "See the senders", f"{ROOT}/settings/senders"
    return ("See the state of sending", f"{ROOT}/sending") if check in _OF_SENDING else None


def _fix_of_content(detail: Any, campaign: Any) -> tuple[str, str]:
    """A step may need what is set elsewhere: that the campaign counts clicks, or has a sending schedule."""
    if {error["field"] for error in detail.get("errors", [])} & set(FORMS["senders"]):
        return "Change how it is sent", path_of(campaign["id"], "senders")
    if campaign["workflow_id"]:
        return "Change the workflow", f"{ROOT}/workflows/{campaign['workflow_id']}"
    return "Choose its content", path_of(campaign["id"], "content")


def _template_of(detail: Any, steps: Sequence[Any]) -> str | None:
    """The template of the step, and of the variant, that a finding is about."""
    place = detail.get("step_number", 0) - 1
    if not 0 <= place < len(steps):
        return None
    variants: list[Any] = steps[place]["variants"]
    variant = detail.get("variant", 1) - 1
    found = variants[variant] if variant < len(variants) else steps[place]
    return found["email_template_id"] and str(found["email_template_id"])
