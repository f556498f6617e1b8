"""Mail that is made to exhaust its reader: each name gives a message of up to 40 MB, the largest that SES receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

HEAD = b"From: ann@example.com\r\nTo: sales@example.com\r\nSubject: Re: Hello\r\nMessage-ID: <1@mail.example.com>\r\n"
MEGABYTE = 1024 * 1024


def _html(body: bytes) -> bytes:
    return HEAD + b"Content-Type: text/html; charset=utf-8\r\n\r\n" + body


def _text(body: bytes, charset: bytes = b"utf-8", encoding: bytes = b"8bit") -> bytes:
    kind = b"Content-Type: text/plain; charset=" + charset + b"\r\nContent-Transfer-Encoding: " + encoding
    return HEAD + kind + b"\r\n\r\n" + body


def _with(header: bytes) -> bytes:
    return header + b"\r\n" + HEAD + b"\r\nYes!\r\n"


def _nested(depth: int, body: bytes = b"Yes!") -> bytes:
    parts = b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(depth))
    return HEAD + b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n" + parts + body


def _multipart(boundary: bytes, body: bytes) -> bytes:
    return HEAD + b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n' + body


HOSTILE_MAIL: Mapping[str, Callable[[], bytes]] = {
    "HTML of <head": lambda: _html(b"<head " * 85_000),
    "HTML of <head>": lambda: _html(b"<head>" * 85_000),
    "HTML of comments that do not end": lambda: _html(b"<!--" * 130_000),
    "HTML of declarations that do not end": lambda: _html(b"<![" * 170_000),
    "HTML of CDATA": lambda: _html(b"<![CDATA[" * 60_000),
    "HTML of <": lambda: _html(b"<" * 500_000),
    "HTML of </": lambda: _html(b"</" * 250_000),
    "HTML of &": lambda: _html(b"&" * 500_000),
    "HTML of entities": lambda: _html(b"&#x" * 200_000),
    "HTML of <div>": lambda: _html(b"<div>" * 100_000),
    "HTML of <table>": lambda: _html(b"<table><tr><td>" * 35_000),
    "HTML of <a href": lambda: _html(b'<a href="' * 60_000),
    "HTML of lists": lambda: _html(b"<ul><li>" * 60_000),
    "HTML of <script>": lambda: _html(b"<script>" * 60_000),
    "HTML of </script": lambda: _html(b"<script></script" * 30_000),
    "HTML of <style": lambda: _html(b"<style " * 70_000),
    "HTML of attributes": lambda: _html(b"<p " + b"a=" * 250_000),
    "HTML of quotes": lambda: _html(b"<p a='" + b"\"'" * 250_000),
    "HTML of {{": lambda: _html(b"{{ " * 166_000),
    "HTML of {%": lambda: _html(b"{% " * 166_000),
    "HTML of {#": lambda: _html(b"{# " * 166_000),
    "HTML of blockquotes": lambda: _html(b"<blockquote>" * 40_000),
    "HTML of blanks": lambda: _html(b" \n" * 250_000),
    "HTML of 40 MB": lambda: _html(b"<p>Yes</p>\r\n" * (40 * MEGABYTE // 13)),
    "100 parts within parts": lambda: _nested(100),
    "100 parts within parts, then lines": lambda: _nested(100, b"\r\n" * 5_000_000),
    "20,000 parts within parts": lambda: _nested(20_000),
    "300,000 parts": lambda: _multipart(b"b", b"--b\r\n\r\nx\r\n" * 300_000),
    "boundary of one hyphen": lambda: _multipart(b"-", b"\r\n---" * 3_000_000),
    "almost boundaries": lambda: _multipart(b"b" * 70, (b"\r\n--" + b"b" * 69) * 200_000),
    "boundary of 100,000 characters": lambda: _multipart(b"b" * 100_000, b"--" + b"b" * 100_000 + b"\r\n\r\nYes"),
    "boundary in 5,000,000 lines": lambda: _multipart(b"b", b"\r\n--bx" * 2_000_000),
    "lines of 40 MB": lambda: _text(b"\r\n" * (20 * MEGABYTE)),
    "line of 40 MB": lambda: _text(b"x" * 40 * MEGABYTE),
    "header of 40 MB": lambda: _with(b"X-Long: " + b"x" * 40 * MEGABYTE),
    "header lines of 40 MB": lambda: _with(b"a:\r\n" * (10 * MEGABYTE) + b"b: c"),
    "folded header of 40 MB": lambda: _with(b"Subject: a" + b"\r\n a" * (10 * MEGABYTE)),
    "different headers": lambda: _with(b"\r\n".join(b"X-%d: a" % n for n in range(100_000))),
    "From of 2,000 (": lambda: _with(b"From: " + b"(" * 2_000),
    "From of 100,000 (": lambda: _with(b"From: " + b"(" * 100_000),
    "From of quotes": lambda: _with(b'From: "' + b'\\"' * 50_000),
    "From of commas": lambda: _with(b"From: " + b"," * 100_000),
    "From of <": lambda: _with(b"From: " + b"<" * 100_000),
    "From of [": lambda: _with(b"From: a@" + b"[" * 100_000),
    "From of groups": lambda: _with(b"From: " + b"a:" * 50_000),
    "To of addresses": lambda: _with(b"To: " + b"a@b.example, " * 100_000),
    "To of (": lambda: _with(b"\r\n".join([b"To: " + b"(" * 9_000] * 20)),
    "Subject of =?": lambda: _with(b"Subject: " + b"=?a?q?" * 100_000),
    "Subject of encoded words": lambda: _with(b"Subject: " + b"=?utf-8?q?a?= " * 100_000),
    "Subject in punycode": lambda: _with(b"Subject: =?punycode?q?" + b"a" * 3_900 + b"-zzzz?="),
    "Subject of accents": lambda: _with(b"Subject: " + "a\N{COMBINING ACUTE ACCENT}".encode() * 50_000),
    "Subject of ligatures": lambda: _with(
        b"Subject: " + "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}".encode() * 50_000
    ),
    "Subject of brackets": lambda: _with(b"Subject: " + b"[" * 100_000),
    "References of <": lambda: _with(b"References: " + b"<" * 100_000),
    "References of ids": lambda: _with(b"References: " + b"<a@b>" * 100_000),
    "Content-Type of ;": lambda: _with(b"Content-Type: text/plain" + b';"' * 50_000),
    "Content-Type of parameters": lambda: _with(b"Content-Type: text/plain" + b"; a*0*=b" * 20_000),
    "Authentication-Results of spf": lambda: _with(b"Authentication-Results: " + b"spf=" * 100_000),
    "charset punycode": lambda: _text(b"a" * MEGABYTE + b"-" + b"z" * MEGABYTE, b"punycode"),
    "charset idna": lambda: _text(b"xn--" * 500_000, b"idna"),
    "charset utf-7": lambda: _text(b"+AGEAYg-" * 500_000, b"utf-7"),
    "charset unicode_escape": lambda: _text(b"\\N{DIGIT ONE}" * 100_000, b"unicode_escape"),
    "charset of 100,000 characters": lambda: _text(b"Yes", b"x" * 100_000),
    "charset hz": lambda: _text(b"~{" * 500_000, b"hz"),
    "base64 of 40 MB": lambda: _text(b"QUFB\r\n" * (6 * MEGABYTE), b"utf-8", b"base64"),
    "base64 of noise": lambda: _text(b"=" * 10 * MEGABYTE, b"utf-8", b"base64"),
    "quoted-printable of =": lambda: _text(b"=\r\n" * (3 * MEGABYTE), b"utf-8", b"quoted-printable"),
    "NUL": lambda: b"\x00" * 40 * MEGABYTE,
    "no header": lambda: b"x\r\n" * (13 * MEGABYTE),
    "nothing": lambda: b"",
}
"""What each does to an unprotected reader: quadratic time, deep recursion or memory without limit."""
