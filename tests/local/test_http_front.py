"""What API Gateway would do with a request and a response, over real HTTP and a real function process."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import threaded_server
from local.http_front import MAX_BODY_BYTES
from local.object_store import ObjectStore
from local.stack import LocalStack
from local.threaded_server import HOST, RequestHandler, ThreadedServer


def test_no_server_of_the_stack_asks_the_dns_for_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("the DNS was asked"))
    ThreadedServer(0, RequestHandler).stop()
    ObjectStore([], "us-east-1", lambda *_: None).stop()


def test_address_that_the_machine_does_not_have_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded_server, "HOST", "192.0.2.1")
    with pytest.raises(threaded_server.PortTakenError, match=r"^Port 8000 of 192\.0\.2\.1 cannot be used: .+\.$"):
        ThreadedServer(8000, RequestHandler)


def event_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200
    event: dict[str, Any] = response.json()
    return event


def reply(echo: httpx.Client, result: Any, method: str = "POST") -> httpx.Response:
    return echo.request(method, "/v1/reply", headers={"X-Reply": "as-told"}, content=json.dumps({"return": result}))


def test_an_event_has_exactly_the_members_of_payload_format_2(echo: httpx.Client) -> None:
    event = event_of(echo.get("/v1/leads"))
    assert event.keys() == {
        "version", "routeKey", "rawPath", "rawQueryString", "headers", "requestContext", "pathParameters",
        "isBase64Encoded",
    }  # fmt: skip
    assert event["version"] == "2.0"
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "ANY /v1/{proxy+}"
    assert event["requestContext"].keys() == {
        "accountId", "apiId", "domainName", "domainPrefix", "http", "requestId", "routeKey", "stage", "time",
        "timeEpoch",
    }  # fmt: skip
    assert event["requestContext"]["http"].keys() == {"method", "path", "protocol", "sourceIp", "userAgent"}


def test_the_request_context_names_client_time_and_stage(echo: httpx.Client) -> None:
    context = event_of(echo.get("/v1/leads"))["requestContext"]
    assert context["http"]["method"] == "GET"
    assert context["http"]["protocol"] == "HTTP/1.1"
    assert context["http"]["sourceIp"] == HOST
    assert context["http"]["userAgent"].startswith("python-httpx")
    assert context["stage"] == "$default"
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])


def test_the_path_is_decoded_and_the_query_string_is_not(echo: httpx.Client) -> None:
    event = event_of(echo.get("/v1/le%20ads/%C3%B6?search=a%20b%26c"))
    assert event["rawPath"] == "/v1/le ads/ö"
    assert event["pathParameters"] == {"proxy": "le ads/ö"}
    assert event["rawQueryString"] == "search=a%20b%26c"
    assert event["queryStringParameters"] == {"search": "a b&c"}


def test_repeated_query_parameters_are_joined_with_commas(echo: httpx.Client) -> None:
    event = event_of(echo.get("/v1/leads?status=new&status=contacted&empty="))
    assert event["queryStringParameters"] == {"status": "new,contacted", "empty": ""}


def test_header_names_are_lower_case_and_repeated_headers_joined_with_commas(echo: httpx.Client) -> None:
    headers = event_of(echo.get("/v1/x", headers=[("X-Thing", "a"), ("x-thing", "b")]))["headers"]
    assert headers["x-thing"] == "a,b"
    assert headers["x-forwarded-for"] == HOST
    assert headers.keys() == {name.lower() for name in headers}


def test_cookies_have_a_member_of_their_own(echo: httpx.Client) -> None:
    event = event_of(echo.get("/v1/x", headers={"Cookie": "a=1; b=2"}))
    assert event["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in event["headers"]


@pytest.mark.parametrize("kind", ["application/json", "text/csv; charset=utf-8", "application/problem+json"])
def test_a_text_body_comes_as_it_is(echo: httpx.Client, kind: str) -> None:
    event = event_of(echo.post("/v1/x", content='{"ö": 1}'.encode(), headers={"Content-Type": kind}))
    assert (event["body"], event["isBase64Encoded"]) == ('{"ö": 1}', False)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/octet-stream", b"abc"),
        ("application/x-www-form-urlencoded", b"a=1"),
        ("", b"abc"),
        ("text/csv", "Jürgen".encode("cp1252")),
    ],
)
def test_any_other_body_comes_in_base64(echo: httpx.Client, kind: str, body: bytes) -> None:
    event = event_of(echo.post("/v1/x", content=body, headers={"Content-Type": kind} if kind else {}))
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (body, True)


def test_a_chunked_body_is_put_together(echo: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first,"
        yield b"second"

    assert (
        event_of(echo.post("/v1/x", content=chunks(), headers={"Content-Type": "text/csv"}))["body"] == "first,second"
    )


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/people/known", "GET /people/known"),
        ("POST", "/people/known", "ANY /people/known"),
        ("GET", "/people/7", "GET /people/{id}"),
        ("DELETE", "/v1/a/b/c", "ANY /v1/{proxy+}"),
    ],
)
def test_the_most_specific_route_is_taken(echo: httpx.Client, method: str, path: str, key: str) -> None:
    assert event_of(echo.request(method, path))["routeKey"] == key


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1"), ("POST", "/people/7"), ("GET", "/people/7/8")])
def test_a_request_without_a_route_is_not_found(echo: httpx.Client, method: str, path: str) -> None:
    response = echo.request(method, path)
    assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


def test_a_response_has_the_status_headers_cookies_and_body_of_the_result(echo: httpx.Client) -> None:
    result = {
        "statusCode": 201,
        "headers": {"Content-Type": "text/html; charset=utf-8", "X-Number": 7},
        "cookies": ["a=1; Secure", "b=2"],
        "body": "<p>ö</p>",
    }
    response = reply(echo, result)
    assert (response.status_code, response.text) == (201, "<p>ö</p>")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["X-Number"] == "7"
    assert response.headers.get_list("Set-Cookie") == ["a=1; Secure", "b=2"]


def test_a_base64_body_is_sent_as_bytes(echo: httpx.Client) -> None:
    result = {"statusCode": 200, "body": base64.b64encode(b"\x00\xff").decode(), "isBase64Encoded": True}
    assert reply(echo, result).content == b"\x00\xff"


def test_a_result_without_a_status_is_a_json_body(echo: httpx.Client) -> None:
    response = reply(echo, {"hello": "world"})
    assert (response.status_code, response.json()) == (200, {"hello": "world"})
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "result",
    [{"statusCode": "x"}, {"statusCode": 200, "headers": {"a": "b\r\nc: d"}}, {"statusCode": 200, "headers": ["a"]}],
)
def test_a_malformed_result_is_an_internal_server_error(echo: httpx.Client, result: Any) -> None:
    assert reply(echo, result).status_code == 500


def test_a_function_that_raises_is_an_internal_server_error_without_details(echo: httpx.Client) -> None:
    response = echo.post("/v1/x", headers={"X-Reply": "as-told"}, content='{"raise": "secret"}')
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})


def test_an_answer_to_head_has_no_body(echo: httpx.Client) -> None:
    response = echo.head("/v1/x")
    assert (response.status_code, response.content) == (200, b"")


def test_an_answer_without_content_has_no_content_length(echo: httpx.Client) -> None:
    response = reply(echo, {"statusCode": 204})
    assert response.status_code == 204
    assert "Content-Length" not in response.headers


def test_requests_share_a_connection(echo_stack: LocalStack) -> None:
    connection = http.client.HTTPConnection(HOST, int(echo_stack.url.rpartition(":")[2]))
    used = []
    for _ in range(2):
        connection.request("POST", "/v1/x", b"abc")
        connection.getresponse().read()
        used.append(connection.sock)
    connection.close()
    assert used[0] is used[1]


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 7 * 1024 * 1024])
def test_a_body_over_the_limits_of_api_gateway_or_lambda_is_refused(echo: httpx.Client, size: int) -> None:
    assert echo.post("/v1/x", content=b"x" * size, headers={"Content-Type": "text/csv"}).status_code == 413


def test_a_body_over_the_limit_is_refused_before_it_is_sent_where_the_client_asks(echo_stack: LocalStack) -> None:
    with socket.create_connection((HOST, int(echo_stack.url.rpartition(":")[2]))) as connection:
        head = f"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("header", ["Content-Length: -1", "Content-Length: x", "Transfer-Encoding: chunked"])
def test_a_malformed_length_is_a_bad_request(echo_stack: LocalStack, header: str) -> None:
    with socket.create_connection((HOST, int(echo_stack.url.rpartition(":")[2]))) as connection:
        connection.sendall(f"POST /v1/x HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\nnope\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_port_that_root_alone_may_use_is_an_error_that_says_so() -> None:
    unprivileged = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not unprivileged.exists() or int(unprivileged.read_text()) <= 1:
        pytest.skip("Everybody may use every port here.")
    # In a process of its own, which gives up being root if it is.
    script = (
        "import os; from local.threaded_server import PortTakenError, RequestHandler, ThreadedServer\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: ThreadedServer(1, RequestHandler)\n"
        "except PortTakenError as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "Port 1 may be used by root only; take one from 1024 on.\n"
