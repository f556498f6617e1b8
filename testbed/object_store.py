"""A bucket for tests: moto's S3 behind real HTTP, started once, and a fresh bucket for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from local.object_store import ObjectStore
from sendledger.files.file_bucket import FileBucket
from testbed.aws_session import aws_session


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    store = ObjectStore([], "us-east-1", lambda bucket, key, event: None)
    store.start()
    yield store
    store.stop()


@pytest.fixture
def s3(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of botocore. Clients that are created later use the same store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", object_store.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return aws_session().create_client("s3")


@pytest.fixture
def bucket(s3: Any) -> FileBucket:
    name = f"files-{os.urandom(6).hex()}"
    s3.create_bucket(Bucket=name)
    return FileBucket(name, aws_session())
