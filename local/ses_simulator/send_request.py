"""Reads and checks the body of a SendEmail request by the rules of SES; what is wrong comes out as BadRequestException.

The rules: https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html (message headers, message tags,
destinations).
"""

import base64
import binascii
import functools
import json
import re
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any, TypeVar

from local.ses_simulator.ses_errors import bad_request

MAX_RECIPIENTS = 50
MAX_HEADERS = 15
MAX_HEADER_CHARACTERS = 996
MAX_MESSAGE_BYTES = 40 * 1024 * 1024

_HEADER_NAME = re.compile(r"[!-9;-~]{1,126}")
_HEADER_VALUE = re.compile(r"[ -~]{1,995}")
_TAG_PART = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}")
_OWN_HEADERS = {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "return-path", "mime-version"}

# Some of https://docs.aws.amazon.com/ses/latest/dg/mime-types.html
REFUSED_TYPES = frozenset(("bat", "cmd", "com", "exe", "hta", "js", "jse", "lnk", "msi", "ps1", "scr", "vbs", "wsf"))
_ATTACHMENT_VALUES = {
    "ContentDisposition": ("ATTACHMENT", "INLINE"),
    "ContentTransferEncoding": ("BASE64", "QUOTED_PRINTABLE", "SEVEN_BIT"),
}

_ONCE = ("in-reply-to", "references")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SendRequest:
    """A SendEmail request that SES would take. `recipients` are bare addresses: to, cc and bcc in this order."""

    body: bytes
    document: dict[str, Any]
    from_address: str
    recipients: tuple[str, ...]
    tags: dict[str, str]
    configuration_set: str | None


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Raises SesError where the body is no JSON object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request("Could not parse the request body as JSON.") from error
    if not isinstance(document, dict):
        raise bad_request("The request body must be a JSON object.")
    return document


def read_send_request(body: bytes, document: dict[str, Any]) -> SendRequest:
    """Raises SesError for what SES refuses whatever the state of the account."""
    content = _member(document, "Content", dict)
    if content is None or sum(content.get(kind) is not None for kind in ("Simple", "Raw", "Template")) != 1:
        raise bad_request("Exactly one of Simple, Raw and Template must be given as Content.")
    if content.get("Template") is not None:
        raise bad_request("Templated content is not supported by this SES simulator.")
    if _member(content, "Raw", dict) is not None:
        _check_raw(content["Raw"])
    else:
        _check_simple(_member(content, "Simple", dict) or {})

    from_address = _member(document, "FromEmailAddress", str)
    if not from_address and content.get("Raw") is None:
        raise bad_request("FromEmailAddress is required.")
    if from_address:
        bare_address(from_address)
    for address in _strings(document, "ReplyToAddresses"):
        bare_address(address)

    destination = _member(document, "Destination", dict) or {}
    given = [a for kind in ("ToAddresses", "CcAddresses", "BccAddresses") for a in _strings(destination, kind)]
    recipients = tuple(bare_address(address) for address in given)
    if not recipients:
        raise bad_request("At least one recipient must be given.")
    if len(recipients) > MAX_RECIPIENTS:
        raise bad_request(f"Recipient count exceeds {MAX_RECIPIENTS}.")

    _check_tracking(document)
    options = _member(document, "ListManagementOptions", dict)
    if options is not None and not _member(options, "ContactListName", str):
        raise bad_request("ListManagementOptions must name a ContactListName.")
    return SendRequest(
        body=body,
        document=document,
        from_address=from_address or "",
        recipients=recipients,
        tags=read_tags(document),
        configuration_set=_member(document, "ConfigurationSetName", str) or None,
    )


def _check_tracking(document: dict[str, Any]) -> None:
    overrides = _member(document, "ConfigurationOverrides", dict) or {}
    tracking = _member(overrides, "Tracking", dict) or {}
    for name in ("OpenTrackingEnabled", "ClickTrackingEnabled"):
        if _member(tracking, name, str) not in (None, "ENABLED", "DISABLED"):
            raise bad_request(f"{name} must be ENABLED or DISABLED.")


def read_tags(document: dict[str, Any]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for tag in _objects(document, "EmailTags"):
        name, value = tag.get("Name"), tag.get("Value")
        for part in (name, value):
            if not isinstance(part, str) or not _TAG_PART.fullmatch(part):
                raise bad_request(
                    "Message tag names and values must be 1 to 256 characters of A-Z, a-z, 0-9, '_' and '-'."
                )
        if name in tags:
            raise bad_request(f"Duplicate message tag name: {name}.")
        tags[str(name)] = str(value)
    return tags


@functools.lru_cache(maxsize=4096)
def bare_address(given: str) -> str:
    """The address out of `Name <address>`. Raises SesError for what SES cannot send to or from."""
    if _PLAIN_ADDRESS.fullmatch(given):
        return given
    if "\r" in given or "\n" in given:
        raise bad_request("Address contains control characters.")
    address = parseaddr(given)[1]
    local_part, at, domain = address.rpartition("@")
    if not at or not local_part or not domain:
        raise bad_request("Missing final '@domain'.")
    if not local_part.isascii():
        raise bad_request("Local address contains non-ASCII characters.")
    if not domain.isascii():
        raise bad_request("Domain contains non-ASCII characters; write it in Punycode.")
    if not given.isascii():
        raise bad_request("Non-ASCII characters in a display name must be written as MIME encoded-words.")
    if not _PLAIN_ADDRESS.fullmatch(address) and not local_part.startswith('"'):
        raise bad_request("Address contains illegal characters.")
    return address


def _check_simple(simple: dict[str, Any]) -> None:
    subject = _member(simple, "Subject", dict)
    if subject is None or not isinstance(subject.get("Data"), str):
        raise bad_request("Content.Simple.Subject.Data is required.")
    if "\r" in subject["Data"] or "\n" in subject["Data"]:
        raise bad_request("Subject contains control characters.")
    body = _member(simple, "Body", dict) or {}
    parts = [part for part in (_member(body, "Text", dict), _member(body, "Html", dict)) if part is not None]
    if not parts:
        raise bad_request("Content.Simple.Body must have Text or Html.")
    if not all(isinstance(part.get("Data"), str) for part in parts):
        raise bad_request("The Data of a body part is required.")
    attached = sum(_check_attachment(each) for each in _objects(simple, "Attachments"))
    if sum(len(part["Data"]) for part in parts) + attached > MAX_MESSAGE_BYTES:
        raise bad_request(f"Message length is more than {MAX_MESSAGE_BYTES} bytes long.")
    headers = _objects(simple, "Headers")
    if len(headers) > MAX_HEADERS:
        raise bad_request(f"A message can have no more than {MAX_HEADERS} headers.")
    for header in headers:
        name, value = header.get("Name"), header.get("Value")
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise bad_request("A header name must be 1 to 126 printable ASCII characters other than ':'.")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise bad_request(f"The value of header {name} must be 1 to 995 printable ASCII characters.")
        if len(name) + len(value) > MAX_HEADER_CHARACTERS:
            raise bad_request(f"The header {name} is longer than {MAX_HEADER_CHARACTERS} characters.")
        if name.lower() in _OWN_HEADERS:
            raise bad_request(f"The header {name} is set by SES and cannot be given.")
    names = [str(header["Name"]).lower() for header in headers]
    if twice := next((name for name in _ONCE if names.count(name) > 1), None):
        raise bad_request(f"The header {twice} can be given once only.")


def _check_attachment(attachment: dict[str, Any]) -> int:
    """The size that it will have in the message.

    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Attachment.html
    """
    name = _member(attachment, "FileName", str)
    if not name or len(name) > 255 or not name.isprintable():
        raise bad_request("FileName must be 1 to 255 printable characters.")
    if name.rpartition(".")[2].lower() in REFUSED_TYPES:
        raise bad_request(f"The file type of {name} is not supported.")
    for field, values in _ATTACHMENT_VALUES.items():
        if _member(attachment, field, str) not in (None, *values):
            raise bad_request(f"{field} must be one of {', '.join(values)}.")
    for field in ("ContentId", "ContentType"):
        given = _member(attachment, field, str)
        if given is not None and not re.fullmatch(r"[!-~]{1,78}", given):
            raise bad_request(f"{field} must be 1 to 78 printable ASCII characters.")
    try:
        data = base64.b64decode(_member(attachment, "RawContent", str) or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request("RawContent must be base64.") from error
    if not data:
        raise bad_request("RawContent is required.")
    encoding = attachment.get("ContentTransferEncoding") or "SEVEN_BIT"
    if encoding == "SEVEN_BIT" and not data.isascii():
        raise bad_request("RawContent is not 7-bit text; say how to encode it in ContentTransferEncoding.")
    return len(data) * 4 // 3


def _check_raw(raw: dict[str, Any]) -> None:
    try:
        data = base64.b64decode(_member(raw, "Data", str) or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request("Content.Raw.Data must be base64.") from error
    if not data:
        raise bad_request("Content.Raw.Data is required.")
    if len(data) > MAX_MESSAGE_BYTES:
        raise bad_request(f"Message length is more than {MAX_MESSAGE_BYTES} bytes long.")


def _member(document: dict[str, Any], name: str, kind: type[_T]) -> _T | None:
    value = document.get(name)
    if value is None or isinstance(value, kind):
        return value
    raise bad_request(f"{name} has the wrong type.")


def _list(document: dict[str, Any], name: str, kind: type) -> list[Any]:
    values = document.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise bad_request(f"{name} has the wrong type.")
    return values


def _strings(document: dict[str, Any], name: str) -> list[str]:
    return _list(document, name, str)


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return _list(document, name, dict)
