"""What the tests of the SES simulator share: a real boto3 client for it, a request that SES takes, and plain HTTP."""

import json
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config


def ses_client(url: str, *, read_timeout: float = 5) -> Any:
    """As the sender's: no request is ever sent a second time by botocore."""
    return boto3.client(
        "sesv2",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=read_timeout),
    )


def request_to(*recipients: str, **changes: Any) -> dict[str, Any]:
    return {
        "FromEmailAddress": "Acme Sales <sales@example.com>",
        "Destination": {"ToAddresses": list(recipients)},
        "Content": simple_content(),
        "EmailTags": [{"Name": "scheduled_email_id", "Value": "7"}, {"Name": "campaign_id", "Value": "c-1"}],
        "ConfigurationSetName": "sendledger",
    } | changes


def simple_content(headers: list[tuple[str, str]] | None = None, **parts: Any) -> dict[str, Any]:
    body = {"Text": {"Data": "Hello Ann", "Charset": "UTF-8"}, "Html": {"Data": "<p>Hello Ann</p>", "Charset": "UTF-8"}}
    simple = {"Subject": {"Data": "Hello", "Charset": "UTF-8"}, "Body": body} | parts
    return {"Simple": simple | {"Headers": [{"Name": name, "Value": value} for name, value in headers or []]}}


def http(
    url: str, method: str, path: str, body: object = None, content_type: str = "application/json"
) -> tuple[HTTPResponse, bytes]:
    """The answer to one plain request, with its body; a body that is no string is sent as JSON."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=300)
    try:
        payload = body if body is None or isinstance(body, str) else json.dumps(body)
        connection.request(method, path, payload, {} if payload is None else {"Content-Type": content_type})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def get_json(url: str, path: str) -> Any:
    response, body = http(url, "GET", path)
    assert response.status == 200, body
    return json.loads(body)
