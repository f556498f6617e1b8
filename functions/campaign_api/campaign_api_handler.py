"""The API Lambda: a payload-2.0 event of API Gateway in, its answer out. The routes are in the *_routes modules.

Every request passes the same gate first: a valid key or a verified token, a listed route, a sufficient role, a readable
body. The console's pages ask the API the same way, with the caller of their session.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from aws_lambda_powertools.utilities.typing import LambdaContext

import api_access
import api_requests
import api_resources
import confirmed_requests
import idempotent_requests
import reader_answers
import token_access
from http_errors import PROBLEM_JSON, problem_of
from lazy_api import LazyApi
from route_table import Route, find_route, is_public
from sendledger.access.callers import Caller
from sendledger.core.settings import at_cold_start

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""The default policy of answers: they contain personal data, and no page may embed them."""

logger = Logger()

at_cold_start(
    api_resources.engine,
    api_resources.reader,
    api_resources.settings,
    api_resources.token_settings,
    api_resources.file_settings,
)

app = LazyApi(enable_validation=True, json_body_deserializer=api_requests.read_json)
app.use([api_requests.refuse_unknown])


def _answer_error(error: Exception) -> Response[str]:
    if api_resources.reads_from_reader():
        raise reader_answers.AskWriter from error
    problem = problem_of(error, app.current_event.request_context.request_id)
    return Response(problem.status, PROBLEM_JSON, problem.body(), dict(problem.headers))


app.exception_handler(Exception)(_answer_error)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request; an error is answered with a problem document, never raised."""
    request = APIGatewayProxyEventV2(event)
    if request.path == "/console" or request.path.startswith("/console/"):
        from console.front import answer_page  # for cold starts: programs need none of it

        return answer_page(request, lambda asked, caller: _answer(asked, context, caller))
    return _answer(request, context)


def _answer(request: APIGatewayProxyEventV2, context: LambdaContext, caller: Caller | None = None) -> dict[str, Any]:
    """The API's answer; to `caller`, where it is known who asks."""
    request_id = request.request_context.request_id
    of_console = caller is not None
    logged: dict[str, Any] = {"request_id": request_id}
    try:
        route, caller = _pass_gate(request, caller)
        logged |= {"route": route.name, "caller_id": caller and str(caller.id)}

        def resolve() -> dict[str, Any]:
            return _resolve(request, route, caller, context)

        def answer_route() -> dict[str, Any]:
            return reader_answers.answer(request, route, resolve, fresh=of_console)

        answer = idempotent_requests.answer_once(request, route, caller, answer_route)
    except Exception as error:
        problem = problem_of(error, request_id)
        answer = {
            "statusCode": problem.status.value,
            "headers": {"Content-Type": PROBLEM_JSON, **problem.headers},
            "body": problem.body(),
            "isBase64Encoded": False,
        }
    answer["headers"] = {**HEADERS, **answer["headers"]}
    logger.info("Answered", extra=logged | {"status": answer["statusCode"]})
    return answer


def _resolve(
    request: APIGatewayProxyEventV2, route: Route, caller: Caller | None, context: LambdaContext
) -> dict[str, Any]:
    # Here, and not at the gate: a repeated request gets its first answer, although the confirmation is used up by then.
    token = confirmed_requests.token_of(request, route)
    content = confirmed_requests.check(request, route, token) if token is not None else None
    # Each time: the resolver forgets it with its answer, and the writer may be asked after the reader.
    app.context.update(caller=caller, confirmed_content=content)
    app.load(route.module)
    return app.resolve(request.raw_event, context)


def _pass_gate(request: APIGatewayProxyEventV2, caller: Caller | None) -> tuple[Route, Caller | None]:
    method, path = request.http_method, request.path
    if caller is None and not is_public(method, path):
        caller = token_access.find_caller(request, api_resources.token_settings())
        if caller is None:
            authorization = request.headers.get("authorization")
            fixed_key = api_resources.settings().fixed_api_key
            caller = api_access.authenticate(api_resources.engine, method, path, authorization, fixed_key)
    route = find_route(method, path)
    if caller is not None:
        if confirmed_requests.token_of(request, route) is None:
            api_access.authorize(caller, route)
        api_requests.check(request, route.name)
    return route, caller
