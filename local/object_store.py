"""S3 on this machine: moto's server with the template's buckets, which tells functions of new objects as S3 does.

Objects are in memory, large ones in temporary files. They are gone when the process ends, but for the attachments of
templates, to which the database refers: with a folder they are put into it, and taken from it again.
"""

from __future__ import annotations

import functools
import io
import os
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import botocore.session
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from local.cloudformation import ACCOUNT_ID
from local.presigned_urls import REFUSAL, is_forged
from local.threaded_server import HOST

SECRET_KEY = "test"  # noqa: S105 (nothing is secret here)
"""Of the credentials that everything on this machine has."""

_WITHOUT_FILES = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""In botocore's words: neither a setting nor a variable, and this default."""

_KEPT = re.compile(r"/([^/]+)/(attachments)/([0-9a-f-]{36})")
_ABOUT_OBJECTS = {"partNumber", "acl", "tagging", "retention", "legal-hold"}


class ObjectStore:
    """Listens when made, serves from `start` to `stop`. `on_created` gets a bucket, a key and the S3 event of both."""

    def __init__(
        self,
        buckets: Iterable[str],
        region: str,
        on_created: Callable[[str, str, dict[str, Any]], None],
        kept_in: Path | None = None,
    ) -> None:
        self._kept_in = kept_in
        self._buckets = list(buckets)
        self._region = region
        self._on_created = on_created
        # A server that opens its own socket also asks the DNS for its name.
        with socket.create_server((HOST, 0), backlog=128) as listener:
            self._server = make_server(
                HOST,
                listener.getsockname()[1],
                self._answering(DomainDispatcherApplication(create_backend_app)),
                threaded=True,
                request_handler=_QuietHandler,
                fd=listener.fileno(),
            )
        self.url = f"http://{HOST}:{self._server.port}"
        # How often it looks whether it is to stop; by default it takes half a second.
        serve = functools.partial(self._server.serve_forever, poll_interval=0.1)
        self._thread = threading.Thread(target=serve, name="object-store", daemon=True)

    def start(self) -> None:
        self._thread.start()
        # It goes through no proxy.
        config = Config(proxies={}, use_dualstack_endpoint=False, use_fips_endpoint=False)
        client = _session().create_client("s3", region_name=self._region, endpoint_url=self.url, config=config)
        place = {} if self._region == "us-east-1" else {"LocationConstraint": self._region}
        for bucket in self._buckets:
            client.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
            for file in self._kept_in.glob("attachments/*") if self._kept_in is not None else ():
                client.put_object(Bucket=bucket, Key=f"attachments/{file.name}", Body=file.read_bytes())
        client.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _answering(self, moto: WSGIApplication) -> WSGIApplication:
        """moto's application behind a check of signed URLs. It reports a new object before it answers the client."""

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if is_forged(environ, SECRET_KEY):
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [REFUSAL]
            answered: dict[str, Any] = {}

            def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                answered.update({name.lower(): value for name, value in headers}, status=status)
                return start_response(status, headers, *rest)

            self._keep(environ)
            body = list(moto(environ, start))
            if answered["status"].startswith("200") and (name := _created(environ)):
                bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
                self._tell(name, bucket, key, environ, answered.get("etag", ""))
            elif answered["status"].startswith("303"):  # the form of a web page
                sent_to = parse_qs(urlsplit(answered["location"]).query)
                self._tell("ObjectCreated:Post", sent_to["bucket"][0], sent_to["key"][0], environ, "")
            return body

        return answer

    def _keep(self, environ: WSGIEnvironment) -> None:
        """Keep the file that is being put, if it is an attachment."""
        found = _KEPT.fullmatch(environ["PATH_INFO"])
        if self._kept_in is None or found is None or environ["REQUEST_METHOD"] != "PUT":
            return
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(content)
        file = self._kept_in / found[2] / found[3]
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def _tell(self, name: str, bucket: str, key: str, environ: WSGIEnvironment, etag: str) -> None:
        self._on_created(bucket, key, self._event(name, bucket, key, environ.get("CONTENT_LENGTH") or "0", etag))

    def _event(self, name: str, bucket: str, key: str, size: str, etag: str) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html"""
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": self._region,
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "eventName": name,
            "userIdentity": {"principalId": f"AWS:{ACCOUNT_ID}"},
            "requestParameters": {"sourceIPAddress": HOST},
            "responseElements": {"x-amz-request-id": uuid.uuid4().hex[:16].upper(), "x-amz-id-2": "local"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "local",
                "bucket": {"name": bucket, "ownerIdentity": {"principalId": "local"}, "arn": f"arn:aws:s3:::{bucket}"},
                "object": {
                    "key": quote_plus(key, safe="/"),
                    "size": int(size),
                    "eTag": etag.strip('"'),
                    "sequencer": uuid.uuid4().hex[:16].upper(),
                },
            },
        }
        return {"Records": [record]}


@functools.cache
def _session() -> botocore.session.Session:
    """It needs no profile and no file of the person. It reads what botocore knows of S3 once, a tenth of a second."""
    session = botocore.session.Session(_WITHOUT_FILES)
    session.set_credentials("test", SECRET_KEY)
    return session


def _created(environ: WSGIEnvironment) -> str | None:
    """The name of the event, if the request has made an object."""
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).keys()
    if "/" not in environ["PATH_INFO"].strip("/"):
        return None
    if environ["REQUEST_METHOD"] == "PUT" and not query & _ABOUT_OBJECTS:
        return "ObjectCreated:Put"
    if environ["REQUEST_METHOD"] == "POST" and "uploadId" in query:
        return "ObjectCreated:CompleteMultipartUpload"
    return None


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Not logged: a presigned URL is a secret."""
