"""A small client of Sendledger's HTTP API, for the demo: JSON in, JSON out."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode


class ApiError(Exception):
    """The API refused a request, or could not be reached."""


class ApiClient:
    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        # What runs on this machine is not reached through a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, query)

    def post(self, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        return self._call("POST", path, {}, content, "application/json")

    def post_csv(self, path: str, csv: bytes, **query: Any) -> Any:
        return self._call("POST", path, query, csv, "text/csv")

    def list(self, path: str, **query: Any) -> Iterator[Any]:
        """Every item, page by page."""
        while True:
            page = self.get(path, **query)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    def _call(self, method: str, path: str, query: Any, content: bytes | None = None, kind: str = "") -> Any:
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self._key}", **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(url, content, headers, method=method)
        try:
            with self._opener.open(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise ApiError(f"{method} {path}: {error}") from error
