"""The local S3 tells of every new object, in S3's own words."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import httpx
import pytest

from local.object_store import ObjectStore

Told = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def s3(told: Told) -> Iterator[Any]:
    store = ObjectStore(["lists"], "us-east-1", lambda *about: told.append(about))
    store.start()
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    yield session.create_client("s3", region_name="us-east-1", endpoint_url=store.url)
    store.stop()


def test_new_object_is_announced_once(s3: Any, told: Told) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "lists", "Key": "imports/a b+c.csv"})
    assert httpx.put(url, content=b"email\n").status_code == 200
    ((bucket, key, event),) = told
    (record,) = event["Records"]
    assert (bucket, key, record["eventSource"], record["eventName"]) == (
        "lists",
        "imports/a b+c.csv",
        "aws:s3",
        "ObjectCreated:Put",
    )
    assert record["s3"]["bucket"]["name"] == "lists"
    assert record["s3"]["object"]["key"] == "imports/a+b%2Bc.csv"
    assert record["s3"]["object"]["size"] == 6
    assert f'"{record["s3"]["object"]["eTag"]}"' == s3.head_object(Bucket="lists", Key="imports/a b+c.csv")["ETag"]


def test_object_of_several_parts_is_announced_when_it_is_complete(s3: Any, told: Told) -> None:
    where = {"Bucket": "lists", "Key": "exports/a.csv"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"email\n")
    assert told == []
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    assert [event["Records"][0]["eventName"] for _, _, event in told] == ["ObjectCreated:CompleteMultipartUpload"]


def test_reading_and_refused_writing_are_not_told_of(s3: Any, told: Told) -> None:
    assert s3.list_objects_v2(Bucket="lists")["ResponseMetadata"]["HTTPStatusCode"] == 200
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.put_object(Bucket="nowhere", Key="a", Body=b"")
    assert told == []


def test_attachments_outlive_the_process(tmp_path: Path) -> None:
    before, new = (f"attachments/{uuid.uuid4()}" for _ in range(2))
    (tmp_path / "attachments").mkdir()
    (tmp_path / before).write_bytes(b"of an earlier process")
    store = ObjectStore(["kept"], "us-east-1", lambda bucket, key, event: None, tmp_path)
    store.start()
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    client = session.create_client("s3", region_name="us-east-1", endpoint_url=store.url)
    try:
        with client.get_object(Bucket="kept", Key=before)["Body"] as body:
            assert body.read() == b"of an earlier process"
        for key in (new, "exports/a.csv"):
            client.put_object(Bucket="kept", Key=key, Body=b"new")
        with client.get_object(Bucket="kept", Key=new)["Body"] as body:
            assert body.read() == b"new"
    finally:
        client.close()
        store.stop()
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == {before, new}
    assert (tmp_path / new).read_bytes() == b"new"


def test_what_a_person_has_set_for_aws_does_not_matter(
    told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("no configuration")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "missing")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    store = ObjectStore(["lists"], "us-east-1", lambda *about: told.append(about))
    store.start()
    store.stop()
