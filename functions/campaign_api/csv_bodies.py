"""Request bodies that are CSV files: an event in, the file and its declared encoding out."""

from __future__ import annotations

import io
from email.message import Message
from http import HTTPStatus
from typing import NamedTuple

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_requests
from http_errors import Problem, RequestRefused
from sendledger.files.read_text import python_encoding


class CsvBody(NamedTuple):
    """`charset` is None if the encoding must be detected."""

    stream: io.BytesIO
    charset: str | None


def csv_body(event: APIGatewayProxyEventV2) -> CsvBody:
    """The file in the body.

    Raises:
        RequestRefused: 415, the charset is unknown.
    """
    header = Message()
    header["content-type"] = event.headers.get("content-type", "")
    charset = header.get_param("charset")
    encoding = None
    if isinstance(charset, str):
        encoding = python_encoding(charset.strip())
        if encoding is None:
            message = (
                f"The charset {charset[:50]!r} is not known. Send the file as UTF-8, or leave the charset out: then"
                " UTF-8, UTF-16 and Windows-1252 are recognised."
            )
            raise RequestRefused(Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
    # API Gateway has decoded a body that it passes as text.
    is_decoded = not event.is_base64_encoded and not (event.body or "").isascii()
    return CsvBody(io.BytesIO(api_requests.body_bytes(event)), None if is_decoded else encoding)
