"""The console's front: finds the page of a request and who is signed in, and refuses writes from other sites.

A payload-2.0 event goes in, the answer for API Gateway comes out; no error is raised.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote, urlsplit

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_resources
from console import (  # noqa: F401 – it registers their pages
    campaign_actions,
    campaign_check,
    campaign_form,
    campaign_limits,
    campaign_pages,
    export_pages,
    import_pages,
    lead_pages,
    policy_pages,
    public_pages,
    reply_pages,
    segment_pages,
    sending_pages,
    settings_pages,
    template_pages,
    variant_pages,
    webhook_pages,
    workflow_pages,
)
from console.api_calls import Api, ApiRefused, AskApi
from console.visit import PAGES, ROOT, HttpAnswer, PageHandler, Visit, redirect
from http_errors import Problem, RequestRefused, problem_of, title_of
from sendledger.access import console_sessions

_OTHER_SITE = Problem(
    HTTPStatus.FORBIDDEN,
    "other_site",
    "This did not come from a page of the console, so nothing was done. Open the page again and repeat it there.",
)

logger = Logger(child=True)


def answer_page(request: APIGatewayProxyEventV2, ask_api: AskApi) -> HttpAnswer:
    """The answer to one request. Any error is shown as a page."""
    visit = Visit(request, None)
    name = None
    try:
        name, function, ids = _find(request)
        if request.http_method != "GET" and not _is_same_origin(request):
            raise RequestRefused(_OTHER_SITE)
        if function not in public_pages.WITHOUT_SESSION:
            signed_in = _sign_in(request, ask_api)
            if signed_in is None:
                return _ask_to_sign_in(visit)
            visit = Visit(request, signed_in)
        answer = function(visit, **ids)
    except ApiRefused as refused:
        answer = visit.page("error.html", status=refused.status, problem=refused.problem)
    except Exception as error:
        problem = problem_of(error, request.request_context.request_id)
        shown = {**problem.data, "status": problem.status, "title": title_of(problem.status), "detail": problem.detail}
        answer = visit.page("error.html", status=problem.status, problem=shown)
        answer["headers"] |= problem.headers
    caller = visit.signed_in and visit.signed_in.caller
    logged = {
        "request_id": request.request_context.request_id,
        "console_page": name,
        "caller_id": caller and str(caller.id),
    }
    logger.info("Answered a page", extra={**logged, "status": answer["statusCode"]})
    return answer


def _ask_to_sign_in(visit: Visit) -> HttpAnswer:
    """A browser that follows a link of another site sends no cookie (SameSite=Strict): the page opens itself again."""
    if visit.request.http_method != "GET":
        return redirect(f"{ROOT}/sign-in")
    if visit.request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return visit.page("open_again.html")
    return redirect(f"{ROOT}/sign-in?next={quote(visit.address)}")


def _find(request: APIGatewayProxyEventV2) -> tuple[str, PageHandler, dict[str, str]]:
    possible = []
    for method, pattern, name, function in PAGES:
        found = pattern.fullmatch(request.path)
        if found is not None:
            if method == request.http_method:
                return name, function, found.groupdict()
            possible.append(method)
    if possible:
        detail = f"{request.http_method} is not possible here; possible: {', '.join(possible)}."
        raise RequestRefused(
            Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, headers={"Allow": ", ".join(possible)})
        )
    raise RequestRefused(Problem(HTTPStatus.NOT_FOUND, "not_found", "There is no such page."))


def _is_same_origin(request: APIGatewayProxyEventV2) -> bool:
    """Whether a page of this very origin sent it. https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Fetch-Site

    A browser that does not say so has to say its origin instead.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc == request.headers.get("host")


def _sign_in(request: APIGatewayProxyEventV2, ask_api: AskApi) -> Api | None:
    token = public_pages.token_of(request)
    if token is None:
        return None
    with api_resources.transaction() as connection:
        caller = console_sessions.find_caller(connection, token)
    return None if caller is None else Api(caller, request.raw_event, ask_api)
