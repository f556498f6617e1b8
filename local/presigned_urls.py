"""Presigned URLs on this machine: a request that does not say what was signed is refused, as S3 refuses it.

moto checks no signature. With this, an upload of another size or type than the URL is for fails here too.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs, quote
from wsgiref.types import WSGIEnvironment

REFUSAL = (
    b"<Error><Code>SignatureDoesNotMatch</Code><Message>The request is not the one that was signed.</Message></Error>"
)


def is_forged(environ: WSGIEnvironment, secret_key: str) -> bool:
    """Whether a request differs from the one that its presigned URL was signed for."""
    query = environ.get("QUERY_STRING", "")
    said = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    # A browser asks with OPTIONS whether it may send the request. Nothing of that is signed.
    if "X-Amz-Signature" not in said or environ["REQUEST_METHOD"] == "OPTIONS":
        return False
    scope = said["X-Amz-Credential"].partition("/")[2]
    names = said["X-Amz-SignedHeaders"]
    canonical = "\n".join(
        (
            environ["REQUEST_METHOD"],
            quote(environ["PATH_INFO"], safe="/~"),
            "&".join(sorted(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))),
            *(f"{name}:{_header(environ, name)}" for name in names.split(";")),
            *("", names, "UNSIGNED-PAYLOAD"),
        )
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(("AWS4-HMAC-SHA256", said["X-Amz-Date"], scope, hashed))
    key = f"AWS4{secret_key}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return not hmac.compare_digest(key.hex(), said["X-Amz-Signature"])


def _header(environ: WSGIEnvironment, name: str) -> str:
    variable = name.upper().replace("-", "_")
    value = environ.get(variable) if name in ("content-type", "content-length") else environ.get(f"HTTP_{variable}")
    return " ".join(str(value or "").split())
