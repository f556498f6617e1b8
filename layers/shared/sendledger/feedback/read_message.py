"""Parsing a message (RFC 5322, MIME): bytes in, headers and the text of its parts out. Reads and writes no table.

Size, header lines, parts and nesting are capped before anything is parsed, and every step takes time in proportion to
what it reads. No message raises an exception. The standard library's parser is not used: it compares each line with
every open boundary, and its recursion is as deep as the nesting.
"""

from __future__ import annotations

import binascii
import codecs
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from html import unescape

MAX_PARTS = 100
MAX_DEPTH = 10
"""Limits of the parts that are read, and of their nesting. Mail programs write fewer than ten parts, four levels
deep."""

MAX_VALUE = 10_000
"""Characters of a header that are read."""

MAX_HEADERS = 256 * 1024
"""Bytes of headers of a message that are read."""

_MAX_PART_HEADERS = 16 * 1024
_MAX_VALUES = 20
_MAX_BODY = 600_000  # of the encoded part that holds the text
_BLANK_LINES = (b"\n\n", b"\n\r\n")
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
# Their decoders take quadratic time, or are not charsets of mail.
_NO_CHARSETS = frozenset({"punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined"})
_TAG_NAME = re.compile(r"/?([a-z][a-z0-9]{0,10})")
_BLOCK_NAMES = "address blockquote br dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p pre table tr ul"
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_UNSEEN = frozenset({"head", "style", "script", "title", "noscript", "template"})

Headers = Mapping[str, Sequence[str]]
"""Values by lower-case name, in their order."""


@dataclass(frozen=True)
class Part:
    """A part of the message without nested parts: what its headers say, and where its body is."""

    content_type: Message
    encoding: str
    start: int
    end: int


def read_headers(raw: bytes, start: int, end: int, most: int) -> tuple[Headers, int]:
    """The headers that begin at `start`, and where the body begins. Lines that are not headers are skipped."""
    limit = min(end, start + most)
    if raw[start : start + 1] == b"\n" or raw[start : start + 2] == b"\r\n":
        return {}, raw.find(b"\n", start, end) + 1
    ends = [(at, len(blank)) for blank in _BLANK_LINES if (at := raw.find(blank, start, limit)) >= 0]
    stop, length = min(ends, default=(limit, 0))
    headers: dict[str, list[str]] = {}
    name, lines = "", [""]
    # Bytes beyond ASCII are read as UTF-8, which they mostly are. The last line only ends the header before it.
    for line in [*raw[start:stop].decode("utf-8", "replace").split("\n"), ""]:
        if line[:1] in (" ", "\t"):
            lines.append(line)
            continue
        if name and len(values := headers.setdefault(name, [])) < _MAX_VALUES:
            values.append(clean("".join(lines)[:MAX_VALUE].replace("\r", "")).strip())
        name, colon, value = line.partition(":")
        name, lines = name.strip().lower()[:100] if colon else "", [value]
    return headers, stop + length


def parts(raw: bytes, headers: Headers, start: int) -> Iterator[Part]:
    """The parts without nested parts, in order: the first `MAX_PARTS`, not deeper than `MAX_DEPTH`."""
    waiting = [(headers, start, len(raw), 0)]
    for _ in range(MAX_PARTS):
        if not waiting:
            return
        headers, start, end, depth = waiting.pop()
        content_type = content_type_of(headers)
        if content_type.get_content_maintype() == "message":
            continue  # an attached email: not written by the person who replied
        if content_type.get_content_maintype() != "multipart":
            yield Part(content_type, first(headers, "content-transfer-encoding").lower(), start, end)
        elif depth < MAX_DEPTH and (boundary := _boundary(content_type)):
            inner = []
            for begin, stop in _split(raw, start, end, boundary):
                inner_headers, body = read_headers(raw, begin, stop, _MAX_PART_HEADERS)
                inner.append((inner_headers, body, stop, depth + 1))
            waiting += reversed(inner)


def _split(raw: bytes, start: int, end: int, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Where the parts between the lines with the boundary begin and end. https://www.rfc-editor.org/rfc/rfc2046#section-5.1"""
    delimiter = b"--" + boundary
    begin, position = -1, start
    for _ in range(2 * MAX_PARTS):
        found = raw.find(delimiter, position, end)
        if found < 0:
            break
        position = found + len(delimiter)
        rest_of_line = raw[position : min(position + 200, end)].partition(b"\n")[0]
        if (found > start and raw[found - 1 : found] != b"\n") or rest_of_line.strip() not in (b"", b"--"):
            continue
        if begin >= 0:
            # The line break before the boundary belongs to it.
            yield begin, max(begin, found - (2 if raw[found - 2 : found] == b"\r\n" else 1))
        begin = position + len(rest_of_line) + 1
        if rest_of_line.strip():
            return
    if 0 <= begin < end:
        yield begin, end


def content_type_of(headers: Headers) -> Message:
    """What the two headers say that describe a part; a part whose headers cannot be read is plain text."""
    message = Message()
    for name in ("content-type", "content-disposition"):
        if value := first(headers, name)[:2_000]:
            message[name] = value
    try:
        for read in (message.get_content_charset, message.get_content_disposition, message.get_boundary):
            read()
        message.get_param("method")
    except Exception:
        return Message()
    return message


def _boundary(content_type: Message) -> bytes:
    return (content_type.get_boundary() or "")[:200].encode("utf-8", "replace")


def decoded(raw: bytes, part: Part) -> str:
    """The text of a part, as far as it is kept."""
    body = raw[part.start : min(part.end, part.start + _MAX_BODY)]
    if part.encoding == "base64":
        digits = _NO_BASE64.sub(b"", body)
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        body = binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
    elif part.encoding == "quoted-printable":
        body = binascii.a2b_qp(body)
    charset = part.content_type.get_content_charset("utf-8")[:40]
    try:
        name = codecs.lookup(charset).name
        return body.decode("utf-8" if name in _NO_CHARSETS else name, "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


def text_of_html(html: str) -> str:
    """Roughly what a reader sees, in one pass. Few mail programs send HTML alone."""
    lower = html.lower()
    if len(lower) != len(html):
        lower = html  # some letters become two
    pieces: list[str] = []
    position, without_end = 0, set[str]()
    while (start := html.find("<", position)) >= 0:
        pieces.append(html[position:start])
        closing = "-->" if html.startswith("<!--", start) else ">"
        end = html.find(closing, start)
        if end < 0:
            break
        position = end + len(closing)
        name = _TAG_NAME.match(lower, start + 1)
        if name is None:
            continue
        if name[1] in _BLOCKS:
            pieces.append("\n")
        elif name[1] in _UNSEEN and name[1] not in without_end:
            seen_again = lower.find(f"</{name[1]}", position)
            if seen_again < 0:
                without_end.add(name[1])
            else:
                position = seen_again
    else:
        pieces.append(html[position:])
    text = "".join(pieces)
    with contextlib.suppress(ValueError):  # the number of a character with thousands of digits
        text = unescape(text)
    return "\n".join(line for each in text.split("\n") if (line := " ".join(each.split())))


def first(headers: Headers, name: str) -> str:
    """The header's first value, or an empty string."""
    return next(iter(headers.get(name, ())), "")


def clean(text: str) -> str:
    """Without what PostgreSQL cannot store: NUL and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
